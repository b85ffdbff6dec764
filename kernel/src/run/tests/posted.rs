//! Interrupts for a guest that runs, on a CPU with posted interrupts, [`HOME`].

use core::sync::atomic::Ordering;

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::apicv::{button, does, interrupt, page, with_x2apic, wrmsr};
use crate::guest::mailbox::Request;
use crate::run::Outcome;
use crate::testing::{HOME, Host, host, small};
use crate::vm::Vm;
use cmdline::VmOptions;
use hw::arch::cpu;
use hw::mock::{Guest, Ipi};
use hw::platform::irq;
use vm_types::apic_register::{IRR, ISR, TMR};
use vmx_types::control::{ExitControls, PinBased};
use vmx_types::field;
use vmx_types::reason::ExitReason as R;
use x86::msr;

const NOTICE: Ipi = Ipi { to: HOME as u32, vector: Some(irq::POSTED) };
const KICK: Ipi = Ipi { to: HOME as u32, vector: Some(irq::KICK) };

/// Runs the vCPU as a turn of the scheduler does.
pub(super) fn turn(host: &Host, vm: &Vm, action: impl FnOnce(&mut Guest<'_>) + Send + 'static) -> Vec<u32> {
    vm.mailboxes[0].begin();
    let injected = does(host, vm, HOME, action);
    vm.mailboxes[0].queue();
    injected
}

fn controls(guest: &mut Guest<'_>) -> (bool, bool) {
    let pin = PinBased::from_bits_retain(guest.read(field::PIN_BASED_CONTROLS) as u32);
    let exit = ExitControls::from_bits_retain(guest.read(field::EXIT_CONTROLS) as u32);
    (pin.contains(PinBased::POSTED_INTERRUPTS), exit.contains(ExitControls::ACKNOWLEDGE_INTERRUPT))
}

#[test]
fn posted_interrupts_go_with_delivery_by_the_cpu() {
    let host = host();
    let vm = host.running("a");
    for (base, posted) in
        [(0xfee0_0900, true), (0xfee0_0d00, true), (0xfee0_0100, false), (0xfee0_0900, true)]
    {
        wrmsr(&host, &vm, HOME, msr::APIC_BASE, base);
        does(&host, &vm, HOME, move |guest| {
            assert_eq!(controls(guest), (posted, posted), "{base:#x}");
            guest.exits(R::Cpuid as u32, 2);
        });
        assert_eq!(vm.mailboxes[0].takes_posted(), posted);
    }
    let other = host.running("b");
    does(&host, &other, 0, |guest| {
        assert_eq!(controls(guest), (false, false), "a CPU without");
        guest.exits(R::Cpuid as u32, 2);
    });
    assert!(!other.mailboxes[0].takes_posted());
}

#[test]
fn an_interrupt_of_a_device_reaches_a_guest_that_runs_without_an_exit() {
    let host = host();
    let vm = host.running("a");
    with_x2apic(&host, &vm, HOME);
    let page = page(&host, &vm, HOME);
    host.ipis();
    let (other, exits) = (Arc::clone(&vm), vm.exits());
    let injected = turn(&host, &vm, move |guest| {
        assert!(guest.meanwhile(0, || button(&other, 0x61, false)), "it goes on");
        assert!(page.bit(ISR, 0x61) && !page.bit(TMR, 0x61));
        assert!(!guest.ends_interrupt());
        guest.exits(R::Cpuid as u32, 2);
    });
    assert_eq!((injected, host.ipis()), ([interrupt(0x61)].into(), [NOTICE].into()));
    assert_eq!(vm.exits(), exits + 2, "its own alone");
    assert!(!page.bit(IRR, 0x61), "and once");
}

/// From another vCPU, by the command register.
#[test]
fn an_ipi_reaches_a_vcpu_that_runs_without_an_exit() {
    let host = host();
    let vm = host.running_with(&VmOptions { vcpus: 2, ..small("a") });
    with_x2apic(&host, &vm, HOME);
    let other = Arc::clone(&vm);
    host.ipis();
    let injected = turn(&host, &vm, move |guest| {
        let sends = || {
            let mut sender = other.vcpus[1].vcpu.lock();
            let vm = &other;
            let apic = &mut sender.vcpu.apic;
            apic.msr_write(msr::APIC_BASE, 0xfee0_0c00, vm.clock.now()).unwrap();
            let sent = apic.msr_write(0x830, 0x71, vm.clock.now()).unwrap();
            sender.vcpu.kick_others(vm, sent.kicks);
        };
        assert!(guest.meanwhile(0, sends));
        guest.exits(R::Cpuid as u32, 2);
    });
    assert_eq!((injected, host.ipis()), ([interrupt(0x71)].into(), [NOTICE].into()));
}

/// The IO-APIC is to be told of its end, which the CPU does not know of.
#[test]
fn a_level_triggered_one_is_left_to_the_vcpu() {
    let host = host();
    let vm = host.running("a");
    with_x2apic(&host, &vm, HOME);
    host.ipis();
    let other = Arc::clone(&vm);
    let injected = turn(&host, &vm, move |guest| {
        assert!(!guest.meanwhile(0, || button(&other, 0x52, true)), "it is kicked");
    });
    assert_eq!((injected, host.ipis()), (Vec::new(), [KICK].into()));
    let injected = turn(&host, &vm, |guest| {
        assert!(guest.ends_interrupt());
    });
    assert_eq!(injected, [interrupt(0x52); 2], "the line is high still, which the IO-APIC sees at its end");
}

#[test]
fn what_comes_before_the_turn_is_merged_when_it_begins() {
    let host = host();
    let vm = host.running("a");
    with_x2apic(&host, &vm, HOME);
    vm.mailboxes[0].queue();
    host.ipis();
    button(&vm, 0x61, false);
    assert_eq!(host.ipis(), [], "it looks by itself");
    assert_eq!(turn(&host, &vm, |guest| guest.exits(R::Cpuid as u32, 2)), [interrupt(0x61)]);
}

#[test]
fn who_sleeps_is_woken_and_not_notified() {
    let host = host();
    let vm = host.running("a");
    with_x2apic(&host, &vm, HOME);
    vm.mailboxes[0].begin();
    host.guest_does(|guest| guest.exits(R::Hlt as u32, 1));
    assert!(matches!(host.on(HOME, || host.run(&vm)), Outcome::Halted(_)));
    vm.mailboxes[0].doze(u64::MAX);
    host.ipis();
    button(&vm, 0x61, false);
    assert_eq!(
        host.ipis(),
        [KICK],
        "its CPU may be in another guest, which would take the notice for its own"
    );
    assert_eq!(vm.mailboxes[0].waits_until(1, 0), None);
    assert_eq!(turn(&host, &vm, |guest| guest.exits(R::Cpuid as u32, 2)), [interrupt(0x61)]);
}

/// It came when the guest had exited: the CPU takes it as an interrupt of its own.
#[test]
fn a_notice_outside_of_the_guest_means_nothing() {
    let host = host();
    let vm = host.running("a");
    with_x2apic(&host, &vm, HOME);
    let taken = || cpu::get(HOME).expect("it is up").interrupts.load(Ordering::Relaxed);
    let before = taken();
    host.on(HOME, || irq::dispatch(irq::POSTED));
    assert_eq!(taken(), before + 1);
    assert_eq!(vm.vcpus[0].requests.load(Ordering::Relaxed) & Request::Interrupt as u32, 0);
}

/// The exit has taken it from the APIC, so that nobody else will.
#[test]
fn an_interrupt_that_the_exit_acknowledged_is_taken_once() {
    let host = host();
    let vm = host.running("a");
    with_x2apic(&host, &vm, HOME);
    let taken = || cpu::get(HOME).expect("it is up").interrupts.load(Ordering::Relaxed);
    host.on(HOME, irq::drain);
    let before = taken();
    host.guest_does(|guest| assert!(!guest.gets(irq::KICK)));
    assert!(matches!(host.on(HOME, || host.run(&vm)), Outcome::Yield));
    assert_eq!(taken(), before, "no handler is called where locks are held");
    host.on(HOME, irq::drain);
    host.on(HOME, irq::drain);
    assert_eq!(taken(), before + 1);
    // One that is about to halt takes it instead.
    host.guest_does(|guest| assert!(!guest.gets(irq::KICK)));
    assert!(matches!(host.on(HOME, || host.run(&vm)), Outcome::Yield));
    host.on(HOME, irq::wait);
    assert_eq!(taken(), before + 2);
}

#[test]
fn the_record_that_travels_has_what_was_posted() {
    let host = host();
    let vm = host.running("a");
    with_x2apic(&host, &vm, HOME);
    button(&vm, 0x61, false);
    let page = page_of(&vm);
    assert!(!page.bit(IRR, 0x61), "it waits in the descriptor");
    let mut vcpu = vm.vcpus[0].vcpu.lock();
    vcpu.vcpu.apic.catch_up(vm.clock.now());
    assert!(page.bit(IRR, 0x61) && !vm.apics.posted().of(0).unwrap().any());
}

fn page_of(vm: &Vm) -> Arc<vm_types::ApicPage> {
    Arc::clone(vm.vcpus[0].vcpu.lock().vcpu.apic.page())
}
