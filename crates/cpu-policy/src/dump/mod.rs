//! A CPU as text: what `cpu dump` prints and `flexctl` reads, and what the Debian package `cpuid` prints.
//!
//! ```text
//! flexvisor-cpu 1
//! host alpha
//! tsc 20000000
//! cpuid 00000000.00 00000016 756e6547 6c65746e 49656e69
//! msr 0000010a 0000000000000004
//! end 4
//! ```
//!
//! `end` counts the lines between it and the first one, so that a dump cut short is noticed. Text before the first
//! line and behind `end` does not matter: the record of a console will do.

mod cpuid_tool;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::host::{HostPolicy, MAX_RAW_MSRS, MAX_RAW_ROWS, RawCpu, RawError};
use crate::table::Row;

/// The word that a dump begins with, and its version.
const MAGIC: &str = "flexvisor-cpu";
const VERSION: &str = "1";
/// Most bytes that a dump may have: `cpuid -r` of a large machine has 10 KiB for each CPU.
pub const MAX_DUMP: usize = 16 << 20;
/// Longest name of a host.
const MAX_NAME: usize = 64;

/// What a dump holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dump {
    /// Name of the host; empty where the text does not say.
    pub host: String,
    /// Rate of the TSC in Hz, where it was measured.
    pub tsc_hz: Option<u64>,
    /// The CPU; the first where there are several.
    pub cpu: RawCpu,
    /// How many CPUs the text describes.
    pub cpus: usize,
    /// Numbers of the CPUs that differ from the first in more than what differs between the CPUs of any host.
    pub odd: Vec<u32>,
    /// Numbers of the CPUs whose text was cut short. Of the first, only the extended leaves may be missing.
    pub cut: Vec<u32>,
    /// True where the text is of a form without MSRs and gives none, so that what they enumerate is unknown.
    pub without_msrs: bool,
}

/// Why a text is no dump.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DumpError {
    /// More than [`MAX_DUMP`].
    #[error("{0} bytes, at most {MAX_DUMP} are read")]
    Length(usize),
    /// Neither of the two forms.
    #[error("neither a dump of `cpu dump` nor the output of `cpuid -r`")]
    Unknown,
    /// A form that is known and not read.
    #[error("{0}: take a dump by `cpu dump` or by `cpuid -r`")]
    Foreign(&'static str),
    /// Output of `cpuid -r` that ends too early.
    #[error("the dump is cut short: CPU {cpu} has no leaf {leaf:#x}")]
    Leaf {
        /// The CPU's number.
        cpu: u32,
        /// The first leaf that it announces and that is not there.
        leaf: u32,
    },
    /// Written by a version that this one does not know.
    #[error("line {line}: dump of version {version}, this one reads {VERSION}")]
    Version {
        /// Where.
        line: usize,
        /// What it says.
        version: String,
    },
    /// A line that is none of a dump.
    #[error("line {line}: {text} is not {expected}")]
    Line {
        /// Where, from 1.
        line: usize,
        /// The part at fault, shortened.
        text: String,
        /// What should be there.
        expected: &'static str,
    },
    /// No `end`, or one with another count.
    #[error("the dump is cut short: {found} lines, {expected} expected")]
    Cut {
        /// Lines that are there.
        found: usize,
        /// Lines that `end` counts, or one more than there are where there is none.
        expected: usize,
    },
    /// Rows or MSRs that are no CPU.
    #[error(transparent)]
    Cpu(#[from] RawError),
}

impl Dump {
    /// The dump of a host.
    #[must_use]
    pub fn of(name: &str, host: &HostPolicy) -> Self {
        let keep = |c: &char| c.is_ascii_graphic();
        Self {
            host: name.chars().filter(keep).take(MAX_NAME).collect(),
            tsc_hz: host.tsc_hz,
            cpu: host.cpu().clone(),
            cpus: 1,
            odd: Vec::new(),
            cut: Vec::new(),
            without_msrs: false,
        }
    }

    /// Reads a dump of either form.
    ///
    /// # Errors
    /// What is wrong, with the line.
    pub fn parse(text: &str) -> Result<Self, DumpError> {
        if text.len() > MAX_DUMP {
            return Err(DumpError::Length(text.len()));
        }
        // Editors of some systems begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let ours = |line: &str| unstamped(line).split_ascii_whitespace().next() == Some(MAGIC);
        match text.lines().position(ours) {
            Some(first) => parse(text, first),
            None => cpuid_tool::parse(text),
        }
    }

    /// Takes MSR `index` to be `value`, where the text does not say.
    ///
    /// # Errors
    /// More MSRs than a CPU has.
    pub fn supply_msr(&mut self, index: u32, value: u64) -> Result<(), DumpError> {
        if self.cpu.msr(index).is_none() {
            let msrs = self.cpu.msrs().iter().copied().chain([(index, value)]).collect();
            self.cpu = RawCpu::new(self.cpu.rows().into(), msrs)?;
            self.without_msrs = false;
        }
        Ok(())
    }

    /// The policies that follow from it.
    #[must_use]
    pub fn policy(&self) -> HostPolicy {
        let policy = HostPolicy::from_raw(&self.cpu);
        match self.tsc_hz {
            Some(hz) => policy.with_tsc_hz(hz),
            None => policy,
        }
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{MAGIC} {VERSION}")?;
        let mut lines = self.cpu.rows().len() + self.cpu.msrs().len();
        if !self.host.is_empty() {
            writeln!(f, "host {}", self.host)?;
            lines += 1;
        }
        if let Some(hz) = self.tsc_hz {
            writeln!(f, "tsc {hz}")?;
            lines += 1;
        }
        for Row { leaf, subleaf, regs: [eax, ebx, ecx, edx] } in self.cpu.rows() {
            writeln!(f, "cpuid {leaf:08x}.{subleaf:02x} {eax:08x} {ebx:08x} {ecx:08x} {edx:08x}")?;
        }
        for (index, value) in self.cpu.msrs() {
            writeln!(f, "msr {index:08x} {value:016x}")?;
        }
        writeln!(f, "end {lines}")
    }
}

/// A line without the time that a terminal or a logger put before it: `[ 12.345678]`, `12:34:56.789`, `2026-11-29T...`.
fn unstamped(line: &str) -> &str {
    let mut rest = line.trim();
    loop {
        let stamp = if rest.starts_with('[') {
            rest.find(']').map_or(0, |end| end + 1)
        } else {
            let word = rest.split_ascii_whitespace().next().unwrap_or("");
            let inner = |byte: u8| byte.is_ascii_digit() || b"-:.,+TZ".contains(&byte);
            let is_time = word.bytes().all(inner)
                && word.contains([':', '-'])
                && word.starts_with(|c: char| c.is_ascii_digit());
            if is_time { word.len() } else { 0 }
        };
        match rest.get(stamp..).filter(|_| stamp > 0) {
            Some(after) => rest = after.trim_start(),
            None => return rest,
        }
    }
}

/// The words of a line, counted.
struct Words<'a> {
    line: usize,
    words: core::str::SplitAsciiWhitespace<'a>,
}

