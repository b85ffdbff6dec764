//! `docs/status.md`: what the cases show, area by area. The page is made from the list of cases, so that it can neither
//! promise what no case shows nor forget what one does.

use super::{Case, cases};
use std::fmt::Write;

/// An area: the first part of a case's name.
struct Area {
    name: &'static str,
    /// What its cases show, in Markdown.
    shows: &'static str,
}

const fn area(name: &'static str, shows: &'static str) -> Area {
    Area { name, shows }
}

/// All areas, in the order of the page.
#[rustfmt::skip]
const AREAS: &[Area] = &[
    area("image", "what the host image is made of: its size, no SIMD outside the one section"),
    area("boot", "from power-on to the ready line, by each [loader](boot.md), or to a clear refusal; without VMX (QEMU) up to the line that says so"),
    area("platform", "serial ports, memory above 4 GiB and 1 TiB, many processors, errors reported by the machine, in QEMU up to the console"),
    area("refuse", "hosts that lack what guests need name it in one line and come up to a console"),
    area("selftest", "the host [checks itself](selftest.md) and reports"),
    area("nics", "[network cards](network.md) that QEMU emulates; remapped DMA (VT-d)"),
    area("network", "the host on the network: addresses, ping, silent neighbours"),
    area("host", "the demo's guest by itself: what the demo's proofs rely on"),
    area("guest", "small guests: how they end, what they see, and that they harm neither the host nor its console"),
    area("reset", "a guest that resets its machine boots again, or stops, as `on-reset=` says"),
    area("linux", "Debian's kernel, unmodified, to its shell and to power-off, on several host models"),
    area("smp", "several vCPUs, more than the host has CPUs among them: Debian's kernel, up, down and up again; fair turns for two guests; busy vCPUs spread out again where a VM has gone; a guest of ours whose counters, locks, IPIs and registers are right after each move, one CPU halted, closed to interrupts, in an NMI's handler, or not started; vCPUs that never exit by themselves stopped in a millisecond; IPIs that no sound guest sends"),
    area("create", "VMs made while the host runs, from [files that a server has](guests.md)"),
    area("levels", "[CPU levels](cpu-levels.md) enforced, cell by cell: every instruction, bit and MSR against CPUID and the host's ledger"),
    area("matrix-levels", "the same for each host model and each level that it can give"),
    area("matrix-linux", "Debian's kernel at each level: no complaint, and the flags of the level"),
    area("matrix-smp", "Debian's kernel with 2, 4 and 8 vCPUs on three host models with 1, 2 and 4 CPUs; moved while its CPUs are switched off and on"),
    area("cpu", "what the console says of [CPU policies](cpu-policy.md)"),
    area("speculation", "speculation controls: guests have what is announced, and are told the truth ([mitigations](mitigations.md))"),
    area("audit", "[hidden instructions](audit.md) that a guest executes are named, with their place"),
    area("tracking", "writes found by PML, by accessed and dirty flags, and by write protection"),
    area("migrate", "[migrations](migration.md) between generations, there and back; refusals; cables cut at each step"),
    area("state", "what a guest finds after a move: clocks, registers; a target that has no place for it"),
    area("chatter", "a guest that prints and echoes as fast as its port can: every byte accounted for, through moves"),
    area("converge", "a guest that writes faster than the link sends: left, slowed down, or stopped, as asked; of two vCPUs the one that writes"),
    area("operate", "an operator watches, cancels, types ahead, evacuates while VMs move"),
    area("ownership", "any operator command in each phase of a migration: never two runners"),
    area("handover", "hand-overs that no question settles: `migrate resolve`, receipts"),
    area("faults", "a fault in each phase: frames lost, late, doubled; the cable cut; either host killed"),
    area("moves", "a small guest moved a hundred times"),
    area("soak", "Debian Linux under load, moved back and forth a hundred times"),
    area("pool", "hosts that form a [pool](pool.md): its level, its members, its guests"),
    area("pairs", "two host models form a pool, a guest goes there and back: its CPU stays the same"),
    area("matrix-pairs", "the same for each two host models"),
    area("link", "the [keyed link](link.md): who is refused and why, and what no log shows"),
    area("store", "VMs that go to [files](vm-file.md) and come back ([flexctl](flexctl.md))"),
    area("manage", "console commands [from a workstation](management.md)"),
    area("console", "the console at the pace of fingers, with typos, pastes, history, two guests attached"),
    area("verbs", "each [command](console.md) does what it says, its `--json` has the documented keys, and what may do harm asks first"),
    area("view", "reports on one host: `top`, `mem`, `vm show` and their like"),
];

/// When a case runs, and by which command.
fn runs(case: &Case) -> String {
    match case.area().strip_prefix("matrix-") {
        Some(matrix) => format!("`--matrix {matrix}`"),
        None if case.area() == "soak" || case.area() == "faults" => format!("`--{}`", case.area()),
        None if case.apart => format!("`{}/`", case.area()),
        None if case.slow => "`--all`".into(),
        None => "CI".into(),
    }
}

/// The page.
fn markdown() -> String {
    let cases = cases();
    let mut page = String::from(
        "# Status\n\n\
         <!-- Made from the list of cases; `UPDATE_DOCS=1 cargo test -p testbench status` writes it again. -->\n\n\
         What is tested, and how. Each case boots hosts in an emulator (Bochs where guests run, QEMU for boot and network\n\
         cards) and drives their consoles as an operator would. *CI*: it runs for each commit. Anything else in the last column is\n\
         what `scripts/test` must be given to run it. `scripts/test --list TEXT` names the cases, [testing.md](testing.md) says more.\n\
         Beside these, each crate has unit and property tests, and a fuzz target for each decoder of foreign bytes.\n\n\
         **Real hardware: never tried.** Nothing below says that a real machine does it. Not tested by anything: hosts under KVM with\n\
         nested VMX ([nested.md](nested.md)). Tested on a mock only: the mask MSRs of FlexMigration, cards of the igb and ixgbe families.\n\n\
         | area | what its cases show | cases | run by |\n|---|---|---:|---|\n",
    );
    for area in AREAS {
        let here = cases.iter().filter(|case| case.area() == area.name);
        let mut ways: Vec<(String, usize)> = Vec::new();
        for way in here.map(runs) {
            match ways.iter_mut().find(|(known, _)| *known == way) {
                Some((_, count)) => *count += 1,
                None => ways.push((way, 1)),
            }
        }
        let count: usize = ways.iter().map(|(_, count)| count).sum();
        let by: Vec<String> = match ways.as_slice() {
            [(way, _)] => vec![way.clone()],
            several => several.iter().map(|(way, count)| format!("{way} {count}")).collect(),
        };
        let _ = writeln!(page, "| {} | {} | {count} | {} |", area.name, area.shows, by.join(", "));
    }
    page
}

#[test]
fn status_page_is_the_list_of_cases() {
    for case in cases() {
        assert!(AREAS.iter().any(|area| area.name == case.area()), "{} has no row in AREAS", case.name);
    }
    for area in AREAS {
        assert!(cases().iter().any(|case| case.area() == area.name), "area {} has no cases", area.name);
    }
    let path = crate::paths::root().join("docs/status.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, markdown()).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == markdown(), "docs/status.md is stale: UPDATE_DOCS=1 cargo test -p testbench status");
}
