//! VMs and their consoles.

use super::args::{
    ADDRESS, CMDLINE, DEBUG_EXIT, FORCE, GUEST_LEVEL, HOST_CPU, INITRD, INITRD_SHA256, JSON, KERNEL, LENGTH,
    MEM, METHOD, NEW_NAME, ON_RESET, PAUSED, PHYS_BITS, READ_ONLY, SHA256, SORT, STATE, SWITCH, THE_VCPU,
    TIMEOUT, TOPOLOGY, UTC, VCPU, VCPUS, VIRTUAL, VM,
};
use crate::command::{Command, CreateOptions, DEFAULT_DUMP, MemoryAt, VmCommand};
use crate::table::Spec;

pub(super) const ROWS: &[Spec] = &[
    Spec {
        words: &["vm", "list"],
        args: &[STATE, SORT, JSON],
        summary: "List the VMs: state, memory, CPU, uptime, level.",
        details: "CPU is what the VM took of its host CPUs over the last whole second, UPTIME the time since it was made, on \
                  whatever host. With `--state` only those in that state; `--sort` by name, or the greatest first. VMs that \
                  were refused at boot are named in the log with the reason; one that is being made is `making`.",
        dangerous: false,
        build: |v| Command::Vm(VmCommand::List(v.list, v.output)),
    },
    Spec {
        words: &["vm", "show"],
        args: &[VM, JSON],
        summary: "Show everything about one VM.",
        details: "State, vCPUs, memory, CPU level, clock, dirty tracking, VM exits.",
        dangerous: false,
        build: |v| Command::Vm(VmCommand::Show(v.vm(), v.output)),
    },
    Spec {
        words: &["vm", "create"],
        args: &[
            NEW_NAME,
            KERNEL,
            INITRD,
            MEM,
            CMDLINE,
            GUEST_LEVEL,
            PHYS_BITS,
            VCPUS,
            TOPOLOGY,
            SHA256,
            INITRD_SHA256,
            PAUSED,
            DEBUG_EXIT,
            ON_RESET,
        ],
        summary: "Make a VM of a kernel that a server has.",
        details: "The files come by `http://A.B.C.D[:PORT]/PATH` or `tftp://A.B.C.D[:PORT]/PATH`: a bzImage, an ELF with a PVH note, or a Multiboot 1 kernel, and its initrd or module. Name, level and memory are judged before the first byte is asked for; where a digest is given, a file that has another is refused. The VM has 256 MiB unless `--mem` says otherwise, sees as many physical address bits as level, pool and host all have unless `--phys-bits` says otherwise, has one vCPU unless `--vcpus` says otherwise, all in one package of cores unless `--topology` says otherwise, and runs at once unless `--paused` is there. One that resets its machine boots anew, or is over with `--on-reset stop`. Quotes hold a command line together: `--cmdline \"console=ttyS0 quiet\"`. Ctrl-C ends it, and all that came is given back.",
        dangerous: false,
        build: |v| Command::Vm(VmCommand::Create(CreateOptions { name: v.name, ..v.create })),
    },
    Spec {
        words: &["vm", "start"],
        args: &[VM],
        summary: "Start a VM that has not run, or boot one anew.",
        details: "For VMs described with `paused`, and for those that are over: these boot anew, as by `vm reset`. A VM that was paused is refused: `vm resume` lets it go on.",
        dangerous: false,
        build: |v| Command::Vm(VmCommand::Start(v.vm())),
    },
    Spec {
        words: &["vm", "pause"],
        args: &[VM],
        summary: "Stop a VM's vCPUs; the rest stays as it is.",
        details: "The VM stops at an instruction boundary. `vm resume` lets it go on. Where a CPU does not leave its guest within 5 s, the answer names it.",
        dangerous: false,
        build: |v| Command::Vm(VmCommand::Pause(v.vm())),
    },
    Spec {
        words: &["vm", "resume"],
        args: &[VM],
        summary: "Let a paused VM go on.",
        details: "For one that a migration left as `unknown: paused here` there is `migrate resolve`.",
        dangerous: false,
        build: |v| Command::Vm(VmCommand::Resume(v.vm())),
    },
    Spec {
        words: &["vm", "stop"],
        args: &[VM, TIMEOUT],
        summary: "Press the power button; wait for the guest.",
        details: "The guest gets the ACPI power button and is given `timeout` seconds (60) to power itself off. One that does not listen runs on, and the answer says so: `vm destroy VM --force` is what is left. Ctrl-C ends the wait, not the guest.",
        dangerous: false,
        build: |v| Command::Vm(VmCommand::Stop { vm: v.vm(), timeout_s: v.migrate.timeout_s }),
    },
    Spec {
        words: &["vm", "reset"],
        args: &[VM, GUEST_LEVEL, FORCE],
        summary: "Boot a VM anew, as its reset button would.",
        details: "Its memory is cleared, kernel and modules are loaded again, devices and vCPUs start anew; name, uuid and time line stay, dirty tracking and audit end. It goes on bit by bit, state `resetting`, and ends with the VM running; Ctrl-C ends the wait, not the reset. `--force` is wanted unless the guest is over. With `--level` it sees another CPU level from then on, `pool` for what a new VM would get; one that this host cannot give is refused. For a VM that came from another host as well: its kernel came along, or is fetched again from its URL.",
        dangerous: true,
        build: |v| Command::Vm(VmCommand::Reset { vm: v.vm(), force: v.force, level: v.create.level }),
    },
    Spec {
        words: &["vm", "rename"],
        args: &[VM, NEW_NAME],
        summary: "Give a VM another name.",
        details: "The guest does not notice. Not while it is in a migration; the uuid stays.",
        dangerous: false,
        build: |v| Command::Vm(VmCommand::Rename { vm: v.vm(), to: v.name }),
    },
    Spec {
        words: &["vm", "destroy"],
        args: &[VM, FORCE],
        summary: "Stop a VM at once and free its memory.",
        details: "Like pulling the power cord: what the guest has not written out is lost. `--force` is wanted unless the VM has stopped by itself. One that is being made (`making` in `vm list`) is not made then, whoever asked for it.",
        dangerous: true,
        build: |v| Command::Vm(VmCommand::Destroy { vm: v.vm(), force: v.force }),
    },
    Spec {
        words: &["vm", "exits"],
        args: &[VM, VCPU, SWITCH, JSON],
        summary: "Count VM exits by reason.",
        details: "Since the VM came to this host, of all its vCPUs or of the one whose number is given. With `on` the ticks that each reason takes on the host are measured from now on, a few dozen for each exit; `off` ends that.",
        dangerous: false,
        build: |v| {
            Command::Vm(VmCommand::Exits { vm: v.vm(), vcpu: v.vcpu(), timed: v.switch, output: v.output })
        },
    },
    Spec {
        words: &["vm", "regs"],
        args: &[VM, VCPU, JSON],
        summary: "Print the registers of a VM's vCPUs.",
        details: "Of all of them, or of the one whose number is given. A running VM is held for the moment that it takes to read them.",
        dangerous: false,
        build: |v| Command::Vm(VmCommand::Regs { vm: v.vm(), vcpu: v.vcpu(), output: v.output }),
    },
    Spec {
        words: &["vm", "nmi"],
        args: &[VM, VCPU],
        summary: "Send a VM an NMI.",
        details: "To its first vCPU, or to the one whose number is given. What the guest makes of it is its own affair: Linux prints its stacks, or panics where `unknown_nmi_panic` says so. One that handles an NMI gets the next one after that; a vCPU that the guest has not started takes none.",
        dangerous: false,
        build: |v| Command::Vm(VmCommand::Nmi { vm: v.vm(), vcpu: v.vcpu().unwrap_or(0) }),
    },
    Spec {
        words: &["vm", "pin"],
        args: &[VM, THE_VCPU, HOST_CPU],
        summary: "Have a CPU of the host run a vCPU.",
        details: "From its next turn on, whether or not it runs at the moment. Where a vCPU begins is the host's choice: spread over all CPUs but CPU 0, which does everything else as well, and where one CPU has more to do than another for some time a vCPU moves. One that is pinned stays until `vm unpin`. `vm show` says where each is. The choice stays on this host: a VM that moves is spread again there.",
        dangerous: false,
        build: |v| Command::Vm(VmCommand::Pin { vm: v.vm(), vcpu: v.vcpu().unwrap_or(0), cpu: v.host_cpu() }),
    },
    Spec {
        words: &["vm", "unpin"],
        args: &[VM, THE_VCPU],
        summary: "Let the host choose a vCPU's CPU again.",
        details: "It stays where it is until another CPU has less to do. Nothing changes for a vCPU that is not pinned.",
        dangerous: false,
        build: |v| Command::Vm(VmCommand::Unpin { vm: v.vm(), vcpu: v.vcpu().unwrap_or(0) }),
    },
    Spec {
        words: &["vm", "mem"],
        args: &[VM, ADDRESS, LENGTH, VIRTUAL, JSON],
        summary: "Dump a VM's memory.",
        details: "ADDRESS is guest-physical or, with `--virtual`, goes through the page tables of the first vCPU as they are now; LENGTH is 64 unless given, at most 4096. Both are decimal, or hexadecimal behind `0x`. Nothing is ever written.",
        dangerous: false,
        build: |v| {
            let at = v.number(0);
            Command::Vm(VmCommand::Memory {
                vm: v.vm(),
                at: if v.linear { MemoryAt::Virtual(at) } else { MemoryAt::Physical(at) },
                length: v.numbers[1].unwrap_or(DEFAULT_DUMP),
                output: v.output,
            })
        },
    },
    Spec {
        words: &["vm", "stack"],
        args: &[VM, VCPU, JSON],
        summary: "Walk the frame pointers of a VM's vCPUs.",
        details: "Of all of them, or of the one whose number is given. Return addresses, the innermost first. Best effort: code that is compiled without frame pointers, as most kernels are, gives few or wrong ones.",
        dangerous: false,
        build: |v| Command::Vm(VmCommand::Stack { vm: v.vm(), vcpu: v.vcpu(), output: v.output }),
    },
    Spec {
        words: &["vm", "log"],
        args: &[VM, UTC, JSON],
        summary: "Print the log lines that name a VM.",
        details: "Those that the ring still holds, also of a VM that was destroyed or has moved away. The bound is the ring's: the \
                  last 64 KiB of all lines, some 700 of them; `log ring LEVEL` says which lines get there. With `--utc` times are \
                  those of the wall clock.",
        dangerous: false,
        build: |v| Command::Vm(VmCommand::Log { vm: v.vm(), utc: v.utc, output: v.output }),
    },
    Spec {
        words: &["vm", "dirty", "start"],
        args: &[VM, METHOD],
        summary: "Begin to count the pages that a VM writes.",
        details: "A meter for the rate at which a guest dirties memory, which decides whether a migration gets done: begin here, \
                  `vm dirty harvest` twice some seconds apart, then `vm dirty stop`. METHOD is pml (page-modification log), \
                  ad (scan of the EPT's dirty flags) or wp (write protection), by default the best of this host. Large pages \
                  are split while it is on, and the guest is the slower for it, most with wp. A VM in a migration cannot be \
                  metered, nor one that is metered be moved.",
        dangerous: false,
        build: |v| Command::DirtyStart { vm: v.vm(), method: v.method },
    },
    Spec {
        words: &["vm", "dirty", "harvest"],
        args: &[VM, JSON],
        summary: "Show how many pages were written, count anew.",
        details: "Prints `dirty: N pages, T ticks (M ms)`: 4 KiB pages written since the last harvest, by the guest or for it, and what \
                  this harvest took of the host, in ticks of its TSC.",
        dangerous: false,
        build: |v| Command::DirtyHarvest(v.vm(), v.output),
    },
    Spec {
        words: &["vm", "dirty", "stop"],
        args: &[VM],
        summary: "End the counting of written pages.",
        details: "Large pages are put together again where the guest does not execute from them.",
        dangerous: false,
        build: |v| Command::DirtyStop(v.vm()),
    },
    Spec {
        words: &["console"],
        args: &[VM, READ_ONLY],
        summary: "Attach this terminal to a VM's serial console.",
        details: "The last 64 KiB of its output are shown first, those that it printed on other hosts included. Ctrl-\\ then \
                  `.` comes back here; Ctrl-\\ twice sends one to the guest. With `--read-only` nothing that is typed goes \
                  to the guest.",
        dangerous: false,
        build: |v| Command::Console { vm: v.vm(), read_only: v.read_only },
    },
];
