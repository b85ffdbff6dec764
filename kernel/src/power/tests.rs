//! What is written to switch a machine off, and to reset it.

extern crate std;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::vec::Vec;

use super::{SCI_EN, SLP_EN, SoftOff, debug_exit, reboot};
use crate::testing::{Host, host};

const FIRST: u16 = 0x604;
const SECOND: u16 = 0x614;
const SMI_COMMAND: u16 = 0xb2;

/// What is written until the CPU halts, where PM1 control reads as `control`.
fn written(host: &Host, off: SoftOff, control: u16) -> Vec<(u16, u32)> {
    [FIRST, SECOND].into_iter().for_each(|port| host.set_port(port, Some(control.into())));
    let halted = host.at_rate(1_000_000, || catch_unwind(AssertUnwindSafe(|| off.go())));
    [FIRST, SECOND].into_iter().for_each(|port| host.set_port(port, None));
    assert!(halted.is_err(), "the CPU halts");
    host.written_to_ports()
}

#[test]
fn s5_is_entered_by_every_control_register_with_its_own_type() {
    let host = host();
    let off = SoftOff { controls: [Some((FIRST, 5)), Some((SECOND, 6))], enable: None };
    let keep = SCI_EN | 2;
    let value = |kind: u16| u32::from(keep | kind << 10 | SLP_EN);
    // The type that firmware left there goes.
    assert_eq!(written(&host, off, keep | 7 << 10), [(FIRST, value(5)), (SECOND, value(6))]);
}

#[test]
fn a_machine_that_is_not_in_acpi_mode_is_put_into_it_first() {
    let host = host();
    let off = SoftOff { controls: [Some((FIRST, 5)), None], enable: Some((SMI_COMMAND, 0xf0)) };
    let ports = written(&host, off, 0);
    assert_eq!(ports, [(SMI_COMMAND, 0xf0), (FIRST, u32::from(5 << 10 | SLP_EN))]);
    let ports = written(&host, off, SCI_EN);
    assert_eq!(ports, [(FIRST, u32::from(SCI_EN | 5 << 10 | SLP_EN))]);
}

#[test]
fn a_reset_tries_the_reset_control_and_then_the_keyboard_controller() {
    let host = host();
    let reset = host.at_rate(1_000_000, || catch_unwind(|| reboot()));
    assert!(reset.is_err(), "a triple fault comes last");
    assert_eq!(host.written_to_ports(), [(0xcf9, 0x02), (0xcf9, 0x06), (0x64, 0xfe)]);
}

#[test]
fn an_emulator_is_told_its_exit_code() {
    let host = host();
    debug_exit(0x31);
    assert_eq!(host.written_to_ports(), [(0xf4, 0x31)]);
}
