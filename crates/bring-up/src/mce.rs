//! Machine checks (SDM 3B chapter 15): the banks of a CPU, and what an error in them poisons.

mod bank;
mod verdict;

pub use bank::{Bank, Severity};
pub use verdict::{Context, Finding, Verdict, handle, poll};

/// The machine-check registers of the calling CPU.
pub trait Msrs {
    /// Reads a register that is there.
    fn read(&mut self, msr: u32) -> u64;
    /// Writes one.
    fn write(&mut self, msr: u32, value: u64);
}

const IA32_MCG_CAP: u32 = 0x179;
const IA32_MCG_STATUS: u32 = 0x17a;
const IA32_MCG_CTL: u32 = 0x17b;
const IA32_MCG_EXT_CTL: u32 = 0x4d0;
const MCG_EXT_CTL_LMCE: u64 = 1;
/// IA32_FEATURE_CONTROL: locked, and local machine checks allowed (SDM 15.3.1.5).
const FEATURE_LMCE: u64 = 1 << 20 | 1;
/// Banks have four registers each from here on: CTL, STATUS, ADDR, MISC.
const IA32_MC0_CTL: u32 = 0x400;
/// More cannot be named in a mask; the registers end after 32 on every CPU so far.
const MAX_BANKS: u32 = 64;

const fn ctl(bank: u32) -> u32 {
    IA32_MC0_CTL + bank * 4
}

const fn status(bank: u32) -> u32 {
    ctl(bank) + 1
}

/// What a CPU's machine-check architecture has: IA32_MCG_CAP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caps(u64);

impl Caps {
    /// Those of the calling CPU, which has CPUID.1:EDX.MCA.
    pub fn read(msrs: &mut impl Msrs) -> Self {
        Self(msrs.read(IA32_MCG_CAP))
    }

    /// How many banks there are.
    pub const fn banks(self) -> u32 {
        let count = (self.0 & 0xff) as u32;
        if count < MAX_BANKS { count } else { MAX_BANKS }
    }

    /// Software can recover from some errors: the S and AR bits of a status mean something.
    pub const fn recovery(self) -> bool {
        self.0 & 1 << 24 != 0
    }

    /// An error can be told to the CPU alone that it concerns.
    pub const fn local(self) -> bool {
        self.0 & 1 << 27 != 0
    }

    const fn has_ctl(self) -> bool {
        self.0 & 1 << 8 != 0
    }
}

/// What [`set_up`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    /// The CPU's capabilities.
    pub caps: Caps,
    /// Local machine checks are on.
    pub local: bool,
}

/// Sets up every bank of the calling CPU, in the SDM's order (15.8): all errors on, all banks empty, no machine check in
/// progress: a second one with MCG_STATUS.MCIP set shuts the machine down. What firmware or the boot before left in a bank
/// goes to `left` first. CR4.MCE is to be set afterwards.
///
/// `family_model` is family << 8 | model; `feature_control` is IA32_FEATURE_CONTROL, 0 where it is not there.
pub fn set_up(
    msrs: &mut impl Msrs,
    family_model: u32,
    feature_control: u64,
    mut left: impl FnMut(Bank),
) -> Ready {
    let caps = Caps::read(msrs);
    let local = caps.local() && feature_control & FEATURE_LMCE == FEATURE_LMCE;
    if local {
        let value = msrs.read(IA32_MCG_EXT_CTL);
        msrs.write(IA32_MCG_EXT_CTL, value | MCG_EXT_CTL_LMCE);
    }
    if caps.has_ctl() {
        msrs.write(IA32_MCG_CTL, u64::MAX);
    }
    // Bank 0 of these belongs to the chipset's firmware (SDM 15.3.2.1: family 6 before model 0x1A).
    let first_is_firmwares = family_model >> 8 == 6 && family_model & 0xff < 0x1a;
    for bank in 0..caps.banks() {
        if let Some(bank) = Bank::read(msrs, bank) {
            left(bank);
        }
        if bank > 0 || !first_is_firmwares {
            msrs.write(ctl(bank), u64::MAX);
        }
        msrs.write(status(bank), 0);
    }
    msrs.write(IA32_MCG_STATUS, 0);
    Ready { caps, local }
}

/// How many banks are off, or hold an error.
pub fn trouble(msrs: &mut impl Msrs, caps: Caps) -> u64 {
    (0..caps.banks())
        // Bank 0 may be the firmware's.
        .filter(|&bank| Bank::read(msrs, bank).is_some() || (bank > 0 && msrs.read(ctl(bank)) == 0))
        .count() as u64
}
