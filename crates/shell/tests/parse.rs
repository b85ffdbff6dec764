//! Lines become commands, and typos are explained.

use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;
use shell::{
    AuditAction, COMMANDS, Code, Command, Compression, CpuAbout, DEFAULT_DUMP, DirtyMethod, Failure,
    HostCommand, JSON_KEYS, Kind, ListOptions, ListSort, LogLevel, LogSink, MemoryAt, MigrateCommand,
    MigrateOptions, OnTimeout, Output, Peer, PoolCommand, Setting, Term, TermSettings, Verdict, VmCommand,
    parse, write_help,
};

fn error(line: &str) -> String {
    match parse(line) {
        Ok(command) => panic!("'{line}' is {command:?}"),
        Err(error) => Failure::from(error).to_string(),
    }
}

const fn vm(command: VmCommand<'_>) -> Command<'_> {
    Command::Vm(command)
}

const fn host(command: HostCommand) -> Command<'static> {
    Command::Host(command)
}

#[test]
fn commands() {
    let at = |port| SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), port);
    for (line, command) in [
        ("", Command::Empty),
        ("  # a note", Command::Empty),
        ("help", Command::Help(None)),
        ("help vm", Command::Help(Some("vm"))),
        ("help  migrate   check ", Command::Help(Some("migrate   check"))),
        ("help vm destroy demo --force", Command::Help(Some("vm destroy"))),
        ("version", host(HostCommand::Version(Output::Text))),
        ("vm list", vm(VmCommand::List(ListOptions::default(), Output::Text))),
        ("vm list --json", vm(VmCommand::List(ListOptions::default(), Output::Json))),
        (
            "vm list --sort cpu --state=paused",
            vm(VmCommand::List(ListOptions { state: Some("paused"), sort: ListSort::Cpu }, Output::Text)),
        ),
        ("?", Command::Help(None)),
        ("? vm show", Command::Help(Some("vm show"))),
        ("-h", Command::Help(None)),
        ("vm --help", Command::Help(Some("vm"))),
        ("vm list --help", Command::Help(Some("vm list"))),
        ("vm destroy demo --force -h", Command::Help(Some("vm destroy"))),
        ("exit", Command::Exit),
        ("date", host(HostCommand::Date(Output::Text))),
        ("uptime --json", host(HostCommand::Uptime(Output::Json))),
        ("vm\tshow demo", vm(VmCommand::Show("demo", Output::Text))),
        ("vm start demo", vm(VmCommand::Start("demo"))),
        ("vm pause demo", vm(VmCommand::Pause("demo"))),
        (" vm  resume  a-b_c.1 ", vm(VmCommand::Resume("a-b_c.1"))),
        ("vm stop demo", vm(VmCommand::Stop { vm: "demo", timeout_s: None })),
        ("vm stop timeout=5 demo", vm(VmCommand::Stop { vm: "demo", timeout_s: Some(5) })),
        ("vm reset demo --force", vm(VmCommand::Reset { vm: "demo", force: true, level: None })),
        (
            "vm reset demo --level pool",
            vm(VmCommand::Reset { vm: "demo", force: false, level: Some("pool") }),
        ),
        ("vm rename demo other", vm(VmCommand::Rename { vm: "demo", to: "other" })),
        ("vm destroy demo", vm(VmCommand::Destroy { vm: "demo", force: false })),
        ("vm destroy --force demo", vm(VmCommand::Destroy { vm: "demo", force: true })),
        ("vm destroy demo --force", vm(VmCommand::Destroy { vm: "demo", force: true })),
        ("vm exits demo", vm(VmCommand::Exits { vm: "demo", vcpu: None, timed: None, output: Output::Text })),
        (
            "vm exits demo on",
            vm(VmCommand::Exits { vm: "demo", vcpu: None, timed: Some(true), output: Output::Text }),
        ),
        (
            "vm exits demo --json",
            vm(VmCommand::Exits { vm: "demo", vcpu: None, timed: None, output: Output::Json }),
        ),
        (
            "vm exits demo 3",
            vm(VmCommand::Exits { vm: "demo", vcpu: Some(3), timed: None, output: Output::Text }),
        ),
        (
            "vm exits demo 3 off",
            vm(VmCommand::Exits { vm: "demo", vcpu: Some(3), timed: Some(false), output: Output::Text }),
        ),
        ("vm regs demo 0", vm(VmCommand::Regs { vm: "demo", vcpu: Some(0), output: Output::Text })),
        (
            "vm stack demo 63 --json",
            vm(VmCommand::Stack { vm: "demo", vcpu: Some(63), output: Output::Json }),
        ),
        ("vm nmi demo", vm(VmCommand::Nmi { vm: "demo", vcpu: 0 })),
        ("vm nmi demo 1", vm(VmCommand::Nmi { vm: "demo", vcpu: 1 })),
        ("vm pin demo 1 3", vm(VmCommand::Pin { vm: "demo", vcpu: 1, cpu: 3 })),
        ("vm unpin demo 1", vm(VmCommand::Unpin { vm: "demo", vcpu: 1 })),
        ("vm regs demo --json", vm(VmCommand::Regs { vm: "demo", vcpu: None, output: Output::Json })),
        (
            "vm mem demo 0x1000",
            vm(VmCommand::Memory {
                vm: "demo",
                at: MemoryAt::Physical(0x1000),
                length: DEFAULT_DUMP,
                output: Output::Text,
            }),
        ),
        (
            "vm mem demo --virtual 0xffffffff81000000 16",
            vm(VmCommand::Memory {
                vm: "demo",
                at: MemoryAt::Virtual(0xffff_ffff_8100_0000),
                length: 16,
                output: Output::Text,
            }),
        ),
        ("vm stack demo", vm(VmCommand::Stack { vm: "demo", vcpu: None, output: Output::Text })),
        ("vm log demo", vm(VmCommand::Log { vm: "demo", utc: false, output: Output::Text })),
        ("vm log demo --json", vm(VmCommand::Log { vm: "demo", utc: false, output: Output::Json })),
        ("vm log --utc demo", vm(VmCommand::Log { vm: "demo", utc: true, output: Output::Text })),
        ("vm dirty start demo", Command::DirtyStart { vm: "demo", method: None }),
        (
            "vm dirty start demo wp",
            Command::DirtyStart { vm: "demo", method: Some(DirtyMethod::WriteProtect) },
        ),
        ("vm dirty harvest demo", Command::DirtyHarvest("demo", Output::Text)),
        ("vm dirty harvest demo --json", Command::DirtyHarvest("demo", Output::Json)),
        ("vm dirty stop demo", Command::DirtyStop("demo")),
        ("console demo", Command::Console { vm: "demo", read_only: false }),
        ("console --read-only demo", Command::Console { vm: "demo", read_only: true }),
        ("term", Command::Term(TermSettings::NONE)),
        (
            "term dumb columns=132",
            Command::Term(TermSettings { term: Some(Term::Dumb), columns: Some(132), rows: None }),
        ),
        ("term rows=24", Command::Term(TermSettings { rows: Some(24), ..TermSettings::NONE })),
        ("cpu", Command::Cpu(Output::Text)),
        ("cpu levels", Command::CpuAbout(CpuAbout::Levels, Output::Text)),
        ("cpu show --json", Command::CpuAbout(CpuAbout::Show(None), Output::Json)),
        ("cpu show haswell-v1", Command::CpuAbout(CpuAbout::Show(Some("haswell-v1")), Output::Text)),
        ("cpu diff demo 10.0.0.2:99", Command::CpuAbout(CpuAbout::Diff("demo", "10.0.0.2:99"), Output::Text)),
        (
            "cpu check demo host-b",
            Command::CpuAbout(CpuAbout::Check { vm: "demo", host: "host-b" }, Output::Text),
        ),
        ("cpu dump", Command::CpuAbout(CpuAbout::Dump(None), Output::Text)),
        ("cpu ledger demo --json", Command::CpuAbout(CpuAbout::Ledger("demo"), Output::Json)),
        ("cpu flex", Command::CpuAbout(CpuAbout::Flex, Output::Text)),
        ("cpu mitigations", Command::CpuAbout(CpuAbout::Mitigations(None), Output::Text)),
        ("cpu mitigations demo", Command::CpuAbout(CpuAbout::Mitigations(Some("demo")), Output::Text)),
        (
            "cpu audit demo start",
            Command::Audit { vm: "demo", action: AuditAction::Start, output: Output::Text },
        ),
        ("pool show --json", Command::Pool(PoolCommand::Show, Output::Json)),
        ("pool join 10.0.0.2", Command::Pool(PoolCommand::Join(at(4444)), Output::Text)),
        ("pool leave", Command::Pool(PoolCommand::Leave, Output::Text)),
        ("pool preview 10.0.0.2:99", Command::Pool(PoolCommand::Preview(at(99)), Output::Text)),
        ("pool keys", Command::Pool(PoolCommand::Keys, Output::Text)),
        ("pool keys forget 10.0.0.2", Command::Pool(PoolCommand::Forget(at(4444)), Output::Text)),
        (
            "migrate check demo 10.0.0.2",
            Command::Migrate(MigrateCommand::Check { vm: "demo", host: Peer::At(at(4444)) }),
        ),
        (
            "migrate demo 10.0.0.2:99",
            Command::Migrate(MigrateCommand::Move {
                vm: "demo",
                host: Peer::At(at(99)),
                options: MigrateOptions::DEFAULT,
            }),
        ),
        (
            "migrate downtime=30 demo timeout=9 10.0.0.2 on-timeout=throttle --detach verify=full compress=lz4",
            Command::Migrate(MigrateCommand::Move {
                vm: "demo",
                host: Peer::At(at(4444)),
                options: MigrateOptions {
                    downtime_ms: Some(30),
                    timeout_s: Some(9),
                    on_timeout: OnTimeout::Throttle,
                    verify: true,
                    compress: Some(Compression::Lz4),
                    copy: false,
                    detach: true,
                    live: false,
                },
            }),
        ),
        (
            "migrate all 10.0.0.2 --live",
            Command::Migrate(MigrateCommand::All {
                host: Peer::At(at(4444)),
                options: MigrateOptions { live: true, ..MigrateOptions::DEFAULT },
            }),
        ),
        ("migrate status --json", Command::Migrate(MigrateCommand::Status(Output::Json))),
        ("migrate cancel demo", Command::Migrate(MigrateCommand::Cancel("demo"))),
        (
            "migrate resolve demo run-here receipt=00ff-A --force",
            Command::Migrate(MigrateCommand::Resolve {
                vm: "demo",
                verdict: Verdict::RunHere,
                receipt: Some("00ff-A"),
                force: true,
            }),
        ),
        ("log", host(HostCommand::LogLevels(Output::Text))),
        ("log -f", host(HostCommand::Follow { utc: false })),
        ("log -f --utc", host(HostCommand::Follow { utc: true })),
        ("events", host(HostCommand::Events { follow: false, utc: false, output: Output::Text })),
        (
            "events -f --utc --json",
            host(HostCommand::Events { follow: true, utc: true, output: Output::Json }),
        ),
        ("sessions", host(HostCommand::Sessions(Output::Text))),
        ("who --json", host(HostCommand::Sessions(Output::Json))),
        ("watch vm list --sort cpu", Command::Watch { line: "vm list --sort cpu", seconds: 2 }),
        ("  watch   net stats --json ", Command::Watch { line: "net stats --json", seconds: 2 }),
        ("watch -n 10 vm list --json", Command::Watch { line: "vm list --json", seconds: 10 }),
        ("watch -n=86400 mem", Command::Watch { line: "mem", seconds: 86_400 }),
        ("watch -h", Command::Help(Some("watch"))),
        ("log debug", host(HostCommand::Log(None, LogLevel::Debug))),
        ("log console warn", host(HostCommand::Log(Some(LogSink::Console), LogLevel::Warn))),
        ("log ring trace", host(HostCommand::Log(Some(LogSink::Ring), LogLevel::Trace))),
        ("dmesg", host(HostCommand::Dmesg { previous: false, utc: false, output: Output::Text })),
        ("dmesg --utc", host(HostCommand::Dmesg { previous: false, utc: true, output: Output::Text })),
        (
            "dmesg --previous --json",
            host(HostCommand::Dmesg { previous: true, utc: false, output: Output::Json }),
        ),
        ("config show --boot", host(HostCommand::ConfigLine)),
        ("config show", host(HostCommand::Config(Output::Text))),
        ("boot --json", host(HostCommand::Boot(Output::Json))),
        ("net show", host(HostCommand::NetShow(Output::Text))),
        ("net stats --json", host(HostCommand::NetStats(Output::Json))),
        ("net ping 10.0.0.2", host(HostCommand::NetPing(Ipv4Addr::new(10, 0, 0, 2)))),
        ("mem", host(HostCommand::Mem(Output::Text))),
        ("top", host(HostCommand::Top { once: false, anew: false, output: Output::Text })),
        ("top --once --anew", host(HostCommand::Top { once: true, anew: true, output: Output::Text })),
        ("msr read 0x10", host(HostCommand::MsrRead { number: 16, output: Output::Text })),
        (
            "msr write 407 0x3ff --force",
            host(HostCommand::MsrWrite { number: 407, value: 0x3ff, force: true }),
        ),
        ("reboot", host(HostCommand::Reboot { force: false })),
        ("reboot --force", host(HostCommand::Reboot { force: true })),
        ("poweroff", host(HostCommand::Poweroff { force: false })),
    ] {
        assert_eq!(parse(line).unwrap(), command, "{line}");
    }
}

