//! A polled 16550 serial port, at I/O ports or in memory.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch::{io, mmio};
use cmdline::{COM1_PORT, MAX_BAUD, MAX_CONSOLES};
use uart_16550::backend::Backend;
use uart_16550::{BaudRate, Config, Uart16550};
use vm_types::Hpa;

/// Bytes in the transmitter's FIFO.
const FIFO: usize = 16;
/// Registers by their number.
const MODEM_CONTROL: u8 = 4;
const LINE_STATUS: u8 = 5;
const MODEM_STATUS: u8 = 6;

/// The console's ports, for [`Serial::attached`]: [`Registers::code`], 0 where there is none.
static OPEN: [AtomicU64; MAX_CONSOLES] = [const { AtomicU64::new(0) }; MAX_CONSOLES];

/// Where the registers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Registers {
    /// The first of eight ports.
    Io(u16),
    /// Physical address of the first, mapped; bytes from one to the next (1, 2 or 4).
    Memory(u64, u8),
}

const IN_MEMORY: u64 = 1 << 63;
const STRIDE_SHIFT: u32 = 56;

impl Registers {
    /// Bytes of memory that they take; none at I/O ports.
    pub fn memory(self) -> Option<(Hpa, u64)> {
        match self {
            Self::Io(_) => None,
            Self::Memory(base, stride) => Some((Hpa(base), u64::from(stride) * 8)),
        }
    }

    fn code(self) -> u64 {
        match self {
            Self::Io(base) => base.into(),
            Self::Memory(base, stride) => IN_MEMORY | u64::from(stride) << STRIDE_SHIFT | base,
        }
    }

    fn from_code(code: u64) -> Option<Self> {
        let base = code & ((1 << STRIDE_SHIFT) - 1);
        match code {
            0 => None,
            _ if code & IN_MEMORY != 0 => Some(Self::Memory(base, (code >> STRIDE_SHIFT) as u8 & 0x7f)),
            _ => Some(Self::Io(code as u16)),
        }
    }

    fn get(self, register: u8) -> u8 {
        match self {
            Self::Io(base) => io::inb(base.wrapping_add(register.into())),
            Self::Memory(base, 4) => mmio::read32(Hpa(base + u64::from(register) * 4)) as u8,
            Self::Memory(base, stride) => mmio::read8(Hpa(base + u64::from(register) * u64::from(stride))),
        }
    }

    fn set(self, register: u8, value: u8) {
        match self {
            Self::Io(base) => io::outb(base.wrapping_add(register.into()), value),
            Self::Memory(base, 4) => mmio::write32(Hpa(base + u64::from(register) * 4), value.into()),
            Self::Memory(base, stride) => {
                mmio::write8(Hpa(base + u64::from(register) * u64::from(stride)), value);
            }
        }
    }
}

// The trait's methods are unsafe for what other implementations do; these take any register.
impl Backend for Registers {
    unsafe fn read(&mut self, register: u8) -> u8 {
        self.get(register)
    }

    unsafe fn write(&mut self, register: u8, value: u8) {
        self.set(register, value);
    }
}

/// A 16550.
pub struct Serial(Uart16550<Registers>);

impl Serial {
    /// Sets the UART to `baud` 8n1, or to the rate that it has. `None` where no UART answers or the rate has no divisor.
    pub fn open(at: Registers, baud: Option<u32>) -> Option<Self> {
        let mut serial = Self::at(at);
        if !serial.0.check_present() || !loops_back(at) {
            return None;
        }
        let baud = baud.unwrap_or_else(|| serial.rate());
        serial.set(baud)?;
        Some(serial)
    }

    /// Sets COM1 to 115200 8n1, with no more questions than whether something is there.
    pub fn open_com1() -> Option<Self> {
        let mut serial = Self::at(Registers::Io(COM1_PORT));
        serial.set(MAX_BAUD)?;
        Some(serial)
    }

    /// Makes it a port of the console: [`attached`](Self::attached) yields it from now on.
    pub fn publish(&self) {
        let code = self.0.backend().code();
        let free = OPEN.iter().find(|slot| matches!(slot.load(Ordering::Relaxed), 0));
        if let Some(slot) = free {
            slot.store(code, Ordering::Relaxed);
        }
    }

    /// Second handles of the console's ports, as they are set: for a panic that finds the first ones locked.
    pub fn attached() -> impl Iterator<Item = Self> {
        OPEN.iter().filter_map(|slot| Registers::from_code(slot.load(Ordering::Relaxed))).map(Self::at)
    }

    fn at(registers: Registers) -> Self {
        // SAFETY: the ports belong to the console, or to a guest, that the administrator named (default COM1), and a
        // port access touches no memory; registers in memory lie in no RAM and are mapped, as `Registers` asks for.
        Self(unsafe { Uart16550::new_with_backend(registers) })
    }

    fn set(&mut self, baud: u32) -> Option<()> {
        self.0.init(Config { baud_rate: BaudRate::from_integer(baud), ..Config::DEFAULT }).ok()
    }

    /// The rate that it is set to; the usual one where that is none.
    fn rate(&mut self) -> u32 {
        let (low, high) = self.0.dll_dlm();
        match u32::from(u16::from_le_bytes([low, high])) {
            0 => MAX_BAUD,
            divisor => MAX_BAUD / divisor,
        }
    }

    /// How many bytes it takes at once.
    pub fn room(&mut self) -> usize {
        match self.0.ready_to_send() {
            Ok(()) if self.0.fifo_enabled() => FIFO,
            Ok(()) => 1,
            Err(_) => 0,
        }
    }

    /// Sends a byte that it has [`room`](Self::room) for.
    pub fn put(&mut self, byte: u8) {
        self.0.backend().set(0, byte);
    }

    /// A byte that has arrived, and whether others have been lost behind those that the FIFO holds.
    pub fn receive(&mut self) -> (Option<u8>, bool) {
        // Line status: data ready, overrun error; reading it clears the latter.
        const READY: u8 = 1;
        const OVERRUN: u8 = 2;
        let registers = *self.0.backend();
        let status = registers.get(LINE_STATUS);
        // A port that is gone reads as ones.
        if status == 0xff {
            return (None, false);
        }
        ((status & READY != 0).then(|| registers.get(0)), status & OVERRUN != 0)
    }
}

/// Whether the modem lines that are set come back while they are connected to each other inside: so a 16550 does it, and
/// neither memory nor any other device.
fn loops_back(registers: Registers) -> bool {
    const LOOP: u8 = 1 << 4;
    const RTS: u8 = 1 << 1;
    const OUT_2: u8 = 1 << 3;
    let saved = registers.get(MODEM_CONTROL);
    let come_back = |lines: u8, status: u8| {
        registers.set(MODEM_CONTROL, LOOP | lines);
        registers.get(MODEM_STATUS) & 0xf0 == status
    };
    // RTS comes back as CTS, OUT2 as DCD.
    let found = come_back(RTS | OUT_2, 0x90) && come_back(0, 0);
    registers.set(MODEM_CONTROL, saved & !LOOP);
    found
}

impl fmt::Write for Serial {
    /// LF goes out as CR LF; waits for the FIFO to take everything.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(head) => {
                    self.0.send_bytes_exact(head.as_bytes());
                    self.0.send_bytes_exact(b"\r\n");
                }
                None => self.0.send_bytes_exact(line.as_bytes()),
            }
        }
        Ok(())
    }
}
