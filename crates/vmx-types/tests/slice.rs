//! Which timer ends a guest's run (fault 2.6).

use vmx_types::capability::Caps;
use vmx_types::control::{ExitControls, PinBased};
use vmx_types::controls::Controls;
use vmx_types::slice::{BROKEN, Choice, Flaw, NotLent, SliceTimer};

/// A CPU that may set every control but those of `lacks`, of the pin-based and the exit controls.
fn caps(lacks: (PinBased, ExitControls)) -> Caps {
    let all_but = |bits: u32| u64::from(!bits) << 32;
    Caps::new(|msr| match msr {
        0x480 | 0x485 => 0,
        0x481 => all_but(lacks.0.bits()),
        0x483 => all_but(lacks.1.bits()),
        0x48c => u64::MAX,
        _ => all_but(0),
    })
    .expect("a host")
}

fn full() -> Caps {
    caps((PinBased::empty(), ExitControls::empty()))
}

fn poor() -> [Caps; 2] {
    [
        caps((PinBased::PREEMPTION_TIMER, ExitControls::empty())),
        caps((PinBased::empty(), ExitControls::SAVE_PREEMPTION_TIMER)),
    ]
}

#[test]
fn each_erratum_takes_the_apic_and_its_neighbours_do_not() {
    let choose = |signature| Choice::new(&full(), signature, None).expect("nothing was asked for");
    for signature in BROKEN {
        // Bits that CPUID.1:EAX reserves say nothing.
        for told in [signature, signature | 0xc000, signature | 0xf000_0000] {
            let choice = choose(told);
            assert_eq!((choice.timer, choice.signature), (SliceTimer::ApicOneShot, signature), "{told:x}");
            assert_eq!(choice.flaw, Some(Flaw::Broken), "{told:x}");
        }
        // The next stepping and the next generation are others.
        for other in [signature ^ 0xf, signature + 0x1_0000, signature + 0x10_0000] {
            if !BROKEN.contains(&other) {
                assert_eq!(choose(other).timer, SliceTimer::Preemption, "{other:x}");
            }
        }
    }
    // Westmere-EP, Sandy Bridge-EP, Ivy Bridge-EP, Skylake-SP: not on the list.
    for signature in [0x206c2, 0x206d7, 0x306e4, 0x50654] {
        let plain = Choice { timer: SliceTimer::Preemption, asked: false, flaw: None, signature };
        assert_eq!(choose(signature), plain);
    }
}

#[test]
fn a_timer_that_is_not_lent_is_not_used() {
    for caps in poor() {
        let choice = Choice::new(&caps, 0x50654, None).expect("nothing was asked for");
        assert_eq!((choice.timer, choice.flaw), (SliceTimer::ApicOneShot, Some(Flaw::NotLent)));
        let asked = Choice::new(&caps, 0x50654, Some(SliceTimer::ApicOneShot)).expect("it is there");
        assert_eq!(asked.timer, SliceTimer::ApicOneShot);
        assert_eq!(Choice::new(&caps, 0x50654, Some(SliceTimer::Preemption)), Err(NotLent));
        assert_eq!(
            NotLent.to_string(),
            "slice-timer=preemption: no preemption timer is lent to this host; the APIC's one-shot timer is used"
        );
    }
}

/// What is asked for is done, and what speaks against it is said.
#[test]
fn the_command_line_decides() {
    let ask = |signature, timer| Choice::new(&full(), signature, Some(timer)).expect("it is there");
    assert_eq!(ask(0x50654, SliceTimer::ApicOneShot).timer, SliceTimer::ApicOneShot);
    let forced = ask(0x106a5, SliceTimer::Preemption);
    assert_eq!(forced.timer, SliceTimer::Preemption);
    assert_eq!(
        forced.to_string(),
        "the preemption timer, as slice-timer= says; the preemption timer of CPU 106a5 is broken"
    );
    assert_eq!(
        forced.errata().to_string(),
        "CPU 106a5 is one of 106a0 106a1 106a4 106a5 106e5 206e6 20652 20655 306a8, whose preemption timer is broken"
    );
    let plain = Choice::new(&full(), 0x50654, None).expect("nothing was asked for");
    assert_eq!(plain.to_string(), "the preemption timer");
    assert!(plain.errata().to_string().starts_with("CPU 50654 is not one of 106a0 "));
}

/// The controls follow the choice, and without the timer nothing saves it: VM entry wants that (SDM 26.2.1.2).
#[test]
fn controls_follow_the_choice() {
    for caps in poor().into_iter().chain([full()]) {
        let controls = Controls::new(&caps, SliceTimer::ApicOneShot).expect("the timer is optional");
        assert!(!controls.pin.contains(PinBased::PREEMPTION_TIMER));
        assert!(!controls.exit.contains(ExitControls::SAVE_PREEMPTION_TIMER));
        // It is what brings the CPU back then.
        assert!(controls.pin.contains(PinBased::EXTERNAL_INTERRUPT_EXITING));
        // Not acknowledged: the interrupt waits until the host takes it.
        assert!(!controls.exit.contains(ExitControls::ACKNOWLEDGE_INTERRUPT));
    }
    let controls = Controls::new(&full(), SliceTimer::Preemption).expect("controls");
    assert!(controls.pin.contains(PinBased::PREEMPTION_TIMER));
    assert!(controls.exit.contains(ExitControls::SAVE_PREEMPTION_TIMER));
}
