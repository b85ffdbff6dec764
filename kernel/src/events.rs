//! What happened on this host, for `events`.

use alloc::string::String;

use shell::{EventKind, EventLog, HostEvent};

use crate::lock::{self, Mutex};
use hw::arch::tsc;

static EVENTS: Mutex<EventLog> = Mutex::new(lock::EVENTS, EventLog::new());

/// Something happened to a VM or a host.
pub(crate) fn tell(kind: EventKind, subject: impl Into<String>, detail: impl Into<String>) {
    let event = HostEvent { us: tsc::micros(), kind, subject: subject.into(), detail: detail.into() };
    EVENTS.lock().push(event);
}

/// The number of the next event.
pub(crate) fn next() -> u64 {
    EVENTS.lock().next()
}

/// The event of that number, or the first after it that is kept, with its number.
pub(crate) fn get(number: u64) -> Option<(u64, HostEvent)> {
    EVENTS.lock().get(number).map(|(number, event)| (number, event.clone()))
}

#[cfg(test)]
mod tests;
