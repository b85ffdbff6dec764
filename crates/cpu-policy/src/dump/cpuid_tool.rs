//! The output of `cpuid -r` (Debian package cpuid): for each CPU a line `CPU 0:` and
//! `   0x00000007 0x00: eax=0x00000000 ebx=0x000027ab ecx=0x00000000 edx=0x00000000`.
//!
//! Old versions leave the sub-leaf out. What `rdmsr` of msr-tools says may stand before or after it, each MSR as
//! `rdmsr 0x10a: d000421`, or as the command with its answer below it.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Dump, DumpError, hex, hex64, wrong};
use crate::compare::per_cpu;
use crate::feature::Reg;
use crate::host::{MAX_RAW_MSRS, MAX_RAW_ROWS, RawCpu, RawError, next_subleaf};
use crate::table::Row;

/// The CPUs of a text: the first is kept, the others are held against it.
#[derive(Default)]
struct Cpus {
    first: Option<RawCpu>,
    count: usize,
    odd: Vec<u32>,
    cut: Vec<u32>,
}

pub(super) fn parse(text: &str) -> Result<Dump, DumpError> {
    let (mut cpus, mut msrs) = (Cpus::default(), Vec::new());
    let mut current: Option<(u32, Vec<Row>)> = None;
    // An MSR whose value is to be on the next line.
    let mut asked = None;
    for (line, text) in text.lines().enumerate() {
        let text = super::unstamped(text);
        if let Some(number) = header(text) {
            cpus.finish(current.replace((number, Vec::new())))?;
        } else if let Some((index, value)) = rdmsr(line, text)? {
            asked = value.is_none().then_some(index);
            msrs.extend(value.map(|value| (index, value)));
        } else if let Some(index) = asked.take_if(|_| !text.is_empty()) {
            msrs.push((index, hex64(line, text.strip_prefix("0x").unwrap_or(text), "the value of an MSR")?));
        } else if let Some((_, rows)) = current.as_mut().filter(|_| text.starts_with("0x")) {
            if rows.len() > MAX_RAW_ROWS {
                return Err(RawError::TooManyRows(rows.len()).into());
            }
            rows.extend(row(line, text, rows)?);
        } else if let Some((_, rows)) = current.as_ref().filter(|_| !text.is_empty()) {
            // A decoded dump has words here; anything else after the rows is not ours.
            if rows.is_empty() {
                return Err(wrong(line, text, "a line of `cpuid -r`; without -r the tool prints prose"));
            }
        }
        if msrs.len() > MAX_RAW_MSRS {
            return Err(RawError::TooManyMsrs(msrs.len()).into());
        }
    }
    cpus.finish(current)?;
    let Cpus { first, count, odd, cut } = cpus;
    let cpu = first.ok_or_else(|| foreign(text))?;
    let cpu = RawCpu::new(cpu.rows().into(), msrs)?;
    let without_msrs = cpu.msrs().is_empty();
    Ok(Dump { host: String::new(), tsc_hz: None, cpu, cpus: count, odd, cut, without_msrs })
}

impl Cpus {
    fn finish(&mut self, cpu: Option<(u32, Vec<Row>)>) -> Result<(), DumpError> {
        let Some((number, rows)) = cpu else { return Ok(()) };
        let cpu = cpu_of(rows)?;
        self.count += 1;
        let missing = missing(&cpu);
        match &self.first {
            None => {
                if let Some(leaf) = missing {
                    return Err(DumpError::Leaf { cpu: number, leaf });
                }
                if !cpu.has_extended() {
                    self.cut.push(number);
                }
                self.first = Some(cpu);
            }
            Some(first) if missing.is_some() || first.has_extended() != cpu.has_extended() => {
                self.cut.push(number);
            }
            Some(first) if same(first, &cpu) => {}
            Some(_) => self.odd.push(number),
        }
        Ok(())
    }
}

/// Names a form that is known and not read.
fn foreign(text: &str) -> DumpError {
    let forms = [
        ("flags\t", "/proc/cpuinfo, which leaves out most of CPUID"),
        ("CPUID 00000000: ", "a dump of AIDA64 or InstLatX64"),
        ("<cpudata", "a dump for libvirt's tests"),
    ];
    match forms.iter().find(|(sign, _)| text.contains(sign)) {
        Some((_, form)) => DumpError::Foreign(form),
        None => DumpError::Unknown,
    }
}

/// The number in `CPU 0:`, or 0 for the `CPU:` of `cpuid -1 -r`.
fn header(text: &str) -> Option<u32> {
    let number = text.strip_prefix("CPU")?.strip_suffix(':')?.trim();
    if number.is_empty() { Some(0) } else { number.parse().ok() }
}

