//! How a feature that a guest was not told of is kept from it, or that it is not.

use core::fmt;

use super::control::{Control, Word};

/// By which means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Means {
    /// The host's CPU does not have it.
    Absent,
    /// #UD: this control, which enables the instruction, is 0.
    NotEnabled(Control),
    /// #UD: the instruction exits by this control.
    Exiting(Control),
    /// The bit of CR4 that it needs raises #GP.
    Cr4(u8),
    /// The bits of XCR0 that it needs raise #GP.
    Xcr0(u64),
    /// The bit of IA32_EFER that it needs raises #GP.
    Efer(u8),
    /// The MSR that it needs raises #GP.
    Msr(u32),
    /// IA32_TSX_CTRL turns it off while the VM runs.
    TsxCtrl,
    /// The hypervisor would have to provide it, and does not.
    NotProvided,
    /// It is a statement: there is nothing to execute.
    Statement,
    /// The host has the same value: there is nothing to hide.
    Same,
    /// It works: the guest was not told, that is all.
    AdvertisedOnly,
    /// Said by a host of a later version: number and argument.
    Other(u8, u64),
}

impl Means {
    /// True where the guest cannot use it: enforced here, or not there at all.
    #[must_use]
    pub const fn holds(self) -> bool {
        !matches!(self, Self::AdvertisedOnly | Self::Other(..))
    }

    /// One word for it, as in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::NotEnabled(_) => "not-enabled",
            Self::Exiting(_) => "exiting",
            Self::Cr4(_) => "cr4",
            Self::Xcr0(_) => "xcr0",
            Self::Efer(_) => "efer",
            Self::Msr(_) => "msr",
            Self::TsxCtrl => "tsx-ctrl",
            Self::NotProvided => "not-provided",
            Self::Statement => "statement",
            Self::Same => "same",
            Self::AdvertisedOnly => "advertised-only",
            Self::Other(..) => "other",
        }
    }

    /// What a guest gets that uses it all the same: `#UD`, `#GP`, or nothing where no exception says it.
    #[must_use]
    pub const fn exception(self) -> Option<&'static str> {
        match self {
            Self::NotEnabled(_) | Self::Exiting(_) => Some("#UD"),
            Self::Cr4(_) | Self::Xcr0(_) | Self::Efer(_) | Self::Msr(_) => Some("#GP"),
            _ => None,
        }
    }

    pub(crate) const fn number(self) -> (u8, u64) {
        match self {
            Self::Absent => (0, 0),
            Self::NotEnabled(c) => (1, (c.word as u64) << 8 | c.bit as u64),
            Self::Exiting(c) => (2, (c.word as u64) << 8 | c.bit as u64),
            Self::Cr4(bit) => (3, bit as u64),
            Self::Xcr0(bits) => (4, bits),
            Self::Efer(bit) => (5, bit as u64),
            Self::Msr(index) => (6, index as u64),
            Self::TsxCtrl => (7, 0),
            Self::NotProvided => (8, 0),
            Self::Statement => (9, 0),
            Self::Same => (10, 0),
            Self::AdvertisedOnly => (11, 0),
            Self::Other(number, argument) => (number, argument),
        }
    }

    /// The inverse; what this version does not know becomes [`Means::Other`].
    pub(crate) fn from_number(number: u8, argument: u64) -> Self {
        let control = || {
            let word = match argument >> 8 {
                1 => Word::Primary,
                2 => Word::Secondary,
                3 => Word::Tertiary,
                _ => return None,
            };
            let bit = argument as u8;
            (bit < 64).then_some(Control { word, bit })
        };
        let bit = || u8::try_from(argument).ok().filter(|bit| *bit < 64);
        let known = match (number, argument) {
            (0, 0) => Some(Self::Absent),
            (1, _) => control().map(Self::NotEnabled),
            (2, _) => control().map(Self::Exiting),
            (3, _) => bit().map(Self::Cr4),
            (4, bits) => Some(Self::Xcr0(bits)),
            (5, _) => bit().map(Self::Efer),
            (6, _) => u32::try_from(argument).ok().map(Self::Msr),
            (7, 0) => Some(Self::TsxCtrl),
            (8, 0) => Some(Self::NotProvided),
            (9, 0) => Some(Self::Statement),
            (10, 0) => Some(Self::Same),
            (11, 0) => Some(Self::AdvertisedOnly),
            _ => None,
        };
        known.unwrap_or(Self::Other(number, argument))
    }
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Absent => f.write_str("absent in this CPU"),
            Self::NotEnabled(control) => write!(f, "#UD, `{control}` is 0"),
            Self::Exiting(control) => write!(f, "#UD by `{control}`"),
            Self::Cr4(bit) => write!(f, "CR4[{bit}] #GP"),
            Self::Xcr0(bits) => {
                f.write_str("XCR0[")?;
                let (high, low) = (63 - bits.leading_zeros().min(63), bits.trailing_zeros().min(63));
                if high == low { write!(f, "{low}] #GP") } else { write!(f, "{high}:{low}] #GP") }
            }
            Self::Efer(bit) => write!(f, "IA32_EFER[{bit}] #GP"),
            Self::Msr(index) => write!(f, "MSR {index:X} #GP"),
            Self::TsxCtrl => f.write_str("off by IA32_TSX_CTRL"),
            Self::NotProvided => f.write_str("the hypervisor does not provide it"),
            Self::Statement => f.write_str("nothing to execute"),
            Self::Same => f.write_str("the host's is the same"),
            Self::AdvertisedOnly => f.write_str("advertised only: IT WORKS"),
            Self::Other(number, argument) => write!(f, "by means {number}:{argument:#x}, not known here"),
        }
    }
}
