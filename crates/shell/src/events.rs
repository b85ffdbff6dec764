//! What happened on the host, for whoever follows it: the last events, and one table of their kinds.

use alloc::collections::VecDeque;
use alloc::string::String;
use core::fmt::{self, Write};

use text::{Stamp, UtcMicros};

macro_rules! kinds {
    ($($(#[doc = $meaning:literal])+ $kind:ident $name:literal;)+) => {
        /// A kind of event.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum EventKind {
            $($(#[doc = $meaning])+ $kind,)+
        }

        impl EventKind {
            /// All of them with their meaning, for the docs.
            pub const ALL: &[(Self, &'static str)] = &[$((Self::$kind, concat!($($meaning),+)),)+];

            /// The word for it, which never changes.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// A VM was made here; it has not run.
    VmMade "vm-made";
    /// A VM runs: for the first time, again after a pause, or booted anew.
    VmRunning "vm-running";
    /// A VM was paused.
    VmPaused "vm-paused";
    /// A VM is over, with the reason.
    VmStopped "vm-stopped";
    /// A VM was destroyed.
    VmDestroyed "vm-destroyed";
    /// A VM has another name, with the old one.
    VmRenamed "vm-renamed";
    /// An operator sent a VM an NMI, with the vCPU that got it.
    VmNmi "vm-nmi";
    /// A VM has moved to another host, with its address.
    VmLeft "vm-left";
    /// A VM has come from another host, with its address, and runs here.
    VmCame "vm-came";
    /// A migration from here has failed, with the reason.
    MigrationFailed "migration-failed";
    /// It is not known which host has a VM: `migrate resolve`.
    VmUnknown "vm-unknown";
    /// A host joined the pool.
    MemberJoined "member-joined";
    /// A host left the pool, or was forgotten.
    MemberLeft "member-left";
    /// There is no link to a member any more.
    MemberLost "member-lost";
    /// There is a link to a member again.
    MemberBack "member-back";
    /// A link was refused, here or by the other host, with the reason.
    LinkRefused "link-refused";
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostEvent {
    /// When, in microseconds since the host's start.
    pub us: u64,
    /// What.
    pub kind: EventKind,
    /// The VM or host that it happened to.
    pub subject: String,
    /// Reason, address or the like; empty where there is none.
    pub detail: String,
}

/// How many are kept, and how long their texts may be, in bytes.
const KEPT: usize = 256;
const KEPT_REFUSED: usize = 32;
const MAX_TEXT: usize = 240;

/// The last events. Each has a number, counted from the start.
#[derive(Debug, Default)]
pub struct EventLog {
    kept: VecDeque<(u64, HostEvent)>,
    next: u64,
}

impl EventLog {
    /// Nothing has happened.
    #[must_use]
    pub const fn new() -> Self {
        Self { kept: VecDeque::new(), next: 0 }
    }

    /// Something happened; the oldest event makes way for it. Refused links, which anybody on the network can cause, take
    /// no more than their share of the places.
    pub fn push(&mut self, mut event: HostEvent) {
        for text in [&mut event.subject, &mut event.detail] {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
        }
        let refused = |(_, event): &&(u64, HostEvent)| event.kind == EventKind::LinkRefused;
        let share =
            event.kind == EventKind::LinkRefused && self.kept.iter().filter(refused).count() >= KEPT_REFUSED;
        let oldest = if share { self.kept.iter().position(|kept| refused(&kept)) } else { Some(0) };
        if let Some(oldest) = oldest.filter(|_| share || self.kept.len() == KEPT) {
            self.kept.remove(oldest);
        }
        self.kept.push_back((self.next, event));
        self.next += 1;
    }

    /// The number of the next one.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// The event of that number, or the first after it that is kept, with its number; none where it is still to come.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<(u64, &HostEvent)> {
        let place = self.kept.partition_point(|(kept, _)| *kept < number);
        self.kept.get(place).map(|(number, event)| (*number, event))
    }
}

impl HostEvent {
    /// One line: when, what, to whom, why. `start_us` is the instant of the host's start, in microseconds since 1970, for
    /// whoever wants the time in UTC.
    ///
    /// # Errors
    /// Only those of `out`.
    pub fn write_text(&self, start_us: Option<u64>, out: &mut dyn Write) -> fmt::Result {
        match start_us {
            Some(start) => write!(out, "{} ", UtcMicros(start.saturating_add(self.us)))?,
            None => write!(out, "{} ", Stamp(self.us))?,
        }
        write!(out, "{} {}", self.kind.name(), self.subject)?;
        if self.detail.is_empty() { out.write_char('\n') } else { writeln!(out, ": {}", self.detail) }
    }

    /// One JSON object on a line.
    ///
    /// # Errors
    /// Only those of `out`.
    pub fn write_json(&self, start_us: u64, out: &mut dyn Write) -> fmt::Result {
        json::object(out, |o| {
            o.field("us", self.us)?;
            o.field("unix_us", start_us.saturating_add(self.us))?;
            o.field("event", self.kind.name())?;
            o.field("subject", self.subject.as_str())?;
            o.field("detail", (!self.detail.is_empty()).then_some(self.detail.as_str()))
        })?;
        out.write_char('\n')
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    fn event(us: u64) -> HostEvent {
        HostEvent { us, kind: EventKind::VmStopped, subject: "web".into(), detail: "power-off".into() }
    }

    #[test]
    fn as_text_and_as_json() {
        let write = |f: &dyn Fn(&mut String) -> fmt::Result| {
            let mut text = String::new();
            f(&mut text).map(|()| text).unwrap_or_default()
        };
        let event = event(12_345_678);
        assert_eq!(write(&|t| event.write_text(None, t)), "[   12.345678] vm-stopped web: power-off\n");
        let start = 1_796_002_071_000_000;
        assert_eq!(
            write(&|t| event.write_text(Some(start), t)),
            "2026-11-30 01:28:03.345678 UTC vm-stopped web: power-off\n"
        );
        assert_eq!(
            write(&|t| event.write_json(start, t)),
            "{\"us\":12345678,\"unix_us\":1796002083345678,\"event\":\"vm-stopped\",\"subject\":\"web\",\"detail\":\"power-off\"}\n"
        );
        let bare = HostEvent { detail: String::new(), ..event };
        assert!(write(&|t| bare.write_text(None, t)).ends_with("vm-stopped web\n"));
        assert!(write(&|t| bare.write_json(0, t)).ends_with("\"detail\":null}\n"));
    }

    #[test]
    fn the_last_ones_are_kept_under_their_numbers() {
        let mut log = EventLog::new();
        assert_eq!((log.next(), log.get(0)), (0, None));
        for us in 0..KEPT as u64 + 10 {
            log.push(event(us));
        }
        assert_eq!(log.next(), KEPT as u64 + 10);
        assert_eq!(
            log.get(0).map(|(number, event)| (number, event.us)),
            Some((10, 10)),
            "the first are gone"
        );
        assert_eq!(log.get(100).map(|(number, event)| (number, event.us)), Some((100, 100)));
        assert_eq!(log.get(log.next()), None);
        // A stranger at the port does not drive out what else happened.
        let refused = || HostEvent { kind: EventKind::LinkRefused, ..event(7) };
        (0..1000).for_each(|_| log.push(refused()));
        assert_eq!(
            log.get(0).map(|(number, event)| (number, event.us)),
            Some((10 + KEPT_REFUSED as u64, 42))
        );
        assert_eq!(log.kept.iter().filter(|(_, event)| *event == refused()).count(), KEPT_REFUSED);
        log.push(HostEvent { detail: "\u{fc}".repeat(MAX_TEXT), ..event(0) });
        assert_eq!(log.get(log.next() - 1).map(|(_, event)| event.detail.len()), Some(MAX_TEXT));
    }

    #[test]
    fn each_kind_has_a_word_and_a_meaning() {
        for (at, (kind, meaning)) in EventKind::ALL.iter().enumerate() {
            assert!(meaning.trim().ends_with('.'), "{meaning}");
            let others = EventKind::ALL.iter().skip(at + 1);
            assert!(others.clone().all(|(other, _)| other.name() != kind.name()), "{} twice", kind.name());
            assert!(
                kind.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{}",
                kind.name().to_string()
            );
        }
    }
}
