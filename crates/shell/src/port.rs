//! A serial line that shows what a guest prints and takes what is typed at it, while guests come and go.

use alloc::collections::VecDeque;
use alloc::format;

use crate::output::{GuestOutput, Next, Pace, ReaderId};

/// A guest's console, as [`GuestPort`] holds on to it: it outlives the VM, until all of it has been shown.
pub trait GuestConsole: Clone {
    /// Whether both are the console of the same VM, and that VM has not been away meanwhile.
    fn is(&self, other: &Self) -> bool;

    /// Looks at what was printed.
    fn output<R>(&self, look: impl FnOnce(&mut GuestOutput) -> R) -> R;
}

/// What waits for a serial line, and what was typed on it.
///
/// A guest that moves away or ends leaves bytes behind that the line has not sent yet: they go out before those of the
/// next guest. What was typed for a guest never reaches another one.
#[derive(Debug)]
pub struct GuestPort<C> {
    /// The last one is the present guest unless it has an end; the ones before it are gone.
    shown: VecDeque<Shown<C>>,
    /// Said on the line, before anything else goes out.
    note: VecDeque<u8>,
    /// For the present guest, once it takes it.
    typed: VecDeque<u8>,
    /// Bytes that were typed while no guest was here.
    for_nobody: u64,
}

#[derive(Debug)]
struct Shown<C> {
    console: C,
    reader: ReaderId,
    /// The last byte that is this line's; none while the guest is here.
    end: Option<u64>,
    /// Bytes typed for it that it did not take.
    not_taken: usize,
}

impl<C: GuestConsole> GuestPort<C> {
    /// Bytes that are kept for a guest that does not take them.
    pub const TYPED: usize = 4 << 10;
    /// Guests that are gone and not shown to the end: beyond, the oldest is cut off.
    const GUESTS: usize = 8;

    /// A line without a guest.
    #[must_use]
    pub const fn new() -> Self {
        Self { shown: VecDeque::new(), note: VecDeque::new(), typed: VecDeque::new(), for_nobody: 0 }
    }

    /// A line of this guest, from the start of what is kept of its output.
    #[must_use]
    pub fn replay(console: C, pace: Pace, now: u64) -> Self {
        let reader = console.output(|output| {
            let (older, newer) = output.ring().replay();
            let from = output.ring().total().saturating_sub((older.len() + newer.len()) as u64);
            output.attach_at(from, pace, now)
        });
        let shown = Shown { console, reader, end: None, not_taken: 0 };
        Self { shown: [shown].into(), ..Self::new() }
    }

    /// Says whose line it is at `now`, in microseconds. A guest that is not this host's yet is none.
    pub fn belongs_to(&mut self, guest: Option<&C>, now: u64) {
        if let Some(last) = self.present() {
            if guest.is_some_and(|guest| guest.is(&last.console)) {
                return;
            }
            self.leave();
        }
        let Some(console) = guest else { return };
        let Some(reader) = console.output(|output| output.is_live().then(|| output.attach(now))) else {
            return;
        };
        if self.shown.len() == Self::GUESTS {
            self.cut_off();
        }
        if self.for_nobody > 0 {
            let count = core::mem::take(&mut self.for_nobody);
            self.say(&format!("{count} bytes were typed while no VM was here: dropped"));
        }
        self.shown.push_back(Shown { console: console.clone(), reader, end: None, not_taken: 0 });
    }

    fn present(&self) -> Option<&Shown<C>> {
        self.shown.back().filter(|shown| shown.end.is_none())
    }

    /// The present guest is gone: what it has printed until now is still shown.
    fn leave(&mut self) {
        let not_taken = self.typed.len();
        self.typed.clear();
        if let Some(last) = self.shown.back_mut() {
            last.end = Some(last.console.output(GuestOutput::leave));
            last.not_taken = not_taken;
        }
    }

    fn say(&mut self, text: &str) {
        self.note.extend(format!("\r\n[{text}]\r\n").as_bytes());
    }

    /// Gives up what the oldest guest has left.
    fn cut_off(&mut self) {
        let Some(first) = self.shown.pop_front() else { return };
        let left = first.console.output(|output| {
            let left = output.left(first.reader, first.end.unwrap_or(u64::MAX));
            output.detach(first.reader);
            left
        });
        if left > 0 {
            self.say(&format!("{left} bytes left out: too many VMs came and went"));
        }
    }

