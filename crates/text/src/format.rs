//! Tables and sizes as people read them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::fold::{ROOM, pieces, width};

/// Side to which a column's cells are set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a header. Columns never change their order or their heading; the first word of a row is its key. No line
/// is longer than a terminal's row: a table that is wider breaks the text of its last column between words or, where
/// that is not enough, gives each row as many lines as its columns need, all rows alike.
#[derive(Clone, Debug)]
pub struct Table<const N: usize> {
    head: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

/// Columns before those of a row that begin a further line.
const INDENT: usize = 4;
/// The least columns that the last one is left, where its text is longer.
const LEAST: usize = 24;

/// Where a column of a table stands.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Its first column on the terminal.
    start: usize,
    /// How many it takes.
    room: usize,
    /// It begins a line.
    begins: bool,
}

impl<const N: usize> Table<N> {
    /// An empty table with that header.
    #[must_use]
    pub const fn new(head: [(&'static str, Align); N]) -> Self {
        Self { head, rows: Vec::new() }
    }

    /// Adds a row. An empty cell is shown as `-`, so that a line always has N words or more.
    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// The places of the columns.
    fn places(&self) -> [Place; N] {
        let mut widths = self.head.map(|(name, _)| width(name));
        for row in &self.rows {
            for (wide, cell) in widths.iter_mut().zip(row) {
                *wide = (*wide).max(width(cell)).max(1);
            }
        }
        let mut places = [Place::default(); N];
        let mut next = 0;
        for (i, ((place, wide), (_, align))) in places.iter_mut().zip(widths).zip(self.head).enumerate() {
            let last = i + 1 == N && align == Align::Left;
            let needs = if last { wide.min(LEAST) } else { wide };
            let begins = i > 0 && next + needs > ROOM;
            let start = if begins { INDENT } else { next };
            *place = Place { start, room: wide.min(ROOM - start), begins };
            next = start + place.room + 2;
        }
        places
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, places: &[Place; N], cells: [&str; N]) -> fmt::Result {
        let mut from = 0;
        while from < N {
            let to = (from + 1..N).find(|i| places.get(*i).is_some_and(|place| place.begins)).unwrap_or(N);
            let mut left: Vec<_> =
                cells.iter().zip(places).map(|(cell, place)| pieces(cell, place.room)).collect();
            for nth in 0.. {
                let mut used = 0;
                let mut any = false;
                for i in from..to {
                    let (Some(place), Some((_, align)), Some(pieces)) =
                        (places.get(i), self.head.get(i), left.get_mut(i))
                    else {
                        continue;
                    };
                    let Some(piece) = pieces.next() else { continue };
                    if !any && nth > 0 {
                        f.write_str("\n")?;
                    }
                    any = true;
                    let before =
                        if *align == Align::Right { place.room.saturating_sub(width(piece)) } else { 0 };
                    let gap = (place.start + before).saturating_sub(used);
                    write!(f, "{:gap$}{piece}", "")?;
                    used = place.start + before + width(piece);
                }
                if !any {
                    break;
                }
            }
            f.write_str("\n")?;
            from = to;
        }
        Ok(())
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.places();
        self.line(f, &places, self.head.map(|(name, _)| name))?;
        for row in &self.rows {
            self.line(f, &places, row.each_ref().map(|cell| if cell.is_empty() { "-" } else { cell }))?;
        }
        Ok(())
    }
}

/// A number of bytes, shown in the largest unit that keeps it at least 1, with one digit behind the point where it is
/// no whole number: `256 MiB`, `12.4 KiB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let bytes = self.0;
        for (shift, unit) in UNITS {
            let whole = bytes >> shift;
            if whole == 0 {
                continue;
            }
            let rest = bytes & ((1 << shift) - 1);
            if rest == 0 {
                return write!(f, "{whole} {unit}");
            }
            // Rounded down: `1023.9` never becomes `1024.0`.
            let tenths = ((u128::from(rest) * 10) >> shift) as u8;
            return write!(f, "{whole}.{tenths} {unit}");
        }
        write!(f, "{bytes} B")
    }
}

/// Bytes as two lower-case hexadecimal digits each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (12_700, "12.4 KiB"),
            (256 << 20, "256 MiB"),
            ((1 << 40) - 1, "1023.9 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[test]
    fn a_wide_table_folds() {
        let names = "one two three four five six seven eight nine ten eleven twelve thirteen";
        let mut table = Table::new([("FLAW", Align::Left), ("WHY", Align::Left)]);
        table.row(["meltdown".into(), names.into()]);
        table.row(["l1tf".into(), "no".into()]);
        assert_eq!(
            table.to_string(),
            "FLAW      WHY\n\
             meltdown  one two three four five six seven eight nine ten eleven twelve\n\
             \x20         thirteen\n\
             l1tf      no\n"
        );
        let mut table = Table::new([
            ("NAME", Align::Left),
            ("MEM", Align::Right),
            ("ON", Align::Left),
            ("WHY", Align::Left),
        ]);
        table.row(["n".repeat(40), "256 MiB".into(), "o".repeat(32), names.into()]);
        table.row(["web".into(), "1 MiB".into(), "here".into(), String::new()]);
        assert_eq!(
            table.to_string(),
            std::format!(
                "NAME{:36}      MEM\n    ON{:30}  WHY\n{}  256 MiB\n    {}  {}\n{:38}{}\nweb{:37}    1 MiB\n    here{:28}  -\n",
                "",
                "",
                "n".repeat(40),
                "o".repeat(32),
                "one two three four five six seven eight",
                "",
                "nine ten eleven twelve thirteen",
                "",
                ""
            )
        );
    }

    proptest! {
        /// Whatever stands in a table, no line is longer than a row.
        #[test]
        fn no_table_is_wider_than_a_terminal(
            rows in prop::collection::vec(prop::array::uniform6("[a-z0-9 -]{0,120}"), 1..5),
            right in prop::array::uniform6(any::<bool>()),
        ) {
            let names = ["NAME", "STATE", "MEMORY", "CPU", "LEVEL", "WHY"];
            let mut at = 0;
            let head = names.map(|name| {
                at += 1;
                (name, if right[at - 1] { Align::Right } else { Align::Left })
            });
            let mut table = Table::new(head);
            rows.iter().for_each(|row| table.row(row.clone()));
            let text = table.to_string();
            prop_assert!(text.lines().all(|line| width(line) <= ROOM), "{}", text);
            let letters = |text: &str| text.chars().filter(|c| c.is_ascii_lowercase()).count();
            prop_assert_eq!(letters(&text), rows.iter().flatten().map(|cell| letters(cell)).sum::<usize>());
        }
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new([("NAME", Align::Left), ("MEM", Align::Right), ("STATE", Align::Left)]);
        assert_eq!(table.to_string(), "NAME  MEM  STATE\n");
        table.row(["demo".into(), "256 MiB".into(), "running".into()]);
        table.row(["a-longer-one".into(), String::new(), "off".into()]);
        assert_eq!(
            table.to_string(),
            "NAME              MEM  STATE\n\
             demo          256 MiB  running\n\
             a-longer-one        -  off\n"
        );
    }
}
