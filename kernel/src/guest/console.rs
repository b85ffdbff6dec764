//! COM1 of a guest: what it prints, and what is typed at it. [`shell::GuestOutput`] says how much may be taken from the
//! UART and when it is to be left alone; this binds it to the UART.

#[cfg(test)]
mod tests;

use alloc::sync::Arc;

use shell::GuestOutput;

use super::Guest;
use crate::lock::{self, Mutex, MutexGuard};
use hw::arch::tsc;

/// What a guest has printed, and who shows it. It outlives the VM, until a port has shown the last byte.
#[derive(Clone)]
pub(crate) struct GuestConsole(Arc<Mutex<GuestOutput>>);

impl GuestConsole {
    /// `live`: the guest is this host's from the start.
    pub(crate) fn new(live: bool) -> Self {
        Self(Arc::new(Mutex::new(lock::CONSOLE, GuestOutput::new(live))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, GuestOutput> {
        self.0.lock()
    }
}

impl shell::GuestConsole for GuestConsole {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn output<R>(&self, look: impl FnOnce(&mut GuestOutput) -> R) -> R {
        look(&mut self.0.lock())
    }
}

impl Guest {
    /// Takes as much of the UART's output as those who show it keep up with; the guest waits with the rest.
    pub(crate) fn drain_uart(&self) {
        // CPU 0's loop looks each time it comes round, and mostly finds nothing.
        let printed = self.platform.lock().uart_has_output();
        if printed {
            self.drain(false);
        }
    }

    /// Takes all of it, before the UART is no more.
    pub(crate) fn empty_uart(&self) {
        self.drain(true);
    }

    fn drain(&self, ends: bool) {
        // Locked first: two CPUs may drain at once, and what each took must be kept in that order.
        self.console.lock().drain(ends, tsc::micros(), |bytes| {
            // THRE may be back, and interrupt.
            self.with_board(|platform| (platform.uart_output(bytes), platform.uart_dropped()))
        });
    }

    /// Bytes that the guest has written to COM1, here and on other hosts.
    pub(crate) fn printed(&self) -> u64 {
        let output = self.console.lock();
        output.ring().total().saturating_add(self.platform.lock().uart_output_len() as u64)
    }
}
