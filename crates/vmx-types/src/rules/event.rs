//! Rules for event injection (SDM 26.2.1.3).

use super::{Broken, need};
use crate::event::{Event, EventKind, vector};
use crate::field;
use crate::vmcs::Vmcs;

const RULE: &str = "26.2.1.3";
const VALID: u32 = 1 << 31;

/// The fields that say what a VM entry injects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventFields {
    /// VM-entry interruption information.
    pub info: u32,
    /// VM-entry exception error code.
    pub error_code: u32,
    /// VM-entry instruction length.
    pub length: u32,
}

impl EventFields {
    /// Reads them.
    pub fn read(vmcs: &impl Vmcs) -> Self {
        let info = vmcs.get(field::ENTRY_INTERRUPTION_INFO);
        if info & VALID == 0 {
            return Self::default();
        }
        Self {
            info,
            error_code: vmcs.get(field::ENTRY_EXCEPTION_ERROR_CODE),
            length: vmcs.get(field::ENTRY_INSTRUCTION_LENGTH),
        }
    }

    /// The event, if any and legal in a guest with this CR0.PE.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self, protected: bool) -> Result<Option<Event>, Broken> {
        if self.info == 0 {
            return Ok(None);
        }
        let decoded = Event::decode(self.info, self.error_code, self.length);
        let event = decoded.filter(|event| event.info() == self.info);
        let Some(event) = event else { return Err(self.wrong()) };
        let vector_fits = match event.kind {
            EventKind::Nmi => event.vector == vector::NMI,
            EventKind::Exception => event.vector < 32 && event.vector != vector::NMI,
            _ => true,
        };
        if !vector_fits || event.error_code.is_some() != (protected && event.has_error_code()) {
            return Err(self.wrong());
        }
        let code = event.error_code.unwrap_or(0);
        need(code >> 16 == 0, RULE, "event error code", code.into())?;
        // A length of 0 is for CPUs of IA32_VMX_MISC[30]; no instruction has it.
        let length = !event.needs_length() || (1..=15).contains(&self.length);
        need(length, RULE, "event length", self.length.into())?;
        Ok(Some(event))
    }

    fn wrong(&self) -> Broken {
        Broken { rule: RULE, field: "event", value: self.info.into() }
    }

    /// May be injected in activity state HLT (SDM 26.3.1.5).
    pub(super) fn wakes_hlt(&self) -> bool {
        let kind = self.info >> 8 & 7;
        let debug_or_machine_check = matches!(self.info as u8, vector::DEBUG | vector::MACHINE_CHECK);
        self.info == 0 || matches!(kind, 0 | 2) || kind == 3 && debug_or_machine_check
    }

    /// May be injected in activity state shutdown.
    pub(super) fn wakes_shutdown(&self) -> bool {
        let kind = self.info >> 8 & 7;
        self.info == 0 || kind == 2 || kind == 3 && self.info as u8 == vector::MACHINE_CHECK
    }
}
