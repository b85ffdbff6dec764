//! Events that are injected, or whose delivery an exit interrupted (SDM 24.8.3, 24.9.2, 24.9.3).

/// The type of an event, bits 10:8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EventKind {
    /// External interrupt.
    External = 0,
    /// Non-maskable interrupt.
    Nmi = 2,
    /// Hardware exception.
    Exception = 3,
    /// INT n.
    Software = 4,
    /// INT1.
    PrivilegedSoftware = 5,
    /// INT3 or INTO.
    SoftwareException = 6,
}

/// An event with everything its injection needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Vector 0 to 255.
    pub vector: u8,
    /// Type.
    pub kind: EventKind,
    /// Error code, where the exception has one.
    pub error_code: Option<u32>,
    /// Instruction length in bytes, for software interrupts and exceptions.
    pub length: u8,
}

const VALID: u32 = 1 << 31;
const HAS_ERROR_CODE: u32 = 1 << 11;
/// Vectors of the exceptions the run loop injects.
pub mod vector {
    /// #DB
    pub const DEBUG: u8 = 1;
    /// NMI
    pub const NMI: u8 = 2;
    /// #UD
    pub const INVALID_OPCODE: u8 = 6;
    /// #DF
    pub const DOUBLE_FAULT: u8 = 8;
    /// #TS
    pub const INVALID_TSS: u8 = 10;
    /// #NP
    pub const NOT_PRESENT: u8 = 11;
    /// #SS
    pub const STACK_FAULT: u8 = 12;
    /// #GP
    pub const GENERAL_PROTECTION: u8 = 13;
    /// #PF
    pub const PAGE_FAULT: u8 = 14;
    /// #AC
    pub const ALIGNMENT_CHECK: u8 = 17;
    /// #MC
    pub const MACHINE_CHECK: u8 = 18;
}

/// Exceptions with an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC. (#CP has one too; no level has it.)
const WITH_ERROR_CODE: u32 = 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17;
/// Exceptions that are no faults: #DB, which the CPU itself raises with the right RF, #BP, #OF, #DF, #MC.
const NO_FAULT: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 8 | 1 << 18;

impl Event {
    /// An external interrupt.
    #[must_use]
    pub const fn interrupt(vector: u8) -> Self {
        Self { vector, kind: EventKind::External, error_code: None, length: 0 }
    }

    /// A non-maskable interrupt.
    pub const NMI: Self = Self { vector: vector::NMI, kind: EventKind::Nmi, error_code: None, length: 0 };

    /// A hardware exception.
    #[must_use]
    pub const fn exception(vector: u8, error_code: Option<u32>) -> Self {
        Self { vector, kind: EventKind::Exception, error_code, length: 0 }
    }

    /// #UD.
    pub const INVALID_OPCODE: Self = Self::exception(vector::INVALID_OPCODE, None);
    /// #GP(0).
    pub const GENERAL_PROTECTION: Self = Self::exception(vector::GENERAL_PROTECTION, Some(0));

    /// Decodes an interruption-information field; `None` where it is not valid or of a reserved type.
    #[must_use]
    pub const fn decode(info: u32, error_code: u32, length: u32) -> Option<Self> {
        if info & VALID == 0 {
            return None;
        }
        let kind = match info >> 8 & 7 {
            0 => EventKind::External,
            2 => EventKind::Nmi,
            3 => EventKind::Exception,
            4 => EventKind::Software,
            5 => EventKind::PrivilegedSoftware,
            6 => EventKind::SoftwareException,
            _ => return None,
        };
        let error_code = if info & HAS_ERROR_CODE != 0 { Some(error_code) } else { None };
        Some(Self {
            vector: info as u8,
            kind,
            error_code,
            length: if length > 15 { 15 } else { length as u8 },
        })
    }

    /// The VM-entry interruption-information field.
    #[must_use]
    pub const fn info(self) -> u32 {
        let error = if self.error_code.is_some() { HAS_ERROR_CODE } else { 0 };
        VALID | error | (self.kind as u32) << 8 | self.vector as u32
    }

