//! A function that copies guest memory: two addresses in a memory window, a doorbell in ports, an interrupt when it is done.

use crate::machine::config;
use devices::{Bar, FUNCTIONS, Function, Identity, MsixShape, PlatformConfig, Signals, Socket, Whole};
use virtio::Host;
use vm_types::{Gpa, GuestMemory, Now};

pub(crate) const KIND: &str = "copier";
/// Its place: 00:02.0, whose INTA# is IRQ 10.
pub(crate) const DEVICE: u32 = 2;
pub(crate) const TABLE: u64 = 0x1000;
pub(crate) const PENDING: u64 = 0x2000;
pub(crate) const VECTORS: u16 = 70;

#[derive(Default)]
pub(crate) struct Copier {
    from: u64,
    to: u64,
    len: u32,
    done: bool,
}

impl Function for Copier {
    fn kind() -> &'static str {
        KIND
    }

    fn build(_: &PlatformConfig) -> Self {
        Self::default()
    }

    fn identity(&self) -> Identity {
        Identity {
            revision: 1,
            pin: 1,
            bars: &[Bar::Memory(0x4000), Bar::None, Bar::Io(32)],
            msix: Some(MsixShape { vectors: VECTORS, bar: 0, table: TABLE as u32, pending: PENDING as u32 }),
            capabilities: &[(9, &[5, 0xAB, 0xCD])],
            ..Identity::bare(0x1AF4, 0x10F0, 0x08_8000)
        }
    }

    fn read(&mut self, bar: usize, offset: u64, _: u8, _: Now) -> u64 {
        match (bar, offset) {
            (0, 0) => self.from,
            (0, 8) => self.to,
            (2, 0) => self.len.into(),
            // Reading the status takes it back.
            (2, 4) => core::mem::take(&mut self.done).into(),
            _ => 0,
        }
    }

    fn write(&mut self, bar: usize, offset: u64, _: u8, value: u64, _: Now, signals: &mut Signals<'_>) {
        match (bar, offset) {
            (0, 0) => self.from = value,
            (0, 8) => self.to = value,
            (2, 0) => {
                self.len = value as u32 & 0xFFFF;
                signals.ask_service();
            }
            // Any interrupt that the guest asks for, to try them.
            (2, 8) => signals.interrupt(value as u16),
            _ => {}
        }
    }

    fn service(&mut self, memory: &dyn GuestMemory, _: &mut dyn Host, _: Now, signals: &mut Signals<'_>) {
        let mut bytes = vec![0; self.len as usize];
        if memory.read(Gpa(self.from), &mut bytes).is_ok() && memory.write(Gpa(self.to), &bytes).is_ok() {
            self.done = true;
            signals.interrupt(VECTORS - 1);
        }
    }

    fn line(&self) -> bool {
        self.done
    }

    fn export(&self) -> Vec<u8> {
        let mut state = [self.from.to_le_bytes(), self.to.to_le_bytes()].concat();
        state.extend(self.len.to_le_bytes());
        state.push(self.done.into());
        state
    }

    fn import(&mut self, state: &[u8]) -> Result<(), String> {
        let state: [u8; 21] = state.try_into().map_err(|_| format!("{} bytes of state", state.len()))?;
        self.from = u64::from_le_bytes(state[..8].try_into().unwrap());
        self.to = u64::from_le_bytes(state[8..16].try_into().unwrap());
        self.len = u32::from_le_bytes(state[16..20].try_into().unwrap());
        if self.len > 0xFFFF || state[20] > 1 {
            return Err(format!("len = {:#x}, done = {}", self.len, state[20]));
        }
        self.done = state[20] == 1;
        Ok(())
    }
}

/// The board with its own functions, and a copier beside them.
pub(crate) fn board() -> Whole {
    Whole::with_functions(&config(), &[FUNCTIONS, &[Socket::of::<Copier>(DEVICE as u8, 0)]].concat())
}
