//! The tables, the parsers and the documentation page agree.

use cmdline::{
    Apicv, COM2_PORT, Console, HostOptions, Idle, IpConfig, LogLevel, ModuleRole, NicChoice, OptionError,
    PanicAction, SerialUse, SliceTimer, Uart, VmOptions,
};
use proptest::prelude::*;
use vm_types::{OnReset, Topology};

fn host(line: &str) -> (HostOptions, Vec<String>) {
    let (options, warnings) = HostOptions::parse(line);
    (options, warnings.iter().map(ToString::to_string).collect())
}

#[test]
fn documentation_is_the_tables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/boot-options.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, cmdline::markdown()).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap();
    assert!(
        page == cmdline::markdown(),
        "docs/boot-options.md is stale: UPDATE_DOCS=1 cargo test -p cmdline"
    );
}

#[test]
fn table_defaults_are_the_defaults() {
    assert_eq!(host(""), (HostOptions::default(), vec![]));
    for spec in HostOptions::table().iter().filter(|spec| !spec.default.is_empty()) {
        assert_eq!(
            host(&format!("{}={}", spec.name, spec.default)),
            (HostOptions::default(), vec![]),
            "{}",
            spec.name
        );
    }
    let plain = VmOptions::parse("vm=a").unwrap();
    for spec in VmOptions::table().iter().filter(|spec| !spec.default.is_empty()) {
        assert_eq!(VmOptions::parse(&format!("vm=a {}={}", spec.name, spec.default)).unwrap(), plain);
    }
}

#[test]
fn every_host_option() {
    let line = "/boot/flexvisor.elf console=com2,57600n8 loglevel=trace ip=10.1.2.3/24,10.1.2.1 nic=82:00.1 idle=poll \
                panic=debug-exit mitigations=off iommu=off aesni=off slice-timer=apic apicv=on check=entry migrate=listen:4445 com1=vm:demo com2=host insecure selftest manage=on \
                pool=lab name=haswell-a peers=10.1.2.4,10.1.2.5:4445 pool-wait=60 max-file=64 accept=512 \
                key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f \
                hostkey=0F0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f \
                seed=ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let secret = |first: &str| {
        let rest = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        cmdline::Secret::from_hex(&format!("{first}{rest}"))
    };
    let want = HostOptions {
        consoles: vec![Console { uart: Uart::Io(COM2_PORT), baud: Some(57_600) }],
        log_level: LogLevel::Trace,
        ip: IpConfig::Static {
            address: [10, 1, 2, 3].into(),
            prefix: 24,
            gateway: Some([10, 1, 2, 1].into()),
        },
        nic: NicChoice::Place { bus: 0x82, device: 0, function: 1 },
        idle: Idle::Poll,
        panic: PanicAction::DebugExit,
        mitigations: false,
        iommu: false,
        aesni: false,
        slice_timer: Some(SliceTimer::Apic),
        apicv: Apicv::On,
        check_entry: true,
        migrate_port: Some(4445),
        pool: Some("lab".into()),
        name: Some("haswell-a".into()),
        peers: ["10.1.2.4:4444", "10.1.2.5:4445"].map(|peer| peer.parse().unwrap()).into(),
        pool_wait_s: 60,
        max_file_mib: 64,
        accept_mib: Some(512),
        key: secret("00"),
        host_key: secret("0f"),
        seed: secret("ff"),
        insecure: true,
        selftest: true,
        manage: true,
        com1: SerialUse::Vm("demo".into()),
        com2: SerialUse::Host,
    };
    assert_eq!(host(line), (want, vec![]));
    assert_eq!(host("migrate=listen").0.migrate_port, Some(4444));
    assert_eq!(host("ip=dhcp").0.ip, IpConfig::Dhcp);
    assert!(host("--selftest --name=a").0.selftest);
    assert_eq!(cmdline::redacted("--key=00 x"), "--key=... x");
}