#[test]
fn typos_are_explained() {
    for (line, text) in [
        ("vn", "unknown command 'vn': did you mean 'vm'?"),
        ("Help", "unknown command 'Help': did you mean 'help'?"),
        ("list", "unknown command 'list': did you mean 'vm list'?"),
        ("frobnicate", "unknown command 'frobnicate': 'help' lists the commands"),
        (
            "vm",
            "'vm' is not a whole command: one of list, show, create, start, pause, resume, stop, reset, rename, destroy, exits, regs, nmi, pin, unpin, mem, stack, log, dirty",
        ),
        ("vm lsit", "unknown 'vm' command 'lsit': did you mean 'list'?"),
        (
            "vm guests",
            "unknown 'vm' command 'guests': one of list, show, create, start, pause, resume, stop, reset, rename, destroy, exits, regs, nmi, pin, unpin, mem, stack, log, dirty",
        ),
        ("vm dirty demo", "unknown 'vm dirty' command 'demo': one of start, harvest, stop"),
        (
            "vm dirty start demo fast",
            "METHOD 'fast' is none of pml, ad, wp: usage: vm dirty start VM [METHOD]",
        ),
        ("vm list demo", "unexpected 'demo': usage: vm list ..., see `help vm list`"),
        ("vm show", "VM is missing: usage: vm show VM [--json]"),
        (
            "vm show a/b",
            "VM 'a/b' is no VM name (at most 32 of A-Z a-z 0-9 - _ .): usage: vm show VM [--json]",
        ),
        ("vm show demo --force", "unknown option '--force': usage: vm show VM [--json]"),
        ("vm destroy demo --froce", "unknown option '--froce' of 'vm destroy': did you mean '--force'?"),
        ("vm destroy demo other", "unexpected 'other': usage: vm destroy VM [--force]"),
        ("migrate check demo", "HOST is missing: usage: migrate check VM HOST"),
        (
            "migrate a 10.0.0.2 x",
            "unexpected 'x': usage: migrate check VM HOST, or migrate VM HOST, or migrate all HOST, \
             or migrate status, or migrate cancel VM, or migrate resolve VM VERDICT",
        ),
        (
            "migrate a 10.0.0.2 downtme=3",
            "unknown option 'downtme=3' of 'migrate': did you mean 'downtime='?",
        ),
        (
            "migrate all 10.0.0.2 downtime=-3",
            "downtime=MS '-3' is no number of milliseconds up to a day: usage: migrate all HOST ..., see `help migrate all`",
        ),
        (
            "migrate resolve demo keep",
            "VERDICT 'keep' is neither run-here nor discard: usage: migrate resolve VM VERDICT [receipt=RECEIPT] [--force]",
        ),
        (
            "log loud",
            "LEVEL 'loud' is none of error, warn, info, debug, trace: usage: log [LEVEL] [-f] [--utc] [--json]",
        ),
        (
            "log console loud",
            "LEVEL 'loud' is none of error, warn, info, debug, trace: usage: log console LEVEL",
        ),
        (
            "vm exits demo maybe",
            "on|off 'maybe' is neither on nor off: usage: vm exits VM [VCPU] [on|off] [--json]",
        ),
        (
            "vm mem demo ten",
            "ADDRESS 'ten' is no number: decimal, or 0x and up to 16 hexadecimal digits: usage: vm mem VM ADDRESS [LENGTH] \
             [--virtual] [--json]",
        ),
        (
            "vm mem demo 0 4097",
            "LENGTH '4097' is no number of bytes from 1 to 4096: usage: vm mem VM ADDRESS [LENGTH] [--virtual] [--json]",
        ),
        (
            "msr read 0x100000000",
            "MSR '0x100000000' is no MSR: decimal, or 0x and up to 8 hexadecimal digits: usage: msr read MSR [--json]",
        ),
        ("net ping 10.0.0.2:1", "HOST '10.0.0.2:1' is no IPv4 address like 10.0.0.2: usage: net ping HOST"),
        (
            "vm rename demo a/b",
            "NAME 'a/b' is no name for a VM (1 to 31 of a-z 0-9 -): usage: vm rename VM NAME",
        ),
        ("msr write 1 -1", "unknown option '-1': usage: msr write MSR VALUE [--force]"),
        (
            "vm exits demo 1x",
            "VCPU '1x' is no number of a vCPU, from 0 on: usage: vm exits VM [VCPU] [on|off] [--json]",
        ),
        ("vm exits demo on 1", "unexpected '1': usage: vm exits VM [VCPU] [on|off] [--json]"),
        (
            "vm regs demo first",
            "VCPU 'first' is no number of a vCPU, from 0 on: usage: vm regs VM [VCPU] [--json]",
        ),
        ("vm unpin demo", "VCPU is missing: usage: vm unpin VM VCPU"),
        ("vm pin demo 1", "CPU is missing: usage: vm pin VM VCPU CPU"),
        ("vm pin demo 1 all", "CPU 'all' is no number of a CPU, from 0 on: usage: vm pin VM VCPU CPU"),
        ("vm nmi demo -1", "unknown option '-1': usage: vm nmi VM [VCPU]"),
        ("vm exits demo onn", "on|off 'onn' is neither on nor off: did you mean 'on'?"),
        ("log inof", "LEVEL 'inof' is none of error, warn, info, debug, trace: did you mean 'info'?"),
        ("vm dirty start demo plm", "METHOD 'plm' is none of pml, ad, wp: did you mean 'pml'?"),
        ("cpu audit demo stpo", "ACTION 'stpo' is none of start, report, stop: did you mean 'stop'?"),
        ("term asni", "auto|dumb|ansi 'asni' is none of auto, dumb, ansi: did you mean 'ansi'?"),
        (
            "term columns=9",
            "columns=N '9' is no number from 40 to 1000: usage: term [auto|dumb|ansi] [columns=N] [rows=N]",
        ),
        (
            "term rows=3",
            "rows=N '3' is no number from 4 to 1000, nor 0: usage: term [auto|dumb|ansi] [columns=N] [rows=N]",
        ),
        (
            "watch vm pause demo",
            "COMMAND 'vm' cannot be watched: only what looks and answers at once can: usage: watch [-n SECONDS] COMMAND",
        ),
        ("watch -n 5", "COMMAND is missing: usage: watch [-n SECONDS] COMMAND"),
        (
            "watch -n 0 mem",
            "-n SECONDS '0' is no number of seconds from 1 to a day: usage: watch [-n SECONDS] COMMAND",
        ),
        (
            "watch -n mem",
            "-n SECONDS 'mem' is no number of seconds from 1 to a day: usage: watch [-n SECONDS] COMMAND",
        ),
        (
            "watch dmesg",
            "COMMAND 'dmesg' cannot be watched: only what looks and answers at once can: usage: watch [-n SECONDS] COMMAND",
        ),
        (
            "migrate a 10.0.0.2 verify=fulll",
            "verify=full|seals 'fulll' is neither full nor seals: did you mean 'full'?",
        ),
        ("migrate a 10.0.0.2 detach", "unexpected 'detach': did you mean '--detach'?"),
        (
            "migrate a 10.0.0.2 --timeuot=3",
            "unknown option '--timeuot=3' of 'migrate': did you mean 'timeout='?",
        ),
        ("vm destroy demo force", "unexpected 'force': did you mean '--force'?"),
        ("help vn", "unknown command 'vn': did you mean 'vm'?"),
        ("help vm lsit", "unknown 'vm' command 'lsit': did you mean 'list'?"),
        ("\u{1b}x", "unknown command '\\u{1b}x': 'help' lists the commands"),
    ] {
        assert_eq!(error(line), format!("error: usage: {text}"), "{line}");
    }
}

