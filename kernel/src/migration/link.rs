//! A TCP connection of the host's stack as the byte stream of a migration.

use net::{Connection, ConnectionState, Stack};

/// Borrowed for one poll.
pub(super) struct TcpLink<'a> {
    pub(super) stack: &'a mut Stack,
    pub(super) connection: Connection,
    /// Bytes that the stack took in this poll.
    pub(super) sent: usize,
}

impl<'a> TcpLink<'a> {
    pub(super) fn new(stack: &'a mut Stack, connection: Connection) -> Self {
        Self { stack, connection, sent: 0 }
    }
}

impl migrate::Link for TcpLink<'_> {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        self.stack.receive(self.connection, buf).unwrap_or(0)
    }

    fn send(&mut self, data: &[u8]) -> usize {
        let taken = self.stack.send(self.connection, data).unwrap_or(0);
        self.sent += taken;
        taken
    }

    fn is_open(&self) -> bool {
        matches!(
            self.stack.connection_state(self.connection),
            Ok(ConnectionState::Connecting | ConnectionState::Open | ConnectionState::Closing)
        )
    }
}
