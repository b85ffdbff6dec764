//! The output of `cpuid -r` (Debian package cpuid): for each CPU a line `CPU 0:` and
//! `   0x00000007 0x00: eax=0x00000000 ebx=0x000027ab ecx=0x00000000 edx=0x00000000`.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Dump, DumpError, hex, wrong};
use crate::host::{MAX_RAW_ROWS, RawCpu, RawError};
use crate::table::Row;

pub(super) fn parse(text: &str) -> Result<Dump, DumpError> {
    let mut cpus: Vec<(u32, Vec<Row>)> = Vec::new();
    let mut first: Option<RawCpu> = None;
    let (mut odd, mut count) = (Vec::new(), 0);
    let mut finish = |cpus: &mut Vec<(u32, Vec<Row>)>| -> Result<(), DumpError> {
        for (number, rows) in cpus.drain(..) {
            let cpu = cpu_of(rows)?;
            count += 1;
            match &first {
                Some(first) if same(first, &cpu) => {}
                Some(_) => odd.push(number),
                None => first = Some(cpu),
            }
        }
        Ok(())
    };
    for (line, text) in text.lines().enumerate() {
        let text = text.trim();
        if let Some(number) = header(text) {
            finish(&mut cpus)?;
            cpus.push((number, Vec::new()));
        } else if let Some((_, rows)) = cpus.last_mut().filter(|_| text.starts_with("0x")) {
            if rows.len() > MAX_RAW_ROWS {
                return Err(RawError::TooManyRows(rows.len()).into());
            }
            rows.push(row(line, text)?);
        } else if let Some((_, rows)) = cpus.last().filter(|_| !text.is_empty()) {
            // A decoded dump has words here; anything else behind the rows is not ours.
            if rows.is_empty() {
                return Err(wrong(line, text, "a line of `cpuid -r`; without -r the tool prints prose"));
            }
        }
    }
    finish(&mut cpus)?;
    let cpu = first.ok_or(DumpError::Unknown)?;
    Ok(Dump { host: String::new(), tsc_hz: None, cpu, cpus: count, odd, without_msrs: true })
}

/// The number in `CPU 0:`, or 0 for the `CPU:` of `cpuid -1 -r`.
fn header(text: &str) -> Option<u32> {
    let number = text.strip_prefix("CPU")?.strip_suffix(':')?.trim();
    if number.is_empty() { Some(0) } else { number.parse().ok() }
}

fn row(line: usize, text: &str) -> Result<Row, DumpError> {
    let expected = "0xLEAF 0xSUBLEAF: eax=... ebx=... ecx=... edx=...";
    let mut words = text.split_ascii_whitespace();
    let mut word = |prefix: &str, suffix: &str| {
        let word = words.next().ok_or_else(|| wrong(line, text, expected))?;
        let digits = word.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
        hex(line, digits.ok_or_else(|| wrong(line, word, expected))?, expected)
    };
    let (leaf, subleaf) = (word("0x", "")?, word("0x", ":")?);
    let regs = [word("eax=0x", "")?, word("ebx=0x", "")?, word("ecx=0x", "")?, word("edx=0x", "")?];
    match words.next() {
        Some(more) => Err(wrong(line, more, "the end of the line")),
        None => Ok(Row { leaf, subleaf, regs }),
    }
}

/// The tool asks ranges of other vendors too, and one leaf behind each end: what the CPU does not announce is not
/// part of it.
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

/// Equal in all but the APIC ids (leaves 1, B, 1F).
fn same(a: &RawCpu, b: &RawCpu) -> bool {
    let facts = |cpu: &RawCpu| -> Vec<Row> {
        let neutral = |row: &Row| {
            let [eax, ebx, ecx, edx] = row.regs;
            let regs = match row.leaf {
                1 => [eax, ebx & 0x00ff_ffff, ecx, edx],
                0xb | 0x1f => [eax, ebx, ecx, 0],
                _ => row.regs,
            };
            Row { regs, ..*row }
        };
        cpu.rows().iter().map(neutral).collect()
    };
    facts(a) == facts(b)
}
