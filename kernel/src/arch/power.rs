//! Resetting the machine.

use acpi_tables::{AddressSpace, GenericAddress};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

use super::{io, tsc};

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
    crate::log::flush();
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
    // SAFETY: an empty table: the exception that follows has no gate, nor has the double fault.
    unsafe {
        lidt(&DescriptorTablePointer { limit: 0, base: VirtAddr::zero() });
        core::arch::asm!("ud2", options(noreturn));
    }
}

/// Tells an emulator to end with `code`; where none listens, nothing happens.
pub(crate) fn debug_exit(code: u8) {
    crate::log::flush();
    io::outb(DEBUG_EXIT, code);
}
