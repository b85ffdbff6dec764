//! The host log: `[    1.234567] subsystem: text` behind the `log` facade. Each line goes to the serial console and to a
//! ring in memory, as far as the level of either lets it; the ring's memory outlives a warm reboot where the machine
//! lets it.

mod port;
#[cfg(test)]
mod tests;
pub(crate) mod uarts;

use alloc::string::String;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use alloc::boxed::Box;
use alloc::vec::Vec;

use cmdline::{LogLevel, MAX_CONSOLES};
use log::{Level, LevelFilter, Log, Metadata, Record};
use log_ring::LogRing;
use shell::TypeAhead;
use spin::Once;

use crate::lock::{self, Mutex, MutexGuard};
use hw::arch::tsc;
use hw::mm;
use hw::platform::serial::Serial;
use port::{Port, Prompt, Queue, SIZE};

/// Words of the ring until memory is known.
const EARLY: usize = 2 << 10;

struct Sink {
    /// The first is there from the start, with nothing behind it: what is written before [`open`] is lost.
    ports: [Port; MAX_CONSOLES],
    /// How many there are.
    count: usize,
    /// The log's last lines; none only before [`init`].
    ring: Option<LogRing<'static>>,
    /// Writing does not wait for the ports; [`pump`] feeds them.
    deferred: bool,
    /// When something was typed last, in host TSC ticks.
    heard: u64,
}

/// What waits for the ports; only touched with [`SINK`] locked. Apart from it so that the image need not hold the zeros.
static QUEUES: [[AtomicU8; SIZE]; MAX_CONSOLES] =
    [const { [const { AtomicU8::new(0) }; SIZE] }; MAX_CONSOLES];
static EARLY_RING: [AtomicU64; EARLY] = [const { AtomicU64::new(0) }; EARLY];

static SINK: Mutex<Sink> = Mutex::new(
    lock::LOG,
    Sink { ports: [const { Port::closed() }; MAX_CONSOLES], count: 1, ring: None, deferred: false, heard: 0 },
);
/// The least urgent levels that console and ring take.
static LEVELS: [AtomicU8; 2] =
    [AtomicU8::new(LevelFilter::Info as u8), AtomicU8::new(LevelFilter::Info as u8)];
/// What the boot before left in the ring.
static PREVIOUS: Once<Option<String>> = Once::new();
/// A panic found the log locked for good.
static STUCK: AtomicBool = AtomicBool::new(false);

impl Write for Sink {
    /// A piece of a line, to all ports.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.ports().for_each(|(port, queue)| port.outlet.line(queue, text.as_bytes()));
        Ok(())
    }
}

impl Sink {
    /// The ports there are, each with its queue.
    fn ports(&mut self) -> impl Iterator<Item = (&mut Port, &'static Queue)> {
        self.ports.iter_mut().zip(&QUEUES).take(self.count)
    }

    /// Writes a line to all ports: `f` gives its pieces. A prompt that stands there is put away.
    fn line(&mut self, f: impl FnOnce(&mut Self)) {
        self.ports().for_each(|(port, queue)| port.begin_line(queue));
        f(self);
        self.ports().for_each(|(port, _)| port.end_line());
        self.keep_up();
    }

    /// Writes an answer to a port.
    fn say(&mut self, number: usize, bytes: &[u8]) {
        if let Some((port, queue)) = self.ports().nth(number) {
            port.outlet.say(queue, bytes);
        }
        self.keep_up();
    }

    /// Writes text as it is, to the ports and to the ring.
    fn plain(&mut self, args: fmt::Arguments<'_>) {
        self.line(|sink| {
            let _ = Tee { sink, console: true, ring: true }.write_fmt(args);
        });
    }

    /// Before there is anybody to feed the ports, each write waits for them.
    fn keep_up(&mut self) {
        if !self.deferred {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.ports().for_each(|(port, queue)| port.flush(queue));
    }

    fn listen(&mut self) {
        if !self.deferred {
            return;
        }
        let mut heard = false;
        for (port, _) in self.ports() {
            heard |= port.listen();
        }
        if heard {
            self.heard = tsc::read();
        }
    }

    /// Gives the ports as much as they take at once. False when nothing is left.
    fn step(&mut self) -> bool {
        self.listen();
        let mut left = false;
        for (port, queue) in self.ports() {
            left |= port.step(queue);
            port.tell(queue);
        }
        left
    }
}

/// Where a line goes besides the console.
struct Tee<'a> {
    sink: &'a mut Sink,
    console: bool,
    ring: bool,
}

