//! What decides about events: RFLAGS, interruptibility and pending debug exceptions of a guest. Here it is decided
//! which event comes next, what its delivery asks of these fields, and which window exits the guest needs.

use crate::event::{Event, EventKind};
use crate::field;
use crate::vmcs::Vmcs;

/// RFLAGS.TF
pub const RFLAGS_TF: u64 = 1 << 8;
/// RFLAGS.IF
pub const RFLAGS_IF: u64 = 1 << 9;
/// RFLAGS.RF
pub const RFLAGS_RF: u64 = 1 << 16;
/// RFLAGS.VM
pub const RFLAGS_VM: u64 = 1 << 17;

/// Interruptibility: blocking by STI (SDM table 24-3).
pub const BLOCKED_BY_STI: u32 = 1 << 0;
/// Blocking by MOV SS.
pub const BLOCKED_BY_MOV_SS: u32 = 1 << 1;
/// Blocking by NMI.
pub const BLOCKED_BY_NMI: u32 = 1 << 3;
/// The two that last for one instruction.
const SHADOW: u32 = BLOCKED_BY_STI | BLOCKED_BY_MOV_SS;

/// Pending debug exceptions: a breakpoint that DR7 enables (SDM table 24-4).
pub const PENDING_BREAKPOINT: u64 = 1 << 12;
/// Pending debug exceptions: single step.
pub const PENDING_STEP: u64 = 1 << 14;
/// Pending debug exceptions: inside a transactional region.
pub const PENDING_RTM: u64 = 1 << 16;

/// DR6.B0 to B3.
const DR6_BREAKPOINTS: u64 = 0xf;
/// DR6.BD and BS.
const DR6_ACCESS_OR_STEP: u64 = 1 << 13 | 1 << 14;
/// DR6.RTM, which is 0 where it applies.
const DR6_RTM: u64 = 1 << 16;
/// DR7.GD
const DR7_GENERAL_DETECT: u64 = 1 << 13;

/// The three fields, as they are in the VMCS and in a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    /// RFLAGS.
    pub rflags: u64,
    /// Interruptibility state.
    pub interruptibility: u32,
    /// Pending debug exceptions.
    pub pending_debug: u64,
}

/// What the guest can take at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Take {
    /// Nothing, or nothing that waits.
    Nothing,
    /// The NMI.
    Nmi,
    /// The interrupt.
    Interrupt,
}

/// Which window exits bring the guest back when it can take what waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Windows {
    /// Interrupt-window exiting.
    pub interrupt: bool,
    /// NMI-window exiting.
    pub nmi: bool,
}

impl Flow {
    /// Reads them.
    pub fn read(vmcs: &impl Vmcs) -> Self {
        Self {
            rflags: vmcs.get(field::GUEST_RFLAGS),
            interruptibility: vmcs.get(field::GUEST_INTERRUPTIBILITY),
            pending_debug: vmcs.get(field::GUEST_PENDING_DEBUG),
        }
    }

    /// True where [`Flow::executed`] changes nothing: all but a few instructions.
    #[inline(always)]
    #[must_use]
    pub const fn is_plain(rflags: u64, interruptibility: u32) -> bool {
        rflags & (RFLAGS_TF | RFLAGS_RF) == 0 && interruptibility & SHADOW == 0
    }

    /// After an instruction: the shadows of STI and MOV SS end, RF is spent, and a single step falls due.
    #[must_use]
    pub const fn executed(mut self) -> Self {
        self.interruptibility &= !SHADOW;
        if self.rflags & RFLAGS_TF != 0 {
            self.pending_debug |= PENDING_STEP;
        }
        self.rflags &= !RFLAGS_RF;
        self
    }

    /// After an iteration of a repeated string instruction that is not its last: as [`Flow::executed`], but what comes
    /// between two iterations is pushed with RF, so that a breakpoint at the instruction does not come again (SDM 3B
    /// 17.3.1.1).
    #[must_use]
    pub const fn iterated(self) -> Self {
        let mut flow = self.executed();
        flow.rflags |= RFLAGS_RF;
        flow
    }

    /// A debug exception comes at the next entry that delivers nothing else (SDM 26.7.3). HLT does not sleep then.
    #[must_use]
    pub const fn debug_is_due(self) -> bool {
        self.pending_debug & (PENDING_BREAKPOINT | PENDING_STEP | PENDING_RTM) != 0
    }

