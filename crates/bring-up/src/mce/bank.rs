//! One bank with an error.

use core::fmt;

use super::{Caps, Msrs, ctl, status};

const VALID: u64 = 1 << 63;
const OVERFLOW: u64 = 1 << 62;
const UNCORRECTED: u64 = 1 << 61;
const ENABLED: u64 = 1 << 60;
const MISC_VALID: u64 = 1 << 59;
const ADDRESS_VALID: u64 = 1 << 58;
const CONTEXT_CORRUPT: u64 = 1 << 57;
const SIGNALLED: u64 = 1 << 56;
const ACTION_REQUIRED: u64 = 1 << 55;

/// What an error means for whoever runs, the mildest first (SDM 15.6.3, table 15-6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// The hardware has put it right.
    Corrected,
    /// Data is lost that nobody has used yet, and no machine check came of it.
    NoAction,
    /// The same with a machine check: whoever can may put the data away before it is used.
    Optional,
    /// What ran has used the data and cannot go on.
    Required,
    /// The CPU itself does not know its state.
    Fatal,
}

/// A bank that holds an error.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Bank {
    /// Its number.
    pub number: u32,
    /// IA32_MCi_STATUS.
    pub status: u64,
    /// IA32_MCi_ADDR, where the status says that it holds something.
    pub address: Option<u64>,
    /// IA32_MCi_MISC, likewise.
    pub misc: Option<u64>,
}

impl Bank {
    /// The bank with that number, if there is an error in it. ADDR and MISC are read only where they are there: a #GP else.
    pub fn read(msrs: &mut impl Msrs, number: u32) -> Option<Self> {
        let status = msrs.read(status(number));
        if status & VALID == 0 {
            return None;
        }
        let mut at = |valid: u64, offset: u32| (status & valid != 0).then(|| msrs.read(ctl(number) + offset));
        Some(Self { number, status, address: at(ADDRESS_VALID, 2), misc: at(MISC_VALID, 3) })
    }

    /// How bad it is.
    pub fn severity(&self, caps: Caps) -> Severity {
        let has = |bits: u64| self.status & bits == bits;
        if !has(UNCORRECTED) {
            Severity::Corrected
        } else if has(CONTEXT_CORRUPT) || !caps.recovery() {
            Severity::Fatal
        } else if !has(SIGNALLED) {
            Severity::NoAction
        } else if !has(ACTION_REQUIRED) {
            Severity::Optional
        } else if has(OVERFLOW) {
            Severity::Fatal // one that needed action was overwritten by another
        } else {
            Severity::Required
        }
    }

    /// Whether machine checks are made of such errors: if not, it is not what a machine check came for.
    pub const fn enabled(&self) -> bool {
        self.status & ENABLED != 0
    }

    /// How many corrected errors it counted, where the CPU counts them (SDM 15.3.2.2.1); at least this one.
    pub const fn count(&self) -> u64 {
        let counted = self.status >> 38 & 0x7fff;
        if self.status & UNCORRECTED == 0 && counted > 0 { counted } else { 1 }
    }
}

impl fmt::Display for Bank {
    /// `bank 7: memory read, channel 1, address 0x12345000 (status 0x...)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bank {}: {}", self.number, Code(self.status as u16))?;
        if let Some(address) = self.address {
            write!(f, ", address {address:#x}")?;
        }
        if let Some(misc) = self.misc {
            write!(f, ", misc {misc:#x}")?;
        }
        if self.status & OVERFLOW != 0 {
            f.write_str(", others lost")?;
        }
        write!(f, " (status {:#018x})", self.status)
    }
}

/// The architectural error code (SDM 15.9).
struct Code(u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LEVEL: [&str; 4] = ["L0", "L1", "L2", "any level"];
        const KIND: [&str; 4] = ["instruction", "data", "generic", "?"];
        const REQUEST: [&str; 9] =
            ["generic", "read", "write", "data read", "data write", "fetch", "prefetch", "eviction", "snoop"];
        const MEMORY: [&str; 5] = ["access", "read", "write", "command", "scrub"];
        let code = self.0 & !(1 << 12); // "filtering": it is about how corrected errors are counted
        let level = LEVEL[usize::from(code & 3)];
        let kind = KIND[usize::from(code >> 2 & 3)];
        let request = REQUEST.get(usize::from(code >> 4 & 15)).copied().unwrap_or("?");
        match code {
            0x0000 => f.write_str("no error"),
            0x0001 => f.write_str("unclassified"),
            0x0002 => f.write_str("parity of the microcode ROM"),
            0x0003 => f.write_str("external"),
            0x0004 => f.write_str("functional redundancy check"),
            0x0005 => f.write_str("internal parity"),
            0x0006 => f.write_str("SMM handler outside of SMRAM"),
            0x0400 => f.write_str("internal timer"),
            0x0e0b => f.write_str("I/O"),
            0x0401..=0x07ff => f.write_str("internal"),
            0x000c..=0x000f => write!(f, "cache hierarchy, {level}"),
            0x0010..=0x001f => write!(f, "TLB, {kind}, {level}"),
            0x0080..=0x00ff => {
                write!(f, "memory {}", MEMORY.get(usize::from(code >> 4 & 7)).copied().unwrap_or("?"))?;
                if code & 15 == 15 {
                    f.write_str(", channel unknown")
                } else {
                    write!(f, ", channel {}", code & 15)
                }
            }
            0x0100..=0x01ff => write!(f, "cache, {kind} {request}, {level}"),
            0x0800..=0x0fff => {
                let time_out = if code & 1 << 8 != 0 { ", time-out" } else { "" };
                write!(f, "bus or interconnect, {request}{time_out}, {level}")
            }
            code => write!(f, "code {code:#06x}"),
        }
    }
}
