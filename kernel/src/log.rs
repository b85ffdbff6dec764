//! The host log: `[    1.234567] subsystem: text` on the serial console and in a ring, behind the `log` facade.

use alloc::string::String;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use cmdline::{Console, LogLevel};
use log::{Level, LevelFilter, Log, Metadata, Record};
use spin::{Mutex, MutexGuard};

use crate::arch::serial::Serial;
use crate::arch::tsc;
use crate::meter;

/// Bytes of log that are kept.
const SIZE: usize = 64 << 10;

struct Sink {
    serial: Option<Serial>,
    /// Bytes written since the start.
    written: usize,
    /// Bytes of them that the serial port has taken.
    sent: usize,
    /// A line feed whose carriage return has been sent.
    line_feed_due: bool,
    /// Writing does not wait for the port; [`pump`] feeds it.
    deferred: bool,
}

/// The last bytes written; only touched with [`SINK`] locked. Apart from it so that the image need not hold the zeros.
static RING: [AtomicU8; SIZE] = [const { AtomicU8::new(0) }; SIZE];

static SINK: Mutex<Sink> =
    Mutex::new(Sink { serial: None, written: 0, sent: 0, line_feed_due: false, deferred: false });
/// A panic found the log locked for good.
static STUCK: AtomicBool = AtomicBool::new(false);

/// The place of the `n`th byte since the start.
fn slot(n: usize) -> &'static AtomicU8 {
    &RING[n % SIZE]
}

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // The ring is also the queue to the port: what it has not sent must not be overwritten.
            if self.written - self.sent == SIZE {
                self.flush();
            }
            slot(self.written).store(byte, Ordering::Relaxed);
            self.written += 1;
        }
        if !self.deferred {
            self.flush();
        }
        Ok(())
    }
}

impl Sink {
    /// Waits until the port has taken everything.
    fn flush(&mut self) {
        while self.step() {
            core::hint::spin_loop();
        }
    }

    /// Gives the port as much as it takes at once. False when nothing is left.
    fn step(&mut self) -> bool {
        let Some(serial) = &mut self.serial else {
            self.sent = self.written;
            return false;
        };
        if self.sent == self.written {
            return false;
        }
        let mut room = serial.room();
        if room > 0 {
            meter::found();
        }
        while room > 0 && self.sent < self.written {
            let byte = slot(self.sent).load(Ordering::Relaxed);
            if byte == b'\n' && !self.line_feed_due {
                self.line_feed_due = true;
                serial.put(b'\r');
            } else {
                self.line_feed_due = false;
                serial.put(byte);
                self.sent += 1;
            }
            room -= 1;
        }
        true
    }
}

struct Logger;

static LOGGER: Logger = Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut sink = SINK.lock();
            let _ = line(&mut *sink, record);
        }
    }

    fn flush(&self) {}
}

fn line(out: &mut impl Write, record: &Record<'_>) -> fmt::Result {
    let micros = tsc::micros();
    write!(out, "[{:5}.{:06}] {}: ", micros / 1_000_000, micros % 1_000_000, subsystem(record.target()))?;
    match record.level() {
        Level::Error => out.write_str("error: ")?,
        Level::Warn => out.write_str("warning: ")?,
        Level::Info | Level::Debug | Level::Trace => {}
    }
    writeln!(out, "{}", record.args())
}

/// `flexvisor::mm::frame` is `mm`; a library goes by its own name.
fn subsystem(target: &str) -> &str {
    let target = target.strip_prefix("flexvisor::").unwrap_or(target);
    target.split("::").next().unwrap_or(target)
}

/// Puts the log behind the facade; the ring takes it until [`open`].
pub(crate) fn init() {
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(LevelFilter::Info);
}

/// Sends the log to a serial port. False where no UART answers there: the ring still has everything.
pub(crate) fn open(console: Console) -> bool {
    let serial = Serial::open(console.port, console.baud);
    let found = serial.is_some();
    SINK.lock().serial = serial;
    found
}

/// From now on writing does not wait for the serial port: a character takes it 87 us at 115200 baud. Whoever calls
/// this calls [`pump`] again and again.
pub(crate) fn defer() {
    SINK.lock().deferred = true;
}

/// Feeds the serial port without waiting. True while something is left to send.
pub(crate) fn pump() -> bool {
    SINK.try_lock().is_some_and(|mut sink| sink.step())
}

/// Waits until everything has been sent. Not for ever, should whoever held the log have died.
pub(crate) fn flush() {
    if let Some(mut sink) = patiently() {
        sink.flush();
    }
}

fn patiently() -> Option<MutexGuard<'static, Sink>> {
    const PATIENCE: u32 = 100_000;
    if STUCK.load(Ordering::Relaxed) {
        return None;
    }
    for _ in 0..PATIENCE {
        if let Some(sink) = SINK.try_lock() {
            return Some(sink);
        }
        core::hint::spin_loop();
    }
    None
}

/// Sets the least urgent level that is logged.
pub(crate) fn set_level(level: LogLevel) {
    log::set_max_level(match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    });
}

/// Prints as it is, without a time stamp.
pub(crate) fn raw(args: fmt::Arguments<'_>) {
    let _ = SINK.lock().write_fmt(args);
}

/// A byte that has arrived on the console.
pub(crate) fn read_byte() -> Option<u8> {
    SINK.lock().serial.as_mut()?.read_byte()
}

/// What the ring holds, oldest first, from the first whole line.
pub(crate) fn recent() -> String {
    let sink = SINK.lock();
    let start = sink.written.saturating_sub(SIZE);
    let bytes: alloc::vec::Vec<u8> = (start..sink.written).map(|i| slot(i).load(Ordering::Relaxed)).collect();
    drop(sink);
    let text = String::from_utf8_lossy(&bytes);
    let cut = if start == 0 { 0 } else { text.find('\n').map_or(0, |i| i + 1) };
    String::from(&text[cut..])
}

/// Prints at once although the log may be in the middle of a line on this or another CPU: for a panic, once the other
/// CPUs have been stopped. Before the console is open it goes to COM1.
pub(crate) fn emergency(args: fmt::Arguments<'_>) {
    if let Some(mut sink) = patiently() {
        if sink.serial.is_none() {
            sink.serial = Serial::open_default();
        }
        sink.deferred = false;
        let _ = sink.write_fmt(args);
        return;
    }
    STUCK.store(true, Ordering::Relaxed);
    if let Some(mut serial) = Serial::attach() {
        let _ = serial.write_fmt(args);
    }
}

/// Runs `f` with the log locked.
#[cfg(feature = "selftest")]
pub(crate) fn with_lock(f: impl FnOnce()) {
    let _lock = SINK.lock();
    f();
}
