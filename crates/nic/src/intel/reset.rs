//! From whatever a boot loader left to a card at rest, with its address known.

use super::regs::*;
use super::{Family, InitError, Registers};
use switch::MacAddr;

impl Family {
    fn is_pci_express(self) -> bool {
        self != Family::I8254x
    }

    /// Manageability firmware may own the card until a driver says that it has it.
    fn has_driver_flag(self) -> bool {
        self != Family::I8254x
    }
}

/// Masks interrupts, stops DMA and resets the MAC (8254x manual section 14.3). A card that a boot loader left armed must
/// have this before bus mastering is allowed.
///
/// # Errors
/// The card does not answer, or does not come out of reset.
pub(super) fn reset(family: Family, registers: &mut impl Registers) -> Result<(), InitError> {
    if registers.read32(STATUS) == u32::MAX {
        return Err(InitError::NoAnswer);
    }
    silence(family, registers);
    let ctrl = registers.read32(CTRL);
    if family.is_pci_express() {
        // No request of the card may be outstanding when it is reset.
        registers.write32(CTRL, ctrl | CTRL_GIO_MASTER_DISABLE);
        for _ in 0..100 {
            registers.delay_us(100);
            if registers.read32(STATUS) & STATUS_MASTER_ENABLED == 0 {
                break;
            }
        }
    }
    let link = if family == Family::Ixgbe { CTRL_LRST } else { 0 };
    registers.write32(CTRL, ctrl | CTRL_RST | link);
    // The manuals ask for 1 us before the next access (10 ms: 82599); the EEPROM is read again within 2 ms, in the
    // chipset parts within 20.
    registers.delay_us(match family {
        Family::I8254x | Family::I8257x => 5_000,
        Family::I217 | Family::Igb | Family::I210 => 20_000,
        Family::Ixgbe => 50_000,
    });
    let mut ctrl = registers.read32(CTRL);
    for _ in 0..100 {
        if ctrl & CTRL_RST == 0 {
            break;
        }
        registers.delay_us(1_000);
        ctrl = registers.read32(CTRL);
    }
    if ctrl & CTRL_RST != 0 {
        return Err(InitError::ResetStuck(ctrl));
    }
    if family == Family::Ixgbe {
        wait_for_dma(registers)?;
    }
    silence(family, registers);
    Ok(())
}

/// Masks interrupts and stops both directions.
fn silence(family: Family, registers: &mut impl Registers) {
    if family == Family::Ixgbe {
        registers.write32(IXGBE_EIMC, u32::MAX);
        registers.write32(IXGBE_RXCTRL, 0);
        registers.write32(IXGBE_DMATXCTL, registers.read32(IXGBE_DMATXCTL) & !DMATXCTL_TE);
        return;
    }
    if matches!(family, Family::Igb | Family::I210) {
        registers.write32(EIMC_IGB, u32::MAX);
    }
    registers.write32(IMC, u32::MAX);
    let _ = registers.read32(ICR);
    registers.write32(RCTL, 0);
    registers.write32(TCTL, TCTL_PSP);
}

fn wait_for_dma(registers: &mut impl Registers) -> Result<(), InitError> {
    for _ in 0..100 {
        if registers.read32(IXGBE_RDRXCTL) & RDRXCTL_DMA_READY != 0 {
            return Ok(());
        }
        registers.delay_us(1_000);
    }
    Err(InitError::DmaNotReady(registers.read32(IXGBE_RDRXCTL)))
}