#[test]
fn hosts_are_whole_addresses() {
    for host in
        ["10.0.0", "10.0.0.256", "010.0.0.1", "10.0.0.2:", "10.0.0.2:65536", "host", "::1", "10.0.0.2:-1"]
    {
        assert!(error(&format!("pool join {host}")).contains("is no IPv4 address"), "{host}");
    }
    for host in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "10.0.0.2:0"] {
        assert!(error(&format!("migrate demo {host}")).contains("is not the address of one host"), "{host}");
    }
}

/// A member of the pool goes by its name wherever a VM is sent; what looks like an address is one.
#[test]
fn migrations_take_names_of_members() {
    let host = |line| match parse(line) {
        Ok(Command::Migrate(MigrateCommand::Check { host, .. } | MigrateCommand::Move { host, .. })) => host,
        Ok(Command::Migrate(MigrateCommand::All { host, .. })) => host,
        other => panic!("{line}: {other:?}"),
    };
    for line in ["migrate check demo host-b", "migrate demo host-b", "migrate all host-b"] {
        assert_eq!(host(line), Peer::Member("host-b"));
    }
    assert_eq!(host("migrate demo 10.a"), Peer::Member("10.a"));
    for wrong in ["10.0.0", "10.0.0.2:", "1", "a:b", "::1", "a/b"] {
        assert!(error(&format!("migrate demo {wrong}")).contains("is no IPv4 address"), "{wrong}");
    }
}

