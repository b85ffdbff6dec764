//! Dumps: those that the hypervisor took of the emulated CPUs, what `cpuid -r` prints, and anything else.

mod common;

use std::fs;

use common::*;
use cpu_policy::{
    Baseline, Dump as Text, DumpError, Feature, GuestPolicy, HostPolicy, MAX_HOST_ENCODED, Place, RawCpu,
    RawError, Row,
};
use proptest::prelude::*;

fn stored() -> Vec<(String, Text)> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dumps");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .map(|text| (text.clone(), Text::parse(&text).unwrap()))
        .collect()
}

#[test]
fn printing_is_the_inverse() {
    let all = stored();
    assert_eq!(all.len(), 11);
    for (text, dump) in all {
        assert_eq!(dump.to_string(), text);
        assert_eq!((dump.cpus, dump.odd.is_empty(), dump.without_msrs), (1, true, false));
        let again = RawCpu::new(dump.cpu.rows().into(), dump.cpu.msrs().into());
        assert_eq!(again.as_ref(), Ok(&dump.cpu));
        let host = dump.policy();
        assert_eq!(Text::of(&dump.host, &host), dump);
        let bytes = host.encode();
        assert!(bytes.len() < MAX_HOST_ENCODED / 4, "{}: {} bytes", dump.host, bytes.len());
        assert_eq!(HostPolicy::decode(&bytes), Ok(host), "{}", dump.host);
    }
}

#[test]
fn the_dumps_are_the_models_of_the_tables() {
    let all = stored();
    for model in DUMPS.iter().filter(|model| !model.model.starts_with("Xeon")) {
        let (_, dump) = all.iter().find(|(_, dump)| dump.host == model.model).unwrap();
        let arch_capabilities = dump.cpu.msr(0x10a).unwrap_or(0);
        let (read, table) = (dump.policy(), Dump { arch_capabilities, ..*model }.policy());
        let differ = read.features.difference(table.features).union(table.features.difference(read.features));
        assert!(differ.is_empty(), "{}: {differ:?}", model.model);
        assert_eq!(
            (read.signature, read.phys_bits, read.xcr0),
            (table.signature, table.phys_bits, table.xcr0)
        );
        assert_eq!(read.level_names(), table.level_names(), "{}", model.model);
        assert!(read.raw.contains(Feature::Vmx) && read.controls().is_some());
        assert!(dump.cpu.brand().contains("Intel"), "{}", model.model);
    }
}

#[test]
fn reading_a_cpu_from_its_dump_is_the_same() {
    for (_, dump) in stored() {
        let cpu = &dump.cpu;
        // As hardware: above the highest leaf, the last one again.
        let cpuid = |leaf, subleaf| if cpu.has(leaf, subleaf) { cpu.cpuid(leaf, subleaf) } else { [0; 4] };
        assert_eq!(RawCpu::read(cpuid, |index| cpu.msr(index)), *cpu, "{}", dump.host);
    }
}

#[test]
fn all_ordered_pairs_move_at_their_level() {
    let hosts: Vec<HostPolicy> = stored().iter().map(|(_, dump)| dump.policy()).collect();
    for a in &hosts {
        for b in &hosts {
            let pool = Baseline::meet([a, b]).unwrap();
            let guest = GuestPolicy::render_baseline(&pool, SHAPE, a).unwrap();
            assert!(guest.round_trip(a, b).fits());
        }
    }
}

/// `cpuid -r` of a dump, for two CPUs of which the second differs in `changed`.
fn as_cpuid_tool(cpu: &RawCpu, second: impl Fn(&Row) -> [u32; 4]) -> String {
    let line = |row: &Row, [eax, ebx, ecx, edx]: [u32; 4]| {
        let Row { leaf, subleaf, .. } = row;
        format!(
            "   {leaf:#010x} {subleaf:#04x}: eax={eax:#010x} ebx={ebx:#010x} ecx={ecx:#010x} edx={edx:#010x}\n"
        )
    };
    let first: String = cpu.rows().iter().map(|row| line(row, row.regs)).collect();
    // The tool asks for ranges that no Intel CPU has.
    let foreign = "   0x20000000 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000000 edx=0x00000000\n\
                   \u{20}  0x80860000 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000000 edx=0x00000000\n\
                   \u{20}  0xc0000000 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000000 edx=0x00000000\n";
    let second: String = cpu.rows().iter().map(|row| line(row, second(row))).collect();
    format!("CPU 0:\n{first}{foreign}CPU 1:\n{second}{foreign}")
}

