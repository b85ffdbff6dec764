//! CPUs by the mask MSRs that they may have.

use core::fmt;

use crate::Cpu;

/// Who made the CPU, and which it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signature {
    /// CPUID.0 says GenuineIntel.
    pub intel: bool,
    /// Family with the extended family added (SDM 2A "CPUID").
    pub family: u32,
    /// Model with the extended model.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
}

impl Signature {
    /// Asks CPUID.
    pub fn read(cpu: &mut impl Cpu) -> Self {
        let [_, ebx, ecx, edx] = cpu.cpuid(0, 0);
        let intel = [ebx, edx, ecx] == [*b"Genu", *b"ineI", *b"ntel"].map(u32::from_le_bytes);
        let [eax, ..] = cpu.cpuid(1, 0);
        let base = eax >> 8 & 0xf;
        let family = if base == 0xf { base + (eax >> 20 & 0xff) } else { base };
        let extended = if matches!(base, 6 | 0xf) { eax >> 12 & 0xf0 } else { 0 };
        Self { intel, family, model: extended | eax >> 4 & 0xf, stepping: eax & 0xf }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, model, stepping, .. } = self;
        write!(f, "family {family:#x}, model {model:#x}, stepping {stepping}")
    }
}

/// The generations that the mask MSRs tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Generation {
    /// Core microarchitecture in 65 nm, Xeon 3000, 3200, 5100, 5300, 7300: no masks.
    Merom,
    /// Core in 45 nm, Xeon 3100, 3300, 5200, 5400, 7400: 0x478.
    Penryn,
    /// Nehalem and Westmere: 0x130, 0x131.
    Nehalem,
    /// Sandy Bridge: 0x132, 0x133, 0x134.
    SandyBridge,
    /// Ivy Bridge: CPUID faulting; the MSRs of Sandy Bridge have been seen there.
    IvyBridge,
    /// Any other Intel CPU: CPUID faulting where it is enumerated, no masks known.
    Other,
    /// Another vendor's: nothing is tried.
    Foreign,
}

impl Generation {
    /// The generation of a CPU.
    #[must_use]
    pub const fn of(signature: Signature) -> Self {
        match signature {
            Signature { intel: false, .. } => Self::Foreign,
            Signature { family: 6, model, .. } => match model {
                0x0f | 0x16 => Self::Merom,
                0x17 | 0x1d => Self::Penryn,
                0x1a | 0x1e | 0x1f | 0x25 | 0x2c | 0x2e | 0x2f => Self::Nehalem,
                0x2a | 0x2d => Self::SandyBridge,
                0x3a | 0x3e => Self::IvyBridge,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }

    /// The MSRs worth trying. Which leaf each masks is not taken from here.
    #[must_use]
    pub const fn candidates(self) -> &'static [u32] {
        match self {
            Self::Penryn => &[0x478],
            Self::Nehalem => &[0x130, 0x131],
            Self::SandyBridge | Self::IvyBridge => &[0x132, 0x133, 0x134],
            Self::Merom | Self::Other | Self::Foreign => &[],
        }
    }

    /// True where the candidates are documented for the generation. Others are written only if they read as a mask
    /// that hides nothing.
    #[must_use]
    pub const fn documented(self) -> bool {
        matches!(self, Self::Penryn | Self::Nehalem | Self::SandyBridge)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Merom => "Merom",
            Self::Penryn => "Penryn",
            Self::Nehalem => "Nehalem/Westmere",
            Self::SandyBridge => "Sandy Bridge",
            Self::IvyBridge => "Ivy Bridge",
            Self::Other => "other Intel",
            Self::Foreign => "not Intel",
        }
    }
}