    /// `event` is raised at the instruction that RIP points to. What the CPU raised itself comes with RF as it has to
    /// be pushed (SDM 27.3.3); faults that a handler raises get it here (SDM 3B 17.3.1.1).
    #[must_use]
    pub const fn raise(mut self, event: Event) -> Self {
        if event.is_fault() {
            self.rflags |= RFLAGS_RF;
        }
        self.before(event)
    }

    /// The state under which the injection of `event` is legal (SDM 26.3.1.5), and delivers what the guest is owed.
    #[must_use]
    pub const fn before(mut self, event: Event) -> Self {
        match event.kind {
            // An NMI whose delivery exited: it blocks NMIs already, which an NMI to be injected must not find.
            EventKind::Nmi => self.interruptibility &= !(BLOCKED_BY_NMI | SHADOW),
            EventKind::External => self.interruptibility &= !SHADOW,
            _ => {}
        }
        let survives = matches!(event.kind, EventKind::Software | EventKind::SoftwareException)
            && self.interruptibility & BLOCKED_BY_MOV_SS != 0;
        if !survives {
            // Such an entry leaves no debug exception pending (SDM 26.7.3).
            self.pending_debug = 0;
        }
        // TF under a shadow was set before the instruction that throws it. The entry wants to see the step that fell
        // due, which a #DB's exit leaves out (found by KVM, Linux commit b9bed78e2fa9).
        if self.interruptibility & SHADOW != 0 {
            let step = if self.rflags & RFLAGS_TF != 0 { PENDING_STEP } else { 0 };
            self.pending_debug = self.pending_debug & !PENDING_STEP | step;
        }
        self
    }

    /// What of the things that wait is delivered at the next entry; `on_its_way` says that an event is, before all.
    /// Debug exceptions that fell due come before NMIs and interrupts (SDM 3A 6.9).
    #[must_use]
    pub const fn take(self, on_its_way: bool, nmi: bool, interrupt: bool) -> Take {
        let open = !on_its_way && self.interruptibility & SHADOW == 0 && !self.debug_is_due();
        if open && nmi && self.interruptibility & BLOCKED_BY_NMI == 0 {
            Take::Nmi
        } else if open && interrupt && self.rflags & RFLAGS_IF != 0 {
            Take::Interrupt
        } else {
            Take::Nothing
        }
    }

    /// The windows for what waits behind the next entry. A CPU may leave for the NMI window again and again while STI
    /// blocks, without a step of the guest (SDM 26.7.6): the interrupt window is open after that step, since IF is 1.
    #[must_use]
    pub const fn windows(self, on_its_way: bool, nmi: bool, interrupt: bool) -> Windows {
        let sti = nmi && !on_its_way && self.nmi_waits_for_step();
        Windows { interrupt: interrupt || sti, nmi: nmi && !sti }
    }

    /// Blocking by STI alone keeps NMIs away. Whoever has one looks again after the next exit of any kind, since the
    /// guest may clear IF with the next instruction.
    #[must_use]
    pub const fn nmi_waits_for_step(self) -> bool {
        self.interruptibility & (BLOCKED_BY_STI | BLOCKED_BY_NMI) == BLOCKED_BY_STI
    }
}

/// True where an exit happened in an IRET that had unblocked NMIs: it runs again, so they are still blocked. `word` is
/// the exit-interruption information of an exception, or the qualification of an EPT violation or of a full
/// page-modification log; the bit says nothing in an event's delivery, nor for #DF (SDM 27.2.3).
#[must_use]
pub const fn iret_unblocked_nmi(word: u64, idt_vectoring: u32, vector: Option<u8>) -> bool {
    word & 1 << 12 != 0 && idt_vectoring >> 31 == 0 && !matches!(vector, Some(8))
}

/// DR6 and DR7 as a delivered #DB leaves them: the exit has changed neither, and `cause` is its qualification.
/// INT1 says nothing in DR6 (SDM 27.2.1, 3B 17.2.3, 17.2.4).
#[must_use]
pub const fn debug_registers(kind: EventKind, dr6: u64, dr7: u64, cause: u64) -> (u64, u64) {
    let dr6 = match kind {
        EventKind::Exception => {
            let set = cause & (DR6_BREAKPOINTS | DR6_ACCESS_OR_STEP);
            (dr6 & !DR6_BREAKPOINTS | set) & !(cause & DR6_RTM)
        }
        _ => dr6,
    };
    (dr6, dr7 & !DR7_GENERAL_DETECT)
}

#[cfg(test)]
mod tests;
