//! Tests of [`super`].

use super::*;

const DB: Event = Event::exception(1, None);
const INT1: Event = Event { vector: 1, kind: EventKind::PrivilegedSoftware, error_code: None, length: 1 };
const INT_80: Event = Event { vector: 0x80, kind: EventKind::Software, error_code: None, length: 2 };

fn flow(rflags: u64, interruptibility: u32, pending_debug: u64) -> Flow {
    Flow { rflags, interruptibility, pending_debug }
}

/// All that matters: TF, IF and RF, the legal kinds of blocking, and what may be pending.
fn all() -> impl Iterator<Item = Flow> {
    let flags = (0..8).map(|n| 2 | (n & 3) << 8 | (n & 4) << 14);
    flags.flat_map(|rflags| {
        [0, 1, 2, 8, 9, 10].into_iter().flat_map(move |blocked| {
            [0, PENDING_STEP, PENDING_BREAKPOINT | 1].into_iter().map(move |p| flow(rflags, blocked, p))
        })
    })
}

#[test]
fn an_executed_instruction_ends_shadows_and_steps() {
    assert_eq!(flow(0x302, 1, 0).executed(), flow(0x302, 0, PENDING_STEP));
    assert_eq!(flow(0x1_0202, 0xa, 0).executed(), flow(0x202, 8, 0));
    assert_eq!(flow(0x302, 2, 0).iterated(), flow(0x1_0302, 0, PENDING_STEP));
    assert_eq!(flow(0x302, 2, 0).iterated().executed().rflags, 0x302, "the last iteration spends RF");
    for flow in all().filter(|f| Flow::is_plain(f.rflags, f.interruptibility)) {
        assert_eq!(flow.executed(), flow, "the short way leaves nothing out");
    }
}

/// Fault 2.8. `mov ss; int1` and a step over STI: with TF set, the entry wants BS.
#[test]
fn debug_exceptions_under_a_shadow_show_the_step() {
    for event in [DB, INT1, Event::GENERAL_PROTECTION] {
        for blocked in [BLOCKED_BY_STI, BLOCKED_BY_MOV_SS] {
            assert_eq!(flow(0x302, blocked, 0).raise(event).pending_debug, PENDING_STEP);
            assert_eq!(flow(0x202, blocked, PENDING_BREAKPOINT | 1).raise(event).pending_debug, 0);
        }
        assert_eq!(flow(0x302, 0, PENDING_STEP).raise(event).pending_debug, 0, "the event comes alone");
    }
    let breakpoint = flow(0x202, BLOCKED_BY_MOV_SS, PENDING_BREAKPOINT | 1);
    assert_eq!(breakpoint.before(INT_80), breakpoint, "it follows INT n (SDM 26.7.3)");
}

/// Whatever is injected, the entry's rules about blocking hold (SDM 26.3.1.5).
#[test]
fn every_injection_is_legal() {
    for before in all() {
        for event in [DB, INT1, INT_80, Event::NMI, Event::interrupt(0x20), Event::GENERAL_PROTECTION] {
            let after = before.before(event);
            let blocked = after.interruptibility;
            if blocked & 3 != 0 {
                let stepping = after.rflags & RFLAGS_TF != 0;
                assert_eq!(after.pending_debug & PENDING_STEP != 0, stepping, "{before:x?} {event:?}");
            }
            match event.kind {
                EventKind::Nmi => assert_eq!(blocked & 0xb, 0, "{before:x?}"),
                EventKind::External => assert_eq!(blocked & 3, 0, "{before:x?}"),
                _ => {}
            }
            assert_eq!(after.before(event), after, "done twice, the same");
        }
    }
}

/// Fault 2.9.
#[test]
fn an_nmi_delivered_again_finds_nmis_open() {
    let exited = flow(2, BLOCKED_BY_NMI, 0);
    assert_eq!(exited.before(Event::NMI), flow(2, 0, 0));
    assert_eq!(exited.before(Event::GENERAL_PROTECTION), exited, "within the handler of another");
}

