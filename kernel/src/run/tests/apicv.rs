//! Interrupts on a CPU that delivers them itself, [`HOME`], and on one that has the TPR shadow alone, CPU 0.

use alloc::vec::Vec;

use devices::LAPIC_BASE;
use hw::mock::{Flush, Guest};
use vm_types::apic_register::{ICR_HIGH, ICR_LOW, IRR, ISR, SVR, TPR};
use vm_types::{ApicPage, Gpa};
use vmx_types::control::{ProcBased, ProcBased2};
use vmx_types::field;
use vmx_types::reason::ExitReason as R;
use x86::msr;

use crate::run::Outcome;
use crate::testing::{HOME, Host, host};
use crate::vm::Vm;
use translation::Backing;

const OPEN: u64 = 0x202;

pub(super) const fn interrupt(vector: u8) -> u32 {
    1 << 31 | vector as u32
}

/// The guest does this and exits, then once more, and its turn is over. What was injected, or delivered by the CPU.
pub(super) fn does(
    host: &Host,
    vm: &Vm,
    cpu: usize,
    action: impl FnOnce(&mut Guest<'_>) + Send + 'static,
) -> Vec<u32> {
    host.injected();
    host.guest_does(action);
    host.guest_does(|guest| guest.exits(R::ExternalInterrupt as u32, 0));
    let outcome = host.on(cpu, || host.run(vm));
    assert!(matches!(outcome, Outcome::Yield | Outcome::Halted(_)), "{outcome:?}");
    host.guest_does_nothing_more();
    host.injected()
}

pub(super) fn wrmsr(host: &Host, vm: &Vm, cpu: usize, index: u32, value: u64) -> Vec<u32> {
    does(host, vm, cpu, move |guest| {
        guest.gprs[1] = index.into();
        (guest.gprs[0], guest.gprs[2]) = (value & 0xffff_ffff, value >> 32);
        guest.exits(R::Wrmsr as u32, 2);
    })
}

/// Its local APIC, switched on in x2APIC mode.
pub(super) fn with_x2apic(host: &Host, vm: &Vm, cpu: usize) {
    wrmsr(host, vm, cpu, msr::APIC_BASE, 0xfee0_0d00);
    wrmsr(host, vm, cpu, 0x80f, 0x1ff);
    does(host, vm, cpu, |guest| {
        guest.set(field::GUEST_RFLAGS, OPEN);
        guest.exits(R::Cpuid as u32, 2);
    });
}

/// The power button: SCI, at pin 9 of the IO-APIC, comes as that vector.
pub(super) fn button(vm: &Vm, vector: u8, level: bool) {
    const IOAPIC: Gpa = Gpa(0xfec0_0000);
    let now = vm.clock.now();
    vm.with_board(|board| {
        for (register, value) in [(0x23, 0), (0x22, u64::from(vector) | u64::from(level) << 15)] {
            board.mmio_write(IOAPIC, 4, register, now);
            board.mmio_write(Gpa(IOAPIC.0 + 0x10), 4, value, now);
        }
        board.io_write(0x603, 1, 1, now);
        board.press_power_button();
    });
}

pub(super) fn page(host: &Host, vm: &Vm, cpu: usize) -> &'static ApicPage {
    let found = alloc::sync::Arc::new(spin::Mutex::new(None));
    let seen = alloc::sync::Arc::clone(&found);
    does(host, vm, cpu, move |guest| {
        *seen.lock() = Some(guest.apic());
        guest.exits(R::Cpuid as u32, 2);
    });
    let page = found.lock().take();
    page.expect("the guest was entered")
}

fn controls(host: &Host, vm: &Vm, cpu: usize) -> (ProcBased, ProcBased2, u64) {
    let found = alloc::sync::Arc::new(spin::Mutex::new((0, 0, 0)));
    let seen = alloc::sync::Arc::clone(&found);
    does(host, vm, cpu, move |guest| {
        let bitmap = guest.read(field::MSR_BITMAP);
        *seen.lock() =
            (guest.read(field::PROC_BASED_CONTROLS), guest.read(field::PROC_BASED_CONTROLS_2), bitmap);
        guest.exits(R::Cpuid as u32, 2);
    });
    let (primary, secondary, bitmap) = *found.lock();
    (ProcBased::from_bits_retain(primary as u32), ProcBased2::from_bits_retain(secondary as u32), bitmap)
}

