//! Checks of what every part of the hypervisor stands on.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use super::Check;
use super::Verdict::{self, Skipped};
use crate::arch::{apic, cpu, fixup, irq, msr, tsc};
use crate::mm::held::Held;
use crate::mm::{self, PAGE, frame};
use crate::vmx::host as vmx;
use crate::{entropy, iommu, net, policy};

pub(super) const CHECKS: [Check; 9] = [
    ("faults", || Verdict::of(faults())),
    ("timer", || Verdict::of(timer())),
    ("ipi", || Verdict::of(ipi())),
    ("frames", || Verdict::of(frames())),
    ("heap", || Verdict::of(heap())),
    ("entropy", || Verdict::of(random())),
    ("network", network),
    ("vmx", || Verdict::of(vmx_on())),
    ("levels", || Verdict::of(levels())),
];

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// Accesses that fault are recovered from.
fn faults() -> Result<String, String> {
    let efer = msr::read(msr::IA32_EFER);
    ensure(msr::read_safe(msr::IA32_EFER) == Some(efer), "IA32_EFER reads otherwise the second time")?;
    ensure(fixup::probe(8).is_none(), "address 8 can be read")?;
    ensure(fixup::probe(0x0080_0000_0000_0000).is_none(), "a non-canonical address can be read")?;
    // Some emulators take any value for any MSR of a CPU that is not Intel's.
    let intel = cpu::is_intel();
    if intel {
        ensure(!msr::write_safe(msr::IA32_GS_BASE, 1 << 63), "IA32_GS_BASE takes a non-canonical address")?;
    }
    Ok(String::new())
}

static TICKS: AtomicU64 = AtomicU64::new(0);

/// The APIC timer fires once, about when it should.
fn timer() -> Result<String, String> {
    irq::register(irq::TIMER, || _ = TICKS.fetch_add(1, Ordering::Relaxed));
    let millisecond = tsc::hz() / 1000;
    let start = tsc::read();
    apic::timer_once(millisecond);
    while TICKS.load(Ordering::Relaxed) == 0 && tsc::read() - start < 1000 * millisecond {
        irq::drain();
    }
    let waited = tsc::read() - start;
    apic::timer_stop();
    ensure(TICKS.load(Ordering::Relaxed) == 1, "not one tick in a second")?;
    let text = format!("1 ms took {waited} ticks of the TSC, which has {} Hz", tsc::hz());
    if (millisecond * 9 / 10..millisecond * 20).contains(&waited) { Ok(text) } else { Err(text) }
}

/// Every other CPU answers an interrupt.
fn ipi() -> Result<String, String> {
    let others = || (1..cpu::count()).filter_map(cpu::get);
    let before: Vec<u64> = others().map(|cpu| cpu.interrupts.load(Ordering::Relaxed)).collect();
    for other in others() {
        apic::send_ipi(other.apic_id, irq::KICK);
    }
    let start = tsc::micros();
    for (other, before) in others().zip(before) {
        while other.interrupts.load(Ordering::Relaxed) == before {
            if vmx::boot_cpu().is_none() {
                return Ok("the other CPUs are halted without VMX".into());
            }
            if tsc::micros() - start > 100_000 {
                return Err(format!("CPU {} (APIC id {}) does not answer", other.index, other.apic_id));
            }
            core::hint::spin_loop();
        }
    }
    Ok(format!("{} other CPUs answered", cpu::count() - 1))
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
    let mut words: Vec<u64> = (0..64).map(|_| entropy::next()).collect();
    words.sort_unstable();
    words.dedup();
    ensure(words.len() == 64, "words repeat")?;
    generator.map(|_| String::new())
}

fn network() -> Verdict {
    match net::card() {
        None => Skipped("off, or no card"),
        Some(card) => {
            let remapped = iommu::state().map_or_else(|| "no IOMMU".into(), |state| format!("{state}"));
            Verdict::Passed(format!("{}, {}, {}; {remapped}", card.place, card.mac, card.link))
        }
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