    /// True for exceptions of the class of faults: RIP is still at their instruction, and RF is pushed set.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        matches!(self.kind, EventKind::Exception) && self.vector < 32 && NO_FAULT >> self.vector & 1 == 0
    }

    /// True for exceptions that push an error code in protected mode.
    #[must_use]
    pub const fn has_error_code(self) -> bool {
        matches!(self.kind, EventKind::Exception)
            && self.vector < 32
            && WITH_ERROR_CODE >> self.vector & 1 != 0
    }

    /// The event as a guest with this CR0.PE gets it: none pushes an error code in real mode (SDM 26.2.1.3).
    #[must_use]
    pub const fn in_mode(self, protected: bool) -> Self {
        if protected { self } else { Self { error_code: None, ..self } }
    }

    /// `second` was raised while this event was delivered (SDM 3A tables 6-4, 6-5): what is delivered then. `None` is a
    /// triple fault.
    #[must_use]
    pub const fn then(self, second: Self) -> Option<Self> {
        const CONTRIBUTORY: u32 = 1 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13;
        const PAGE_FAULT: u32 = 1 << 14;
        const DOUBLE_FAULT: u32 = 1 << 8;
        let (first, raised) = (self.exception_bit(), second.exception_bit());
        let grave = raised & (CONTRIBUTORY | PAGE_FAULT) != 0;
        if first & DOUBLE_FAULT != 0 && grave {
            None
        } else if first & CONTRIBUTORY != 0 && raised & CONTRIBUTORY != 0 || first & PAGE_FAULT != 0 && grave
        {
            Some(Self::exception(vector::DOUBLE_FAULT, Some(0)))
        } else {
            Some(second)
        }
    }

    const fn exception_bit(self) -> u32 {
        if matches!(self.kind, EventKind::Exception) && self.vector < 32 { 1 << self.vector } else { 0 }
    }

    /// True for the types whose injection needs an instruction length.
    #[must_use]
    pub const fn needs_length(self) -> bool {
        matches!(
            self.kind,
            EventKind::Software | EventKind::PrivilegedSoftware | EventKind::SoftwareException
        )
    }
}

/// An [`Event`] in one register: the VM-entry interruption information with the instruction length in its bits
/// 19:16, and the error code above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PackedEvent(u64);

impl PackedEvent {
    const LENGTH: u32 = 16;

    /// Packs an event.
    #[must_use]
    pub const fn new(event: Event) -> Self {
        let error = match event.error_code {
            Some(code) => code as u64,
            None => 0,
        };
        let length = (event.length as u32 & 15) << Self::LENGTH;
        Self(error << 32 | (event.info() | length) as u64)
    }

    /// The event again.
    #[must_use]
    pub const fn unpack(self) -> Option<Event> {
        let low = self.0 as u32;
        Event::decode(low & !(15 << Self::LENGTH), (self.0 >> 32) as u32, low >> Self::LENGTH & 15)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_inverts_info() {
        for info in 0..0x1000_u32 {
            let Some(event) = Event::decode(VALID | info, 0x18, 2) else { continue };
            assert_eq!(event.info(), VALID | info);
            assert_eq!(PackedEvent::new(event).unpack(), Some(event));
            assert_eq!(event.error_code, (info & HAS_ERROR_CODE != 0).then_some(0x18));
        }
        assert_eq!(Event::decode(0xb0d, 0, 0), None);
    }

    /// Fault 2.7: in real mode an injection that delivers an error code fails the entry.
    #[test]
    fn real_mode_gets_no_error_code() {
        assert_eq!(Event::GENERAL_PROTECTION.in_mode(true).info(), 0x8000_0b0d);
        assert_eq!(Event::GENERAL_PROTECTION.in_mode(false).info(), 0x8000_030d);
        assert_eq!(Event::interrupt(0x20).in_mode(false), Event::interrupt(0x20));
    }

    /// SDM 3A table 6-5, and faults and traps by table 6-1.
    #[test]
    fn exceptions_by_their_tables() {
        let of = |vector| Event::exception(vector, Some(0));
        let double = Some(of(vector::DOUBLE_FAULT));
        assert_eq!(of(13).then(of(11)), double);
        assert_eq!(of(14).then(of(14)), double);
        assert_eq!(of(14).then(of(0)), double);
        assert_eq!(of(13).then(of(14)), Some(of(14)));
        assert_eq!(of(8).then(of(14)), None);
        assert_eq!(of(8).then(of(1)), Some(of(1)));
        assert_eq!(Event::interrupt(14).then(of(14)), Some(of(14)));
        let faults: alloc::vec::Vec<u8> = (0..32).filter(|v| of(*v).is_fault()).collect();
        assert_eq!(faults[..12], [0, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16]);
        assert!(!of(18).is_fault() && of(17).is_fault() && !Event::interrupt(13).is_fault());
        let coded: alloc::vec::Vec<u8> = (0..=255).filter(|v| of(*v).has_error_code()).collect();
        assert_eq!(coded, [8, 10, 11, 12, 13, 14, 17]);
    }
}