/// What a line with `rdmsr` asks for, and the answer where it is on the same line.
fn rdmsr(line: usize, text: &str) -> Result<Option<(u32, Option<u64>)>, DumpError> {
    const EXPECTED: &str = "`rdmsr INDEX: VALUE`, both hexadecimal";
    let Some((_, rest)) =
        text.split_once("rdmsr").filter(|(prompt, _)| !prompt.ends_with(char::is_alphanumeric))
    else {
        return Ok(None);
    };
    let digits = |word: &str| {
        let word = word.trim();
        hex64(line, word.strip_prefix("0x").unwrap_or(word), EXPECTED)
    };
    let (command, value) =
        rest.split_once([':', '=']).map_or((rest, None), |(left, right)| (left, Some(right)));
    // Options stand before it.
    let index = command.split_ascii_whitespace().next_back().ok_or_else(|| wrong(line, text, EXPECTED))?;
    let index = u32::try_from(digits(index)?).map_err(|_| wrong(line, index, EXPECTED))?;
    Ok(Some((index, value.map(digits).transpose()?)))
}

/// The row of a line; None where it is one that the CPU does not announce.
fn row(line: usize, text: &str, before: &[Row]) -> Result<Option<Row>, DumpError> {
    let expected = "0xLEAF 0xSUBLEAF: eax=... ebx=... ecx=... edx=...";
    let mut words = text.split_ascii_whitespace();
    let mut word = |prefix: &str, suffix: &str| {
        let word = words.next().ok_or_else(|| wrong(line, text, expected))?;
        let digits = word.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
        hex(line, digits.ok_or_else(|| wrong(line, word, expected))?, expected)
    };
    let first = text.split_ascii_whitespace().next().unwrap_or("");
    let (leaf, subleaf) = if first.ends_with(':') {
        let leaf = word("0x", ":")?;
        (leaf, untold_subleaf(leaf, before))
    } else {
        (word("0x", "")?, Some(word("0x", ":")?))
    };
    let regs = [word("eax=0x", "")?, word("ebx=0x", "")?, word("ecx=0x", "")?, word("edx=0x", "")?];
    match words.next() {
        Some(more) => Err(wrong(line, more, "the end of the line")),
        None => Ok(subleaf.map(|subleaf| Row { leaf, subleaf, regs })),
    }
}

/// The sub-leaf of the next row of a leaf, where the text does not tell: the first one, or that which the rows `before`
/// say comes next. None where they say that there is no more.
fn untold_subleaf(leaf: u32, before: &[Row]) -> Option<u32> {
    let rows = || before.iter().filter(|row| row.leaf == leaf);
    let (Some(first), Some(last)) = (rows().next(), rows().next_back()) else { return Some(0) };
    let second = || rows().nth(1).map_or([0; 4], |row| row.regs);
    next_subleaf(leaf, last.subleaf, &first.regs, &last.regs, second)
}

/// The tool asks ranges of other vendors too, and one leaf past each end: what the CPU does not announce is not part of
/// it.
fn cpu_of(mut rows: Vec<Row>) -> Result<RawCpu, DumpError> {
    let eax = |leaf: u32| rows.iter().find(|row| row.leaf == leaf && row.subleaf == 0).map(|row| row.regs[0]);
    let [basic, hypervisor, extended] = [0, 0x4000_0000, 0x8000_0000].map(eax);
    rows.retain(|row| match row.leaf >> 30 {
        0 => row.leaf <= basic.unwrap_or(0).max(1),
        1 => hypervisor.is_some_and(|max| row.leaf <= max.clamp(0x4000_0000, 0x4000_ffff)),
        2 => extended.is_some_and(|max| row.leaf <= max.clamp(0x8000_0000, 0x8000_ffff)),
        _ => false,
    });
    Ok(RawCpu::new(rows, Vec::new())?)
}

/// The leaf that shows that a text was cut within a range: the tool prints the last of each.
fn missing(cpu: &RawCpu) -> Option<u32> {
    let extended = cpu.cpuid(0x8000_0000, 0)[0].clamp(0x8000_0000, 0x8000_ffff);
    let extended = Some(extended).filter(|_| cpu.has_extended());
    core::iter::once(cpu.max_leaf()).chain(extended).find(|leaf| !cpu.has(*leaf, 0))
}

/// Equal in all but what differs between the CPUs of any host.
fn same(a: &RawCpu, b: &RawCpu) -> bool {
    let facts = |cpu: &RawCpu| -> Vec<Row> {
        let neutral = |row: &Row| {
            let Row { leaf, subleaf, mut regs } = *row;
            for (word, reg) in regs.iter_mut().zip([Reg::Eax, Reg::Ebx, Reg::Ecx, Reg::Edx]) {
                *word &= !per_cpu(leaf, subleaf, reg);
            }
            Row { regs, ..*row }
        };
        cpu.rows().iter().map(neutral).collect()
    };
    facts(a) == facts(b)
}
