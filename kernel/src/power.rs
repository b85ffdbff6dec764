//! Resetting the machine, and switching it off.

use acpi_tables::{AddressSpace, Fadt, GenericAddress};
use spin::Once;

use crate::log;
use hw::arch::{self, idt, io, tsc};

/// Where QEMU's isa-debug-exit device and its like listen.
const DEBUG_EXIT: u16 = 0xf4;

static RESET: Once<(u16, u8)> = Once::new();

/// Remembers the reset register that the FADT names, if it is a port.
pub(crate) fn set_reset(register: GenericAddress, value: u8) {
    if let (AddressSpace::Io, Ok(port)) = (register.space, u16::try_from(register.address)) {
        RESET.call_once(|| (port, value));
    }
}

/// Resets the machine by the first of: the FADT's reset register, port 0xCF9, the keyboard controller, a triple fault.
pub(crate) fn reboot() -> ! {
    log::flush();
    // A reset may drop what only the caches hold, and the log's ring is to outlive it.
    arch::write_back();
    if let Some(&(port, value)) = RESET.get() {
        io::outb(port, value);
        tsc::delay(20_000);
    }
    io::outb(0xcf9, 0x02);
    io::outb(0xcf9, 0x06);
    tsc::delay(20_000);
    for _ in 0..10_000 {
        if io::inb(0x64) & 2 == 0 {
            break;
        }
    }
    io::outb(0x64, 0xfe);
    tsc::delay(20_000);
    idt::triple_fault()
}

/// How the machine is switched off, found by [`soft_off`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct SoftOff {
    /// The PM1 control ports with their SLP_TYP.
    controls: [Option<(u16, u8)>; 2],
    enable: Option<(u16, u8)>,
}

static SOFT_OFF: Once<SoftOff> = Once::new();

const SCI_EN: u16 = 1;
const SLP_EN: u16 = 1 << 13;
const SLP_TYP: u16 = 7 << 10;

/// Remembers what ACPI says of S5, if all of it is ports.
pub(crate) fn set_soft_off(fadt: &Fadt, [a, b]: [u8; 2]) {
    let port = |register: GenericAddress| match register.space {
        AddressSpace::Io => u16::try_from(register.address).ok(),
        _ => None,
    };
    let Some(first) = fadt.pm1a_control.and_then(port) else { return };
    let second = fadt.pm1b_control.and_then(port).map(|port| (port, b));
    SOFT_OFF.call_once(|| SoftOff { controls: [Some((first, a)), second], enable: fadt.enable });
}

/// How to switch the machine off.
///
/// # Errors
/// What the firmware's tables do not say.
pub(crate) fn soft_off() -> Result<SoftOff, &'static str> {
    SOFT_OFF
        .get()
        .copied()
        .ok_or("the firmware's tables name no S5 and PM1a control port: switch it off by hand")
}

impl SoftOff {
    /// Enters S5 (ACPI 6.5, 7.4.2). Halts where the machine stays on.
    pub(crate) fn go(self) -> ! {
        log::flush();
        arch::write_back();
        let ports = || self.controls.into_iter().flatten();
        let acpi_mode = |(port, _): (u16, u8)| io::inw(port) & SCI_EN != 0;
        if let (Some((port, value)), false) = (self.enable, ports().all(acpi_mode)) {
            io::outb(port, value);
            for _ in 0..300 {
                if ports().all(acpi_mode) {
                    break;
                }
                tsc::delay(10_000);
            }
        }
        for (port, kind) in ports() {
            let keep = io::inw(port) & !(SLP_TYP | SLP_EN);
            io::outw(port, keep | u16::from(kind) << 10 | SLP_EN);
        }
        tsc::delay(1_000_000);
        log::plain(format_args!("halted: the machine did not switch itself off\n"));
        log::flush();
        arch::halt()
    }
}

/// Tells an emulator to end with `code`; where none listens, nothing happens.
pub(crate) fn debug_exit(code: u8) {
    log::flush();
    io::outb(DEBUG_EXIT, code);
}

#[cfg(test)]
mod tests;
