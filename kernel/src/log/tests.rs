//! Lines of the log.

use super::{Target, level, line, subsystem};
use crate::testing::host;
use alloc::string::String;
use cmdline::LogLevel;
use log::{Level, Record};

#[test]
fn a_subsystem_is_the_first_room_below_kernel_or_machine() {
    for (target, name) in [
        ("kernel::vm::create", "vm"),
        ("hw::mm::frame", "mm"),
        ("kernel", "kernel"),
        ("vmx", "vmx"),
        ("smoltcp::iface", "smoltcp"),
        ("kernel::hw::mm", "hw"),
    ] {
        assert_eq!(subsystem(target), name);
    }
}

#[test]
fn a_line_says_when_who_and_how_urgent() {
    let host = host();
    host.pass(hw::mock::TSC_HZ);
    let of = |level: Level| {
        let mut out = String::new();
        let args = format_args!("text");
        let record = Record::builder().target("kernel::vm::making").level(level).args(args).build();
        line(&mut out, &record).unwrap();
        out
    };
    assert!(of(Level::Warn).ends_with("] vm: warning: text\n"));
    assert!(of(Level::Error).ends_with("] vm: error: text\n"));
    let info = of(Level::Info);
    assert!(info.ends_with("] vm: text\n"), "{info}");
    assert_eq!(info.find('.'), Some(6), "seconds are aligned: {info}");
}

#[test]
fn each_target_has_a_level_of_its_own() {
    let _host = host();
    let before = [Target::Console, Target::Ring].map(level);
    super::set_level(Target::Console, LogLevel::Error);
    super::set_level(Target::Ring, LogLevel::Debug);
    assert_eq!([Target::Console, Target::Ring].map(level), [LogLevel::Error, LogLevel::Debug]);
    assert_eq!(
        log::max_level(),
        log::LevelFilter::Debug,
        "the more talkative one decides what is written at all"
    );
    super::set_level(Target::Console, before[0]);
    super::set_level(Target::Ring, before[1]);
    log::set_max_level(log::LevelFilter::Off);
}
