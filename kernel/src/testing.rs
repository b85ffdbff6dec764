//! What the kernel's own tests stand on: a host of two CPUs, made up by `hw::mock`, and VMs on it.

extern crate std;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::Poll;

use cmdline::VmOptions;
use hw::arch::tsc;
use hw::mm::held::{Filling, Held};
use hw::mock::{Guest, Machine};
use hw::vmx::{host, slots};
use migrate::ownership::Change;
use mitigations::Plan;
use spin::Once;
use vmx_types::field;
use vmx_types::reason::ExitReason;

use crate::guest::StopReason;
use crate::policy;
use crate::run::Outcome;
use crate::vm::Vm;
use crate::vm::making::Making;
use crate::vm::registry::{self, Reserved};
use crate::vm::sched::{Scheduler, Turn};
use crate::vm::source::{Source, SourceFile};

/// A Skylake-X as Bochs has it.
const CPU: &str = include_str!("../../crates/cpu-policy/tests/dumps/corei7_skylake_x.cpu");
/// CPUs of the host.
pub(crate) const CPUS: usize = 2;

/// The one on which its VMs live.
pub(crate) const HOME: usize = 1;

/// Each is of its own kind: this one injects interrupts, [`HOME`] leaves them to virtual-interrupt delivery. And this one has no
/// pause-loop exiting.
const PLAIN: usize = 0;
/// IA32_VMX_PROCBASED_CTLS2, and in its upper half the two controls of APICv and pause-loop exiting.
const SECONDARY: u32 = 0x48b;
const NOT_PLAIN: u64 = 7 << (32 + 8);
/// IA32_VMX_TRUE_PINBASED_CTLS, and in its upper half the control of posted interrupts, which no emulator has: on [`HOME`] they
/// come with APICv. So does IPI virtualization: the tertiary controls, and one of them.
const PIN_BASED: u32 = 0x48d;
const POSTED: u64 = 1 << (32 + 7);
const PROC_BASED: u32 = 0x48e;
const HAS_TERTIARY: u64 = 1 << (32 + 17);
const TERTIARY: u32 = 0x492;

/// How long CPU 0 goes on with one thing at most, in microseconds, where a step takes no time.
pub(crate) const TURN_US: u64 = 100;

/// The host, for as long as a test has it.
pub(crate) struct Host {
    pub(crate) machine: Machine,
}

impl core::ops::Deref for Host {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

/// The host in VMX operation, without VMs; CPU 0 runs.
pub(crate) fn host() -> Host {
    static ON: Once<()> = Once::new();
    let machine = Machine::take(CPUS, CPU);
    ON.call_once(|| {
        host::init(CPUS, host::Asked { timer: None, apicv: None, posted: true });
        let controls = machine.msr(PLAIN, SECONDARY).expect("the dump has it");
        machine.set_msr(PLAIN, SECONDARY, controls & !NOT_PLAIN);
        for index in 0..CPUS {
            let pin = machine.msr(index, PIN_BASED).expect("the dump has it");
            machine.set_msr(index, PIN_BASED, pin | POSTED);
            let proc = machine.msr(index, PROC_BASED).expect("the dump has it");
            machine.set_msr(index, PROC_BASED, proc | HAS_TERTIARY);
            machine.set_msr(index, TERTIARY, vmx_types::apic::TERTIARY);
            machine.on(index, || host::enable().map(|_| ()).expect("the dump is of a CPU with VMX"));
        }
        slots::fill(Plan::new(policy::mitigations::host()).off());
    });
    Host { machine }
}

impl Drop for Host {
    /// The next test finds no VM of this one's.
    fn drop(&mut self) {
        for vm in registry::all() {
            // Where a test ran it: its own CPU may be another one.
            for slot in &vm.vcpus {
                let on = slot.vcpu.lock().loaded_on();
                if let Some(cpu) = on {
                    self.machine.on(cpu, || slot.vcpu.lock().release(&vm));
                }
            }
            for cpu in (0..CPUS).rev() {
                self.machine.on(cpu, || vm.take_off());
            }
            registry::remove(&vm);
        }
        while crate::vm::remains::poll() {}
    }
}

/// What a VM is made of that has nothing but the smallest kernel.
pub(crate) fn source(options: &VmOptions) -> Source {
    let file = SourceFile::here(file(&kernel()), String::new(), None);
    Source { options: options.clone(), files: Vec::from([file]) }
}

/// The smallest kernel: a Multiboot 1 image of one HLT at 1 MiB.
fn kernel() -> Vec<u8> {
    const AT: u32 = 1 << 20;
    const FLAGS: u32 = 1 << 16;
    let magic = 0x1bad_b002_u32;
    let words = [magic, FLAGS, 0_u32.wrapping_sub(magic).wrapping_sub(FLAGS), AT, AT, 0, 0, AT + 32];
    let mut image: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    image.push(0xf4);
    image.resize(64, 0);
    image
}

/// Bytes as a file of a VM.
pub(crate) fn file(bytes: &[u8]) -> Arc<Held> {
    let mut filling = Filling::default();
    assert!(filling.push(bytes), "there is memory for a file");
    let mut joining = filling.join();
    loop {
        if let Poll::Ready(held) = joining.poll() {
            return Arc::new(held.expect("there is memory in one piece"));
        }
    }
}

impl Host {
    /// A VM of 4 MiB by that name, made and paused.
    pub(crate) fn vm(&self, name: &str) -> Arc<Vm> {
        self.vm_with(&small(name))
    }

    /// A VM by these options, made and paused.
    pub(crate) fn vm_with(&self, options: &VmOptions) -> Arc<Vm> {
        self.try_vm(options).expect("the VM can be made")
    }

