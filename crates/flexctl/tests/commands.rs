//! The commands as an operator types them, on dumps of the emulated CPUs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn dumps() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cpu-policy/tests/dumps")
}

/// Exit status, standard output, standard error, in the folder of the dumps.
fn flexctl(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_flexctl")).current_dir(dumps()).args(args).output();
    let Output { status, stdout, stderr } = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

const NEW: &str = "corei7_skylake_x.cpu";
const OLD: &str = "corei7_haswell_4770.cpu";
const ODD: &str = "corei7_icelake_u.cpu";

/// The text behind `"key":`, up to the next comma or bracket.
fn member<'a>(json: &'a str, key: &str) -> &'a str {
    let from = json.find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key} in {json}")) + key.len() + 3;
    let rest = &json[from..];
    &rest[..rest.find([',', '}', ']']).unwrap()]
}

/// A folder of its own for each test.
fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("flexctl-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    folder
}

#[test]
fn keys_are_random_and_never_words() {
    let (status, one, errors) = flexctl(&["keygen"]);
    assert_eq!((status, errors.as_str()), (0, ""));
    assert!(one.len() == 65 && one.trim_end().bytes().all(|b| b.is_ascii_hexdigit()), "{one}");
    assert_ne!(one, flexctl(&["keygen"]).1);
    let (status, json, _) = flexctl(&["keygen", "--json"]);
    assert!(status == 0 && member(&json, "key").len() == 66, "{json}");
    for words in [&["keygen", "correct", "horse"][..], &["keygen", "0123"]] {
        let (status, out, errors) = flexctl(words);
        assert_eq!((status, out.as_str()), (2, ""));
        assert!(errors.contains("a pool key is no passphrase"), "{errors}");
    }
    let folder = scratch("key");
    let file = folder.join("pool.key").display().to_string();
    assert_eq!(flexctl(&["keygen", "-o", &file]).0, 0);
    assert_eq!(fs::read_to_string(&file).unwrap().len(), 65);
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&file).unwrap()) & 0o777, 0o600);
    // A key that is in use is not overwritten.
    let (status, _, errors) = flexctl(&["keygen", "-o", &file]);
    assert!(status == 2 && errors.contains("exists"), "{errors}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn baseline_names_level_and_costs() {
    let (status, text, errors) = flexctl(&["baseline", NEW, OLD]);
    assert_eq!((status, errors.as_str()), (0, ""));
    assert!(text.starts_with("haswell (pool level)\n"), "{text}");
    assert!(
        text.contains(
            "corei7_skylake_x     alone skylake-server, carries x86-64-v4; costs the pool nothing\n"
        ),
        "{text}"
    );
    let old = "corei7_haswell_4770  alone haswell, carries x86-64-v3; costs the pool removes AVX512F, ";
    assert!(text.contains(old) && text.contains("; takes x86-64-v4 from the pool\n"), "{text}");
    let (_, json, _) = flexctl(&["baseline", "--json", OLD, NEW]);
    assert_eq!(member(&json, "name"), "\"haswell\"");
    let print = member(&json, "fingerprint").to_string();
    assert_eq!(member(&flexctl(&["baseline", "--json", NEW, OLD]).1, "fingerprint"), print);
    // The sets are not nested: the pool of these two has less than either.
    let (_, json, _) = flexctl(&["--json", "baseline", NEW, ODD]);
    assert!(member(&json, "name").starts_with("\"pool-"), "{json}");
    assert!(json.contains("\"removes\":[\"CLWB\"]") && json.contains("\"takes\":[]"), "{json}");
}

#[test]
fn check_answers_both_ways() {
    let (status, text, _) = flexctl(&["check", "haswell", NEW, OLD]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("moves both ways among corei7_skylake_x, corei7_haswell_4770"), "{text}");
    let (status, text, _) = flexctl(&["check", "skylake-server", NEW, OLD]);
    assert_eq!(status, 1);
    assert!(text.contains("runs on        corei7_skylake_x: yes"), "{text}");
    assert!(
        text.contains("CPUID.7.0:EBX[16] AVX512F") && text.contains("start the VM at level haswell"),
        "{text}"
    );
    // A guest at all that its host gives cannot go to an older one; at the level of both it can, and back.
    let (status, text, _) = flexctl(&["check", NEW, OLD]);
    assert!(status == 1 && text.contains("comes back to  corei7_skylake_x: yes"), "{text}");
    assert!(
        text.ends_with("started at haswell, the level of all these hosts, it moves among them\n"),
        "{text}"
    );
    let (status, json, _) = flexctl(&["check", "--json", &format!("{NEW},{OLD}"), NEW, OLD]);
    assert!(status == 0 && member(&json, "fits") == "true", "{json}");
    let (status, json, _) = flexctl(&["check", "--json", "skylake-server", OLD]);
    assert!(
        status == 1 && member(&json, "fits") == "false" && member(&json, "cure") == "\"haswell\"",
        "{json}"
    );
    let (status, _, errors) = flexctl(&["check", &format!("{NEW}:max"), OLD]);
    assert!(status == 2 && errors.contains("a guest has a level"), "{errors}");
}

