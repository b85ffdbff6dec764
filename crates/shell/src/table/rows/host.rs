//! The host: log, network, memory, registers, the end.

use super::args::{
    ANEW, BOOT, FOLLOW, FORCE, JSON, LEVEL, MSR, ONCE, OPTIONAL_LEVEL, PINGED, PREVIOUS, UTC, VALUE,
};
use crate::command::{Command, HostCommand, LogLevel, LogSink};
use crate::table::Spec;

pub(super) const ROWS: &[Spec] = &[
    Spec {
        words: &["date"],
        args: &[JSON],
        summary: "Show the wall clock, in UTC.",
        details: "As the machine's clock (CMOS) said at the start, which is taken to be in UTC, and what has passed since. \
                  That clock counts whole seconds, so that every UTC time of this host, of whatever digits, may be up to a second \
                  early; it is not set by the network or by other hosts. One that holds no date is warned of in the log, and times \
                  begin at 1970. Log lines count from the start: `uptime` says when that was.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::Date(v.output)),
    },
    Spec {
        words: &["uptime"],
        args: &[JSON],
        summary: "Show how long the host has been up.",
        details: "And the instant, in UTC, from which the log counts its seconds.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::Uptime(v.output)),
    },
    Spec {
        words: &["log"],
        args: &[OPTIONAL_LEVEL, FOLLOW, UTC, JSON],
        summary: "Show, set or follow which log lines are taken.",
        details: "One of error, warn, info, debug, trace; each includes those before it, `info` is what an operator follows. Sets console and ring alike, until the next boot; without a level both are shown. `-f` prints what the ring takes from now on until Ctrl-C: for `flexctl --host`, since the host's own console shows it anyway; with `--utc` each line has the wall clock in the place of the seconds since the start.",
        dangerous: false,
        build: |v| {
            Command::Host(match v.level {
                _ if v.follow => HostCommand::Follow { utc: v.utc },
                Some(level) => HostCommand::Log(None, level),
                None => HostCommand::LogLevels(v.output),
            })
        },
    },
    Spec {
        words: &["log", "console"],
        args: &[LEVEL],
        summary: "Set which log lines the console shows.",
        details: "The ring is not changed.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::Log(Some(LogSink::Console), v.level.unwrap_or(LogLevel::Info))),
    },
    Spec {
        words: &["log", "ring"],
        args: &[LEVEL],
        summary: "Set which log lines the ring keeps.",
        details: "`dmesg` prints them. The console is not changed.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::Log(Some(LogSink::Ring), v.level.unwrap_or(LogLevel::Info))),
    },
    Spec {
        words: &["dmesg"],
        args: &[PREVIOUS, UTC, JSON],
        summary: "Print the log since the start.",
        details: "The last 64 KiB, from a ring in memory, whatever the console shows. Lines begin with the seconds since the start, as Linux' do; with `--utc`, and in JSON, they have the wall clock, as `date` has it. `--previous` prints what the boot before left there, a panic included: memory keeps it over a warm reset on most machines. Where it did not, the answer is `none`; its clock is not known. Lines of VMs that are gone are kept like all others, until newer lines take their place.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::Dmesg { previous: v.previous, utc: v.utc, output: v.output }),
    },
    Spec {
        words: &["events"],
        args: &[FOLLOW, UTC, JSON],
        summary: "Print what happened to VMs, pool and links.",
        details: "The last 256 state changes, a line each: time, kind, the VM or host that it happened to, and the reason or the \
                  other host. `-f` goes on with what happens from now on, until Ctrl-C. Kinds never change their names: the \
                  table of them is below. `--json` prints an object a line.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::Events { follow: v.follow, utc: v.utc, output: v.output }),
    },
    Spec {
        words: &["sessions"],
        args: &[JSON],
        summary: "List who is connected to this host.",
        details: "The ports of the host's console, operators who manage it from elsewhere, and the links of migrations and of the \
                  pool: since when, and what a session does at the moment.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::Sessions(v.output)),
    },
    Spec {
        words: &["who"],
        args: &[JSON],
        summary: "The same as `sessions`.",
        details: "",
        dangerous: false,
        build: |v| Command::Host(HostCommand::Sessions(v.output)),
    },
    Spec {
        words: &["config", "show"],
        args: &[BOOT, JSON],
        summary: "Show the boot options in force.",
        details: "Each with its value and where it came from: the boot line, the configuration file, or the default. Keys are not shown. `--boot` prints the command line that would give the settings of now at the next boot, with what `log`, `pool join` and `pool leave` have changed: nothing else keeps that. For a secret it has `...`.",
        dangerous: false,
        build: |v| {
            Command::Host(if v.boot { HostCommand::ConfigLine } else { HostCommand::Config(v.output) })
        },
    },
    Spec {
        words: &["boot"],
        args: &[JSON],
        summary: "Show how the host was booted, and how fast.",
        details: "Boot protocol, loader, and the milliseconds that each stage took.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::Boot(v.output)),
    },
    Spec {
        words: &["net", "show"],
        args: &[JSON],
        summary: "Show network card, link and address.",
        details: "Driver, MAC, link, IP address (static or by DHCP), gateway.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::NetShow(v.output)),
    },
    Spec {
        words: &["net", "stats"],
        args: &[JSON],
        summary: "Show counters of the network.",
        details: "Frames and bytes each way, those dropped or damaged, TCP connections.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::NetStats(v.output)),
    },
    Spec {
        words: &["net", "ping"],
        args: &[PINGED],
        summary: "Send ICMP echo requests to a host.",
        details: "Four, a second apart. Ctrl-C ends it.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::NetPing(*v.host.ip())),
    },
    Spec {
        words: &["mem"],
        args: &[JSON],
        summary: "Show the host's memory: used by whom, free.",
        details: "Guests, heap, page tables and the rest, in bytes. With `--json` also the longest turn of CPU 0's loop, as in `top`.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::Mem(v.output)),
    },
    Spec {
        words: &["top"],
        args: &[ONCE, ANEW, JSON],
        summary: "Show what the host is doing, live.",
        details: "CPUs, VMs with exits a second and pages written a second where they are counted, network. Every second until `q` or Ctrl-C, in place on a terminal that `term` knows to take ESC sequences; `--once` prints it once, over the second that follows. The longest turn is how long CPU 0's loop, which does a little of everything, has been held at most, and by what; `--anew` looks for it from now on.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::Top { once: v.once, anew: v.anew, output: v.output }),
    },
    Spec {
        words: &["selftest"],
        args: &[JSON],
        summary: "Check the host while it runs, and report.",
        details: "The checks of `selftest` on the command line that can run beside VMs, in steps, a line for each; one that cannot says `not tried` and why. Ends with `error: failed` where one failed, whose line names the cure. What each means: docs/selftest.md.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::Selftest(v.output)),
    },
    Spec {
        words: &["msr", "read"],
        args: &[MSR, JSON],
        summary: "Read a model-specific register of CPU 0.",
        details: "MSR is its number, decimal or hexadecimal behind `0x`. One that the CPU does not have is refused by it, and nothing happens.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::MsrRead { number: v.msr(), output: v.output }),
    },
    Spec {
        words: &["msr", "write"],
        args: &[MSR, VALUE, FORCE],
        summary: "Write a model-specific register of CPU 0.",
        details: "For experiments: `--force` is always wanted. A fault is caught and reported. Registers that the host itself or a guest lives by are refused.",
        dangerous: true,
        build: |v| {
            Command::Host(HostCommand::MsrWrite {
                number: v.msr(),
                value: v.numbers[1].unwrap_or_default(),
                force: v.force,
            })
        },
    },
    Spec {
        words: &["reboot"],
        args: &[FORCE],
        summary: "Leave VMX operation and reset the machine.",
        details: "Every CPU executes VMXOFF first. Refused while a VM runs, unless `--force` is given: its guest loses what it has not written out.",
        dangerous: true,
        build: |v| Command::Host(HostCommand::Reboot { force: v.force }),
    },
    Spec {
        words: &["poweroff"],
        args: &[FORCE],
        summary: "Leave VMX operation, switch the machine off.",
        details: "By ACPI S5. Refused while a VM runs, unless `--force` is given: its guest loses what it has not written out.",
        dangerous: true,
        build: |v| Command::Host(HostCommand::Poweroff { force: v.force }),
    },
];