fn consoles(line: &str) -> Vec<(String, u32)> {
    let (options, warnings) = host(line);
    assert_eq!(warnings, Vec::<String>::new(), "{line}");
    options.consoles.iter().map(|console| (console.uart.to_string(), console.baud.unwrap())).collect()
}

#[test]
fn consoles_by_number_address_memory_and_card() {
    for (line, want) in [
        ("console=com1", vec![("COM1", 115_200)]),
        ("console=com4,9600n8", vec![("COM4", 9_600)]),
        ("console=0x2f8", vec![("COM2", 115_200)]),
        ("console=0x2e0,50", vec![("port 0x2e0", 50)]),
        ("console=mmio:0xfedc9000", vec![("mmio:0xfedc9000", 115_200)]),
        ("console=mmio:0xfedc9000,4,38400", vec![("mmio:0xfedc9000,4", 38_400)]),
        ("console=mmio:0x91a000000,1,57600n8,com1", vec![("mmio:0x91a000000", 57_600), ("COM1", 115_200)]),
        ("console=pci:00:1f.3", vec![("pci:00:1f.3", 115_200)]),
        ("console=pci:AF:02.0,3,19200", vec![("pci:af:02.0,3", 19_200)]),
        ("console=com1,com2,19200,com3", vec![("COM1", 115_200), ("COM2", 19_200), ("COM3", 115_200)]),
        (
            "console=com2,9600 idle=poll console=com1,0x2e0",
            vec![("COM2", 9_600), ("COM1", 115_200), ("port 0x2e0", 115_200)],
        ),
    ] {
        let want: Vec<_> = want.into_iter().map(|(name, baud)| (name.to_string(), baud)).collect();
        assert_eq!(consoles(line), want, "{line}");
    }
    let row = |line: &'static str| {
        let rows = HostOptions::in_force(&[("boot line", line), ("config", "console=com4")]);
        rows.into_iter().find(|row| row.name == "console").unwrap()
    };
    assert_eq!(row("console=com1 console=com2,9600").value, "com1,com2,9600");
    assert_eq!((row("idle=poll").value.as_str(), row("idle=poll").from), ("com4", "config"));
    // The boot line's take the place of those in a file.
    let file = cmdline::ConfigFile::parse("f", b"console=com3 console=com4").unwrap();
    let (options, _) = HostOptions::with_config("console=com2 console=com1", &[file]);
    assert_eq!(
        options.consoles.iter().map(|c| c.uart).collect::<Vec<_>>(),
        [Uart::Io(0x2F8), Uart::Io(0x3F8)]
    );
}

#[test]
fn a_wrong_console_is_named_and_gives_none() {
    for value in [
        "",
        "com",
        "com0",
        "com5",
        "com9",
        "COM1",
        "com1,",
        "com1,115200e7",
        "com1,7",
        "com1,100000",
        "com1,4",
        "com1,115200,9600",
        "0x+3f8",
        "0xfffa",
        "0x0",
        "0x12345",
        "3f8",
        "mmio:fedc9000",
        "mmio:0x0",
        "mmio:0x1000,3",
        "mmio:0xffffffffffffffff",
        "mmio:0x10000000000000000",
        "pci:0:1",
        "pci:100:00.0",
        "pci:00:20.0",
        "pci:00:00.8",
        "pci:00:03.0,8",
        "com1,com1",
        "com1,com9",
        "com1,0x3f8",
        "com1,com2,com3,com4,0x2e0",
        "1",
    ] {
        let (options, warnings) = host(&format!("console={value}"));
        assert!(options.consoles.is_empty(), "{value}");
        let want = format!("boot line: option console={value}: expected PORT[,BAUD[n8]][,PORT...]");
        assert_eq!(warnings, [want]);
    }
    // A second one that is wrong leaves the first.
    for value in ["com9", "com1", "com2,com3,com4,0x2e0"] {
        let (options, warnings) = host(&format!("console=com1 console={value}"));
        assert_eq!((options.consoles.len(), warnings.len()), (1, 1), "{value}");
        assert!(warnings[0].contains(&format!("option console={value}: expected")), "{warnings:?}");
    }
}

