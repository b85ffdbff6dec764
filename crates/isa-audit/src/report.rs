//! Findings as text and as JSON.

use core::fmt::{self, Display, Write};

use crate::findings::Findings;

/// What a report says above its table.
#[derive(Clone, Copy, Debug)]
pub struct Heading<'a> {
    /// The VM.
    pub vm: &'a str,
    /// The level whose bounds were looked for.
    pub level: &'a str,
    /// Whether the audit goes on.
    pub running: bool,
}

struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for byte in self.0 {
            write!(f, "{separator}{byte:02x}")?;
            separator = " ";
        }
        Ok(())
    }
}

/// A number that JSON's readers would round, as hexadecimal text.
struct Address(u64);

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

const CAVEAT: &str = "This is heuristic. REACHED: execution of the page leads there, by straight flow and direct branches\n\
from where it was entered first. SWEPT: other bytes of such a page, which may be data. Code that\n\
was not executed while the audit ran is not in it. Instructions are counted where they stand, and\n\
again when their page is decoded again after a write. HERE: what this host does with them.\n\
WITHOUT: what a CPU without the feature does.\n";

impl Findings {
    /// Writes the report as text.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn text(&self, heading: &Heading<'_>, out: &mut dyn Write) -> fmt::Result {
        let state = if heading.running { "running" } else { "not running" };
        writeln!(
            out,
            "audit of {} at level {}: {state}, {} pages decoded, {} of them again, {} instructions",
            heading.vm, heading.level, self.pages, self.again, self.instructions
        )?;
        if self.undecodable != 0 {
            writeln!(out, "{} places were no instruction of an Intel CPU", self.undecodable)?;
        }
        if self.rows.is_empty() {
            writeln!(out, "no instruction outside the level found")?;
        } else {
            writeln!(
                out,
                "{:<18} {:>7} {:>7}  {:<18} {:<14} {:<5} {:<9} INSTRUCTION",
                "FEATURE", "REACHED", "SWEPT", "LINEAR", "PHYSICAL", "HERE", "WITHOUT"
            )?;
        }
        for row in &self.rows {
            writeln!(
                out,
                "{:<18} {:>7} {:>7}  {:<#18x} {:<#14x} {:<5} {:<9} {}",
                row.feature.name(),
                row.reached,
                row.swept,
                row.linear,
                row.gpa,
                if row.stopped { "#UD" } else { "runs" },
                row.without.name(),
                Hex(row.instruction())
            )?;
        }
        out.write_str(CAVEAT)
    }

    /// Writes the report as one JSON object.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn json(&self, heading: &Heading<'_>, out: &mut dyn Write) -> fmt::Result {
        json::object(out, |o| {
            o.field("vm", heading.vm)?;
            o.field("level", heading.level)?;
            o.field("running", heading.running)?;
            o.field("heuristic", true)?;
            o.field("pages", self.pages)?;
            o.field("pages_again", self.again)?;
            o.field("instructions", self.instructions)?;
            o.field("undecodable", self.undecodable)?;
            o.array("findings", |a| {
                self.rows.iter().try_for_each(|row| {
                    a.object(|o| {
                        o.field("feature", row.feature.name())?;
                        o.field("reached", row.reached)?;
                        o.field("swept", row.swept)?;
                        o.field("linear", json::Shown(Address(row.linear)))?;
                        o.field("physical", json::Shown(Address(row.gpa)))?;
                        o.field("here", if row.stopped { "#UD" } else { "runs" })?;
                        o.field("without", row.without.name())?;
                        o.field("instruction", json::Shown(Hex(row.instruction())))
                    })
                })
            })
        })
    }
}
