//! When bytes came that were found only later.

/// When the bytes that a poll finds have come: half way between the end of the look that found nothing of them and the
/// beginning of the one that found them. That is wrong by half of the time between two looks at most. Instants are of
/// any clock that does not go back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arrival {
    looked: u64,
    came: u64,
}

impl Arrival {
    /// Nothing has come yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { looked: 0, came: 0 }
    }

    /// A look for bytes, from when to when, and whether it found any.
    pub fn look(&mut self, began: u64, ended: u64, found: bool) {
        if found {
            self.came = if self.looked == 0 { began } else { self.looked.midpoint(began) };
        }
        self.looked = ended;
    }

    /// When those came that the last look with any has found.
    #[must_use]
    pub fn came(&self) -> u64 {
        self.came
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_way_between_two_looks() {
        let mut arrival = Arrival::new();
        arrival.look(1000, 1010, true);
        assert_eq!(arrival.came(), 1000, "nothing is known of the time before the first look");
        arrival.look(2000, 2010, false);
        assert_eq!(arrival.came(), 1000);
        arrival.look(3010, 3100, true);
        assert_eq!(arrival.came(), 2510);
        arrival.look(3110, 3120, false);
        arrival.look(3130, 3140, true);
        assert_eq!(arrival.came(), 3125);
        arrival.look(u64::MAX, u64::MAX, true);
        arrival.look(u64::MAX, u64::MAX, true);
        assert_eq!(arrival.came(), u64::MAX);
    }
}