    /// A VM by these options, made and paused.
    pub(crate) fn try_vm(&self, options: &VmOptions) -> Result<Arc<Vm>, String> {
        let mut making = Making::of(Reserved::of(options)?, source(options))?;
        loop {
            if let Poll::Ready(made) = making.poll() {
                return made;
            }
        }
    }

    /// A VM by that name that is to run.
    pub(crate) fn running(&self, name: &str) -> Arc<Vm> {
        self.running_with(&small(name))
    }

    /// Runs the first vCPU of a VM on CPU 0, for a millisecond at most.
    pub(crate) fn run(&self, vm: &Vm) -> Outcome {
        self.run_vcpu(vm, 0)
    }

    /// The same of any.
    pub(crate) fn run_vcpu(&self, vm: &Vm, index: usize) -> Outcome {
        let until = tsc::read() + tsc::ticks(1000);
        vm.vcpus[index].vcpu.lock().run(vm, vm.state_cell(), until)
    }

    /// Opens the PIC's inputs of a guest, and COM1's interrupts: what is left for it by these interrupts it then.
    pub(crate) fn opens_interrupts(&self, vm: &Vm) {
        // ICW1 to ICW4 of both PICs, their masks, and IER: data has come, THR is empty.
        for (port, value) in [
            (0x20, 0x11),
            (0xa0, 0x11),
            (0x21, 0x20),
            (0xa1, 0x28),
            (0x21, 4),
            (0xa1, 2),
            (0x21, 1),
            (0xa1, 1),
            (0x21, 0),
            (0xa1, 0),
            (0x3f9, 3),
            // SCI by the power button: PWRBTN_EN.
            (0x603, 1),
        ] {
            vm.platform.lock().io_write(port, 1, value, vm.clock.now());
        }
        // THRE interrupts at once: it is heard, and ends.
        let mut platform = vm.platform.lock();
        platform.io_read(0x3fa, 1, vm.clock.now());
        platform.take_kicks();
    }

    /// What is seen of a VM while its vCPU is on no CPU.
    pub(crate) fn vcpu_state(&self, vm: &Vm) -> vmx_types::VcpuState {
        vm.vcpus[0].vcpu.lock().export(vm)
    }

    /// A turn of the scheduler of the CPU on which VMs live: a slice of a millisecond.
    pub(crate) fn turn(&self, scheduler: &mut Scheduler) -> Turn {
        self.on(HOME, || scheduler.turn(tsc::ticks(1000)))
    }

    /// The CPU that has the registers of a VM's only vCPU.
    pub(crate) fn loaded_on(&self, vm: &Vm) -> Option<usize> {
        vm.vcpus[0].vcpu.lock().loaded_on()
    }
}

/// What became of one exit.
#[derive(Debug)]
pub(crate) struct After {
    pub(crate) outcome: Outcome,
    /// What the guest finds where it goes on; none where it was not entered again.
    pub(crate) back: Option<Back>,
    /// Interruption information of what was injected when it went on.
    pub(crate) injected: Vec<u32>,
}

/// A guest that goes on.
#[derive(Clone, Debug)]
pub(crate) struct Back {
    pub(crate) gprs: [u64; 16],
    pub(crate) rip: u64,
    pub(crate) rflags: u64,
    pub(crate) interruptibility: u32,
}

impl After {
    /// What the guest finds.
    pub(crate) fn back(&self) -> &Back {
        self.back.as_ref().unwrap_or_else(|| panic!("the guest does not go on: {:?}", self.outcome))
    }

    /// Why the VM is over.
    pub(crate) fn stopped(&self) -> &StopReason {
        match &self.outcome {
            Outcome::Stopped(reason) => reason,
            other => panic!("the VM is not over: {other:?}"),
        }
    }
}

impl Host {
    /// The guest does this and exits; where it is entered again, an interrupt of the host's ends its turn at once.
    pub(crate) fn exit(&self, vm: &Vm, action: impl FnOnce(&mut Guest<'_>) + Send + 'static) -> After {
        let found = Arc::new(spin::Mutex::new(None));
        let seen = Arc::clone(&found);
        self.injected();
        self.guest_does(action);
        self.guest_does(move |guest| {
            *seen.lock() = Some(Back {
                gprs: *guest.gprs,
                rip: guest.read(field::GUEST_RIP),
                rflags: guest.read(field::GUEST_RFLAGS),
                interruptibility: guest.read(field::GUEST_INTERRUPTIBILITY) as u32,
            });
            guest.exits(ExitReason::ExternalInterrupt as u32, 0);
        });
        let outcome = self.run(vm);
        self.guest_does_nothing_more();
        let back = found.lock().take();
        After { outcome, back, injected: self.injected() }
    }

    /// The guest exits for this reason at an instruction of `length` bytes, with that qualification.
    pub(crate) fn exit_for(&self, vm: &Vm, reason: ExitReason, length: u64, qualification: u64) -> After {
        self.exit(vm, move |guest| {
            guest.set(field::EXIT_QUALIFICATION, qualification);
            guest.exits(reason as u32, length);
        })
    }

    /// A VM of 4 MiB at that level, which is to run.
    pub(crate) fn running_at(&self, name: &str, level: &str) -> Arc<Vm> {
        let options = VmOptions { level: Some(level.into()), ..small(name) };
        self.running_with(&options)
    }

    /// A VM by these options, which is to run.
    pub(crate) fn running_with(&self, options: &VmOptions) -> Arc<Vm> {
        let vm = self.vm_with(options);
        vm.apply(Change::Run).expect("a VM that is made can run");
        vm
    }
}

/// Options of a VM of 4 MiB.
pub(crate) fn small(name: &str) -> VmOptions {
    VmOptions { name: name.into(), mem_mib: 4, ..VmOptions::default() }
}