impl Write for Tee<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.ring
            && let Some(ring) = &mut self.sink.ring
        {
            ring.push(text.as_bytes());
        }
        if self.console { self.sink.write_str(text) } else { Ok(()) }
    }
}

/// Which of the two a line is written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// The console's serial port.
    Console = 0,
    /// The ring in memory.
    Ring = 1,
}

struct Logger;

static LOGGER: Logger = Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let takes =
                |target: Target| record.level() as u8 <= LEVELS[target as usize].load(Ordering::Relaxed);
            let (console, ring) = (takes(Target::Console), takes(Target::Ring));
            let write = |sink: &mut Sink| {
                let _ = line(&mut Tee { sink, console, ring }, record);
            };
            let mut sink = SINK.lock();
            if console { sink.line(write) } else { write(&mut sink) }
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

/// `hw::mm::frame` is `mm`, `kernel::vm::create` is `vm`; a library goes by its own name.
fn subsystem(target: &str) -> &str {
    let target = target.strip_prefix("kernel::").or(target.strip_prefix("hw::")).unwrap_or(target);
    target.split("::").next().unwrap_or(target)
}

/// Puts the log behind the facade; the ring takes it until [`open`].
pub(crate) fn init() {
    SINK.lock().ring = LogRing::new(&EARLY_RING);
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(LevelFilter::Info);
}

/// Sends the log to a serial port, too, whose number this gives. `None` where there are as many as there can be.
pub(crate) fn open(serial: Serial) -> Option<usize> {
    let mut sink = SINK.lock();
    let number = if sink.ports[0].serial.is_none() { 0 } else { sink.count };
    let port = sink.ports.get_mut(number)?;
    serial.publish();
    port.serial = Some(serial);
    sink.count = number + 1;
    Some(number)
}

/// How many serial ports the console has; one even where none answered.
pub(crate) fn ports() -> usize {
    SINK.lock().count
}

/// Takes what the boot before left in the ring, and goes on in the ring's own memory. The heap is there.
pub(crate) fn keep() {
    let kept = mm::keep::words();
    PREVIOUS.call_once(|| kept.and_then(log_ring::recover));
    let words: &'static [AtomicU64] = match kept {
        Some(words) => words,
        None => {
            let words: Vec<AtomicU64> =
                (0..mm::keep::BYTES as usize / 8).map(|_| AtomicU64::new(0)).collect();
            Box::leak(words.into_boxed_slice())
        }
    };
    if let Some(ring) = &mut SINK.lock().ring {
        ring.move_to(words);
    }
    if let Some(text) = previous() {
        let panic = text.lines().rev().find(|line| line.contains("] panic: "));
        match panic {
            Some(line) => {
                log::warn!(target: "boot", "the boot before ended in `{line}`: see `dmesg --previous`");
            }
            None => log::info!(target: "boot", "the log of the boot before is kept: `dmesg --previous`"),
        }
    }
}

/// The log of the boot before; none where memory did not keep it.
pub(crate) fn previous() -> Option<&'static str> {
    PREVIOUS.get()?.as_deref()
}

/// From now on writing does not wait for the serial ports: a character takes it 87 us at 115200 baud. Whoever calls
/// this calls [`pump`] again and again.
pub(crate) fn defer() {
    for number in 0..ports() {
        let typed = TypeAhead::with_capacity(TypeAhead::CAPACITY);
        SINK.lock().ports[number].typed = typed;
    }
    SINK.lock().deferred = true;
}

/// Feeds the serial ports without waiting. True while something is left to send.
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

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}

