//! A 16550A UART (National PC16550D data sheet). A byte written is sent at once; the host drains it, and paces the
//! guest by not draining it: THRE stays low then.

#[cfg(test)]
mod tests;

use crate::config::PlatformConfig;
use crate::device::{Device, Touched};
use crate::effect::Effect;
use crate::state::{decode, encode, ensure};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use minicbor::{Decode, Encode};
use vm_types::{Now, StateError, StateRecord};

/// Bytes of guest output that are held for the host.
pub const OUT_CAPACITY: usize = 4096;
/// Bytes of input that are held for the guest beside the receive FIFO.
pub const IN_CAPACITY: usize = 1024;

/// The first of its eight ports.
const COM1: u16 = 0x3F8;
const KIND: &str = Uart::KIND;
const VERSION: u16 = 1;
const FIFO: usize = 16;
/// The clock in front of the divisor: 16 ticks a bit.
const CLOCK_HZ: u64 = 1_843_200;

const IER_RX: u8 = 1;
const IER_THRE: u8 = 2;
const IER_LINE: u8 = 4;
const IER_MODEM: u8 = 8;
const LCR_DLAB: u8 = 0x80;
const MCR_OUT2: u8 = 8;
const MCR_LOOP: u8 = 0x10;
const LSR_DR: u8 = 1;
const LSR_OE: u8 = 2;
const LSR_THRE_TEMT: u8 = 0x60;
/// CTS, DSR and DCD: the other end is there.
const MSR_CONNECTED: u8 = 0xB0;
const MSR_TERI: u8 = 4;
const MSR_RI: u8 = 0x40;

pub(crate) struct Uart {
    ier: u8,
    lcr: u8,
    mcr: u8,
    fcr: u8,
    scr: u8,
    divisor: u16,
    msr_delta: u8,
    overrun: bool,
    thre_intr: bool,
    rx_timeout: bool,
    timeout_at: u64,
    fifo: VecDeque<u8>,
    input: VecDeque<u8>,
    output: VecDeque<u8>,
    /// Bytes that the guest wrote although THRE said no, since the host asked last. They are lost, as on a wire.
    dropped: u64,
}

impl Uart {
    /// As firmware leaves it: 115200 8n1, DTR, RTS and OUT2 set, no interrupts.
    pub(crate) fn new() -> Self {
        Self {
            ier: 0,
            lcr: 3,
            mcr: 0x0B,
            fcr: 0,
            scr: 0,
            divisor: 1,
            msr_delta: 0,
            overrun: false,
            thre_intr: false,
            rx_timeout: false,
            timeout_at: u64::MAX,
            fifo: VecDeque::with_capacity(FIFO),
            input: VecDeque::with_capacity(IN_CAPACITY),
            output: VecDeque::with_capacity(OUT_CAPACITY),
            dropped: 0,
        }
    }

    pub(crate) fn read(&mut self, reg: u16, now: Now) -> u8 {
        self.run(now);
        let dlab = self.lcr & LCR_DLAB != 0;
        match reg {
            0 if dlab => self.divisor as u8,
            1 if dlab => (self.divisor >> 8) as u8,
            0 => self.receive(now),
            1 => self.ier,
            2 => {
                let iir = self.iir();
                if iir == 2 {
                    self.thre_intr = false;
                }
                iir | if self.fcr & 1 != 0 { 0xC0 } else { 0 }
            }
            3 => self.lcr,
            4 => self.mcr,
            5 => {
                let lsr = self.lsr();
                self.overrun = false;
                lsr
            }
            6 => self.modem_lines() | core::mem::take(&mut self.msr_delta),
            _ => self.scr,
        }
    }

    /// True when the output queue is full: it should be drained, or the guest's next byte is lost.
    pub(crate) fn write(&mut self, reg: u16, value: u8, now: Now) -> bool {
        self.run(now);
        let dlab = self.lcr & LCR_DLAB != 0;
        match reg {
            0 if dlab => self.divisor = self.divisor & 0xFF00 | u16::from(value),
            1 if dlab => self.divisor = self.divisor & 0xFF | u16::from(value) << 8,
            0 => return self.send(value, now),
            1 => {
                let enabled = value & !self.ier;
                self.ier = value & 0x0F;
                if enabled & IER_THRE != 0 {
                    self.thre_intr = self.can_send();
                }
            }
            2 => self.write_fcr(value, now),
            3 => self.lcr = value,
            4 => self.write_mcr(value & 0x1F, now),
            7 => self.scr = value,
            _ => {}
        }
        false
    }

    /// Takes input of the host; the count is what was accepted.
    pub(crate) fn push_input(&mut self, bytes: &[u8], now: Now) -> usize {
        self.run(now);
        let n = bytes.len().min(IN_CAPACITY - self.input.len());
        self.input.extend(&bytes[..n]);
        self.fill(now);
        n
    }