    /// Whether something waits for the line.
    pub fn waits(&self) -> bool {
        let more = |shown: &Shown<C>| {
            shown.end.is_some()
                || shown.console.output(|output| output.next(shown.reader, u64::MAX) != Next::Bytes(&[]))
        };
        !self.note.is_empty() || self.shown.front().is_some_and(more)
    }

    /// Moves what goes out next into `line`; the count is what was moved.
    pub fn take(&mut self, line: &mut [u8], now: u64) -> usize {
        let mut count = 0;
        while let Some(room) = line.get_mut(count..).filter(|room| !room.is_empty()) {
            if !self.note.is_empty() {
                let noted = room.len().min(self.note.len());
                room.iter_mut().zip(self.note.drain(..noted)).for_each(|(to, from)| *to = from);
                count += noted;
                continue;
            }
            let Some(first) = self.shown.front() else { break };
            let (reader, end) = (first.reader, first.end.unwrap_or(u64::MAX));
            let done = first.console.output(|output| {
                let done = match output.next(reader, end) {
                    Next::LeftOut(bytes) => Done::LeftOut(bytes),
                    Next::Overrun(bytes) => Done::Overrun(bytes),
                    Next::Bytes(bytes) => {
                        room.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                        Done::Moved(room.len().min(bytes.len()))
                    }
                };
                match done {
                    Done::LeftOut(bytes) => output.took(reader, bytes, now),
                    Done::Overrun(_) => output.told_overrun(reader),
                    Done::Moved(0) if first.end.is_some() => output.detach(reader),
                    Done::Moved(bytes) => output.took(reader, bytes as u64, now),
                }
                done
            });
            match done {
                Done::LeftOut(bytes) => {
                    self.say(&format!("{bytes} bytes left out: they came faster than this line takes them"));
                }
                Done::Overrun(bytes) => {
                    self.say(&format!("{bytes} bytes left out: the guest did not wait for its UART"));
                }
                Done::Moved(0) if first.end.is_some() => self.end_first(),
                Done::Moved(0) => break,
                Done::Moved(bytes) => count += bytes,
            }
        }
        count
    }

    /// All of a guest that is gone has been shown.
    fn end_first(&mut self) {
        if let Some(Shown { not_taken: bytes @ 1.., .. }) = self.shown.pop_front() {
            self.say(&format!("{bytes} bytes typed here did not reach the VM: it is gone"));
        }
    }

    /// Whether a typed byte can be kept.
    #[must_use]
    pub fn takes_keys(&self) -> bool {
        self.typed.len() < Self::TYPED
    }

    /// A byte was typed; false where it cannot be kept.
    pub fn key(&mut self, byte: u8) -> bool {
        if self.present().is_none() {
            if self.for_nobody == 0 {
                self.say("no VM is here: what is typed is dropped");
            }
            self.for_nobody = self.for_nobody.saturating_add(1);
            return true;
        }
        let takes = self.takes_keys();
        if takes {
            self.typed.push_back(byte);
        }
        takes
    }

    /// The line itself has lost what was typed on it.
    pub fn keys_lost(&mut self) {
        self.say("input was lost: it came faster than the guest reads");
    }

    /// Hands what was typed to the present guest, as far as `give` takes it. True where it took something.
    pub fn offer(&mut self, mut give: impl FnMut(u8) -> bool) -> bool {
        let mut any = false;
        while self.typed.front().is_some_and(|byte| give(*byte)) {
            self.typed.pop_front();
            any = true;
        }
        any
    }

    /// The line is taken away: nobody waits for it any more.
    pub fn close(&mut self) {
        for shown in self.shown.drain(..) {
            shown.console.output(|output| output.detach(shown.reader));
        }
        self.typed.clear();
    }
}

impl<C: GuestConsole> Default for GuestPort<C> {
    fn default() -> Self {
        Self::new()
    }
}

/// What [`GuestPort::take`] did with a [`Next`].
enum Done {
    LeftOut(u64),
    Overrun(u64),
    Moved(usize),
}