#[test]
fn controls_and_bitmap_follow_the_mode() {
    let host = host();
    let vm = host.running("a");
    for (base, mode) in [(0xfee0_0900, 0), (0xfee0_0d00, 1), (0xfee0_0100, 2), (0xfee0_0900, 0)] {
        wrmsr(&host, &vm, HOME, msr::APIC_BASE, base);
        let (primary, secondary, bitmap) = controls(&host, &vm, HOME);
        let [accesses, x2apic, delivery] = [
            ProcBased2::VIRTUALIZE_APIC_ACCESSES,
            ProcBased2::VIRTUALIZE_X2APIC_MODE,
            ProcBased2::VIRTUAL_INTERRUPT_DELIVERY,
        ]
        .map(|control| secondary.contains(control));
        assert_eq!((accesses, x2apic, delivery), (mode != 1, mode == 1, mode != 2), "{base:#x}");
        assert_eq!(primary.contains(ProcBased::USE_TPR_SHADOW), mode != 2);
        assert_eq!(primary.contains(ProcBased::CR8_LOAD_EXITING), mode == 2);
        assert_eq!(
            bitmap & 4096 != 0,
            mode == 1,
            "what passes in x2APIC mode reaches the host's APIC in another"
        );
    }
}

/// What is at the registers' address is nothing in x2APIC mode, for the vCPU that is in it at once.
#[test]
fn the_access_page_goes_with_the_first_x2apic_and_comes_back_with_a_reset() {
    let host = host();
    let vm = host.running("a");
    let there = || vm.mmu.lock().translate(Gpa(LAPIC_BASE)).is_some();
    assert!(there());
    host.flushes();
    wrmsr(&host, &vm, HOME, msr::APIC_BASE, 0xfee0_0d00);
    assert!(!there());
    let flushed = host.flushes();
    assert!(flushed.iter().any(|flush| matches!(flush, Flush::Ept(HOME, _))), "{flushed:?}");
    vm.show_apic().unwrap();
    assert!(there());
}

#[test]
fn the_cpu_delivers_what_waits_and_nothing_is_injected_twice() {
    let host = host();
    let vm = host.running("a");
    with_x2apic(&host, &vm, HOME);
    // Not by the CPU's own way: an access that exits is carried out here.
    assert_eq!(wrmsr(&host, &vm, HOME, 0x83f, 0x45), [interrupt(0x45)]);
    let page = page(&host, &vm, HOME);
    assert!(page.bit(ISR, 0x45) && !page.bit(IRR, 0x45));
    assert!(wrmsr(&host, &vm, HOME, 0x83f, 0x46).is_empty(), "of the same class as the one in service");
    assert_eq!(
        does(&host, &vm, HOME, |guest| {
            assert!(!guest.ends_interrupt());
            guest.exits(R::Cpuid as u32, 2);
        }),
        [interrupt(0x46)],
        "a request that came while it was masked is known to the CPU"
    );
}

#[test]
fn an_end_that_the_io_apic_waits_for_exits() {
    let host = host();
    let vm = host.running("a");
    with_x2apic(&host, &vm, HOME);
    button(&vm, 0x52, true);
    assert_eq!(does(&host, &vm, HOME, |guest| guest.exits(R::Cpuid as u32, 2)), [interrupt(0x52)]);
    let before = vm.exits();
    does(&host, &vm, HOME, |guest| assert!(guest.ends_interrupt(), "a level-triggered one"));
    assert_eq!(vm.exits() - before, 2);
}

#[test]
fn a_halted_vcpu_wakes_for_what_the_cpu_will_deliver() {
    let host = host();
    let vm = host.running("a");
    with_x2apic(&host, &vm, HOME);
    host.guest_does(|guest| guest.exits(R::Hlt as u32, 1));
    assert!(matches!(host.on(HOME, || host.run(&vm)), Outcome::Halted(_)));
    assert!(matches!(host.on(HOME, || host.run(&vm)), Outcome::Halted(_)));
    button(&vm, 0x61, false);
    assert_eq!(does(&host, &vm, HOME, |guest| guest.exits(R::Cpuid as u32, 2)), [interrupt(0x61)]);
}

#[test]
fn a_halted_vcpu_with_interrupts_off_stays() {
    let host = host();
    let vm = host.running("a");
    with_x2apic(&host, &vm, HOME);
    host.guest_does(|guest| {
        guest.set(field::GUEST_RFLAGS, 2);
        guest.exits(R::Hlt as u32, 1);
    });
    assert!(matches!(host.on(HOME, || host.run(&vm)), Outcome::Halted(_)));
    button(&vm, 0x61, false);
    assert!(matches!(host.on(HOME, || host.run(&vm)), Outcome::Halted(_)));
}

#[test]
fn a_write_that_is_on_the_page_takes_effect() {
    let host = host();
    let vm = host.running("a");
    let page = page(&host, &vm, HOME);
    let written = |reg: u8, value: u32| {
        page.set(reg, value);
        does(&host, &vm, HOME, move |guest| {
            let rip = guest.read(field::GUEST_RIP);
            guest.set(field::GUEST_RIP, rip + 6);
            guest.set(field::EXIT_QUALIFICATION, u64::from(reg) << 4);
            guest.exits(R::ApicWrite as u32, 0);
        });
    };
    let before = host.on(HOME, || host.vcpu_state(&vm)).rip;
    written(SVR, 0xffff_ffff);
    assert_eq!(page.get(SVR), 0x1ff, "reserved bits do not stay");
    assert_eq!(host.on(HOME, || host.vcpu_state(&vm)).rip, before + 6, "the CPU has moved past it already");
    page.set(ICR_HIGH, 0);
    written(ICR_LOW, 0x4_4041);
    assert!(page.bit(IRR, 0x41), "an IPI to itself");
}