#[test]
fn cpuid_tool_output_is_read() {
    for (_, dump) in stored() {
        let apic = |row: &Row| match (row.leaf, row.regs) {
            (1, [eax, ebx, ecx, edx]) => [eax, ebx | 1 << 24, ecx, edx],
            (0xb, [eax, ebx, ecx, _]) => [eax, ebx, ecx, 1],
            (_, regs) => regs,
        };
        let read = Text::parse(&as_cpuid_tool(&dump.cpu, apic)).unwrap();
        assert_eq!(read.cpu.rows(), dump.cpu.rows(), "{}", dump.host);
        assert_eq!((read.cpus, read.odd.as_slice(), read.without_msrs), (2, &[][..], true));
        let mixed = |row: &Row| if row.leaf == 7 { [0, 1, 0, 0] } else { row.regs };
        let read = Text::parse(&as_cpuid_tool(&dump.cpu, mixed)).unwrap();
        assert_eq!((read.cpus, read.odd.as_slice()), (2, &[1][..]));
        // Without MSRs nothing is taken away for want of a control.
        let lost = dump.policy().features.difference(read.policy().features);
        assert!(lost.iter().all(|feature| matches!(feature.info().place, Place::Msr(_))), "{lost:?}");
    }
    let one = "CPU:\n   0x00000000 0x00: eax=0x00000001 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n   \
               0x00000001 0x00: eax=0x000306f2 ebx=0x00000800 ecx=0x00000000 edx=0x00000000\n";
    assert_eq!(Text::parse(one).unwrap().cpu.signature(), 0x306f2);
}

#[test]
fn a_console_log_will_do() {
    let (text, dump) = stored().remove(3);
    let log = format!(
        "[    0.1] boot: GRUB\nflexvisor> cpu dump\r\n{}ok\r\nflexvisor> ",
        text.replace('\n', "\r\n")
    );
    assert_eq!(Text::parse(&log), Ok(dump));
}

#[test]
fn what_is_wrong_is_named() {
    let (text, dump) = stored().remove(0);
    let error = |text: &str| Text::parse(text).unwrap_err().to_string();
    let cases: &[(String, &str)] = &[
        (String::new(), "neither a dump of `cpu dump` nor the output of `cpuid -r`"),
        ("processor : 0\nflags : fpu\n".into(), "neither a dump"),
        (text.replace("flexvisor-cpu 1", "flexvisor-cpu 2"), "line 1: dump of version 2, this one reads 1"),
        (text.replace("cpuid 00000001.00", "cpuid 0000000g.00"), "0000000g is not a leaf"),
        (text.replace("cpuid 00000001.00", "cpuid 000000001.00"), "000000001 is not a leaf"),
        (text.replace("cpuid 00000001.00", "cpuid 1"), "1 is not LEAF.SUBLEAF"),
        (text.replace("cpuid 00000001.00", "cpuid 00000000.00"), "CPUID 0x0.0 is there twice"),
        (text.replace("cpuid 00000001.00", "cpuid 00001000.00"), "CPUID leaf 0x1 is missing"),
        (text.replace("cpuid 80000001.00", "cpuid 80001000.00"), "CPUID leaf 0x80001000 is out of range"),
        (text.replace("msr 00000480", "msr 00000481"), "MSR 0x481 is there twice"),
        (text.replace("msr 00000480", "nsr 00000480"), "nsr is not host, tsc, cpuid, msr or end"),
        (text.replace("tsc 20000000", "tsc 12"), "12 is not a TSC rate in Hz"),
        (text.replace("tsc 20000000", "tsc 20000000 Hz"), "Hz is not the end of the line"),
        (text.replace("host ", "host \u{e4}"), "is not a name of at most 64 ASCII characters"),
        (text[..text.len() / 2].rsplit_once('\n').unwrap().0.into(), "the dump is cut short: "),
        (text.replace("end ", "end 1"), "expected"),
        ("CPU 0:\n   eax in/eax = 0x00000000\n".into(), "without -r the tool prints prose"),
        ("CPU 0:\n   0x00000000 0x00: eax=0x1\n".into(), "is not 0xLEAF 0xSUBLEAF"),
        ("CPU 0:\n".into(), "CPUID leaf 0x0 is missing"),
    ];
    for (text, expected) in cases {
        let error = error(text);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let rows = vec![Row { leaf: 0, subleaf: 0, regs: [0; 4] }; 300];
    assert_eq!(RawCpu::new(rows, Vec::new()), Err(RawError::TooManyRows(300)));
    assert!(matches!(
        Text::parse(&text.replacen("cpuid", "\u{1b}[31mcpuid", 1)),
        Err(DumpError::Line { .. })
    ));
    assert_eq!(dump.cpu.cpuid(0x4000_0000, 0), [0; 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_gives_a_value_or_an_error(text in "(flexvisor-cpu 1\n)?(CPU 0:\n)?(\\PC|\n|0x0000000[01] 0x00: |cpuid [0-9a-f]{8}.00 |msr |end [0-9]+){0,40}") {
        if let Ok(dump) = Text::parse(&text) {
            let _ = dump.policy().encode();
        }
    }

    #[test]
    fn a_damaged_dump_gives_a_value_or_an_error(
        which in 0usize..11,
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"0123456789abcdef.\n ceh".as_slice())), 1..8),
    ) {
        let (text, _) = &stored()[which];
        let mut bytes = text.clone().into_bytes();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(dump) = Text::parse(&String::from_utf8(bytes).unwrap()) {
            prop_assert_eq!(Text::parse(&dump.to_string()), Ok(dump.clone()));
            let host = dump.policy();
            if let Ok(back) = HostPolicy::decode(&host.encode()) {
                prop_assert_eq!(back, host);
            }
        }
    }
}