/// Sets the least urgent level that a target takes.
pub(crate) fn set_level(target: Target, level: LogLevel) {
    LEVELS[target as usize].store(filter(level) as u8, Ordering::Relaxed);
    let most = LEVELS[0].load(Ordering::Relaxed).max(LEVELS[1].load(Ordering::Relaxed));
    let all = [LevelFilter::Error, LevelFilter::Warn, LevelFilter::Info, LevelFilter::Debug];
    log::set_max_level(all.into_iter().find(|f| *f as u8 == most).unwrap_or(LevelFilter::Trace));
}

/// The least urgent level that a target takes.
pub(crate) fn level(target: Target) -> LogLevel {
    let number = LEVELS[target as usize].load(Ordering::Relaxed);
    let all = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug];
    all.into_iter().find(|level| filter(*level) as u8 == number).unwrap_or(LogLevel::Trace)
}

/// A line of the log without a time stamp: banner, last words.
pub(crate) fn plain(args: fmt::Arguments<'_>) {
    SINK.lock().plain(args);
}

/// Prints on a port of the console as it is; the ring does not take it.
pub(crate) fn raw(port: usize, text: &str) {
    SINK.lock().say(port, text.as_bytes());
}

/// What has been typed on a port of the console and not been read, as far as [`listen`] and [`pump`] have taken it.
pub(crate) fn typed<R>(port: usize, look: impl FnOnce(&mut TypeAhead) -> R) -> R {
    look(&mut SINK.lock().ports[port].typed)
}

/// Takes what has arrived on the console, for long work between two looks at it.
pub(crate) fn listen() {
    if let Some(mut sink) = SINK.try_lock() {
        sink.listen();
    }
}

/// When something was typed last, in host TSC ticks.
pub(crate) fn heard() -> u64 {
    SINK.lock().heard
}

/// Bytes that a port has not taken yet.
pub(crate) fn waiting(port: usize) -> usize {
    SINK.lock().ports[port].outlet.waiting()
}

/// Whether an answer does not fit what a port has room for: nothing else is to be said there now.
pub(crate) fn is_behind(port: usize) -> bool {
    SINK.lock().ports[port].outlet.is_behind()
}

/// Prints bytes as they are, but for CR before LF, which the port gets anyway.
pub(crate) fn bytes(port: usize, bytes: &[u8]) {
    let mut sink = SINK.lock();
    let mut from = 0;
    for (at, pair) in bytes.windows(2).enumerate() {
        if pair == b"\r\n" {
            sink.say(port, &bytes[from..at]);
            from = at + 1;
        }
    }
    sink.say(port, &bytes[from..]);
}

/// Says whether a prompt stands on the cursor's row.
pub(crate) fn set_prompt(port: usize, shown: bool) {
    SINK.lock().ports[port].prompt = if shown { Prompt::Shown } else { Prompt::None };
}

/// Whether lines of the log have taken the prompt's place.
pub(crate) fn prompt_is_gone(port: usize) -> bool {
    SINK.lock().ports[port].prompt == Prompt::Gone
}

/// Bytes of the ring from number `from` on, as [`LogRing::read`].
pub(crate) fn read(from: u64, to: &mut [u8]) -> (u64, usize) {
    SINK.lock().ring.as_ref().map_or((from, 0), |ring| ring.read(from, to))
}

/// Bytes that the ring was given since the start.
pub(crate) fn written() -> u64 {
    SINK.lock().ring.as_ref().map_or(0, LogRing::written)
}

/// Prints at once although the log may be in the middle of a line on this or another CPU: for a panic, once the other
/// CPUs have been stopped. Before the console is open it goes to COM1.
pub(crate) fn emergency(args: fmt::Arguments<'_>) {
    if let Some(mut sink) = patiently() {
        if sink.ports[0].serial.is_none() {
            sink.ports[0].serial = Serial::open_com1();
        }
        sink.deferred = false;
        sink.flush();
        sink.plain(args);
        return;
    }
    STUCK.store(true, Ordering::Relaxed);
    for mut serial in Serial::attached() {
        let _ = serial.write_fmt(args);
    }
}

/// Runs `f` with the log locked.
#[cfg(feature = "faults")]
pub(crate) fn with_lock(f: fn()) {
    let _lock = SINK.lock();
    f();
}
