//! FADT: fixed hardware (5.2.9).

use crate::bytes::{gas_at, u8_at, u16_at, u32_at, u64_at};
use crate::{AddressSpace, GenericAddress};

/// The fields of the FADT that are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fadt {
    /// System control interrupt (a global system interrupt).
    pub sci: u16,
    /// The PM timer's register.
    pub pm_timer: Option<GenericAddress>,
    /// The PM timer counts 32 bits, else 24.
    pub pm_timer_32: bool,
    /// PM1a control block (sleep, power-off).
    pub pm1a_control: Option<GenericAddress>,
    /// The same of a second chip set half, if there is one.
    pub pm1b_control: Option<GenericAddress>,
    /// Port and value that put the chip set into ACPI mode; none where it is always in it.
    pub enable: Option<(u16, u8)>,
    /// Physical address of the DSDT.
    pub dsdt: Option<u64>,
    /// The reset register and the value to write into it.
    pub reset: Option<(GenericAddress, u8)>,
    /// No 8042 keyboard controller is said to be missing: from revision 3 on, IAPC_BOOT_ARCH bit 1.
    pub has_8042: bool,
}

const RESET_SUPPORTED: u32 = 1 << 10;
const TIMER_32: u32 = 1 << 8;

pub(crate) fn parse(table: &[u8]) -> Option<Fadt> {
    let flags = u32_at(table, 112)?;
    let revision = u8_at(table, 8)?;
    let io = |at: usize, bits: u8| {
        let address = u64::from(u32_at(table, at)?);
        (address != 0).then_some(GenericAddress { space: AddressSpace::Io, bits, address })
    };
    let reset = gas_at(table, 116).zip(u8_at(table, 128)).filter(|_| flags & RESET_SUPPORTED != 0);
    Some(Fadt {
        sci: u16_at(table, 46)?,
        pm_timer: gas_at(table, 208).or_else(|| io(76, 32)),
        pm_timer_32: flags & TIMER_32 != 0,
        pm1a_control: gas_at(table, 172).or_else(|| io(64, 16)),
        pm1b_control: gas_at(table, 184).or_else(|| io(68, 16)),
        enable: u32_at(table, 48)
            .and_then(|port| u16::try_from(port).ok())
            .zip(u8_at(table, 52))
            .filter(|&(port, value)| port != 0 && value != 0),
        dsdt: u64_at(table, 140)
            .filter(|&at| at != 0)
            .or_else(|| u32_at(table, 40).map(u64::from).filter(|&at| at != 0)),
        reset,
        has_8042: revision < 3 || u16_at(table, 109)? & 2 != 0,
    })
}
