//! What firmware and systems expect at the root of a PC's bus: the i440FX host bridge, and of the PIIX the ISA bridge and
//! power management. They have identities and the registers that are looked at; what those would do is done elsewhere, or
//! by nobody.

use super::function::{Function, Identity, Register};
use crate::config::PlatformConfig;
use crate::pm::PM1A_EVT;

const INTEL: u16 = 0x8086;

/// 00:00.0, the 82441FX.
pub(crate) struct HostBridge;

impl Function for HostBridge {
    fn kind() -> &'static str {
        "i440fx"
    }

    fn build(_: &PlatformConfig) -> Self {
        Self
    }

    fn identity(&self) -> Identity {
        /// Programmable attribute map: shadow RAM is there already, which SeaBIOS tells by bit 4 of the first.
        const PAM: Register = Register {
            at: 0x59,
            reset: &[0x10, 0, 0, 0, 0, 0, 0],
            writable: &[0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33],
        };
        Identity { revision: 2, registers: &[PAM], ..Identity::bare(INTEL, 0x1237, 0x06_0000) }
    }
}

/// 00:01.0, the 82371SB.
pub(crate) struct IsaBridge;

impl Function for IsaBridge {
    fn kind() -> &'static str {
        "piix3"
    }

    fn build(_: &PlatformConfig) -> Self {
        Self
    }

    fn identity(&self) -> Identity {
        /// Routing of the four pins: off. They go where [`super::irq`] says.
        const ROUTES: Register = Register { at: 0x60, reset: &[0x80; 4], writable: &[0x8F; 4] };
        /// Passive release, which Linux turns on.
        const RELEASE: Register = Register { at: 0x82, reset: &[0], writable: &[0x02] };
        Identity { registers: &[ROUTES, RELEASE], ..Identity::bare(INTEL, 0x7000, 0x06_0100) }
    }
}

/// 00:01.3, of the 82371AB: where the ACPI registers are.
pub(crate) struct PowerManagement;

impl Function for PowerManagement {
    fn kind() -> &'static str {
        "piix4-pm"
    }

    fn build(_: &PlatformConfig) -> Self {
        Self
    }

    fn identity(&self) -> Identity {
        /// PMBA. The block does not move.
        const BASE: Register = Register { at: 0x40, reset: &(PM1A_EVT | 1).to_le_bytes(), writable: &[] };
        /// APMC: no SMI for a write to port 0xB2, or firmware would wait for one.
        const APMC: Register = Register { at: 0x5B, reset: &[0x02], writable: &[] };
        /// The block at BASE is on.
        const ENABLED: Register = Register { at: 0x80, reset: &[1], writable: &[] };
        Identity {
            revision: 3,
            pin: 1,
            registers: &[BASE, APMC, ENABLED],
            ..Identity::bare(INTEL, 0x7113, 0x06_8000)
        }
    }
}
