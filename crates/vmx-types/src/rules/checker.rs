//! The checker of a vCPU: every VM entry by the rules, of which those are asked whose fields have changed since the
//! last entry; and every exit by what it left to be done.

use super::{ControlFields, GuestFields, GuestRegs, HostFields, Mode, Verdict, need};
use crate::capability::Caps;
use crate::event::Event;
use crate::field;
use crate::flow::{BLOCKED_BY_NMI, Flow, RFLAGS_TF, iret_unblocked_nmi};
use crate::reason::ExitReason;
use crate::vmcs::Vmcs;

/// What an exit asks of the next entry (SDM 27.2.3, 27.2.4, 27.3.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Debt {
    /// An event in whose delivery it happened, which has to be delivered again.
    event: Option<Event>,
    /// NMIs that an IRET had unblocked, which runs again.
    nmis_blocked: bool,
    /// RIP, RFLAGS and the rest as the exit left them.
    rip: u64,
    flow: Flow,
}

/// Remembers what was checked.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    controls: Option<ControlFields>,
    host: bool,
    guest: Option<GuestRegs>,
    debt: Option<Debt>,
}

impl Checker {
    /// Another VMCS, CPU or state: the next entry is judged by all rules.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Judges an entry that is about to be made.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn before_entry(&mut self, vmcs: &impl Vmcs, caps: &Caps, phys_bits: u8) -> Verdict {
        let mode = Mode::new(caps, phys_bits);
        if !self.host {
            HostFields::read(vmcs).check(&Mode { unrestricted: false, ..mode })?;
            self.host = true;
        }
        if !self.controls.is_some_and(|known| known.are_those_of(vmcs)) {
            let controls = ControlFields::read(vmcs);
            controls.check(caps, phys_bits)?;
            self.controls = Some(controls);
        }
        let guest = if let Some(known) = self.guest {
            let guest = GuestFields::read_flow(vmcs, known);
            guest.check_flow()?;
            guest
        } else {
            let guest = GuestFields::read(vmcs);
            guest.check(&mode)?;
            self.guest = Some(guest.regs);
            guest
        };
        self.debt.take().map_or(Ok(()), |debt| debt.check(&guest))
    }

    /// Notes what an exit left, before anything is done about it.
    pub fn after_exit(&mut self, vmcs: &impl Vmcs) {
        let reason = ExitReason::from_number(vmcs.get(field::EXIT_REASON) as u16);
        if !reason.is_some_and(leaves_registers) {
            self.guest = None;
        }
        let info = vmcs.get(field::IDT_VECTORING_INFO);
        let (word, vector) = match reason {
            Some(ExitReason::ExceptionOrNmi) => {
                let word = vmcs.get(field::EXIT_INTERRUPTION_INFO);
                (word.into(), Some(word as u8))
            }
            Some(ExitReason::EptViolation | ExitReason::PmlFull) => {
                (vmcs.get(field::EXIT_QUALIFICATION), None)
            }
            _ => (0, None),
        };
        if reason == Some(ExitReason::TaskSwitch) {
            self.debt = None; // the event is delivered by the switch, and another task goes on
            return;
        }
        let event = if info >> 31 == 0 || reason == Some(ExitReason::ExceptionOrNmi) {
            None // what it raised takes the event's place
        } else {
            let length = vmcs.get(field::EXIT_INSTRUCTION_LENGTH);
            Event::decode(info, vmcs.get(field::IDT_VECTORING_ERROR_CODE), length)
        };
        self.debt = Some(Debt {
            event,
            nmis_blocked: iret_unblocked_nmi(word, info, vector),
            rip: vmcs.get(field::GUEST_RIP),
            flow: Flow::read(vmcs),
        });
    }
}

/// Exits whose handlers write no register but those that every exit changes. What the guest itself has loaded is legal:
/// the CPU has checked it.
const fn leaves_registers(reason: ExitReason) -> bool {
    use ExitReason as R;
    matches!(
        reason,
        R::ExceptionOrNmi
            | R::ExternalInterrupt
            | R::InterruptWindow
            | R::NmiWindow
            | R::Cpuid
            | R::Hlt
            | R::Rdtsc
            | R::Rdtscp
            | R::Io
            | R::Rdmsr
            | R::EptViolation
            | R::PreemptionTimer
            | R::PmlFull
            | R::ApicAccess
            | R::ApicWrite
            | R::VirtualizedEoi
            | R::TprBelowThreshold
    )
}

impl Debt {
    fn check(&self, guest: &GuestFields) -> Verdict {
        let injected = guest.event.info;
        if let Some(event) = self.event {
            let again = injected & 0x7ff == event.info() & 0x7ff && injected != 0;
            need(again, "27.2.4", "event delivered again", injected.into())?;
        }
        if self.nmis_blocked {
            let blocked = guest.flow.interruptibility;
            need(blocked & BLOCKED_BY_NMI != 0, "27.2.3", "interruptibility after an IRET", blocked.into())?;
        }
        if injected != 0 {
            return Ok(()); // with an event, no debug exception stays pending
        }
        let pending = guest.flow.pending_debug;
        let stepped = self.rip != guest.rip && self.flow.rflags & RFLAGS_TF != 0;
        let owed = self.flow.debug_is_due() || stepped;
        need(!owed || guest.flow.debug_is_due(), "27.3.4", "pending debug exceptions", pending)
    }
}

impl Mode {
    /// The mode of a guest that has all controls of this CPU.
    #[must_use]
    pub const fn new(caps: &Caps, phys_bits: u8) -> Self {
        Self {
            unrestricted: caps.unrestricted(),
            cr0: (caps.cr0_fixed0, caps.cr0_fixed1),
            cr4: (caps.cr4_fixed0, caps.cr4_fixed1),
            phys_bits,
        }
    }

    /// No CPU in particular: what any asks of a state that is not in hardware form.
    #[must_use]
    pub const fn any(unrestricted: bool, phys_bits: u8) -> Self {
        Self { unrestricted, cr0: (0, u64::MAX), cr4: (0, u64::MAX), phys_bits }
    }
}
