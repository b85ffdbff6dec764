//! Machine checks over a model of banks: what is set up, what an error stops, what stays.

use bring_up::mce::{Caps, Context, Finding, Msrs, Severity, Verdict, handle, poll, set_up, trouble};
use proptest::prelude::*;
use std::collections::BTreeMap;

const CAP: u32 = 0x179;
const STATUS: u32 = 0x17a;
const EXT_CTL: u32 = 0x4d0;
const BANKS: u64 = 5;
const RECOVERY: u64 = 1 << 24;
const LMCE: u64 = 1 << 27;

const VALID: u64 = 1 << 63;
const OVERFLOW: u64 = 1 << 62;
const UC: u64 = 1 << 61;
const EN: u64 = 1 << 60;
const MISC: u64 = 1 << 59;
const ADDRESS: u64 = 1 << 58;
const PCC: u64 = 1 << 57;
const S: u64 = 1 << 56;
const AR: u64 = 1 << 55;

const CORRECTED: u64 = VALID | EN | 0x0091;
const NO_ACTION: u64 = VALID | EN | UC | 0x0091;
const OPTIONAL: u64 = NO_ACTION | S;
const REQUIRED: u64 = OPTIONAL | AR;
const FATAL: u64 = REQUIRED | PCC;

// MCG_STATUS
const RIPV: u64 = 1;
const EIPV: u64 = 2;
const MCIP: u64 = 4;

#[derive(Default)]
struct Cpu {
    registers: BTreeMap<u32, u64>,
    written: Vec<u32>,
}

impl Cpu {
    fn new(features: u64) -> Self {
        let registers = BTreeMap::from([(CAP, BANKS | 1 << 8 | features)]);
        Self { registers, written: vec![] }
    }

    fn with(mut self, bank: u32, status: u64) -> Self {
        self.registers.insert(0x401 + bank * 4, status);
        self
    }

    /// A machine check comes.
    fn check(mut self, global: u64, context: Context) -> (Verdict, Vec<Severity>, Self) {
        self.registers.insert(STATUS, global | MCIP);
        let caps = Caps::read(&mut self);
        let mut found = vec![];
        let verdict = handle(&mut self, caps, context, |finding| found.push(finding.severity));
        (verdict, found, self)
    }

    fn status(&self, bank: u32) -> u64 {
        self.registers.get(&(0x401 + bank * 4)).copied().unwrap_or(0)
    }

    fn in_progress(&self) -> bool {
        self.registers.get(&STATUS).is_some_and(|value| value & MCIP != 0)
    }
}

impl Msrs for Cpu {
    fn read(&mut self, msr: u32) -> u64 {
        if msr == EXT_CTL {
            assert_ne!(self.registers[&CAP] & LMCE, 0, "#GP: no local machine checks");
        } else if let Some(offset) = msr.checked_sub(0x400) {
            let (bank, register) = (offset / 4, offset % 4);
            assert!(u64::from(bank) < BANKS, "#GP: no bank {bank}");
            let needs = [0, 0, ADDRESS, MISC][register as usize];
            assert_eq!(self.status(bank) & needs, needs, "#GP: register {msr:#x} holds nothing");
        }
        self.registers.get(&msr).copied().unwrap_or(0)
    }

    fn write(&mut self, msr: u32, value: u64) {
        assert!(
            msr != CAP && (msr < 0x400 || msr == EXT_CTL || u64::from((msr - 0x400) / 4) < BANKS),
            "#GP: {msr:#x}"
        );
        if msr >= 0x400 && msr != EXT_CTL && msr % 4 == 1 {
            assert_eq!(value, 0, "#GP: a status takes zero only");
        }
        self.registers.insert(msr, value);
        self.written.push(msr);
    }
}

/// Fault 2.5: banks were never initialised, and no error of theirs was ever seen.
#[test]
fn every_bank_is_on_and_empty_and_what_it_held_is_told() {
    let mut cpu = Cpu::new(RECOVERY).with(3, CORRECTED | ADDRESS);
    cpu.registers.extend([(STATUS, MCIP), (0x40e, 0x1234_5000)]);
    let mut left = vec![];
    let ready = set_up(&mut cpu, 0x655, 0, |bank| left.push((bank.number, bank.address)));
    assert_eq!(left, [(3, Some(0x1234_5000))]);
    assert!(!ready.local && !cpu.in_progress());
    for bank in 0..BANKS as u32 {
        assert_eq!(cpu.registers[&(0x400 + bank * 4)], u64::MAX);
        assert_eq!(cpu.status(bank), 0);
    }
}

#[test]
fn banks_that_are_off_or_hold_an_error_are_counted() {
    let mut cpu = Cpu::new(0);
    let caps = Caps::read(&mut cpu);
    assert_eq!(trouble(&mut cpu, caps), BANKS - 1, "all off, the first may be the firmware's");
    set_up(&mut cpu, 0x655, 0, |_| {});
    assert_eq!(trouble(&mut cpu, caps), 0);
    let mut cpu = cpu.with(2, CORRECTED);
    assert_eq!(trouble(&mut cpu, caps), 1);
}

#[test]
fn bank_0_of_early_cpus_is_the_firmwares() {
    for (model, touched) in [(0x60f, false), (0x619, false), (0x61a, true), (0xf06, true)] {
        let mut cpu = Cpu::new(0);
        set_up(&mut cpu, model, 0, |_| {});
        assert_eq!(cpu.written.contains(&0x400), touched, "{model:#x}");
    }
}

