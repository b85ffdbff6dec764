//! What an operator types at COM1 of a guest.

use migrate::ownership::{self, Command, Phase, Ruling};

use super::Vm;

impl Vm {
    /// Types a byte at COM1; false where the guest has not taken the last ones yet, or its UART is on its way to
    /// another host.
    pub(crate) fn offer(&self, byte: u8) -> bool {
        if ownership::ruling(Command::Type, self.state(), Phase::None) != Ruling::Allowed {
            return false;
        }
        let output = self.console.lock();
        output.is_live() && self.with_board(|platform| platform.uart_input(&[byte], self.clock.now())) == 1
    }
}