#[test]
fn a_console_is_given_to_no_vm() {
    for (line, name) in [
        ("com1=vm:a", "com1"),
        ("console=com2 com2=vm:a", "com2"),
        ("console=com1,com2 com2=vm:a", "com2"),
        ("console=0x2fc com2=vm:a", "com2"),
    ] {
        let (options, warnings) = host(line);
        assert_eq!((options.com1, options.com2), (SerialUse::Host, SerialUse::Host), "{line}");
        assert!(warnings[0].contains(&format!("the host's console is on {name}")), "{warnings:?}");
    }
    assert_eq!(host("console=com2,com3 com1=vm:a").0.com1, SerialUse::Vm("a".into()));
}

#[test]
fn a_wrong_host_option_is_named_and_changes_nothing() {
    for (word, text) in [
        ("logleval=debug", "boot line: unknown option `logleval=debug` (did you mean `loglevel`?)"),
        ("Console=com2", "boot line: unknown option `Console=com2` (did you mean `console`?)"),
        ("zzz", "boot line: unknown option `zzz`"),
        ("loglevel=loud", "boot line: option loglevel=loud: expected error|warn|info|debug|trace"),
        ("idle", "boot line: option idle has no value: expected idle=hlt|poll"),
        ("ip=10.0.0.1", "boot line: option ip=10.0.0.1: expected off|dhcp|A.B.C.D/M[,GATEWAY]"),
        ("ip=10.0.0.1/33", "boot line: option ip=10.0.0.1/33: expected off|dhcp|A.B.C.D/M[,GATEWAY]"),
        ("ip=224.0.0.1/8", "boot line: option ip=224.0.0.1/8: expected off|dhcp|A.B.C.D/M[,GATEWAY]"),
        ("ip=10.0.0.1/8,x", "boot line: option ip=10.0.0.1/8,x: expected off|dhcp|A.B.C.D/M[,GATEWAY]"),
        ("pool=La", "boot line: option pool=La: expected NAME"),
        ("peers=10.0.0.1,", "boot line: option peers=10.0.0.1,: expected A.B.C.D[:PORT][,...]"),
        ("peers=10.0.0.1:0", "boot line: option peers=10.0.0.1:0: expected A.B.C.D[:PORT][,...]"),
        ("accept=1048577", "boot line: option accept=1048577: expected MIB (0 to 1048576)"),
        ("pool-wait=601", "boot line: option pool-wait=601: expected SECONDS (0 to 600)"),
        ("migrate=listen:0", "boot line: option migrate=listen:0: expected off|listen[:PORT]"),
        ("migrate=listen:+1", "boot line: option migrate=listen:+1: expected off|listen[:PORT]"),
        ("com2=vm:Demo", "boot line: option com2=vm:Demo: expected host|vm:NAME"),
        ("com1=vm:a", "boot line: option com1=vm:a: the host's console is on com1 (move it with console=)"),
        ("\"key=secret phrase\"", "boot line: option key=...: expected HEX64"),
        ("keys=0123456789", "boot line: unknown option `keys=...` (did you mean `key`?)"),
        ("zzz=00112233445566778899aabbccddeeff00", "boot line: unknown option `zzz=...`"),
        ("\"seed=1 2", "boot line: unclosed quote in `seed=...`"),
        ("insecure=no", "boot line: option insecure=no: insecure takes no value"),
        ("\"idle=po ll", "boot line: unclosed quote in `idle=po ll`"),
    ] {
        assert_eq!(host(word), (HostOptions::default(), vec![text.to_string()]));
    }
    let (options, warnings) = host("idle=poll idle=hlt");
    assert_eq!(
        (options.idle, warnings),
        (Idle::Poll, vec!["boot line: option idle=hlt is given twice".to_string()])
    );
}

