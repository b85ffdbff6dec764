//! What the instructions act on: registers, ports, VMCSs, time; and a guest, from an entry to its exit.

extern crate std;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
#[cfg(debug_assertions)]
use core::sync::atomic::AtomicU64;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use vm_types::ApicPage;
use vm_types::apic_register::{IRR, ISR, TPR};
use vmx_types::control::{ProcBased, ProcBased2};
use vmx_types::{ExitReason, Field, Width, field};

/// What each look at the TSC takes, in ticks.
const TICK: u64 = 10;
/// The exit when nothing else is told: the preemption timer (SDM appendix C).
const TIMER: u32 = 52;
/// IA32_VMX_MISC, whose low five bits say by how much that timer counts slower than the TSC (SDM A.6).
const VMX_MISC: u32 = 0x485;

/// An interrupt that one CPU has sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipi {
    /// APIC id of the CPU that gets it.
    pub to: u32,
    /// Its vector; none for an NMI.
    pub vector: Option<u8>,
}

/// A flush of what a CPU has cached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flush {
    /// INVEPT of one EPT pointer, on the CPU with that index.
    Ept(usize, u64),
    /// INVEPT of all, on the CPU with that index.
    AllEpt(usize),
    /// INVVPID of one VPID, on the CPU with that index.
    Vpid(usize, u16),
}

/// One CPU.
#[derive(Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) msrs: HashMap<u32, u64>,
    pub(crate) registers: HashMap<&'static str, u64>,
    /// Region of the current VMCS.
    pub(crate) vmcs: Option<u64>,
    /// FPU and vector registers, as XSAVE stores them.
    pub(crate) xstate: Vec<u8>,
}

/// All of it.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) tsc: u64,
    /// What each look at it takes besides [`TICK`].
    pub(crate) slow: u64,
    pub(crate) cpuid: HashMap<(u32, u32), [u32; 4]>,
    /// Ports that answer; all others read as ones.
    pub(crate) ports: HashMap<u16, u32>,
    /// What was written to ports.
    pub(crate) written: Vec<(u16, u32)>,
    pub(crate) ipis: Vec<Ipi>,
    pub(crate) flushes: Vec<Flush>,
    pub(crate) cpus: Vec<Cpu>,
    /// Fields of each VMCS, by its region.
    pub(crate) vmcss: HashMap<u64, HashMap<u32, u64>>,
    /// What guests do, entry by entry.
    pub(crate) script: VecDeque<Action>,
    /// Events that entries have injected: the interruption-information field.
    pub(crate) injected: Vec<u32>,
}

pub(super) static STATE: Mutex<Option<State>> = Mutex::new(None);
/// Index of the CPU that runs.
static NOW: AtomicUsize = AtomicUsize::new(0);

/// Index of the CPU that runs.
pub(crate) fn now() -> usize {
    NOW.load(Ordering::Relaxed)
}

/// Another CPU runs from now on. The index of the one that ran.
pub(super) fn switch_to(cpu: usize) -> usize {
    NOW.swap(cpu, Ordering::Relaxed)
}

/// Ranks of the locks that the CPU that runs holds, a bit each. Tests without a machine run beside the one that has it, so
/// that each thread has words of its own.
#[cfg(debug_assertions)]
#[expect(clippy::unnecessary_wraps, reason = "a real CPU has none before it has come up")]
pub(crate) fn held_locks() -> Option<&'static AtomicU64> {
    const CPUS: usize = 8;
    std::thread_local! {
        static HELD: &'static [AtomicU64; CPUS] =
            Box::leak(Box::new([const { AtomicU64::new(0) }; CPUS]));
    }
    Some(HELD.with(|held| &held[now() % CPUS]))
}

/// Looks at the machine.
///
/// # Panics
/// Where no test has it.
pub(crate) fn with<R>(look: impl FnOnce(&mut State) -> R) -> R {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    look(state.as_mut().expect("a test has the machine"))
}

impl State {
    /// The CPU that runs.
    pub(crate) fn cpu(&mut self) -> &mut Cpu {
        &mut self.cpus[now()]
    }

    /// The counter, which goes on with each look.
    pub(crate) fn tick(&mut self) -> u64 {
        self.tsc += TICK + self.slow;
        self.tsc
    }
}

/// What a guest does, once.
pub type Action = Box<dyn FnOnce(&mut Guest<'_>) + Send>;

/// A guest that was entered, until it exits. The rest of the machine goes on meanwhile.
pub struct Guest<'a> {
    /// General-purpose registers in ModRM order, without RSP.
    pub gprs: &'a mut [u64; 16],
}

impl core::fmt::Debug for Guest<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Guest").field("gprs", &self.gprs).finish_non_exhaustive()
    }
}

/// The field of the current VMCS with that encoding.
fn with_field<R>(encoding: u32, look: impl FnOnce(&mut u64) -> R) -> R {
    with(|state| {
        let region = state.cpu().vmcs.expect("a VMCS is current");
        look(state.vmcss.entry(region).or_default().entry(encoding).or_default())
    })
}