    /// Moves output into `buf`; the count is what was moved.
    pub(crate) fn pop_output(&mut self, buf: &mut [u8]) -> usize {
        let could_send = self.can_send();
        let n = buf.len().min(self.output.len());
        for (to, from) in buf.iter_mut().zip(self.output.drain(..n)) {
            *to = from;
        }
        if !could_send && self.can_send() {
            self.thre_intr = true;
        }
        n
    }

    pub(crate) fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Whether bytes wait, or were lost since [`Self::take_dropped`].
    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty() || self.dropped > 0
    }

    /// How many bytes the guest wrote that the full queue could not take, since the last call.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        core::mem::take(&mut self.dropped)
    }

    /// The driver may load a whole FIFO when it sees THRE.
    pub(crate) fn can_send(&self) -> bool {
        self.mcr & MCR_LOOP != 0 || OUT_CAPACITY - self.output.len() >= FIFO
    }

    fn depth(&self) -> usize {
        if self.fcr & 1 != 0 { FIFO } else { 1 }
    }

    fn trigger(&self) -> usize {
        match (self.fcr & 1, self.fcr >> 6) {
            (0, _) | (_, 0) => 1,
            (_, 1) => 4,
            (_, 2) => 8,
            _ => 14,
        }
    }

    fn lsr(&self) -> u8 {
        let mut lsr = if self.can_send() { LSR_THRE_TEMT } else { 0 };
        if !self.fifo.is_empty() {
            lsr |= LSR_DR;
        }
        if self.overrun {
            lsr |= LSR_OE;
        }
        lsr
    }

    fn iir(&self) -> u8 {
        if self.ier & IER_LINE != 0 && self.overrun {
            6
        } else if self.ier & IER_RX != 0 && self.fifo.len() >= self.trigger() {
            4
        } else if self.ier & IER_RX != 0 && self.rx_timeout {
            0x0C
        } else if self.ier & IER_THRE != 0 && self.thre_intr {
            2
        } else if self.ier & IER_MODEM != 0 && self.msr_delta != 0 {
            0
        } else {
            1
        }
    }

    fn receive(&mut self, now: Now) -> u8 {
        let byte = self.fifo.pop_front().unwrap_or(0);
        self.rx_timeout = false;
        self.fill(now);
        byte
    }

    fn send(&mut self, byte: u8, now: Now) -> bool {
        if self.mcr & MCR_LOOP != 0 {
            if self.fifo.len() < self.depth() {
                self.fifo.push_back(byte);
            } else {
                self.overrun = true;
            }
            self.restart_timeout(now);
        } else if self.output.len() < OUT_CAPACITY {
            self.output.push_back(byte);
        } else {
            self.dropped += 1;
        }
        self.thre_intr = self.can_send();
        self.output.len() == OUT_CAPACITY
    }

    /// Moves waiting input into the receive FIFO.
    fn fill(&mut self, now: Now) {
        if self.mcr & MCR_LOOP == 0 {
            while self.fifo.len() < self.depth() {
                let Some(byte) = self.input.pop_front() else { break };
                self.fifo.push_back(byte);
            }
        }
        self.restart_timeout(now);
    }

    /// Bytes below the trigger level are announced after four character times without another one.
    fn restart_timeout(&mut self, now: Now) {
        self.timeout_at = u64::MAX;
        if self.fcr & 1 != 0 && !self.fifo.is_empty() && self.fifo.len() < self.trigger() {
            let clocks = 4 * 10 * 16 * u64::from(self.divisor.max(1));
            let ticks = clocks.saturating_mul(now.hz) / CLOCK_HZ;
            self.timeout_at = now.tsc.saturating_add(ticks);
        } else if self.fifo.is_empty() {
            self.rx_timeout = false;
        }
    }

    fn write_fcr(&mut self, value: u8, now: Now) {
        let toggled = (value ^ self.fcr) & 1 != 0;
        if toggled || value & 3 == 3 {
            self.fifo.clear();
            self.rx_timeout = false;
        }
        self.fcr = if value & 1 != 0 { value & 0xC9 } else { 0 };
        self.fill(now);
    }

    fn write_mcr(&mut self, value: u8, now: Now) {
        let before = self.modem_lines();
        let could_send = self.can_send();
        let was_loop = self.mcr & MCR_LOOP;
        self.mcr = value;
        let after = self.modem_lines();
        let changed = before ^ after;
        self.msr_delta |= (changed >> 4) & !MSR_TERI;
        if changed & before & MSR_RI != 0 {
            self.msr_delta |= MSR_TERI;
        }
        if was_loop != value & MCR_LOOP {
            self.thre_intr |= !could_send && self.can_send();
            self.fill(now);
        }
    }

    fn modem_lines(&self) -> u8 {
        if self.mcr & MCR_LOOP == 0 {
            return MSR_CONNECTED;
        }
        // RTS -> CTS, DTR -> DSR, OUT1 -> RI, OUT2 -> DCD
        (self.mcr & 2) << 3 | (self.mcr & 1) << 5 | (self.mcr & 4) << 4 | (self.mcr & 8) << 4
    }
}