const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF";

#[test]
fn a_key_is_taken_whole_and_never_shown() {
    assert_eq!(
        parse(&format!("pool key {KEY}")).unwrap(),
        Command::Pool(PoolCommand::Key(KEY), Output::Text)
    );
    for word in ["correct-horse-battery-staple", &KEY[1..], &format!("{KEY}0"), &KEY.replace('a', "g")] {
        let text = error(&format!("pool key {word}"));
        assert!(text.contains("is not 64 hexadecimal digits") && !text.contains(word), "{text}");
    }
}

#[test]
fn a_vm_is_made_of_urls() {
    let made = |rest: &str| match parse(&format!("vm create new {rest}")) {
        Ok(Command::Vm(VmCommand::Create(options))) => Ok(format!("{options:?}")),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    };
    let all = made(
        "--paused --kernel http://10.0.0.2/k --initrd=tftp://10.0.0.3/i --mem 512 --cmdline='a \"b c\" d' --level haswell --phys-bits=39 --vcpus 8 --topology 2:2:2 --on-reset=stop",
    );
    let all = all.unwrap();
    for part in [
        "name: \"new\", kernel: \"http://10.0.0.2/k\", initrd: Some(\"tftp://10.0.0.3/i\"), mem_mib: Some(512)",
        r#"cmdline: "a \"b c\" d", level: Some("haswell"), phys_bits: Some(39), "#,
        "vcpus: Some(8), topology: Some(Topology { sockets: 2, cores: 2, threads: 2 })",
        "paused: true",
        "on_reset: Some(Stop)",
    ] {
        assert!(all.contains(part), "{all}");
    }
    for (rest, text) in [
        ("", "--kernel URL is missing: usage: vm create NAME --kernel URL ..., see `help vm create`"),
        ("--kernel", "--kernel is followed by no value: usage: "),
        (
            "--kernel ftp://10.0.0.2/k",
            "--kernel URL 'ftp://10.0.0.2/k' begins with neither http:// nor tftp://",
        ),
        ("--kernel http://10.0.0.2/k --mem 0", "--mem MIB '0' is no number of MiB from 1 to 1048576"),
        ("--kernel http://10.0.0.2/k --mem 1G", "--mem MIB '1G' is no number of MiB"),
        ("--kernel http://10.0.0.2/k --vcpus 65", "--vcpus N '65' is no number of vCPUs from 1 to 64"),
        ("--kernel http://10.0.0.2/k --vcpus 0", "--vcpus N '0' is no number of vCPUs"),
        (
            "--kernel http://10.0.0.2/k --topology 4:1",
            "--topology SOCKETS:CORES:THREADS '4:1' is not three numbers, SOCKETS:CORES:THREADS",
        ),
        ("--kernal http://10.0.0.2/k", "unknown option '--kernal' of 'vm create': did you mean '--kernel'?"),
        ("--kernal=http://10.0.0.2/k", "did you mean '--kernel'?"),
        ("--kernel http://10.0.0.2/k --sha256 12", "is no SHA-256 digest of 64 hexadecimal digits"),
        ("--kernel http://10.0.0.2/k --cmdline \"a b", "the quote of '\"a b' is not closed"),
        ("--kernel http://10.0.0.2/k extra", "unexpected 'extra': usage: vm create"),
        ("--mem 8 --kernel http://10.0.0.2/k --mem=8", "--mem is there twice: usage: vm create"),
    ] {
        let error = made(rest).unwrap_err();
        assert!(error.contains(text), "{rest}: {error}");
    }
    let text = error("vm create New --kernel http://10.0.0.2/k");
    assert!(text.contains("NAME 'New' is no name for a VM (1 to 31 of a-z 0-9 -): usage"), "{text}");
    let text = error("migrate demo 10.0.0.2 timeout=9 timeout=9");
    assert!(text.contains("timeout is there twice: usage"), "{text}");
    // The digest of a file is no key.
    assert_eq!(shell::secret_at(&format!("vm create x --sha256 {KEY}")), None);
    assert_eq!(shell::secret_at(&format!("vm create x --initrd-sha256={KEY}")), None);
    assert_eq!(shell::secret_at(&format!("vm create x {KEY}")), Some(12));
}