#[test]
fn a_store_to_eoi_is_told_by_its_place() {
    let host = host();
    for cpu in [0, HOME] {
        let vm = host.running(if cpu == 0 { "a" } else { "b" });
        let page = page(&host, &vm, cpu);
        page.set_bit(ISR, 0x45, true);
        let before = host.on(cpu, || host.vcpu_state(&vm)).rip;
        does(&host, &vm, cpu, |guest| {
            guest.set(field::EXIT_QUALIFICATION, 0x10b0);
            guest.exits(R::ApicAccess as u32, 7);
        });
        assert!(!page.bit(ISR, 0x45));
        assert_eq!(host.on(cpu, || host.vcpu_state(&vm)).rip, before + 7);
    }
}

/// Without virtual-interrupt delivery: what TPR masks is looked at again when TPR falls.
#[test]
fn a_masked_request_waits_for_tpr() {
    let host = host();
    let vm = host.running("a");
    with_x2apic(&host, &vm, 0);
    let page = page(&host, &vm, 0);
    page.set(TPR, 0x50);
    assert!(wrmsr(&host, &vm, 0, 0x83f, 0x45).is_empty());
    does(&host, &vm, 0, |guest| {
        assert_eq!(guest.read(field::TPR_THRESHOLD), 4);
        guest.exits(R::Cpuid as u32, 2);
    });
    page.set(TPR, 0x30);
    let injected = does(&host, &vm, 0, |guest| guest.exits(R::TprBelowThreshold as u32, 0));
    assert_eq!(injected, [interrupt(0x45)]);
    does(&host, &vm, 0, |guest| {
        assert_eq!(guest.read(field::TPR_THRESHOLD), 0);
        guest.exits(R::Cpuid as u32, 2);
    });
}

/// What is in service and what waits travels as the architecture has it, whoever delivers.
#[test]
fn a_guest_goes_on_where_interrupts_are_delivered_another_way() {
    let host = host();
    let vm = host.running("a");
    with_x2apic(&host, &vm, HOME);
    assert_eq!(wrmsr(&host, &vm, HOME, 0x83f, 0x45), [interrupt(0x45)]);
    wrmsr(&host, &vm, HOME, 0x83f, 0x41);
    host.on(HOME, || vm.vcpus[0].vcpu.lock().release(&vm));
    {
        // As the record of another host's would.
        let mut vcpu = vm.vcpus[0].vcpu.lock();
        let state = host.on(0, || vcpu.export(&vm));
        host.on(0, || vcpu.import(&vm, &state)).unwrap();
    }
    let (primary, secondary, _) = controls(&host, &vm, 0);
    assert!(primary.contains(ProcBased::USE_TPR_SHADOW));
    assert!(!secondary.contains(ProcBased2::VIRTUAL_INTERRUPT_DELIVERY));
    assert_eq!(wrmsr(&host, &vm, 0, 0x80b, 0), [interrupt(0x41)], "the end of the first lets the second in");
}

/// The two registers of x2APIC mode that have a way of their own: what is no value of theirs, or another mode, is #GP(0).
#[test]
fn an_ipi_to_itself_is_taken_at_once_and_a_wrong_value_is_a_fault() {
    const GP: u32 = 0x8000_0b0d;
    let host = host();
    let vm = host.running("a");
    for index in [0x80b, 0x83f] {
        assert_eq!(wrmsr(&host, &vm, 0, index, 0), [GP], "{index:#x} in xAPIC mode");
    }
    with_x2apic(&host, &vm, 0);
    for (index, value) in [(0x80b, 1), (0x80b, 1 << 32), (0x83f, 0x145), (0x83f, 1 << 32 | 0x45)] {
        assert_eq!(wrmsr(&host, &vm, 0, index, value), [GP], "{value:#x} to {index:#x}");
    }
    assert!(wrmsr(&host, &vm, 0, 0x83f, 0x0f).is_empty(), "no vector: ESR tells of it");
    assert_eq!(wrmsr(&host, &vm, 0, 0x83f, 0x45), [interrupt(0x45)]);
    assert!(wrmsr(&host, &vm, 0, 0x83f, 0x44).is_empty(), "of the class of the one in service");
    assert_eq!(wrmsr(&host, &vm, 0, 0x80b, 0), [interrupt(0x44)]);
}