impl Guest<'_> {
    /// A field of its VMCS.
    pub fn read<W: Width, G>(&mut self, field: Field<W, G>) -> u64 {
        with_field(field.encoding(), |value| *value)
    }

    /// Sets a field, of its own state or of what the exit says.
    pub fn set<W: Width, G>(&mut self, field: Field<W, G>, value: u64) {
        with_field(field.encoding(), |at| *at = value);
    }

    /// Exits for this reason, after an instruction of `length` bytes.
    pub fn exits(&mut self, reason: u32, length: u64) {
        self.set(field::EXIT_REASON, reason.into());
        self.set(field::EXIT_INSTRUCTION_LENGTH, length);
    }

    /// Writes to a page on a CPU that logs it (SDM 28.3.6): its address goes into the log, where there is room.
    ///
    /// # Panics
    /// Where the guest has no log.
    pub fn logs_write(&mut self, gpa: u64) -> bool {
        let (log, index) = (self.read(field::PML_ADDRESS), self.read(field::PML_INDEX));
        assert!(log != 0, "there is a log");
        if index >= 512 {
            return false;
        }
        let entry = (log + index * 8) as *mut u64;
        // SAFETY: the log of the current VMCS is a page of its own, aligned, of 512 entries.
        unsafe { entry.write_volatile(gpa & !0xfff) };
        self.set(field::PML_INDEX, index.wrapping_sub(1) & 0xffff);
        true
    }

    pub(super) fn primary(&mut self) -> ProcBased {
        ProcBased::from_bits_retain(self.read(field::PROC_BASED_CONTROLS) as u32)
    }

    /// The registers of its local APIC, where the CPU virtualises them.
    ///
    /// # Panics
    /// Where it does not.
    pub fn apic(&mut self) -> &'static ApicPage {
        assert!(self.primary().contains(ProcBased::USE_TPR_SHADOW), "the CPU virtualises the APIC");
        let page = self.read(field::VIRTUAL_APIC_ADDRESS);
        // SAFETY: `set_up` has taken the address from such a page, which lives as long as the VMCS; tests end before it does.
        unsafe { &*(page as *const ApicPage) }
    }

    /// Virtual-interrupt delivery, where that is on (SDM 29.2.2): the highest request, where the guest takes interrupts.
    pub(super) fn takes_virtual_interrupt(&mut self) {
        const BLOCKED: u64 = 3;
        let status = self.read(field::GUEST_INTERRUPT_STATUS);
        let (request, in_service) = (status as u8, (status >> 8) as u8);
        let secondary = ProcBased2::from_bits_retain(self.read(field::PROC_BASED_CONTROLS_2) as u32);
        let delivers = secondary.contains(ProcBased2::VIRTUAL_INTERRUPT_DELIVERY)
            && !self.primary().contains(ProcBased::INTERRUPT_WINDOW_EXITING);
        let open = self.read(field::GUEST_RFLAGS) & 1 << 9 != 0
            && self.read(field::GUEST_INTERRUPTIBILITY) & BLOCKED == 0;
        if !delivers || !open {
            return;
        }
        let page = self.apic();
        let priority = (page.get(TPR) as u8 >> 4).max(in_service >> 4);
        if request >> 4 > priority {
            page.set_bit(IRR, request, false);
            page.set_bit(ISR, request, true);
            let next = page.highest(IRR).unwrap_or(0);
            self.set(field::GUEST_INTERRUPT_STATUS, u64::from(request) << 8 | u64::from(next));
            with(|state| state.injected.push(1 << 31 | u32::from(request)));
        }
    }

    /// WRMSR to EOI in x2APIC mode, or a store to it, where the CPU carries that out (SDM 29.1.4). True where it exits then.
    pub fn ends_interrupt(&mut self) -> bool {
        let page = self.apic();
        let status = self.read(field::GUEST_INTERRUPT_STATUS);
        let vector = (status >> 8) as u8;
        page.set_bit(ISR, vector, false);
        let next = page.highest(ISR).unwrap_or(0);
        self.set(field::GUEST_INTERRUPT_STATUS, u64::from(next) << 8 | status & 0xff);
        let exits = self.read(field::EOI_EXIT_BITMAPS[usize::from(vector >> 6)]) >> (vector & 63) & 1 != 0;
        if exits {
            self.set(field::EXIT_QUALIFICATION, vector.into());
            self.exits(ExitReason::VirtualizedEoi as u32, 0);
        }
        exits
    }

    /// Lets time go on.
    pub fn runs_for(&mut self, ticks: u64) {
        with(|state| state.tsc += ticks);
    }

    /// The number of the CPU that it runs on.
    pub fn cpu(&self) -> usize {
        now()
    }
}

/// Enters the guest of the current VMCS, and comes back with its exit.
pub(crate) fn enter(gprs: &mut [u64; 16]) {
    let action = with(|state| state.script.pop_front());
    let mut guest = Guest { gprs };
    // The valid bit is cleared, and what the last exit said is no more (SDM 27.2.1).
    let event = guest.read(field::ENTRY_INTERRUPTION_INFO) as u32;
    if event >> 31 != 0 {
        guest.set(field::ENTRY_INTERRUPTION_INFO, u64::from(event & !(1 << 31)));
        with(|state| state.injected.push(event));
    }
    guest.set(field::IDT_VECTORING_INFO, 0);
    guest.set(field::EXIT_INTERRUPTION_INFO, 0);
    guest.set(field::EXIT_QUALIFICATION, 0);
    if event >> 31 == 0 {
        guest.takes_virtual_interrupt();
    }
    match action {
        Some(action) => action(&mut guest),
        None => {
            let left = guest.read(field::PREEMPTION_TIMER);
            let misc = with(|state| state.cpu().msrs.get(&VMX_MISC).copied().unwrap_or(0));
            guest.runs_for(left << (misc & 0x1f));
            guest.exits(TIMER, 0);
        }
    }
}
