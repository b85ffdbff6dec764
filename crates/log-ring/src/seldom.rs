//! Lines that a peer can cause as often as it likes, printed at most once in a while.

use alloc::format;
use alloc::string::String;

/// Lines of one kind. Times are in microseconds.
#[derive(Debug)]
pub struct Seldom {
    pause_us: u64,
    next_us: u64,
    /// The last that was not printed, and how many there are.
    kept: Option<(String, u64)>,
}

impl Seldom {
    /// One in `pause_us` at most.
    #[must_use]
    pub const fn new(pause_us: u64) -> Self {
        Self { pause_us, next_us: 0, kept: None }
    }

    /// Takes a line; gives what is to be printed now, if anything is. What is kept comes from [`Self::poll`].
    pub fn line(&mut self, text: String, now_us: u64) -> Option<String> {
        let before = self.kept.take();
        let Some((_, count)) = before else {
            if now_us >= self.next_us {
                self.next_us = now_us.saturating_add(self.pause_us);
                return Some(text);
            }
            self.kept = Some((text, 1));
            return None;
        };
        self.kept = Some((text, count + 1));
        self.poll(now_us)
    }

    /// What was kept, once it is time: its last line, with the number of all.
    pub fn poll(&mut self, now_us: u64) -> Option<String> {
        if now_us < self.next_us {
            return None;
        }
        let (text, count) = self.kept.take()?;
        self.next_us = now_us.saturating_add(self.pause_us);
        Some(if count == 1 { text } else { format!("{text} (and {} more)", count - 1) })
    }
}
