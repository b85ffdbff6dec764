//! The ledger as text and as JSON.

use core::fmt::{self, Write};

use json::Shown;

use super::{Ledger, LedgerRow, Means};

/// Columns of a list of names.
const LINE: usize = 79;

impl fmt::Display for LedgerRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<28}", self.name)?;
        if let Some((told, has)) = self.values {
            write!(f, "guest {told}, host {has}: ")?;
        }
        f.write_str(&self.says())?;
        if !self.remains.is_empty() {
            write!(f, "; but {}", self.remains)?;
        }
        Ok(())
    }
}

impl Ledger {
    fn list(
        &self,
        f: &mut fmt::Formatter<'_>,
        head: &str,
        wanted: impl Fn(&LedgerRow) -> bool,
    ) -> fmt::Result {
        let mut rows = self.rows.iter().filter(|row| wanted(row)).peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        write!(f, "{head}:")?;
        let mut used = LINE;
        for row in rows {
            used += row.name.len() + 1;
            if used > LINE {
                f.write_str("\n ")?;
                used = row.name.len() + 2;
            }
            write!(f, " {}", row.name.replace(' ', "_"))?;
        }
        f.write_char('\n')
    }
}

/// Holes first, then what is enforced, then lists of what needs nothing.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "level {}-v{} on {} ({:X})",
            self.level,
            self.level_version,
            if self.cpu.is_empty() { "a CPU without name" } else { &self.cpu },
            self.signature
        )?;
        writeln!(f, "holes, which a guest can use though it was not told: {}", self.holes().count())?;
        self.holes().try_for_each(|row| writeln!(f, "  {row}"))?;
        let idle = |row: &LedgerRow| matches!(row.means, Means::Absent | Means::Statement | Means::Same);
        let enforced = || self.rows.iter().filter(|row| !row.is_hole() && !idle(row));
        writeln!(f, "enforced: {}", enforced().count())?;
        enforced().try_for_each(|row| writeln!(f, "  {row}"))?;
        self.list(f, "absent in this CPU", |row| row.means == Means::Absent)?;
        self.list(f, "nothing to execute", |row| row.means == Means::Statement)?;
        self.list(f, "values that are the host's own", |row| row.means == Means::Same)
    }
}

impl Ledger {
    /// The ledger as members of a JSON object.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn json(&self, object: &mut json::Object<'_>) -> fmt::Result {
        object.field("level", self.level.as_str())?;
        object.field("version", u64::from(self.level_version))?;
        object.field("cpu", self.cpu.as_str())?;
        object.field("signature", self.signature)?;
        object.field("holes", self.holes().count())?;
        object.array("rows", |array| {
            for row in &self.rows {
                array.object(|object| {
                    object.field("name", &*row.name)?;
                    if let Some(feature) = row.feature() {
                        let info = feature.info();
                        object.field("place", Shown(format_args!("{}[{}]", info.place, info.bit)))?;
                    }
                    if let Some((told, has)) = row.values {
                        object.field("guest", told)?;
                        object.field("host", has)?;
                    }
                    object.field("means", row.means.word())?;
                    object.field("by", row.says().as_str())?;
                    if let Some(exception) = row.means.exception() {
                        object.field("exception", exception)?;
                    }
                    if !row.remains.is_empty() {
                        object.field("remains", &*row.remains)?;
                    }
                    object.field("hole", row.is_hole())
                })?;
            }
            Ok(())
        })
    }
}