#[test]
fn every_vm_option() {
    let line = "vm=demo mem=512 level=skylake-server phys-bits=39 vcpus=8 topology=2:2:2 pci=on rng=on debug-exit on-reset=stop paused -- console=ttyS0  \"a b\" -- c";
    let want = VmOptions {
        name: "demo".into(),
        mem_mib: 512,
        level: Some("skylake-server".into()),
        phys_bits: Some(39),
        vcpus: 8,
        topology: Some(Topology { sockets: 2, cores: 2, threads: 2 }),
        pci: true,
        rng: true,
        debug_exit: true,
        on_reset: OnReset::Stop,
        paused: true,
        args: "console=ttyS0  \"a b\" -- c".into(),
    };
    assert_eq!(VmOptions::parse(line), Ok(want.clone()));
    assert_eq!(ModuleRole::parse(line), Ok(ModuleRole::Vm(want)));
    let rest = "hello world".to_string();
    assert_eq!(
        ModuleRole::parse("/m for=demo -- hello world"),
        Ok(ModuleRole::For { name: "demo".into(), rest })
    );
    assert_eq!(ModuleRole::parse("/boot/x"), Ok(ModuleRole::Other));
    assert_eq!(ModuleRole::parse("/boot/x pool-key"), Ok(ModuleRole::PoolKey));
    assert_eq!(ModuleRole::parse("/boot/x -- pool-key"), Ok(ModuleRole::Other));
    assert_eq!(ModuleRole::parse("x=1 -- vm=demo"), Ok(ModuleRole::Other));
}

/// What goes along with a VM makes the same one on another host.
#[test]
fn a_vm_says_itself_in_words() {
    let mut seen = Vec::new();
    for words in [
        "mem=256",
        "mem=1048576 level=haswell-v2",
        "mem=1 phys-bits=52 pci=on rng=on debug-exit on-reset=stop",
        "mem=512 level=nehalem phys-bits=39 debug-exit",
        "mem=512 vcpus=3",
        "mem=512 vcpus=6 topology=3:2:1",
    ] {
        let options = VmOptions::parse(&format!("vm=a {words} -- quiet")).unwrap();
        assert_eq!(options.words(), words);
        assert_eq!(VmOptions { paused: true, ..options }.words(), words);
        seen.push(words);
    }
    // An option that is added has to go along: all but these do.
    let all = seen.join(" ");
    for row in VmOptions::table() {
        let apart = ["vm", "paused"].contains(&row.name);
        assert!(apart || all.contains(row.name), "{} does not go along", row.name);
    }
}

#[test]
fn an_entropy_device_needs_a_bus() {
    let error = VmOptions::parse("vm=a rng=on").unwrap_err();
    assert_eq!(error.to_string(), "option rng=on needs pci=on");
    assert!(VmOptions::parse("vm=a rng=on pci=on").unwrap().rng);
}

#[test]
fn a_topology_is_judged_with_the_number_of_vcpus() {
    let parse = |rest: &str| VmOptions::parse(&format!("vm=a {rest}"));
    let two = Topology { sockets: 2, cores: 2, threads: 1 };
    for line in ["vcpus=4 topology=2:2:1", "topology=2:2:1 vcpus=4"] {
        let options = parse(line).unwrap();
        assert_eq!((options.topology, options.topology()), (Some(two), two));
    }
    // What holds without a word is the same VM, and so the same words.
    for line in ["vcpus=4", "vcpus=4 topology=1:4:1"] {
        let options = parse(line).unwrap();
        assert_eq!((options.topology, options.topology()), (None, Topology::flat(4)));
    }
    const GAPS: &str =
        "threads and cores of topology= are powers of two where there is more than one of what holds them";
    for (line, text) in [
        ("vcpus=4 topology=2:2:2", "option topology=2:2:2 makes 8 vCPUs, the VM has vcpus=4".to_string()),
        ("topology=1:2:1", "option topology=1:2:1 makes 2 vCPUs, the VM has vcpus=1".to_string()),
        ("vcpus=4 topology=0:4:1", "option topology=0:4:1: each part is at least 1".to_string()),
        ("vcpus=6 topology=2:3:1", format!("option topology=2:3:1: {GAPS}")),
        ("vcpus=4 topology=4", "option topology=4: expected SOCKETS:CORES:THREADS".to_string()),
        (
            "vcpus=4 topology",
            "option topology has no value: expected topology=SOCKETS:CORES:THREADS".to_string(),
        ),
        ("vcpus=4 topolgy=1:4:1", "unknown option `topolgy=1:4:1` (did you mean `topology`?)".to_string()),
    ] {
        assert_eq!(parse(line).unwrap_err().to_string(), text, "{line}");
    }
}

