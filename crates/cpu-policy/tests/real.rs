//! CPUs as they are (`real/README.md`): what the emulated ones do not show.

mod common;

use std::fs;

use common::{SHAPE, level};
use cpu_policy::{
    Baseline, Dump, DumpError, Feature, GuestPolicy, HostPolicy, LEVELS, Level, Obstacle, Polarity, Shape,
    UserSpace, fits,
};

const ARCH_CAPABILITIES: u32 = 0x10a;

fn text(file: &str) -> String {
    fs::read_to_string(format!("{}/tests/real/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn host(name: &str) -> HostPolicy {
    Dump::parse(&text(&format!("{name}.cpu"))).unwrap().policy()
}

/// The dump with each of `edits` made, and `end` right.
fn edited(name: &str, edits: &[(&str, &str)]) -> HostPolicy {
    let mut all = text(&format!("{name}.cpu"));
    for (from, to) in edits {
        assert!(all.contains(from), "{from}");
        all = all.replace(from, to);
    }
    let lines = all
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("flexvisor") && !line.starts_with("end"));
    let body: Vec<_> = lines.collect();
    Dump::parse(&format!("flexvisor-cpu 1\n{}\nend {}\n", body.join("\n"), body.len())).unwrap().policy()
}

/// The dump without its MSRs, as `cpuid -r` prints it.
fn as_cpuid_tool(name: &str, row: impl Fn(u32, u32, &str) -> String) -> String {
    let cpu = Dump::parse(&text(&format!("{name}.cpu"))).unwrap().cpu;
    let line = |r: &cpu_policy::Row| {
        let [eax, ebx, ecx, edx] = r.regs;
        row(r.leaf, r.subleaf, &format!("eax={eax:#010x} ebx={ebx:#010x} ecx={ecx:#010x} edx={edx:#010x}\n"))
    };
    format!("CPU 0:\n{}", cpu.rows().iter().map(line).collect::<String>())
}

fn plain(leaf: u32, subleaf: u32, regs: &str) -> String {
    format!("   {leaf:#010x} {subleaf:#04x}: {regs}")
}

#[test]
fn a_xeon_gives_the_level_of_its_series() {
    let series = [
        ("xeon-x5482", "penryn", 36),
        ("xeon-w3520", "nehalem", 36),
        ("xeon-e3-1200-v2", "ivybridge", 36),
        ("xeon-e3-1200-v3", "haswell", 39),
        ("xeon-8351n", "icelake-server", 46),
        ("xeon-w7-2475x", "sapphirerapids", 46),
        ("xeon-8570", "emeraldrapids", 46),
        ("xeon-658x", "graniterapids", 46),
        ("xeon-d-2183it", "skylake-server-ibrs", 40),
        ("xeon-phi-7210", "knightslanding", 40),
        ("atom-c2750", "avoton", 36),
        // Their dumps have no MSR: what the level says of it is taken for granted, and CPUID decides.
        ("atom-c3958", "denverton", 39),
        ("xeon-e-2356g", "rocketlake", 39),
        ("xeon-6315p", "raptorlake", 46),
    ];
    for (name, own, bits) in series {
        let mut dump = Dump::parse(&text(&format!("{name}.cpu"))).unwrap();
        let told = level(own).features().bits(cpu_policy::Place::Msr(ARCH_CAPABILITIES));
        if dump.cpu.msr(ARCH_CAPABILITIES).is_none() && dump.policy().raw.contains(Feature::ArchCapabilities)
        {
            dump.supply_msr(ARCH_CAPABILITIES, told & !(1 << 2)).unwrap();
        }
        let host = dump.policy();
        assert_eq!(host.best_level().map(|level| level.name), Some(own), "{name}");
        let guest = GuestPolicy::render(level(own), SHAPE, &host).unwrap();
        assert_eq!(guest.phys_bits(), bits, "{name}");
        assert_eq!(guest.table().lookup(0x8000_0008, 0).regs()[0] & 0xff, bits.into());
        assert_eq!(GuestPolicy::decode(&guest.encode()), Ok(guest));
    }
}

#[test]
fn the_width_is_the_least_of_level_pool_and_host() {
    let (narrow, wide) = (host("xeon-e3-1200-v2"), host("xeon-658x"));
    let pool = Baseline::meet([&wide, &narrow]).unwrap();
    assert_eq!((pool.level().name, pool.phys_bits()), ("ivybridge", 36));
    assert_eq!(Baseline::of(&host("xeon-e3-1200-v3")).name(), "haswell");
    assert_eq!(pool.phys_bits_of(level("nehalem")), 36);
    assert_eq!(Baseline::of(&wide).phys_bits_of(level("nehalem")), 40);
    // A VM that was given more elsewhere is refused by the width, and told what to ask for.
    let guest = GuestPolicy::render(level("ivybridge"), SHAPE, &wide).unwrap();
    assert_eq!(guest.fits(&narrow).unwrap_err().obstacles, [Obstacle::PhysBits { guest: 40, host: 36 }]);
    let shape = Shape { phys_bits: Some(36), ..SHAPE };
    let small = GuestPolicy::render(level("ivybridge"), shape, &wide).unwrap();
    assert_eq!(small.check_memory(64 << 30), Ok(()));
    let error = small.check_memory((64 << 30) + 4096).unwrap_err().to_string();
    assert_eq!(error, "memory up to 0x1000001000: a VM with 36 physical address bits reaches 0x1000000000");
    assert_eq!(GuestPolicy::render(level("ivybridge"), shape, &wide).unwrap().fits(&narrow), Ok(()));
    let [cost, free]: [_; 2] = Baseline::costs(&[&narrow, &host("xeon-w7-2475x")]).try_into().unwrap();
    assert_eq!(cost.phys_bits, Some((46, 36)));
    assert_eq!(cost.takes, [level("x86-64-v3"), level("x86-64-v4")]);
    assert!(
        cost.to_string()
            .ends_with("takes x86-64-v3, x86-64-v4 from the pool; physical address width 46 to 36"),
        "{cost}"
    );
    assert!(free.takes.is_empty() && free.phys_bits.is_none(), "{free}");
}

#[test]
fn the_cure_is_the_level_that_a_pool_would_take() {
    let mut all = vec![host("xeon-8351n"), host("xeon-w7-2475x"), host("xeon-658x"), host("xeon-e3-1200-v3")];
    all.push(edited("xeon-8351n", &[("msr 0000010a 000000000202a1eb\n", "msr 0000010a 000000000200016b\n")]));
    for source in &all {
        let best = source.best_level().unwrap();
        let guest = GuestPolicy::render(best, SHAPE, source).unwrap();
        for target in &all {
            let Err(misfit) = guest.fits(target) else { continue };
            let pool = Baseline::meet([source, target]).unwrap().level();
            let tells = |level: &Level| level.features().len();
            assert!(tells(misfit.cure.unwrap()) >= tells(pool), "{best:?}: {misfit}, pool {pool:?}");
        }
    }
    let guest = GuestPolicy::render(level("sapphirerapids"), SHAPE, &host("xeon-w7-2475x")).unwrap();
    let misfit = guest.fits(&host("xeon-8351n")).unwrap_err();
    assert_eq!(misfit.cure.map(|level| level.name), Some("icelake-server"));
}

#[test]
fn what_a_dump_does_not_tell_is_not_said_to_be_missing() {
    let mut dump = Dump::parse(&as_cpuid_tool("xeon-8351n", plain)).unwrap();
    assert!(dump.without_msrs && dump.cut.is_empty());
    let misfit = level("icelake-server").fits(&dump.policy()).unwrap_err();
    assert!(misfit.is_unknown() && misfit.missing().next().is_none(), "{misfit}");
    let line = misfit.to_string();
    assert!(line.contains("IA32_ARCH_CAPABILITIES[0] RDCL_NO, ") && !line.contains("missing"), "{line}");
    assert!(line.contains(" not known from this dump; start the VM at level skylake-server"), "{line}");
    assert_eq!(fits(&Err(misfit)), None);
    assert!(dump.policy().unknown_levels().contains(&"icelake-server"));
    // What is known to be missing is no by itself.
    let no = level("sapphirerapids").fits(&dump.policy()).unwrap_err();
    assert!(!no.is_unknown() && no.obstacles.contains(&Obstacle::Unknown(Feature::RdclNo)), "{no}");
    dump.supply_msr(ARCH_CAPABILITIES, 0x202_a1eb).unwrap();
    assert_eq!(level("icelake-server").fits(&dump.policy()), Ok(()));
    // Not over what the dump tells.
    dump.supply_msr(ARCH_CAPABILITIES, 0).unwrap();
    assert_eq!(dump.cpu.msr(ARCH_CAPABILITIES), Some(0x202_a1eb));
}

#[test]
fn lines_of_rdmsr_are_read() {
    let dump = as_cpuid_tool("xeon-8351n", plain);
    for text in [
        format!("rdmsr 0x10a: 0x202a1eb\n{dump}"),
        format!("{dump}rdmsr 10a = 202a1eb\n"),
        format!("{dump}\nroot@host:~# rdmsr -p 0 0x10a\n202a1eb\nroot@host:~# \n"),
    ] {
        assert_eq!(Dump::parse(&text).unwrap().cpu.msr(ARCH_CAPABILITIES), Some(0x202_a1eb), "{text}");
    }
    for (line, expected) in [
        ("rdmsr\n", "rdmsr is not `rdmsr INDEX: VALUE`"),
        ("rdmsr 0x10g: 0\n", "10g is not `rdmsr INDEX: VALUE`"),
        ("rdmsr 0x10a\nbash: rdmsr: command not found\n", "is not"),
        ("rdmsr 10a: 0\nrdmsr 10a: 0\n", "MSR 0x10a is there twice"),
    ] {
        let error = Dump::parse(&format!("{dump}{line}")).unwrap_err().to_string();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn what_holds_by_model_needs_no_microcode() {
    // Cascade Lake with the microcode of 2019, as libvirt has the Xeon 8268: no denial of flaws found since.
    const OLD_MICROCODE: &str = "msr 0000010a 000000000000002b\n";
    let old = edited(
        "xeon-8351n",
        &[
            ("cpuid 00000001.00 000606a6", "cpuid 00000001.00 00050657"),
            ("msr 0000010a 000000000202a1eb\n", OLD_MICROCODE),
        ],
    );
    let misfit = level("cascadelake").fits(&old);
    assert_eq!(misfit, Ok(()));
    // TAA_NO of a CPU that starts no transactions; of one that does it is a demand.
    let misfit = level("cooperlake").fits(&old).unwrap_err();
    assert_eq!(misfit.missing().collect::<Vec<_>>(), [Feature::Avx512Bf16, Feature::TaaNo]);
    let without_rtm = edited(
        "xeon-8351n",
        &[
            ("cpuid 00000001.00 000606a6", "cpuid 00000001.00 00050657"),
            ("cpuid 00000007.00 00000002 f3bfbfff", "cpuid 00000007.00 00000002 f3bfb7ff"),
            ("msr 0000010a 000000000202a1eb\n", OLD_MICROCODE),
        ],
    );
    let misfit = level("cooperlake").fits(&without_rtm).unwrap_err();
    assert_eq!(misfit.missing().collect::<Vec<_>>(), [Feature::Avx512Bf16]);
    // Skylake-SP has them all.
    let affected = edited(
        "xeon-8351n",
        &[
            ("cpuid 00000001.00 000606a6", "cpuid 00000001.00 00050654"),
            ("msr 0000010a 000000000202a1eb\n", OLD_MICROCODE),
        ],
    );
    let misfit = level("cascadelake").fits(&affected).unwrap_err();
    let missing: Vec<_> = misfit.missing().collect();
    assert_eq!(missing, [Feature::IfPschangeMcNo, Feature::SbdrSsdpNo, Feature::PsdpNo]);
    // A hypervisor shows any model: there only the bits count.
    let virtual_machine = edited(
        "xeon-8351n",
        &[
            ("cpuid 00000001.00 000606a6 00800800 7ffefbff", "cpuid 00000001.00 00050657 00800800 fffefbff"),
            ("msr 0000010a 000000000202a1eb\n", OLD_MICROCODE),
        ],
    );
    assert!(level("cascadelake").fits(&virtual_machine).is_err());
}

#[test]
fn self_snoop_is_no_demand() {
    // As QEMU's models.
    let without = edited("xeon-w3520", &[("0098e3bd bfebfbff", "0098e3bd b7ebfbff")]);
    assert!(!without.raw.contains(Feature::Ss));
    assert_eq!(without.best_level().map(|level| level.name), Some("nehalem"));
}

#[test]
fn a_host_without_ept_runs_no_vm() {
    let known = host("xeon-x5482");
    assert_eq!(level("penryn").fits(&known), Ok(()));
    let misfit = known.runs(Ok(())).unwrap_err();
    assert_eq!((misfit.obstacles.as_slice(), misfit.cure), (&[Obstacle::NoEpt][..], None));
    // Without MSRs by the model.
    let dump = Dump::parse(&as_cpuid_tool("xeon-x5482", plain)).unwrap();
    assert!(dump.policy().runs(Ok(())).is_err());
    assert_eq!(host("xeon-w3520").runs(Ok(())), Ok(()));
}

#[test]
fn msr_ce_of_core_2_is_another_register() {
    let host = host("xeon-x5482");
    let read = Feature::PpinCap.info().place;
    assert_eq!((host.cpu().msr(0xce), host.cpu().bits(read)), (Some(0x0012_0822_7f7f_0710), 0));
    assert!(!host.raw.contains(Feature::ProgrammableRatio) && !host.raw.contains(Feature::TimedMwait));
}

#[test]
fn rtm_that_always_aborts_is_no_rtm() {
    let line =
        text("xeon-658x.cpu").lines().find(|line| line.starts_with("cpuid 00000007.00")).unwrap().to_string();
    let words: Vec<_> = line.split(' ').collect();
    let bits = |at: usize| u32::from_str_radix(words[at], 16).unwrap();
    let make = |edx: u32| {
        format!(
            "{} {} {:08x} {} {edx:08x}",
            words[0],
            [words[1], words[2]].join(" "),
            bits(3) | 1 << 11,
            words[4]
        )
    };
    let aborts = edited("xeon-658x", &[(&line, &make(bits(5) | 1 << 11))]);
    let works = edited("xeon-658x", &[(&line, &make(bits(5) & !(1 << 11)))]);
    assert!(aborts.raw.contains(Feature::Rtm) && !aborts.features.contains(Feature::Rtm));
    assert!(works.level_names().contains(&"icelake-server-tsx"));
    assert!(aborts.level_names().iter().all(|name| !name.ends_with("-tsx")), "{:?}", aborts.level_names());
}

#[test]
fn nobody_is_charged_for_five_level_paging() {
    let (la57, four) = (host("xeon-658x"), host("xeon-e3-1200-v3"));
    assert_eq!((la57.linear_bits, four.linear_bits), (57, 48));
    let costs = Baseline::costs(&[&la57, &four]);
    assert!(costs.iter().all(|cost| cost.linear_bits.is_none()), "{costs:?}");
    assert_eq!(Baseline::of(&la57).linear_bits(), 48);
}

#[test]
fn the_cpus_of_a_healthy_host_are_the_same() {
    let dump = Dump::parse(&text("silver-4514y-two-cpus.txt")).unwrap();
    assert_eq!((dump.cpus, dump.odd.as_slice()), (2, &[][..]));
    // The text has no extended leaves: what they tell is not known.
    assert_eq!(dump.cut, [0]);
    let misfit = level("merom").fits(&dump.policy()).unwrap_err();
    assert!(misfit.is_unknown() && misfit.obstacles.contains(&Obstacle::Unknown(Feature::Lm)), "{misfit}");
}

#[test]
fn a_dump_that_is_cut_short_says_so() {
    let all = as_cpuid_tool("xeon-8351n", plain);
    let cut = |last: &str| all.find(last).map(|at| all[..at].to_string()).unwrap();
    let short = Dump::parse(&cut("   0x0000001b 0x00")).unwrap_err();
    assert_eq!(short, DumpError::Leaf { cpu: 0, leaf: 0x1b });
    assert_eq!(short.to_string(), "the dump is cut short: CPU 0 has no leaf 0x1b");
    assert_eq!(Dump::parse(&cut("   0x80000008 0x00")), Err(DumpError::Leaf { cpu: 0, leaf: 0x8000_0008 }));
    // Another CPU's text is not taken for a difference.
    let two = format!("{all}{}", cut("   0x0000001b 0x00").replace("CPU 0", "CPU 1"));
    let dump = Dump::parse(&two).unwrap();
    assert_eq!((dump.cpus, dump.odd.as_slice(), dump.cut.as_slice()), (2, &[][..], &[1][..]));
}

#[test]
fn leaves_that_the_firmware_hides_are_not_missing() {
    let whole = text("xeon-8351n.cpu");
    let hidden: String = whole
        .lines()
        .filter(|line| !line.starts_with("cpuid 000000") || ["00", "01", "02", "03"].contains(&&line[12..14]))
        .map(|line| line.replace("cpuid 00000000.00 0000001b", "cpuid 00000000.00 00000003") + "\n")
        .collect();
    let lines = hidden.lines().count() - 2;
    let (body, _) = hidden.rsplit_once("end ").unwrap();
    let dump = Dump::parse(&format!("{body}end {lines}\n")).unwrap();
    assert!(dump.cpu.is_limited() && !Dump::parse(&whole).unwrap().cpu.is_limited());
    let misfit = level("icelake-server").fits(&dump.policy()).unwrap_err();
    assert!(misfit.is_unknown(), "{misfit}");
    assert_eq!(dump.policy().best_level().map(|level| level.name), Some("westmere"));
}

#[test]
fn other_forms_of_the_text_are_read() {
    let expected = Dump::parse(&as_cpuid_tool("xeon-8351n", plain)).unwrap();
    let untold = as_cpuid_tool("xeon-8351n", |leaf, _, regs| format!("   {leaf:#010x}: {regs}"));
    // What the CPU does not announce is left out: leaf 12 has no sub-leaf 1 without SGX.
    let read = Dump::parse(&untold).unwrap();
    let announced: Vec<_> =
        expected.cpu.rows().iter().filter(|row| (row.leaf, row.subleaf) != (0x12, 1)).collect();
    assert_eq!(read.cpu.rows().iter().collect::<Vec<_>>(), announced);
    let bom = format!("\u{feff}{}", as_cpuid_tool("xeon-8351n", plain));
    assert_eq!(Dump::parse(&bom).as_ref(), Ok(&expected));
    let stamps = ["[   12.345678] ", "12:34:56.789 ", "2026-11-29T12:34:56Z ", "[2026-11-29 12:34:56] "];
    for stamp in stamps {
        let stamped = |text: &str| text.lines().map(|line| format!("{stamp}{line}\r\n")).collect::<String>();
        assert_eq!(
            Dump::parse(&stamped(&as_cpuid_tool("xeon-8351n", plain))).as_ref(),
            Ok(&expected),
            "{stamp}"
        );
        let ours = text("xeon-8351n.cpu");
        assert_eq!(Dump::parse(&stamped(&ours)), Dump::parse(&ours), "{stamp}");
    }
    for (foreign, name) in [
        ("processor\t: 0\nflags\t\t: fpu vme\n", "/proc/cpuinfo"),
        ("CPUID 00000000: 0000001B-756E6547-6C65746E-49656E69\n", "AIDA64"),
    ] {
        let error = Dump::parse(foreign).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("`cpuid -r`"), "{error}");
    }
}

/// An error and its sources, as `anyhow` prints them.
fn chain(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source()).map(|error| error.to_string()).collect()
}

#[test]
fn an_error_is_said_once() {
    let twice = text("xeon-w3520.cpu").replace("cpuid 00000001.00", "cpuid 00000000.00");
    assert_eq!(chain(&Dump::parse(&twice).unwrap_err()), ["CPUID 0x0.0 is there twice"]);
    // No vCPU: a field of the shape, and the policy's own sentence about it.
    let guest = GuestPolicy::render(level("nehalem"), SHAPE, &host("xeon-w3520")).unwrap();
    let mut bytes = guest.encode();
    let at = bytes.windows(2).position(|pair| pair == [0x03, 0x01]).unwrap();
    bytes[at + 1] = 0;
    let said = chain(&GuestPolicy::decode(&bytes).unwrap_err());
    assert_eq!(said, ["CPU policy: 0 vCPUs: 1 to 64 are possible"]);
}

#[test]
fn user_space_by_generation() {
    let carried = |name: &str| level(name).user_space();
    for (name, user_space) in [
        ("merom", UserSpace::V1),
        ("penryn", UserSpace::V1),
        ("nehalem", UserSpace::V2),
        ("ivybridge", UserSpace::V2),
        ("haswell", UserSpace::V3),
        ("broadwell", UserSpace::V3),
        ("skylake-server", UserSpace::V4),
        ("graniterapids", UserSpace::V4),
    ] {
        assert_eq!(carried(name), user_space, "{name}");
    }
    assert!(LEVELS.iter().all(|level| level.base.is_none_or(|base| base.user_space() <= level.user_space())));
    let gains = level("haswell").features().of_polarity(Polarity::Capability);
    let mut less = gains;
    less.remove(Feature::Movbe);
    assert_eq!((UserSpace::of(gains), UserSpace::of(less)), (UserSpace::V3, UserSpace::V2));
}

/// What newer CPUs say of themselves is known by its name, and no guest is told of it.
#[test]
fn newer_leaves_have_names_and_reach_nobody() {
    let host = edited(
        "xeon-658x",
        &[
            (
                "cpuid 00000007.01 40201d30 00000001 00000000 000e4000",
                "cpuid 00000007.01 40201d30 00000001 00000003 01ae4000",
            ),
            ("cpuid 00000000.00 00000024", "cpuid 00000000.00 00000029"),
            ("cpuid 0000000d.00 000602e7", "cpuid 0000000d.00 000e02e7"),
            (
                "cpuid 00000024.00 00000000 00070001 00000000 00000000",
                "cpuid 00000024.00 00000001 00070002 00000000 00000000\ncpuid 00000024.01 00000000 00000000 00000004 00000000\n\
                 cpuid 00000027.00 00000000 00000000 00000000 00000002\ncpuid 00000028.00 00000000 0000000e 00000000 00000000\n\
                 cpuid 00000029.00 00000000 00000001 00000000 00000000",
            ),
        ],
    );
    use Feature::*;
    for feature in [
        AsymRdtM,
        AsymRdtA,
        MwaitLeaf,
        Slsm,
        ApxF,
        Avx10,
        Avx10Width512,
        Avx10VnniInt,
        ApxNciNddNf,
        AsymCatL3,
    ] {
        assert!(host.raw.contains(feature) && !host.features.contains(feature), "{feature}");
    }
    assert_eq!(host.xcr0 & 1 << 19, 0);
    assert_eq!(Feature::AvxVnni.to_string(), "CPUID.7.1:EAX[4] AVX-VNNI");
    assert_eq!(Feature::Avx10VnniInt.to_string(), "CPUID.24.1:ECX[2] AVX10_VNNI_INT");
    let apx = cpu_policy::HIDDEN_COMPONENTS.iter().find(|component| component.bit == 19).unwrap();
    assert_eq!((apx.name, apx.size, apx.offset, apx.feature), ("APX", 128, 960, ApxF));
    let guest = GuestPolicy::render_baseline(&Baseline::of(&host), SHAPE, &host).unwrap();
    for leaf in [0x1e, 0x24, 0x27, 0x28, 0x29] {
        assert!((0..2).all(|sub| guest.table().lookup(leaf, sub).regs() == &[0; 4]), "{leaf:#x}");
    }
}