/// With single blanks.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A line that the table says is right.
fn valid_line(spec: &shell::Spec) -> String {
    let mut line = spec.to_string();
    for arg in spec.args {
        line.push(' ');
        line.push_str(match arg.kind {
            Kind::Vm => "demo",
            Kind::Peer => "host-b",
            Kind::Host => "10.0.0.2:4444",
            Kind::NewName => "other",
            Kind::Address => "10.0.0.2",
            Kind::Number => "0x20",
            Kind::Switch => "on",
            Kind::Level => "warn",
            Kind::Method => "pml",
            Kind::Subject => "haswell",
            Kind::Action => "report",
            Kind::Secret => KEY,
            Kind::Term => "ansi",
            Kind::Topic | Kind::Line => "vm list",
            Kind::Verdict => "discard",
            Kind::Setting(setting) => match setting {
                Setting::Downtime => "downtime=100",
                Setting::Timeout => "timeout=60",
                Setting::OnTimeout => "on-timeout=cancel",
                Setting::Verify => "verify=full",
                Setting::Compress => "compress=auto",
                Setting::Receipt => "receipt=00ff",
                Setting::Columns => "columns=100",
                Setting::Rows => "rows=30",
                Setting::Kernel => "--kernel http://10.0.0.2/vmlinuz",
                Setting::Initrd => "--initrd=tftp://10.0.0.2/initrd.img",
                Setting::Mem => "--mem 512",
                Setting::GuestLine => "--cmdline \"console=ttyS0 quiet\"",
                Setting::CpuLevel => "--level haswell",
                Setting::PhysBits => "--phys-bits 39",
                Setting::Vcpus => "--vcpus 4",
                Setting::Topology => "--topology=2:2:1",
                Setting::OnReset => "--on-reset stop",
                Setting::State => "--state stopped",
                Setting::Sort => "--sort=uptime",
                Setting::Every => "-n 10",
                Setting::Sha256 => {
                    concat!("--sha256 ", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")
                }
                Setting::InitrdSha256 => concat!(
                    "--initrd-sha256=",
                    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
                ),
            },
            Kind::Flag => arg.name,
        });
    }
    line
}

#[test]
fn the_table_holds_together() {
    // The parser notes in 32 bits which have come.
    assert!(COMMANDS.iter().all(|spec| spec.args.len() <= 32));
    for spec in COMMANDS {
        assert!(parse(&valid_line(spec)).is_ok(), "{spec}");
        assert!(spec.summary.ends_with('.') && spec.summary.len() <= 48, "{spec}");
        assert_eq!(COMMANDS.iter().filter(|s| s.words == spec.words).count(), 1, "{spec}");
        // A command in a command takes all that follows.
        let line = spec.args.iter().position(|a| a.kind == Kind::Line);
        assert!(line.is_none_or(|place| place + 1 == spec.args.len()), "{spec}");
        let optional = spec.args.iter().filter(|a| a.kind != Kind::Line).skip_while(|a| a.required);
        assert!(
            optional.filter(|a| a.required).count() == 0,
            "{spec}: a required argument behind an optional one"
        );
        // A VM with the name of a sub-command could not be named.
        let named = spec.args.iter().any(|a| matches!(a.kind, Kind::Vm | Kind::Subject));
        let same_start = COMMANDS
            .iter()
            .filter(|_| named)
            .filter(|s| s.words.len() > spec.words.len() && s.words.starts_with(spec.words));
        for other in same_start {
            let word = &other.words[spec.words.len()];
            assert!(
                ["check", "all", "status", "cancel", "resolve"].contains(word),
                "{other} hides a VM of that name"
            );
        }
        let mut help = String::new();
        write_help(Some(&spec.to_string()), &mut help).unwrap();
        assert!(
            words(&help).contains(&words(&spec.usage().to_string()))
                && help.lines().all(|l| l.chars().count() <= 80),
            "{help}"
        );
    }
    let mut all = String::new();
    write_help(None, &mut all).unwrap();
    assert_eq!(all.lines().count(), COMMANDS.len());
    assert!(all.lines().all(|l| l.chars().count() <= 80), "{all}");
}

/// Every document is described, once, and nothing else is.
#[test]
fn json_keys_are_documented() {
    let prints = |spec: &&shell::Spec| spec.args.iter().any(|arg| arg.name == "--json");
    for spec in COMMANDS.iter().filter(prints) {
        let found = JSON_KEYS.iter().filter(|keys| keys.command == spec.to_string()).count();
        assert_eq!(found, 1, "{spec}");
    }
    assert_eq!(JSON_KEYS.len(), COMMANDS.iter().filter(prints).count());
    for keys in JSON_KEYS {
        let paths: Vec<_> = keys.paths().map(|(path, _)| path).collect();
        let once: std::collections::BTreeSet<_> = paths.iter().collect();
        assert_eq!(once.len(), paths.len(), "{}", keys.command);
    }
}

#[test]
fn docs_are_up_to_date() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/console.md"));
    let mut now = String::new();
    shell::write_markdown(&mut now).unwrap();
    assert!(
        page.is_ok_and(|p| p == now),
        "docs/console.md is stale: cargo run -p shell --example console_md > docs/console.md"
    );
}

