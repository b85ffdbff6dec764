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
    /// #GP
    pub const GENERAL_PROTECTION: u8 = 13;
    /// #PF
    pub const PAGE_FAULT: u8 = 14;
    /// #AC
    pub const ALIGNMENT_CHECK: u8 = 17;
    /// #MC
    pub const MACHINE_CHECK: u8 = 18;
}

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
}
