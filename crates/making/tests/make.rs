//! A VM of 1 TiB in the making: no step is long. Fault 3.4.
#![allow(missing_docs)]

use making::{CLEARED, COPIED, ENTRIES, Make, Site};

const TIB: u64 = 1 << 40;

/// What is left to be done, and what the last step did.
#[derive(Default)]
struct Ground {
    to_clear: u64,
    words: u64,
    regions: u64,
    file: u64,
    has_kernel: bool,
    refuses: Option<&'static str>,
    cleared: u64,
    touched: u64,
    did: Vec<&'static str>,
}

impl Ground {
    fn of(bytes: u64) -> Self {
        Self {
            to_clear: bytes,
            // two sets of a bit a page, and one of a bit for each word of one
            words: 2 * (bytes >> 18) + (bytes >> 24),
            regions: bytes >> 21,
            file: 600 << 20,
            has_kernel: true,
            ..Self::default()
        }
    }

    fn does(&mut self, what: &'static str) -> Result<(), String> {
        if self.did.last() != Some(&what) {
            self.did.push(what);
        }
        if self.refuses == Some(what) { Err(format!("no {what}")) } else { Ok(()) }
    }
}

impl Site for Ground {
    fn clear(&mut self, most: u64) -> bool {
        self.does("clear").unwrap();
        self.cleared += most.min(self.to_clear);
        self.to_clear = self.to_clear.saturating_sub(most);
        self.to_clear > 0
    }

    fn note(&mut self, words: usize) -> bool {
        self.does("note").unwrap();
        self.touched += (words as u64).min(self.words);
        self.words = self.words.saturating_sub(words as u64);
        self.words > 0
    }

    fn map(&mut self) -> Result<bool, String> {
        self.does("map")?;
        // A GiB, and the table for it.
        self.touched += 2 * self.regions.min(512);
        self.regions = self.regions.saturating_sub(512);
        Ok(self.regions > 0)
    }

    fn build(&mut self) -> Result<bool, String> {
        self.does("build").map(|()| self.has_kernel)
    }

    fn load(&mut self) -> Result<(), String> {
        self.does("load")
    }

    fn copy(&mut self, most: usize) -> Result<bool, String> {
        self.does("copy")?;
        assert!(most <= COPIED);
        self.file = self.file.saturating_sub(most as u64);
        Ok(self.file > 0)
    }
}

fn made(ground: &mut Ground) -> Result<u64, String> {
    let (mut make, mut steps) = (Make::default(), 0);
    loop {
        (ground.cleared, ground.touched) = (0, 0);
        let made = make.step(ground)?;
        assert!(ground.cleared <= CLEARED && CLEARED <= 2 << 20, "{} bytes cleared", ground.cleared);
        assert!(ground.touched <= ENTRIES as u64 && ENTRIES <= 4096, "{} entries", ground.touched);
        steps += 1;
        if made {
            return Ok(steps);
        }
    }
}

#[test]
fn no_step_of_a_terabyte_is_long() {
    let mut ground = Ground::of(TIB);
    let steps = made(&mut ground).unwrap();
    println!("1 TiB: {steps} steps");
    assert!(steps > TIB / CLEARED);
    assert_eq!(ground.did, ["clear", "note", "map", "build", "load", "copy"]);
    assert_eq!((ground.to_clear, ground.words, ground.regions, ground.file), (0, 0, 0, 0));
}

/// The target of a migration has no kernel: its memory comes.
#[test]
fn one_without_a_kernel_is_made_when_it_is_put_together() {
    let mut ground = Ground { has_kernel: false, ..Ground::of(16 << 20) };
    made(&mut ground).unwrap();
    assert_eq!(ground.did, ["clear", "note", "map", "build"]);
}

#[test]
fn what_fails_ends_it_there() {
    for (refuses, done) in [("map", 3), ("build", 4), ("load", 5), ("copy", 6)] {
        let mut ground = Ground { refuses: Some(refuses), ..Ground::of(16 << 20) };
        assert_eq!(made(&mut ground), Err(format!("no {refuses}")));
        assert_eq!(ground.did.len(), done);
    }
}