proptest! {
    #[test]
    fn what_stands_in_quotes_comes_out_as_it_is(
        text in "[^\"\\p{Cc}]{0,80}", apart in any::<bool>(), front in any::<bool>(),
    ) {
        let option = format!("--cmdline{}\"{text}\"", if apart { " " } else { "=" });
        let kernel = "--kernel http://10.0.0.2/k?a=b";
        let (first, second) = if front { (option.as_str(), kernel) } else { (kernel, option.as_str()) };
        let line = format!("vm create x {first} {second} --paused");
        let Ok(Command::Vm(VmCommand::Create(options))) = parse(&line) else { panic!("{line}") };
        prop_assert_eq!(options.cmdline, &text);
        prop_assert_eq!(options.kernel, "http://10.0.0.2/k?a=b");
        prop_assert!(options.paused);
    }

    #[test]
    fn any_line_is_a_command_or_one_line_of_error(line in any::<String>()) {
        explains(&line)?;
    }

    #[test]
    fn a_mutated_line_is_a_command_or_one_line_of_error(
        pick in 0..COMMANDS.len(), at in any::<prop::sample::Index>(), with in any::<Option<char>>(), twice in any::<bool>(),
    ) {
        let mut chars: Vec<char> = valid_line(&COMMANDS[pick]).chars().collect();
        let at = at.index(chars.len());
        match with {
            Some(c) if twice => chars.insert(at, c),
            Some(c) => chars[at] = c,
            None => { chars.remove(at); }
        }
        explains(&chars.into_iter().collect::<String>())?;
    }
}

