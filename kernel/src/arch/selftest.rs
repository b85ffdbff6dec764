//! Checks of the host from inside, and deliberate faults. In the image only with feature `selftest`; the boot line
//! chooses one with `selftest=NAME`. A check ends with `selftest: NAME passed`, a fault with the panic it provokes.

use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{apic, cpu, irq, msr, pci, tsc};
use crate::boot::Boot;
use crate::mm::{self, Hpa, PAGE, frame};

/// Runs what the boot line names.
pub(crate) fn run(boot: &Boot) {
    let words = boot.info.command_line.split_whitespace();
    for name in words.filter_map(|word| word.strip_prefix("selftest=")) {
        match name {
            "msr" => msrs(),
            "timer" => timer(),
            "memory" => memory(),
            "pci" => bars(),
            "null" => drop(black_box(read(8))),
            "text" => write(run as *const () as u64),
            "exec" => execute(Vec::from([0xc3_u8; 16]).leak().as_ptr() as u64),
            "stack" => drop(black_box(recurse(1))),
            "locked" => crate::log::with_lock(|| panic!("with the log locked")),
            "panic" => panic!("selftest"),
            _ => panic!("no selftest `{name}`"),
        }
        log::info!(target: "selftest", "{name} passed");
    }
}

fn read(at: u64) -> u64 {
    // SAFETY: none: the fault is what the test wants.
    unsafe { (black_box(at) as *const u64).read_volatile() }
}

fn write(at: u64) {
    // SAFETY: none: the fault is what the test wants.
    unsafe { (black_box(at) as *mut u8).write_volatile(0xcc) };
}

fn execute(at: u64) {
    // SAFETY: none: the fault is what the test wants.
    let code: extern "C" fn() = unsafe { core::mem::transmute(black_box(at)) };
    code();
}

#[expect(unconditional_recursion, reason = "the overflow is what the test wants")]
fn recurse(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    recurse(room[7] + 1) + room[9]
}

fn msrs() {
    assert_eq!(msr::read_safe(msr::IA32_EFER), Some(msr::read(msr::IA32_EFER)));
    // QEMU's TCG, which has no Intel CPU by default, takes any value for any MSR.
    if raw_cpuid::CpuId::new().get_vendor_info().is_some_and(|v| v.as_str() == "GenuineIntel") {
        assert!(!msr::write_safe(msr::IA32_EFER, u64::MAX));
        assert!(!msr::write_safe(msr::IA32_GS_BASE, 1 << 63));
    }
    assert_eq!(super::fixup::probe(8), None);
    assert_eq!(super::fixup::probe(0x0080_0000_0000_0000), None);
}

static TICKS: AtomicU64 = AtomicU64::new(0);
static KICKS: AtomicU64 = AtomicU64::new(0);

fn timer() {
    irq::register(irq::TIMER, || drop(TICKS.fetch_add(1, Ordering::Relaxed)));
    irq::register(irq::KICK, || drop(KICKS.fetch_add(1, Ordering::Relaxed)));
    let millisecond = tsc::hz() / 1000;

    let start = tsc::read();
    apic::timer_once(millisecond);
    irq::wait();
    let waited = tsc::read() - start;
    assert_eq!(TICKS.load(Ordering::Relaxed), 1, "one tick");
    assert!((millisecond * 9 / 10..millisecond * 20).contains(&waited), "1 ms took {waited} ticks");

    apic::timer_periodic(millisecond);
    while TICKS.load(Ordering::Relaxed) < 5 {
        irq::wait();
    }
    apic::timer_stop();

    apic::send_ipi(cpu::this().apic_id, irq::KICK);
    assert_eq!(KICKS.load(Ordering::Relaxed), 0, "an interrupt outside the window");
    tsc::delay(100);
    irq::drain();
    assert_eq!(KICKS.load(Ordering::Relaxed), 1, "one kick");
    assert_eq!(apic::id(), cpu::this().apic_id);
    irq::drain();
    let ticks = TICKS.load(Ordering::Relaxed);
    tsc::delay(3_000);
    irq::drain();
    assert_eq!(TICKS.load(Ordering::Relaxed), ticks, "the timer is stopped");
}

fn memory() {
    let before = frame::stats();
    let zeroed = |at: Hpa, len: u64| (at.0..at.0 + len).step_by(8).all(|at| read(at) == 0);
    for (len, align) in [(PAGE, PAGE), (3 * PAGE, 1 << 16), (4 << 20, 2 << 20), (PAGE, 1 << 21)] {
        let first = frame::alloc_contiguous(len, align).expect("memory");
        let second = frame::alloc_contiguous(len, align).expect("memory");
        assert!(first.0 % align == 0 && second.0 % align == 0 && first.0.abs_diff(second.0) >= len);
        assert!(zeroed(first, len) && zeroed(second, len));
        (first.0..first.0 + len).step_by(PAGE as usize).for_each(write);
        frame::free(first, len);
        assert!(zeroed(first, len), "given back zeroed");
        frame::free(second, len);
        frame::free(second, len); // refused, and said so
    }
    let page = frame::alloc_page().expect("memory");
    assert!(zeroed(page, PAGE));
    frame::free(page, PAGE);
    assert_eq!(frame::stats(), before);
    assert_eq!(frame::alloc_contiguous(u64::MAX, PAGE), None);
    assert_eq!(frame::alloc_contiguous(1 << 50, PAGE), None);

    let (used, _) = mm::heap_usage();
    let blocks: Vec<Vec<u8>> = (1..100).map(|i| alloc::vec![i as u8; i * 37]).collect();
    assert!(blocks.iter().zip(1..).all(|(block, i)| block.iter().all(|&b| b == i)));
    drop(blocks);
    assert_eq!(mm::heap_usage().0, used);
}

fn bars() {
    for function in pci::functions() {
        log::info!(target: "pci", "{} {:04x}:{:04x} class {:?}", function.address, function.vendor, function.device, function.class);
        for bar in (0..6).filter_map(|index| function.bar(index)) {
            log::info!(target: "pci", "  {bar:x?}");
        }
    }
}
