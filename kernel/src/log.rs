//! The host log: one line per event on the serial console, behind the `log` facade.

use core::fmt::{self, Write};

use spin::Mutex;

use crate::arch::serial::Serial;

static SINK: Mutex<Option<Serial>> = Mutex::new(None);

struct Sink;

impl Write for Sink {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if let Some(serial) = SINK.lock().as_mut() {
            serial.write(s);
        }
        Ok(())
    }
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        raw(format_args!("{}\n", record.args()));
    }

    fn flush(&self) {}
}

/// Makes COM1 the log's sink.
pub(crate) fn early_init() {
    *SINK.lock() = Serial::open(0x3f8, 115_200);
    let _ = log::set_logger(&Logger);
    log::set_max_level(log::LevelFilter::Info);
}

/// Prints without a time stamp.
pub(crate) fn raw(args: fmt::Arguments<'_>) {
    let _ = Sink.write_fmt(args);
}
