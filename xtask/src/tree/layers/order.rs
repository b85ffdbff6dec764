//! The layers that ARCHITECTURE.md shows.

/// Rooms or crates that stand beside each other: each imports from the layers below its own only.
pub(super) struct Layer {
    pub(super) names: &'static [&'static str],
    /// What they are, for the reader.
    pub(super) are: &'static str,
}

const fn layer(names: &'static [&'static str], are: &'static str) -> Layer {
    Layer { names, are }
}

/// The rooms of `kernel/src`, from the top: a module's room is the longest path here that it is, or is in.
pub(super) const KERNEL: &[Layer] = &[
    layer(&["main"], "the table of contents, and what the machine calls"),
    layer(&["start"], "what each CPU does: CPU 0's loop, the others'"),
    layer(&["init"], "the stages of a boot"),
    layer(&["console"], "commands and sessions"),
    layer(
        &["migration", "selftest", "shutdown"],
        "moving VMs; the checks of `selftest`; leaving the machine",
    ),
    layer(&["pool"], "the pool of hosts"),
    layer(&["restart"], "booting VMs anew"),
    layer(&["fetch", "link"], "files by HTTP and TFTP; keyed links between hosts"),
    layer(&["net"], "card, switch and stack"),
    layer(&["iommu"], "remapping units"),
    layer(&["vm"], "the operator's VM: made, scheduled, paused, watched"),
    layer(&["run"], "the run loop: enters, advances, injects"),
    layer(&["exit"], "one match and its handlers"),
    layer(&["vcpu"], "registers, switching from CPU to CPU"),
    layer(&["guest"], "what a guest runs on: memory, board, clock, mailboxes"),
    layer(&["policy"], "what a guest sees of CPUs"),
    layer(&["panic"], "what the host's own failure prints"),
    layer(&["machine", "power", "entropy"], "machine checks; reset and power-off; the pool of randomness"),
    layer(&["log"], "log and console ports"),
    layer(
        &["boot", "ended", "events", "meter", "sessions", "stages", "version", "wall_clock"],
        "what any room tells or asks: figures, events, the date, this build",
    ),
    layer(&["lock"], "the order of the locks"),
];

/// The rooms of `kernel/hw/src`.
pub(super) const HW: &[Layer] = &[
    layer(&["main"], "the table of contents"),
    layer(&["hooks"], "where the machine comes in: boot, another CPU, a trap, a panic"),
    layer(&["mock"], "a machine made up, for the host's tests"),
    layer(&["vmx"], "VMX: entry, VMCS, EPT, flushes"),
    layer(&["platform"], "interrupt controllers, the other CPUs, PCI, serial ports"),
    layer(&["mm"], "physical memory, heap, page tables"),
    layer(&["lock"], "locks that know their place in an order"),
    layer(&["arch"], "instructions, registers and tables of the CPU"),
    layer(&["mock::state"], "what the instructions act on in a machine made up"),
];

/// The crates, from the top.
pub(super) const CRATES: &[Layer] = &[
    layer(&["kernel", "xtask"], "the hypervisor; tasks of the project"),
    layer(&["hw"], "the hold on the machine: all unsafe code of the kernel"),
    layer(
        &["flexctl", "loader", "native", "testbench", "uefi-loader"],
        "programs beside it, and the test bench",
    ),
    layer(&["shell", "vm-file"], "commands and terminal; a VM in a file"),
    layer(&["flex", "isa-audit", "pool"], "FlexMigration's switches; the audit; records of a pool"),
    layer(&["cpu-policy"], "what a guest sees of CPUs"),
    layer(
        &["making", "migrate", "mitigations", "secure-link", "selftest-report", "translation"],
        "machines and judgements",
    ),
    layer(
        &["cmdline", "devices", "guest-load", "vmx-types", "x86-decode"],
        "the parts of a VM, and the options for them",
    ),
    layer(&["net", "nic", "virtio"], "the host's TCP/IP; drivers of network cards; virtio devices of guests"),
    layer(
        &[
            "acpi-tables",
            "bootinfo",
            "bring-up",
            "chacha",
            "entropy",
            "fetch",
            "iommu",
            "json",
            "log-ring",
            "manage",
            "meter",
            "nbd",
            "scheduling",
            "switch",
            "text",
            "vm-types",
        ],
        "one subject each",
    ),
    layer(&["x86"], "numbers of the architecture"),
];

/// The layers as ARCHITECTURE.md shows them.
pub(super) fn shown(layers: &[Layer]) -> String {
    let mut text = String::new();
    let indent = |text: &mut String, line: &str| {
        text.push_str("    ");
        text.push_str(line);
        text.push('\n');
    };
    for layer in layers {
        let mut line = String::new();
        for name in layer.names {
            if line.len() + name.len() > 44 {
                indent(&mut text, line.trim_end());
                line.clear();
            }
            line.push_str(name);
            line.push(' ');
        }
        indent(&mut text, &format!("{line:<46}{}", layer.are));
    }
    text
}