fn explains(line: &str) -> Result<(), TestCaseError> {
    if let Err(error) = parse(line) {
        let text = Failure::from(error).to_string();
        prop_assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
        prop_assert!(text.len() < 600, "{text:?}");
    }
    Ok(())
}

#[test]
fn options_with_values_are_completed() {
    struct Levels;
    impl shell::Names for Levels {
        fn each(&self, kind: shell::Named, found: &mut dyn FnMut(&str)) {
            if kind == shell::Named::CpuLevels {
                ["haswell", "westmere"].into_iter().for_each(found);
            }
        }
    }
    for (line, expected) in [
        ("vm create x --k", &["--kernel"][..]),
        ("vm create x --initrd", &["--initrd", "--initrd-sha256"]),
        ("vm create x --level ", &["haswell", "westmere"]),
        ("vm create x --level w", &["westmere"]),
        ("vm create x --mem 8 --me", &[]),
        ("vm create x --cmdline \"a --me", &[]),
        ("vm create x --cmdline \"a b\" --me", &["--mem"]),
        ("vm create x --topo", &["--topology"]),
        // A vCPU's number may be left out.
        ("vm exits x o", &["off", "on"]),
        ("vm exits x 1 o", &["off", "on"]),
        ("vm nm", &["nmi"]),
        ("watch -", &["-n"]),
        ("watch -n ", &[]),
        ("watch -n 5", &[]),
        ("watch -n 5 vm sh", &["show"]),
        ("watch -n=5 vm sh", &["show"]),
        ("watch vm sh", &["show"]),
    ] {
        assert_eq!(shell::complete(line, &Levels).candidates, expected, "{line}");
    }
}

#[test]
fn every_code_has_its_advice() {
    let page = include_str!("../../../docs/troubleshooting.md");
    for (code, _) in Code::ALL {
        assert!(
            page.contains(&format!("\n| `{code}` | ")),
            "docs/troubleshooting.md does not explain `{code}`"
        );
    }
}
