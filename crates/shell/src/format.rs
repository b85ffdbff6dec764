//! Tables and sizes as people read them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Side to which a column's cells are set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a header. Columns never change their order or their heading; the first word of a row is its key.
#[derive(Clone, Debug)]
pub struct Table<const N: usize> {
    head: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
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
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = self.head.map(|(name, _)| width(name));
        for row in &self.rows {
            for (wide, cell) in widths.iter_mut().zip(row) {
                *wide = (*wide).max(width(cell)).max(1);
            }
        }
        let head = self.head.map(|(name, _)| name);
        self.line(f, &widths, head.iter().copied())?;
        for row in &self.rows {
            self.line(f, &widths, row.iter().map(|c| if c.is_empty() { "-" } else { c }))?;
        }
        Ok(())
    }
}

impl<const N: usize> Table<N> {
    fn line<'a>(
        &self,
        f: &mut fmt::Formatter<'_>,
        widths: &[usize; N],
        cells: impl Iterator<Item = &'a str>,
    ) -> fmt::Result {
        for (i, ((cell, wide), (_, align))) in cells.zip(widths).zip(&self.head).enumerate() {
            let gap = wide.saturating_sub(width(cell));
            let between = if i == 0 { "" } else { "  " };
            match align {
                Align::Right => write!(f, "{between}{:gap$}{cell}", "")?,
                // No blanks at the end of a line.
                Align::Left if i + 1 == N => write!(f, "{between}{cell}")?,
                Align::Left => write!(f, "{between}{cell}{:gap$}", "")?,
            }
        }
        f.write_str("\n")
    }
}

/// Columns that text takes on a terminal.
fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// Columns that a character takes on a terminal: 2 for those of East Asian scripts and pictures, 0 for marks that
/// stand on the one before. Coarse (whole blocks of Unicode), and enough to rub out what was typed.
pub(crate) const fn columns(c: char) -> usize {
    match c as u32 {
        0x0300..=0x036F
        | 0x0483..=0x0489
        | 0x0591..=0x05BD
        | 0x0610..=0x061A
        | 0x064B..=0x065F
        | 0x1AB0..=0x1AFF
        | 0x1DC0..=0x1DFF
        | 0x200B..=0x200F
        | 0x2060..=0x2064
        | 0x20D0..=0x20FF
        | 0xFE00..=0xFE0F
        | 0xFE20..=0xFE2F
        | 0xFEFF
        | 0xE0000..=0xE0FFF => 0,
        0x1100..=0x115F
        | 0x2E80..=0x303E
        | 0x3040..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1F64F
        | 0x1F680..=0x1F6FF
        | 0x1F900..=0x1F9FF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
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

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

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
