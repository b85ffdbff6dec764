//! The commands on CPUs as they are (`crates/cpu-policy/tests/real`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The dumps.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cpu-policy/tests/real")
}

/// Exit status, standard output, standard error, in the folder of the dumps.
fn flexctl(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_flexctl")).current_dir(folder()).args(args).output();
    let Output { status, stdout, stderr } = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// The CPUID rows of a dump as `cpuid -r` prints them, in a file of its own.
fn without_msrs(from: &str, to: &str) -> PathBuf {
    let mut text = String::from("CPU 0:\n");
    for line in fs::read_to_string(folder().join(from))
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("cpuid "))
    {
        let [place, eax, ebx, ecx, edx] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let (leaf, subleaf) = place.split_once('.').unwrap();
        text += &format!("   0x{leaf} 0x{subleaf}: eax=0x{eax} ebx=0x{ebx} ecx=0x{ecx} edx=0x{edx}\n");
    }
    let file = std::env::temp_dir().join(format!("flexctl-{}-{to}", std::process::id()));
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn desktop_xeons_give_their_own_level() {
    for (dump, best) in
        [("xeon-w3520", "nehalem"), ("xeon-e3-1200-v2", "ivybridge"), ("xeon-e3-1200-v3", "haswell")]
    {
        let (_, text, _) = flexctl(&["explain", &format!("{dump}.cpu")]);
        assert!(text.contains(&format!("(highest: {best})")), "{text}");
    }
    let (_, text, _) = flexctl(&["baseline", "xeon-658x.cpu", "xeon-e3-1200-v3.cpu"]);
    assert!(text.contains("physical address width   39 bits"), "{text}");
    assert!(text.contains("takes x86-64-v4 from the pool; physical address width 46 to 39"), "{text}");
    assert!(!text.contains("linear address width 57 to 48"), "{text}");
}

#[test]
fn a_cpu_without_a_level_is_told_of_the_nearest() {
    // The silicon of a Xeon 6315P as a client's CPU of a model that no level is made for.
    let all = fs::read_to_string(folder().join("xeon-6315p.cpu")).unwrap();
    let file = std::env::temp_dir().join(format!("flexctl-{}-unknown.cpu", std::process::id()));
    fs::write(&file, all.replace("cpuid 00000001.00 000b0671", "cpuid 00000001.00 000b0674")).unwrap();
    let dump = file.to_str().unwrap();
    let (_, own, _) = flexctl(&["explain", dump, "--arch-capabilities", "0xe16b"]);
    assert!(own.contains("(highest: raptorlake)") && !own.contains("no level is made for"), "{own}");
    fs::write(&file, all.replace("cpuid 00000001.00 000b0671", "cpuid 00000001.00 000c0651")).unwrap();
    let (_, other, _) = flexctl(&["explain", dump, "--arch-capabilities", "0x2b"]);
    assert!(other.contains("no level is made for family 6, model 0xc5: "), "{other}");
    assert!(other.contains("\nat broadwell-ibrs its guests lose: ") && other.contains(" VAES "), "{other}");
    fs::remove_file(file).unwrap();
}

#[test]
fn the_cure_is_the_best_level() {
    for newer in ["xeon-w7-2475x.cpu", "xeon-658x.cpu"] {
        let (status, text, _) = flexctl(&["check", newer, "xeon-8351n.cpu"]);
        assert!(status == 1 && text.contains("; start the VM at level icelake-server\n"), "{text}");
    }
}

#[test]
fn what_the_dump_does_not_tell_can_be_supplied() {
    let file = without_msrs("xeon-8351n.cpu", "8351n.txt");
    let dump = file.to_str().unwrap();
    let (status, text, errors) = flexctl(&["check", "icelake-server", dump]);
    assert!(
        status == 3 && text.contains(": not known: ") && text.contains(" not known from this dump; "),
        "{text}"
    );
    assert!(
        errors.contains("IA32_ARCH_CAPABILITIES is not known: give it by --arch-capabilities"),
        "{errors}"
    );
    let (status, json, _) = flexctl(&["check", "icelake-server", dump, "--json"]);
    assert!(status == 3 && json.contains(r#""fits":null"#) && json.contains(r#""unknown":["#), "{json}");
    let (_, text, _) = flexctl(&["levels", dump]);
    assert!(text.contains("\n? icelake-server ") && text.contains("\n* skylake-server "), "{text}");
    let (_, text, _) = flexctl(&["explain", dump]);
    assert!(text.contains("not known from this dump: cascadelake-tsx cascadelake "), "{text}");
    // One that is known to lack something is a no.
    assert_eq!(flexctl(&["check", "sapphirerapids", dump]).0, 1);
    for supplied in [&["--arch-capabilities", "0x202a1eb"][..], &["--msr", "10a=202a1eb"]] {
        let (status, text, errors) = flexctl(&[&["check", "icelake-server", dump], supplied].concat());
        assert!(status == 0 && text.contains(": yes"), "{text}{errors}");
    }
    for (option, value) in [
        ("--arch-capabilities", "12g"),
        ("--arch-capabilities", "+1"),
        ("--msr", "10a"),
        ("--msr", "100000000=1"),
    ] {
        let (status, _, errors) = flexctl(&["check", "haswell", dump, option, value]);
        assert!(status == 2 && errors.contains(value), "{errors}");
    }
    fs::remove_file(file).unwrap();
}

#[test]
fn a_host_without_ept_is_no_target() {
    let (status, text, errors) = flexctl(&["check", "penryn", "xeon-x5482.cpu"]);
    assert!(status == 1 && text.contains("no: VMX without EPT, so that no VM runs there yet"), "{text}");
    assert!(errors.contains("note: xeon-x5482: VMX without EPT"), "{errors}");
    let file = without_msrs("xeon-x5482.cpu", "x5482.txt");
    assert_eq!(flexctl(&["check", "penryn", file.to_str().unwrap()]).0, 1);
    fs::remove_file(file).unwrap();
}

#[test]
fn notes_are_of_what_is_wrong_only() {
    let (_, _, errors) = flexctl(&["explain", "silver-4514y-two-cpus.txt"]);
    assert!(
        !errors.contains("differ") && errors.contains("the text of these CPUs is cut short: 0"),
        "{errors}"
    );
    let twice = std::env::temp_dir().join(format!("flexctl-{}-twice.cpu", std::process::id()));
    fs::write(&twice, "flexvisor-cpu 1\ncpuid 00000000.00 0 0 0 0\ncpuid 00000000.00 0 0 0 0\nend 2\n")
        .unwrap();
    let (_, _, errors) = flexctl(&["baseline", twice.to_str().unwrap()]);
    assert_eq!(errors.matches("is there twice").count(), 1, "{errors}");
    fs::remove_file(twice).unwrap();
    for name in ["ibpb", "ibrs", "IBRS_IBPB"] {
        let (status, text, _) = flexctl(&["explain", name]);
        assert!(status == 0 && text.starts_with("CPUID.7.0:EDX[26] IBRS_IBPB\n"), "{text}");
    }
    let (_, text, _) = flexctl(&["levels"]);
    assert!(text.lines().any(|line| line.starts_with("haswell ") && line.contains(" x86-64-v3 ")), "{text}");
}
