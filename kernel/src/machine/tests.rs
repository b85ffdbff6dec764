//! What the machine reports by itself.

use bring_up::mce::{Context, Verdict};

use super::{SYSTEM_CONTROL, Watch, check, nmi, nmis};
use crate::testing::{Host, host};

const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const BANK_STATUS: u32 = 0x401;
/// In progress, at an instruction that can be gone back to.
const IN_PROGRESS: u64 = 1 << 2 | 1;
const FATAL: u64 = 1 << 63 | 1 << 61 | 1 << 60 | 1 << 57;
const CORRECTED: u64 = 1 << 63 | 1 << 60;

/// One bank that can recover, and this in it.
fn with_error<R>(host: &Host, status: u64, job: impl FnOnce() -> R) -> R {
    let had = host.msr(0, MCG_CAP).unwrap_or(0);
    for (msr, value) in [(MCG_CAP, 1 | 1 << 24), (MCG_STATUS, IN_PROGRESS), (BANK_STATUS, status)] {
        host.set_msr(0, msr, value);
    }
    let result = job();
    host.set_msr(0, MCG_CAP, had);
    [MCG_STATUS, BANK_STATUS].into_iter().for_each(|msr| host.take_msr(0, msr));
    result
}

#[test]
fn a_cpu_that_does_not_know_its_state_stops_the_host_whoever_ran() {
    let host = host();
    for context in [Context::Host, Context::Guest] {
        assert_eq!(with_error(&host, FATAL, || check(context)), Verdict::StopHost);
    }
    Watch::default().poll();
}

#[test]
fn a_corrected_error_stops_nobody_and_is_found_by_the_next_look() {
    let host = host();
    with_error(&host, CORRECTED, || {
        assert_eq!(check(Context::Guest), Verdict::GoOn);
        assert_eq!(host.msr(0, BANK_STATUS), Some(CORRECTED));
        Watch::default().poll();
        assert_eq!(host.msr(0, BANK_STATUS), Some(0), "it is told, and its bank is free");
    });
}

#[test]
fn an_nmi_of_the_chipset_is_told_once_and_its_source_armed_again() {
    const SERR: u32 = 1 << 7;
    let host = host();
    let before = nmis(0);
    let mut watch = Watch::default();
    watch.poll();
    host.written_to_ports();
    host.set_port(SYSTEM_CONTROL, Some(SERR));
    nmi(0x1234);
    assert_eq!(nmis(0), before + 1);
    host.pass(2 * hw::mock::TSC_HZ);
    watch.poll();
    let ports = host.written_to_ports();
    assert!(!ports.is_empty() && ports.iter().all(|(port, _)| *port == SYSTEM_CONTROL), "{ports:?}");
    host.pass(2 * hw::mock::TSC_HZ);
    watch.poll();
    assert!(host.written_to_ports().is_empty(), "it is dealt with");
    host.set_port(SYSTEM_CONTROL, None);
    nmis(1);
}
