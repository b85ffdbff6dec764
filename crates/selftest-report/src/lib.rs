//! What the self-test says of a host: a report of lines, each with a verdict, as text for people and as JSON for programs.
//!
//! One table ([`CHECKS`]) names the lines, says what holds where one passed, and what to do where it failed. The kernel fills
//! in what it measured.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod table;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

pub use table::{CHECKS, Check, find};

/// Version of the JSON document. A key that is added leaves it alone; one that changes its meaning or goes raises it.
pub const SCHEMA: u64 = 1;

/// How a check ended, with what it measured, what went wrong, or why it was not tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It holds.
    Passed(String),
    /// It does not.
    Failed(String),
    /// Nobody knows: the host lacks what the check needs.
    NotTried(String),
}

impl Verdict {
    /// Of a check that is left to the boot, for this reason.
    #[must_use]
    pub fn at_boot(why: &str) -> Self {
        Self::NotTried(format!("at boot only, by `selftest` on the command line: {why}"))
    }

    /// Of a check that could be tried.
    pub fn of(result: Result<String, String>) -> Self {
        result.map_or_else(Self::Failed, Self::Passed)
    }

    const fn words(&self) -> (&'static str, &'static str, &String) {
        match self {
            Self::Passed(text) => ("passed", "passed", text),
            Self::Failed(text) => ("FAILED", "failed", text),
            Self::NotTried(text) => ("not tried", "not-tried", text),
        }
    }
}

/// A line of the report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Which check.
    pub check: &'static Check,
    /// How it ended.
    pub verdict: Verdict,
    /// What it took, in microseconds.
    pub us: u64,
}

impl Line {
    /// What to do about it; only where it failed.
    pub const fn cure(&self) -> Option<&'static str> {
        match self.verdict {
            Verdict::Failed(_) => Some(self.check.cure),
            _ => None,
        }
    }
}

impl fmt::Display for Line {
    /// `selftest: NAME passed: TEXT (US us)`, on one line whatever the text holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, _, text) = self.verdict.words();
        write!(f, "selftest: {} {word}", self.check.name)?;
        if !text.is_empty() {
            f.write_str(": ")?;
            text.chars().try_for_each(|c| f.write_char(if c.is_control() { ' ' } else { c }))?;
        }
        if let Some(cure) = self.cure() {
            write!(f, "; cure: {cure}")?;
        }
        write!(f, " ({} us)", self.us)
    }
}

/// What the machine says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Machine {
    /// The CPU's brand string.
    pub cpu: String,
    /// CPUID.1:EAX.
    pub signature: u32,
    /// How many CPUs run.
    pub cpus: u64,
    /// Ticks of the TSC a second.
    pub tsc_hz: u64,
    /// What the hypervisor below calls itself, if there is one.
    pub under: Option<String>,
}

/// The report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Flexvisor's version, commit and build, as the banner has them.
    pub version: String,
    /// Where it ran.
    pub machine: Machine,
    /// Made by the command while the host did its work; else at boot.
    pub running: bool,
    /// Its lines, in the order of [`CHECKS`].
    pub lines: Vec<Line>,
}

impl Report {
    /// Lines that passed, failed, were not tried.
    pub fn counts(&self) -> [u64; 3] {
        self.lines.iter().fold([0; 3], |mut counts, line| {
            counts[match line.verdict {
                Verdict::Passed(_) => 0,
                Verdict::Failed(_) => 1,
                Verdict::NotTried(_) => 2,
            }] += 1;
            counts
        })
    }

    /// The document on one line: keys as [`KEYS`] has them.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn write_json(&self, out: &mut dyn Write) -> fmt::Result {
        let [passed, failed, not_tried] = self.counts();
        json::object(out, |o| {
            o.field("schema", SCHEMA)?;
            o.field("version", self.version.as_str())?;
            o.object("machine", |o| {
                o.field("cpu", self.machine.cpu.as_str())?;
                o.field("signature", u64::from(self.machine.signature))?;
                o.field("cpus", self.machine.cpus)?;
                o.field("tsc_hz", self.machine.tsc_hz)?;
                o.field("under", self.machine.under.as_deref())
            })?;
            o.field("when", if self.running { "running" } else { "boot" })?;
            o.field("passed", passed)?;
            o.field("failed", failed)?;
            o.field("not_tried", not_tried)?;
            o.array("lines", |a| {
                self.lines.iter().try_for_each(|line| {
                    let (_, verdict, text) = line.verdict.words();
                    a.object(|o| {
                        o.field("check", line.check.name)?;
                        o.field("verdict", verdict)?;
                        o.field("text", text.as_str())?;
                        o.field("cure", line.cure())?;
                        o.field("us", line.us)
                    })
                })
            })
        })
    }
}

/// The document's keys, with their meaning.
pub const KEYS: &[(&str, &str)] = &[
    ("schema", "version of this document: 1"),
    ("version", "Flexvisor's version, commit and build"),
    ("machine.cpu", "the CPU's brand string"),
    ("machine.signature", "CPUID.1:EAX"),
    ("machine.cpus", "how many run"),
    ("machine.tsc_hz", "ticks of the TSC a second"),
    ("machine.under", "what the hypervisor below calls itself, else null"),
    ("when", "`boot`, or `running`: by the command, while the host did its work"),
    ("passed", "lines that passed"),
    ("failed", "lines that failed"),
    ("not_tried", "lines that could not run here"),
    ("lines[].check", "the check's name"),
    ("lines[].verdict", "`passed`, `failed` or `not-tried`"),
    ("lines[].text", "what was measured, what went wrong, or why it was not tried"),
    ("lines[].cure", "what to do about it, else null"),
    ("lines[].us", "what it took, in microseconds"),
];