#[test]
fn local_machine_checks_want_capability_and_firmware() {
    for (features, control, on) in
        [(LMCE, 1 << 20 | 1, true), (LMCE, 1 << 20, false), (0, 1 << 20 | 1, false)]
    {
        let mut cpu = Cpu::new(features);
        assert_eq!(set_up(&mut cpu, 0x655, control, |_| {}).local, on);
        assert_eq!(cpu.registers.get(&EXT_CTL).is_some_and(|value| value & 1 != 0), on);
    }
}

/// Fault 2.5: a broadcast machine check ended every running VM and the host.
#[test]
fn a_broadcast_stops_nothing_where_the_error_is_not() {
    for context in [Context::Guest, Context::Host] {
        let (verdict, found, cpu) = Cpu::new(RECOVERY).check(RIPV, context);
        assert_eq!((verdict, found.len()), (Verdict::GoOn, 0));
        assert!(!cpu.in_progress(), "a second machine check would shut the machine down");
        // A sibling sees the same bank, and leaves it to the CPU that used the data.
        let (verdict, _, cpu) = Cpu::new(RECOVERY).with(1, REQUIRED).check(RIPV, context);
        assert_eq!((verdict, cpu.status(1)), (Verdict::GoOn, REQUIRED));
        assert!(!cpu.in_progress());
    }
}

#[test]
fn only_what_used_the_data_is_stopped() {
    for (global, status) in [(RIPV | EIPV, REQUIRED), (EIPV, REQUIRED), (0, REQUIRED), (0, OPTIONAL)] {
        let (verdict, _, cpu) = Cpu::new(RECOVERY).with(1, status).check(global, Context::Guest);
        assert_eq!(verdict, Verdict::StopVm, "{global:#x} {status:#x}");
        assert!(!cpu.in_progress() && cpu.status(1) == 0);
        let (verdict, ..) = Cpu::new(RECOVERY).with(1, status).check(global, Context::Host);
        assert_eq!(verdict, Verdict::StopHost);
    }
}

#[test]
fn each_severity_has_its_end() {
    for (features, status, verdict, severity) in [
        (RECOVERY, OPTIONAL, Verdict::GoOn, Severity::Optional),
        (RECOVERY, FATAL, Verdict::StopHost, Severity::Fatal),
        (RECOVERY, REQUIRED | OVERFLOW, Verdict::StopHost, Severity::Fatal),
        // Without recovery S and AR mean nothing, and nobody can tell what was hit.
        (0, OPTIONAL, Verdict::StopHost, Severity::Fatal),
    ] {
        let (ended, found, cpu) = Cpu::new(features).with(2, status).check(RIPV, Context::Guest);
        assert_eq!((ended, found.as_slice()), (verdict, &[severity][..]), "{status:#x}");
        assert_eq!(
            cpu.status(2) == 0,
            verdict == Verdict::GoOn,
            "what stops the host stays for the next boot"
        );
    }
    // What the machine check did not come for.
    for status in [CORRECTED, NO_ACTION, FATAL & !EN] {
        let (verdict, found, cpu) = Cpu::new(RECOVERY).with(2, status).check(RIPV, Context::Host);
        assert_eq!((verdict, found.len(), cpu.status(2)), (Verdict::GoOn, 0, status));
    }
}

#[test]
fn a_poll_takes_what_no_machine_check_comes_of() {
    let mut cpu = Cpu::new(RECOVERY)
        .with(0, CORRECTED | 3 << 38)
        .with(1, NO_ACTION)
        .with(2, REQUIRED)
        .with(3, FATAL & !EN);
    let caps = Caps::read(&mut cpu);
    let mut found = vec![];
    poll(&mut cpu, caps, |finding| found.push((finding.bank.number, finding.bank.count())));
    assert_eq!(found, [(0, 3), (1, 1), (3, 1)]);
    assert_eq!([0, 1, 2, 3].map(|bank| cpu.status(bank)), [0, 0, REQUIRED, 0]);
}

#[test]
fn errors_have_words() {
    for (code, text) in [
        (0x0091, "memory read, channel 1"),
        (0x009f, "memory read, channel unknown"),
        (0x1135, "cache, data data read, L1"),
        (0x0014, "TLB, data, L0"),
        (0x0e0b, "I/O"),
        (0x0402, "internal"),
        (0x0400, "internal timer"),
        (0x2000, "code 0x2000"),
    ] {
        let mut cpu = Cpu::new(0).with(0, VALID | code);
        let mut shown = String::new();
        let caps = Caps::read(&mut cpu);
        poll(&mut cpu, caps, |Finding { bank, .. }| shown = bank.to_string());
        assert!(shown.starts_with(&format!("bank 0: {text} (status 0x")), "{shown}");
    }
}

proptest! {
    /// Whatever the banks hold: no register is read that is not there, and the machine check ends unless the host does.
    #[test]
    fn any_bank_is_survived(status in prop::collection::vec(any::<u64>(), BANKS as usize), global in 0..4_u64, features in 0..2_u64) {
        let mut cpu = Cpu::new(features * RECOVERY);
        for (bank, status) in (0..).zip(status) {
            cpu = cpu.with(bank, status);
        }
        let (verdict, found, cpu) = cpu.check(global, Context::Guest);
        prop_assert_eq!(cpu.in_progress(), verdict == Verdict::StopHost);
        if global & RIPV == 0 || found.contains(&Severity::Fatal) {
            prop_assert!(verdict >= Verdict::StopVm);
        }
    }
}