#[test]
fn a_guest_may_arrive_where_it_could_not_start() {
    let folder = scratch("max");
    // The same machine with microcode that has MD_CLEAR.
    let text = fs::read_to_string(dumps().join(ODD)).unwrap();
    let told =
        text.replace("00405f4e bc000110", "00405f4e bc000510").replace("host corei7_icelake_u", "host told");
    let file = folder.join("told.cpu").display().to_string();
    fs::write(&file, told).unwrap();
    let (status, text, _) = flexctl(&["check", &file, ODD]);
    assert_eq!(status, 0, "{text}");
    assert!(
        text.contains("starts on      corei7_icelake_u: no: CPUID.7.0:EDX[10] MD_CLEAR missing"),
        "{text}"
    );
    assert!(text.contains("goes to        corei7_icelake_u: yes"), "{text}");
    let (status, text, _) = flexctl(&["diff", &format!("{file}:max"), &format!("{ODD}:max")]);
    assert_eq!(status, 0, "{text}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn diff_names_bits_registers_and_values() {
    let (status, text, _) = flexctl(&["diff", NEW, OLD]);
    assert_eq!(status, 1);
    for line in ["CPUID.7.0:EBX[16] AVX512F", "CPUID.2:EDX", "highest basic leaf", "signature (CPUID.1:EAX)"]
    {
        assert!(text.contains(line), "{line}: {text}");
    }
    let (status, text, _) = flexctl(&["diff", NEW, NEW]);
    assert!(status == 0 && text.ends_with("are the same\n"), "{text}");
    let (status, json, _) = flexctl(&["diff", "--json", "haswell", "broadwell"]);
    assert!(status == 1 && json.contains(r#""name":"ADX","left":"no","right":"yes""#), "{json}");
    assert_eq!(flexctl(&["diff", &format!("{NEW}:raw"), &format!("{NEW}:raw")]).0, 0);
    assert_eq!(flexctl(&["diff", &format!("{NEW}:raw"), &format!("{NEW}:host")]).0, 1);
}

#[test]
fn explain_knows_features_places_levels_and_hosts() {
    let (status, text, _) = flexctl(&["explain", "sse4_2"]);
    assert!(status == 0 && text.starts_with("CPUID.1:ECX[20] SSE4.2\n"), "{text}");
    assert!(text.contains("first level    nehalem") && text.contains("needs          SSE4.1"), "{text}");
    let (_, text, _) = flexctl(&["explain", "RSBA"]);
    assert!(text.contains("a restriction: a pool announces it where any host has it"), "{text}");
    let (_, text, _) = flexctl(&["explain", "CPUID.7.0:EBX[5]"]);
    assert!(text.starts_with("CPUID.7.0:EBX[5] AVX2\n"), "{text}");
    assert!(flexctl(&["explain", "CPUID.7.0:EBX"]).1.lines().count() > 40);
    let (_, text, _) = flexctl(&["explain", "broadwell"]);
    assert!(text.contains("adds to haswell: RDSEED"), "{text}");
    let (_, text, _) = flexctl(&["explain", OLD]);
    assert!(text.contains("(highest: haswell)"), "{text}");
    let (_, json, _) = flexctl(&["explain", "AVX2", "--json"]);
    assert_eq!((member(&json, "bit"), member(&json, "linux")), ("5", "\"avx2\""));
    let (status, _, errors) = flexctl(&["explain", "avx51"]);
    assert!(status == 2 && errors.contains("is it one of AVX512F"), "{errors}");
}

#[test]
fn levels_show_who_can_give_them() {
    let (_, text, _) = flexctl(&["levels", NEW, OLD]);
    assert!(text.starts_with("+ corei7_skylake_x\n| + corei7_haswell_4770\n"), "{text}");
    assert!(text.contains("\n*   skylake-server ") && text.contains("\n* * haswell "), "{text}");
    let all = flexctl(&["levels"]).1;
    assert!(all.starts_with("LEVEL ") && all.contains("\nx86-64-v3 "), "{all}");
    let sierra = all.lines().find(|line| line.starts_with("sierraforest "));
    assert!(sierra.is_some_and(|line| line.ends_with("Xeon 6 with E-cores (6700E) (provisional)")), "{all}");
    let (_, why, _) = flexctl(&["explain", "sierraforest"]);
    assert!(why.contains("\nprovisional: rests on libvirt's SierraForest-v2"), "{why}");
    let (_, json, _) = flexctl(&["levels", "--json", OLD]);
    assert!(json.contains(r#""name":"haswell""#) && json.contains(r#""here":true"#), "{json}");
}

#[test]
fn output_of_cpuid_is_read_and_what_it_lacks_is_said() {
    let folder = scratch("cpuid");
    let ours = fs::read_to_string(dumps().join(OLD)).unwrap();
    let mut text = String::from("CPU 0:\n");
    for line in ours.lines().filter_map(|line| line.strip_prefix("cpuid ")) {
        let [place, eax, ebx, ecx, edx] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let (leaf, subleaf) = place.split_once('.').unwrap();
        text += &format!("   0x{leaf} 0x{subleaf}: eax=0x{eax} ebx=0x{ebx} ecx=0x{ecx} edx=0x{edx}\n");
    }
    let file = folder.join("beta.txt");
    fs::write(&file, text).unwrap();
    let (status, text, errors) = flexctl(&["baseline", &file.display().to_string(), OLD]);
    assert_eq!(status, 0, "{errors}");
    assert!(errors.contains("note: beta: the VMX MSRs are not known"), "{errors}");
    assert!(text.starts_with("haswell (pool level)"), "{text}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn hosts_of_one_name_go_by_their_files() {
    let folder = scratch("names");
    let path = |name: &str| folder.join(name).display().to_string();
    for (file, from, host) in [("a.cpu", NEW, "here"), ("b.cpu", OLD, "twin"), ("c.cpu", ODD, "twin")] {
        let text = fs::read_to_string(dumps().join(from)).unwrap();
        let own = format!("host {}", from.trim_end_matches(".cpu"));
        assert!(text.contains(&own));
        fs::write(path(file), text.replace(&own, &format!("host {host}"))).unwrap();
    }
    let (_, text, _) = flexctl(&["levels", &path("a.cpu"), &path("b.cpu"), &path("c.cpu")]);
    assert!(text.starts_with("+ a\n| + b\n| | + c\n"), "{text}");
    let (_, text, _) = flexctl(&["levels", &path("a.cpu"), &path("b.cpu")]);
    assert!(text.starts_with("+ a\n| + twin\n"), "{text}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn bad_input_is_named() {
    let folder = scratch("bad");
    let cut = folder.join("cut.cpu").display().to_string();
    let text = fs::read_to_string(dumps().join(OLD)).unwrap();
    fs::write(&cut, text.split_once("msr").unwrap().0).unwrap();
    let amd = folder.join("amd.cpu").display().to_string();
    fs::write(&amd, text.replace("756e6547 6c65746e 49656e69", "68747541 444d4163 69746e65")).unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["baseline", "no-such-file.cpu"], "no-such-file.cpu: No such file"),
        (&["baseline", &cut], "the dump is cut short"),
        (&["baseline", &amd], "CPU vendor AuthenticAMD, a pool takes GenuineIntel only"),
        (&["check", "hasvel", OLD], "hasvel is no file and no level; the levels are "),
        (&["diff", &format!("{OLD}:min"), OLD], "min is none of raw, host, max, default"),
        (&["diff", OLD, "../../Cargo.toml"], "neither a dump of `cpu dump` nor the output of `cpuid -r`"),
        (&["baseline"], "HOST"),
        (&["frobnicate"], "frobnicate"),
    ];
    for (args, expected) in cases {
        let (status, out, errors) = flexctl(args);
        assert_eq!((status, out.as_str()), (2, ""), "{args:?}");
        assert!(errors.contains(expected), "{args:?}: {errors}");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn inspect_knows_a_cpu_dump() {
    let (status, out, errors) = flexctl(&["inspect", OLD]);
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(
        errors.contains("a CPU dump") && errors.contains(&format!("`flexctl explain {OLD}`")),
        "{errors}"
    );
}

#[test]
fn help_names_host() {
    let (status, out, _) = flexctl(&["--help"]);
    assert_eq!(status, 0);
    assert!(out.lines().any(|line| line.trim_start().starts_with("--host <HOST[:PORT]>")), "{out}");
}
