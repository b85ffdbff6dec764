//! The byte stream below the messages.

/// A connection that is keyed and sealed already: bytes in order or an end.
pub trait Link {
    /// Takes bytes that have arrived into `buf`; 0 where none are there now.
    fn recv(&mut self, buf: &mut [u8]) -> usize;

    /// Queues as many bytes of `data` as there is room for and says how many; 0 where there is none.
    fn send(&mut self, data: &[u8]) -> usize;

    /// Whether the connection stands or is being made. `false`: apart from what [`Link::recv`] still gives nothing
    /// more will arrive, and what is sent gets lost.
    fn is_open(&self) -> bool;
}
