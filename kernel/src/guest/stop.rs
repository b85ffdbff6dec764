//! Why a VM is over.

use alloc::string::String;
use core::fmt;

/// Why a VM is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum StopReason {
    /// ACPI power-off.
    PowerOff,
    /// The guest wrote this code to its debug-exit port.
    DebugExit(u32),
    /// The guest reset itself.
    Reset,
    /// Triple fault.
    TripleFault,
    /// The guest did what no VM of ours can do, or the host failed it.
    Error(String),
}

impl StopReason {
    /// Whether the guest reset its machine.
    pub(crate) const fn is_reset(&self) -> bool {
        matches!(self, Self::Reset | Self::TripleFault)
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("power-off"),
            Self::DebugExit(code) => write!(f, "debug exit {code}"),
            Self::Reset => f.write_str("reset"),
            Self::TripleFault => f.write_str("triple fault"),
            Self::Error(text) => write!(f, "error: {text}"),
        }
    }
}