#[derive(Encode, Decode)]
struct Fields {
    #[n(0)]
    ier: u8,
    #[n(1)]
    lcr: u8,
    #[n(2)]
    mcr: u8,
    #[n(3)]
    fcr: u8,
    #[n(4)]
    scr: u8,
    #[n(5)]
    divisor: u16,
    #[n(6)]
    msr_delta: u8,
    #[n(7)]
    overrun: bool,
    #[n(8)]
    thre_intr: bool,
    #[n(9)]
    rx_timeout: bool,
    #[n(10)]
    timeout_at: u64,
    #[cbor(n(11), with = "minicbor::bytes")]
    fifo: Vec<u8>,
    #[cbor(n(12), with = "minicbor::bytes")]
    input: Vec<u8>,
    #[cbor(n(13), with = "minicbor::bytes")]
    output: Vec<u8>,
}

impl Device for Uart {
    const KIND: &'static str = "uart";
    const PORTS: &'static [(u16, u16)] = &[(COM1, COM1 + 7)];
    const IRQ: Option<u8> = Some(4);

    fn build(_: &PlatformConfig) -> Self {
        Self::new()
    }

    fn input(&mut self, port: u16, _: u8, now: Now) -> (u32, Touched) {
        let value = self.read(port - COM1, now);
        let unchanged = match port - COM1 {
            1 | 3 | 4 | 7 => true,
            // The line status, which drivers poll: reading it clears an overrun.
            5 => value & LSR_OE == 0,
            _ => false,
        };
        (value.into(), if unchanged { Touched::NOTHING } else { Touched::BOTH })
    }

    fn output(&mut self, port: u16, _: u8, value: u32, now: Now) -> (Option<Effect>, Touched) {
        let full = self.write(port - COM1, value as u8, now);
        (full.then_some(Effect::UartFull), Touched::BOTH)
    }

    /// OUT2 gates the interrupt pin on a PC.
    fn line(&self) -> bool {
        self.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2 && self.iir() & 1 == 0
    }

    fn deadline(&self) -> u64 {
        if self.ier & IER_RX == 0 || self.rx_timeout { u64::MAX } else { self.timeout_at }
    }

    fn run(&mut self, now: Now) -> bool {
        if now.tsc >= self.timeout_at {
            self.timeout_at = u64::MAX;
            self.rx_timeout = !self.fifo.is_empty();
        }
        false
    }

    fn export(&self) -> StateRecord {
        let bytes = |q: &VecDeque<u8>| q.iter().copied().collect::<Vec<u8>>();
        let fields = Fields {
            ier: self.ier,
            lcr: self.lcr,
            mcr: self.mcr,
            fcr: self.fcr,
            scr: self.scr,
            divisor: self.divisor,
            msr_delta: self.msr_delta,
            overrun: self.overrun,
            thre_intr: self.thre_intr,
            rx_timeout: self.rx_timeout,
            timeout_at: self.timeout_at,
            fifo: bytes(&self.fifo),
            input: bytes(&self.input),
            output: bytes(&self.output),
        };
        encode(KIND, 0, VERSION, &fields)
    }

    fn import(record: &StateRecord, _: &PlatformConfig) -> Result<Self, StateError> {
        let f: Fields = decode(record, VERSION)?;
        ensure(f.ier <= 0x0F, KIND, "ier", f.ier)?;
        ensure(f.mcr <= 0x1F, KIND, "mcr", f.mcr)?;
        ensure(f.fcr & !0xC9 == 0 && (f.fcr & 1 != 0 || f.fcr == 0), KIND, "fcr", f.fcr)?;
        ensure(f.msr_delta <= 0x0F, KIND, "msr_delta", f.msr_delta)?;
        let mut uart = Self::new();
        uart.fcr = f.fcr;
        ensure(f.fifo.len() <= uart.depth(), KIND, "fifo length", f.fifo.len())?;
        ensure(f.input.len() <= IN_CAPACITY, KIND, "input length", f.input.len())?;
        ensure(f.output.len() <= OUT_CAPACITY, KIND, "output length", f.output.len())?;
        uart.ier = f.ier;
        uart.lcr = f.lcr;
        uart.mcr = f.mcr;
        uart.scr = f.scr;
        uart.divisor = f.divisor;
        uart.msr_delta = f.msr_delta;
        uart.overrun = f.overrun;
        uart.thre_intr = f.thre_intr;
        uart.rx_timeout = f.rx_timeout;
        uart.timeout_at = f.timeout_at;
        uart.fifo.extend(&f.fifo);
        uart.input.extend(&f.input);
        uart.output.extend(&f.output);
        Ok(uart)
    }
}