#[test]
fn a_wrong_vm_line_refuses_that_vm() {
    for (line, text) in [
        ("vm=demo mem=0", "vm demo: refused: option mem=0: expected MIB (1 to 1048576)"),
        ("vm=demo mem=1048577", "vm demo: refused: option mem=1048577: expected MIB (1 to 1048576)"),
        ("vm=demo mem=1G", "vm demo: refused: option mem=1G: expected MIB (1 to 1048576)"),
        ("vm=demo memory=1", "vm demo: refused: unknown option `memory=1`"),
        ("vm=demo men=1", "vm demo: refused: unknown option `men=1` (did you mean `mem`?)"),
        ("vm=demo vcpus=0", "vm demo: refused: option vcpus=0: expected N (1 to 64)"),
        ("vm=demo vcpus=65", "vm demo: refused: option vcpus=65: expected N (1 to 64)"),
        ("vm=demo paused=1", "vm demo: refused: option paused=1: paused takes no value"),
        ("vm=demo for=other", "vm demo: refused: unknown option `for=other`"),
        ("mem=9 vm=Demo", "vm Demo: refused: option vm=Demo: expected NAME"),
        ("vm=", "vm : refused: option vm=: expected NAME"),
        ("vm=a vm=b", "vm a: refused: option vm=b is given twice"),
        ("for=a for=b", "vm a: refused: option for=b is given twice"),
        ("for=a mem=1", "vm a: refused: unknown option `mem=1`"),
        ("vm=\"a", "vm a: refused: unclosed quote in `vm=a`"),
        ("vm=a\u{1b}[2J", "vm a\\u{1b}[2J: refused: option vm=a\\u{1b}[2J: expected NAME"),
    ] {
        assert_eq!(ModuleRole::parse(line).unwrap_err().to_string(), text);
    }
    assert_eq!(VmOptions::parse("mem=1"), Err(OptionError::Missing { name: "vm" }));
    assert!(ModuleRole::parse(&format!("vm={}", "a".repeat(31))).is_ok());
    assert!(ModuleRole::parse(&format!("vm={}", "a".repeat(32))).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_value_or_an_error(line in "\\PC{0,80}") {
        let (options, warnings) = HostOptions::parse(&line);
        prop_assert!(!warnings.is_empty() || options == HostOptions::default() || line.contains('='));
        let _ = VmOptions::parse(&line);
        let _ = ModuleRole::parse(&line);
    }

    #[test]
    fn option_like_text(words in prop::collection::vec("(console|loglevel|ip|migrate|com1|com2|vm|for|mem|level|--|\"|\\\\|/)=?[a-z0-9:/.,x\"]{0,12}", 0..8)) {
        let line = words.join(" ");
        let _ = HostOptions::parse(&line);
        if let Ok(ModuleRole::Vm(vm)) = ModuleRole::parse(&line) {
            prop_assert!((1..=31).contains(&vm.name.len()));
            prop_assert!(line.ends_with(&vm.args));
        }
    }
}