impl<'a> Words<'a> {
    fn next(&mut self, expected: &'static str) -> Result<&'a str, DumpError> {
        self.words.next().ok_or_else(|| wrong(self.line, "end of line", expected))
    }

    fn end(&mut self) -> Result<(), DumpError> {
        self.words.next().map_or(Ok(()), |more| Err(wrong(self.line, more, "the end of the line")))
    }
}

/// A line at fault, with as much of it as a message needs.
fn wrong(line: usize, text: &str, expected: &'static str) -> DumpError {
    let text = text.chars().take(32).flat_map(char::escape_default).collect();
    DumpError::Line { line: line + 1, text, expected }
}

/// A hexadecimal number of at most 8 digits, without a sign.
fn hex(line: usize, text: &str, expected: &'static str) -> Result<u32, DumpError> {
    match hex64(line, text, expected)?.try_into() {
        Ok(value) if text.len() <= 8 => Ok(value),
        _ => Err(wrong(line, text, expected)),
    }
}

fn hex64(line: usize, text: &str, expected: &'static str) -> Result<u64, DumpError> {
    let digits = text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let value = if digits { u64::from_str_radix(text, 16).ok() } else { None };
    value.ok_or_else(|| wrong(line, text, expected))
}

/// Our own form, its first line at `first`.
fn parse(text: &str, first: usize) -> Result<Dump, DumpError> {
    let mut dump = Dump {
        host: String::new(),
        tsc_hz: None,
        cpu: RawCpu::default(),
        cpus: 1,
        odd: Vec::new(),
        cut: Vec::new(),
        without_msrs: false,
    };
    let (mut rows, mut msrs) = (Vec::new(), Vec::new());
    let mut found = 0;
    for (line, text) in text.lines().enumerate().skip(first) {
        let mut words = Words { line, words: unstamped(text).split_ascii_whitespace() };
        let Some(word) = words.words.next() else { continue };
        if line == first {
            let version = words.next("a version")?;
            if version != VERSION {
                let version = version.chars().take(32).flat_map(char::escape_default).collect();
                return Err(DumpError::Version { line: line + 1, version });
            }
            words.end()?;
            continue;
        }
        match word {
            "host" => {
                let name = words.next("a name")?;
                if name.len() > MAX_NAME || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(wrong(line, name, "a name of at most 64 ASCII characters"));
                }
                dump.host = name.into();
            }
            "tsc" => {
                let hz = words.next("a rate")?;
                let rate = hz.parse().ok().filter(|hz| (1_000_000..=20_000_000_000).contains(hz));
                dump.tsc_hz = Some(rate.ok_or_else(|| wrong(line, hz, "a TSC rate in Hz"))?);
            }
            "cpuid" => {
                let place = words.next("LEAF.SUBLEAF")?;
                let (leaf, subleaf) =
                    place.split_once('.').ok_or_else(|| wrong(line, place, "LEAF.SUBLEAF"))?;
                let (leaf, subleaf) = (hex(line, leaf, "a leaf")?, hex(line, subleaf, "a sub-leaf")?);
                let mut regs = [0; 4];
                for reg in &mut regs {
                    *reg = hex(line, words.next("a register")?, "a register")?;
                }
                rows.push(Row { leaf, subleaf, regs });
            }
            "msr" => {
                let index = hex(line, words.next("an MSR")?, "an MSR")?;
                msrs.push((index, hex64(line, words.next("a value")?, "a value")?));
            }
            "end" => {
                let count = words.next("a count")?;
                let expected: usize = count.parse().map_err(|_| wrong(line, count, "a count"))?;
                words.end()?;
                if expected != found {
                    return Err(DumpError::Cut { found, expected });
                }
                dump.cpu = RawCpu::new(rows, msrs)?;
                return Ok(dump);
            }
            _ => return Err(wrong(line, word, "host, tsc, cpuid, msr or end")),
        }
        words.end()?;
        found += 1;
        if rows.len() > MAX_RAW_ROWS || msrs.len() > MAX_RAW_MSRS {
            break;
        }
    }
    // Too many of either is said so.
    RawCpu::new(rows, msrs)?;
    Err(DumpError::Cut { found, expected: found + 1 })
}
