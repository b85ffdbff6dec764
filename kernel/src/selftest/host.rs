//! Checks of what every part of the hypervisor stands on.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use ::nic::intel::LoopError;
use selftest_report::Verdict;

use super::{Run, ensure};
use crate::{entropy, net, policy};
use hw::arch::{cpu, msr, probe};
use hw::mm::held::Held;
use hw::mm::{self, PAGE, frame};
use hw::vmx::host as vmx;

pub(super) const RUNS: [Run; 8] = [
    ("faults", || Verdict::of(faults())),
    ("frames", || Verdict::of(frames())),
    ("heap", || Verdict::of(heap())),
    ("entropy", || Verdict::of(random())),
    ("network", network),
    ("network-loop", network_loop),
    ("vmx", || Verdict::of(vmx_on())),
    ("levels", || Verdict::of(levels())),
];

/// Accesses that fault are recovered from.
fn faults() -> Result<String, String> {
    let efer = msr::read(msr::IA32_EFER);
    ensure(msr::read_safe(msr::IA32_EFER) == Some(efer), "IA32_EFER reads otherwise the second time")?;
    ensure(probe(8).is_none(), "address 8 can be read")?;
    ensure(probe(0x0080_0000_0000_0000).is_none(), "a non-canonical address can be read")?;
    // Some emulators take any value for any MSR of a CPU that is not Intel's.
    let intel = cpu::is_intel();
    if intel {
        ensure(!msr::write_safe(msr::IA32_GS_BASE, 1 << 63), "IA32_GS_BASE takes a non-canonical address")?;
    }
    Ok(String::new())
}

/// Memory is aligned as asked, zeroed, not given twice, and given back whole.
fn frames() -> Result<String, String> {
    let before = frame::stats();
    for (len, align) in [(PAGE, PAGE), (3 * PAGE, 1 << 16), (4 << 20, 2 << 20), (PAGE, 1 << 21)] {
        let take = || frame::alloc_contiguous(len, align).ok_or_else(|| format!("no {len} bytes"));
        let (first, second) = (take()?, take()?);
        ensure(first.0 % align == 0 && second.0 % align == 0, "not aligned as asked")?;
        ensure(first.0.abs_diff(second.0) >= len, "given twice")?;
        for at in (first.0..first.0 + len).step_by(PAGE as usize) {
            mm::fill_page(mm::Hpa(at), |number| number as u32 ^ 0x5a5a_5a5a);
        }
        let [first, second] = [first, second].map(|at| Held::new(at, len));
        ensure(second.bytes().iter().all(|byte| *byte == 0), "not zeroed")?;
        let kept = first
            .bytes()
            .chunks(4)
            .enumerate()
            .all(|(number, bytes)| bytes == ((number % 1024) as u32 ^ 0x5a5a_5a5a).to_le_bytes());
        ensure(kept, "does not keep what is written")?;
    }
    ensure(frame::stats() == before, "not all given back")?;
    while frame::scrub() {}
    let len = 4 << 20;
    while frame::prepare(len) > 0 {}
    let cleared = Held::new(frame::alloc_contiguous(len, PAGE).ok_or("no memory")?, len);
    ensure(cleared.bytes().iter().all(|byte| *byte == 0), "not cleared once it came back")?;
    drop(cleared);
    ensure(frame::stats() == before, "clearing has cost memory")?;
    ensure(frame::alloc_contiguous(1 << 50, PAGE).is_none(), "2^50 bytes were given")?;
    Ok(format!("{} MiB free", before.free >> 20))
}

fn heap() -> Result<String, String> {
    let (used, _) = mm::heap_usage();
    let blocks: Vec<Vec<u8>> = (1..100).map(|i| alloc::vec![i as u8; i * 37]).collect();
    ensure(blocks.iter().zip(1..).all(|(block, i)| block.iter().all(|&b| b == i)), "blocks overlap")?;
    drop(blocks);
    ensure(mm::heap_usage().0 == used, "not all given back")?;
    Ok(format!("{} KiB used", used >> 10))
}

fn random() -> Result<String, String> {
    let generator = entropy::generator().map_err(|error| format!("{error}"));
    let mut words: Vec<u64> = (0..16).map(|_| entropy::next()).collect();
    words.sort_unstable();
    words.dedup();
    ensure(words.len() == 16, "words repeat")?;
    generator.map(|_| String::new())
}

fn network() -> Verdict {
    match net::card() {
        None => Verdict::NotTried("off, or no card".into()),
        Some(card) => Verdict::Passed(format!("{}, {}, {}", card.place, card.mac, card.link)),
    }
}

/// The card's rings, DMA and filter, without anything at its other end.
fn network_loop() -> Verdict {
    match net::try_loop() {
        None => Verdict::NotTried("off, or no card".into()),
        Some(Err(connections)) => Verdict::NotTried(format!("{connections} connections use the card")),
        Some(Ok(Err(LoopError::NotOffered(why)))) => Verdict::NotTried(why.into()),
        Some(Ok(Err(error))) => Verdict::Failed(format!("{error}")),
        Some(Ok(Ok(frames))) => Verdict::Passed(format!("{frames} frames came back unchanged")),
    }
}

fn vmx_on() -> Result<String, String> {
    let host = vmx::required()?;
    let on = vmx::all().count();
    let text = format!("on, {on} of {} CPUs; {}", cpu::count(), host.caps);
    if on == cpu::count() { Ok(text) } else { Err(text) }
}

fn levels() -> Result<String, String> {
    ensure(policy::host().levels().next().is_some(), "this host can give none")?;
    Ok(policy::levels_of_this_host())
}