/// After [`reset`]: link up, no flow control, no VLANs, only frames to `mac` and to all.
pub(super) fn prepare(family: Family, registers: &mut impl Registers, mac: MacAddr) {
    if family.has_driver_flag() {
        registers.write32(CTRL_EXT, registers.read32(CTRL_EXT) | CTRL_EXT_DRV_LOAD);
    }
    let ctrl = registers.read32(CTRL);
    match family {
        Family::Ixgbe => {
            registers.write32(CTRL, ctrl & !(CTRL_GIO_MASTER_DISABLE | CTRL_LRST));
            let hlreg0 = registers.read32(IXGBE_HLREG0);
            registers.write32(IXGBE_HLREG0, hlreg0 & !HLREG0_CLEAR | HLREG0_FRAMES);
            let rdrxctl = registers.read32(IXGBE_RDRXCTL);
            registers.write32(IXGBE_RDRXCTL, rdrxctl & !RDRXCTL_RSC | RDRXCTL_CRC_STRIP);
            let dca = registers.read32(IXGBE_DCA_RXCTRL);
            registers.write32(IXGBE_DCA_RXCTRL, dca & !DCA_RXCTRL_CLEAR);
        }
        Family::Igb | Family::I210 => {
            registers.write32(CTRL, ctrl & !(CTRL_CLEAR | CTRL_GIO_MASTER_DISABLE) | CTRL_SLU);
        }
        Family::I8254x => registers.write32(CTRL, ctrl & !CTRL_CLEAR | CTRL_SLU | CTRL_ASDE),
        Family::I8257x | Family::I217 => {
            let clear = CTRL_CLEAR | CTRL_GIO_MASTER_DISABLE;
            registers.write32(CTRL, ctrl & !clear | CTRL_SLU | CTRL_ASDE);
        }
    }
    if family != Family::Ixgbe {
        for flow_control in [FCAL, FCAH, FCT, FCTTV] {
            registers.write32(flow_control, 0);
        }
    }
    if family == Family::I210 {
        registers.write32(RXPBS, RXPBS_I210);
        registers.write32(TXPBS, TXPBS_I210);
    }
    set_station_address(family, registers, mac);
}

/// Gives the card back to the manageability firmware.
pub(super) fn release(family: Family, registers: &mut impl Registers) {
    if family.has_driver_flag() {
        registers.write32(CTRL_EXT, registers.read32(CTRL_EXT) & !CTRL_EXT_DRV_LOAD);
    }
}

/// The address: from the EEPROM where the driver can read it, else what the card loaded into its first receive address
/// itself.
pub(super) fn read_mac(family: Family, registers: &mut impl Registers) -> Result<MacAddr, InitError> {
    let eeprom = match family {
        Family::I8254x => Some(eeprom_mac(8, 1 << 4, registers)),
        Family::I8257x => Some(eeprom_mac(2, 1 << 1, registers)),
        _ => None,
    };
    if let Some(Ok(mac)) = eeprom
        && mac.is_station()
    {
        return Ok(mac);
    }
    let (low, high) = first_address(family);
    let [a, b, c, d] = registers.read32(low).to_le_bytes();
    let [e, f, ..] = registers.read32(high).to_le_bytes();
    let loaded = MacAddr([a, b, c, d, e, f]);
    if loaded.is_station() {
        return Ok(loaded);
    }
    Err(match eeprom {
        Some(Err(error)) => error,
        Some(Ok(mac)) => InitError::NoMac(mac),
        None => InitError::NoMac(loaded),
    })
}

fn eeprom_mac(shift: u32, done: u32, registers: &mut impl Registers) -> Result<MacAddr, InitError> {
    let mut mac = [0; 6];
    for (word, bytes) in (0u32..).zip(mac.chunks_exact_mut(2)) {
        bytes.copy_from_slice(&eeprom_word(word << shift, done, registers)?.to_le_bytes());
    }
    Ok(MacAddr(mac))
}

fn eeprom_word(word: u32, done: u32, registers: &mut impl Registers) -> Result<u16, InitError> {
    registers.write32(EERD, word | 1);
    let mut value = registers.read32(EERD);
    for _ in 0..1000 {
        if value & done != 0 {
            return Ok((value >> 16) as u16);
        }
        registers.delay_us(5);
        value = registers.read32(EERD);
    }
    Err(InitError::EepromStuck(value))
}

/// RAL and RAH of the first receive address.
fn first_address(family: Family) -> (u32, u32) {
    if family == Family::Ixgbe { (IXGBE_RAL0, IXGBE_RAH0) } else { (RAL0, RAH0) }
}

/// Filters: our address in the first pair, no other address, no multicast.
fn set_station_address(family: Family, registers: &mut impl Registers, mac: MacAddr) {
    let [a, b, c, d, e, f] = mac.0;
    let (low, high) = first_address(family);
    registers.write32(low, u32::from_le_bytes([a, b, c, d]));
    registers.write32(high, u32::from_le_bytes([e, f, 0, 0]) | RAH_AV);
    // The chipset parts share the others with the firmware, and have a smaller table; a reset clears both.
    let (pairs, words) = match family {
        Family::I217 => (1, MTA_WORDS_PCH),
        _ => (RA_PAIRS, MTA_WORDS),
    };
    for pair in 1..pairs {
        registers.write32(high + pair * 8, 0);
        registers.write32(low + pair * 8, 0);
    }
    for word in 0..words {
        registers.write32(MTA + word * 4, 0);
    }
}