/// Fault 2.11a.
#[test]
fn debug_exceptions_come_before_nmi_and_interrupt() {
    let due = flow(0x302, 0, PENDING_STEP);
    assert_eq!(due.take(false, true, true), Take::Nothing);
    assert_eq!(due.windows(false, true, true), Windows { interrupt: true, nmi: true });
    let after = flow(0x202, 0, 0);
    assert_eq!(after.take(false, true, true), Take::Nmi);
    assert_eq!(after.take(false, false, true), Take::Interrupt);
    assert_eq!(after.take(true, true, true), Take::Nothing, "an event is on its way");
}

#[test]
fn rf_by_class() {
    assert_eq!(flow(2, 0, 0).raise(Event::GENERAL_PROTECTION).rflags, 0x1_0002);
    for event in [DB, INT1, INT_80, Event::interrupt(0x20), Event::NMI, Event::exception(8, Some(0))] {
        assert_eq!(flow(2, 0, 0).raise(event).rflags, 2, "{event:?}");
        assert_eq!(flow(0x1_0002, 0, 0).raise(event).rflags, 0x1_0002, "{event:?}: as the CPU left it");
    }
}

/// Fault 2.12, and that what waits always has a way in.
#[test]
fn what_waits_is_taken_or_has_its_window() {
    let sti = flow(0x202, BLOCKED_BY_STI, 0);
    assert_eq!(sti.windows(false, true, false), Windows { interrupt: true, nmi: false });
    let blocked = flow(0x202, BLOCKED_BY_STI | BLOCKED_BY_NMI, 0);
    assert_eq!(blocked.windows(false, true, false), Windows { interrupt: false, nmi: true });
    for flow in all() {
        for (on_its_way, nmi, interrupt) in (0..8).map(|n| (n & 1 != 0, n & 2 != 0, n & 4 != 0)) {
            let took = flow.take(on_its_way, nmi, interrupt);
            let (nmi, interrupt) = (nmi && took != Take::Nmi, interrupt && took != Take::Interrupt);
            let windows = flow.windows(on_its_way || took != Take::Nothing, nmi, interrupt);
            assert!(!interrupt || windows.interrupt);
            assert!(!nmi || windows.nmi || windows.interrupt && flow.interruptibility & BLOCKED_BY_STI != 0);
            assert!(nmi || interrupt || windows == Windows::default(), "nobody waits");
            assert!(!(windows.nmi && flow.interruptibility & 9 == 1 && !on_its_way) || took != Take::Nothing);
        }
    }
}

/// Fault 2.10.
#[test]
fn nmis_stay_blocked_where_iret_runs_again() {
    assert!(iret_unblocked_nmi(0x1083, 0, None));
    assert!(!iret_unblocked_nmi(0x0083, 0, None));
    assert!(!iret_unblocked_nmi(0x1083, 0x8000_0202, None), "in an event's delivery");
    assert!(iret_unblocked_nmi(0x8000_1b11, 0, Some(17)));
    assert!(!iret_unblocked_nmi(0x8000_1b08, 0, Some(8)), "#DF");
}

/// Fault 2.11.
#[test]
fn a_debug_exception_leaves_its_cause_alone_and_opens_the_registers() {
    let step = 1 << 14;
    assert_eq!(debug_registers(EventKind::Exception, 0xffff_0ff3, 0x2400, 4), (0xffff_0ff4, 0x400));
    assert_eq!(debug_registers(EventKind::Exception, 0xffff_2ff1, 0x401, step), (0xffff_6ff0, 0x401));
    assert_eq!(debug_registers(EventKind::Exception, 0xffff_0ff0, 0x401, 1 | 1 << 16), (0xfffe_0ff1, 0x401));
    assert_eq!(
        debug_registers(EventKind::PrivilegedSoftware, 0xffff_0ff1, 0x2401, step),
        (0xffff_0ff1, 0x401)
    );
}
