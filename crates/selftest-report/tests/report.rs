//! The report's two forms say the same, and the docs say what they mean.

use selftest_report::{CHECKS, KEYS, Line, Machine, Report, SCHEMA, Verdict, find};
use serde_json::Value;

fn report() -> Report {
    let verdicts = [
        Verdict::Passed("1 of 1".into()),
        Verdict::Failed("CPU 3 \"late\"\nsecond line".into()),
        Verdict::NotTried("no VMX".into()),
    ];
    let lines = CHECKS.iter().zip(verdicts.into_iter().cycle());
    Report {
        version: "Flexvisor 0.1.0 (dev, release)".into(),
        machine: Machine {
            cpu: "Xeon".into(),
            signature: 0x50654,
            cpus: 2,
            tsc_hz: 2_100_000_000,
            under: None,
        },
        running: true,
        lines: lines.map(|(check, verdict)| Line { check, verdict, us: 7 }).collect(),
    }
}

fn json(report: &Report) -> (String, Value) {
    let mut text = String::new();
    report.write_json(&mut text).unwrap();
    let value = serde_json::from_str(&text).unwrap();
    (text, value)
}

#[test]
fn text_and_json_say_the_same() {
    let report = report();
    let (text, value) = json(&report);
    assert!(!text.contains('\n'), "one line, to be pasted");
    assert_eq!(value["schema"], SCHEMA);
    assert_eq!(value["machine"]["under"], Value::Null);
    let lines = value["lines"].as_array().unwrap();
    assert_eq!(lines.len(), CHECKS.len());
    for (line, told) in report.lines.iter().zip(lines) {
        let shown = line.to_string();
        assert!(!shown.contains('\n'));
        assert!(shown.starts_with(&format!("selftest: {} ", told["check"].as_str().unwrap())));
        let (word, failed) = match told["verdict"].as_str().unwrap() {
            "passed" => (" passed: ", false),
            "failed" => (" FAILED: ", true),
            "not-tried" => (" not tried: ", false),
            other => panic!("{other}"),
        };
        assert!(shown.contains(word));
        // Each failed line names the cure, no other does.
        assert_eq!(told["cure"].is_string(), failed);
        assert_eq!(shown.contains("; cure: "), failed);
    }
    assert_eq!(["passed", "failed", "not_tried"].map(|key| value[key].as_u64().unwrap()), report.counts());
}

/// Every key of the document is in the table, and none besides.
#[test]
fn keys_are_those_of_the_table() {
    fn paths(value: &Value, at: &str, out: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                    paths(value, &at, out);
                }
            }
            Value::Array(items) => paths(&items[0], &format!("{at}[]"), out),
            _ => out.push(at.into()),
        }
    }
    let mut found = Vec::new();
    paths(&json(&report()).1, "", &mut found);
    found.sort();
    let mut wanted: Vec<String> = KEYS.iter().map(|(key, _)| (*key).into()).collect();
    wanted.sort();
    assert_eq!(found, wanted);
}

/// What holds CPU 0 or needs what VMs have is not tried beside them, and the line says why.
#[test]
fn what_is_left_to_the_boot_says_why() {
    let left: Vec<&str> = CHECKS.iter().filter(|c| c.at_boot.is_some()).map(|c| c.name).collect();
    let wanted = "memory-types frames clearing heap serial network-loop levels slice-timer controls guest dirty-pml dirty-ad dirty-wp state";
    assert_eq!(left.join(" "), wanted);
    let Verdict::NotTried(text) = Verdict::at_boot(find("serial").unwrap().at_boot.unwrap()) else {
        panic!()
    };
    assert_eq!(
        text,
        "at boot only, by `selftest` on the command line: it would hold the port that the answer goes to"
    );
}

#[test]
fn names_are_words_and_each_line_has_a_cure() {
    for check in &CHECKS {
        assert!(check.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", check.name);
        assert!(!check.cure.is_empty() && !check.holds.is_empty());
        assert_eq!(find(check.name).unwrap() as *const _, check as *const _, "{} twice", check.name);
    }
}

/// `docs/selftest.md`; `UPDATE_DOCS=1 cargo test -p selftest-report` writes its tables anew.
#[test]
fn the_docs_have_the_tables() {
    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/selftest.md");
    const MARK: &str = "<!-- made by UPDATE_DOCS=1 cargo test -p selftest-report -->\n";
    let page = std::fs::read_to_string(PAGE).unwrap();
    let head = page.split(MARK).next().unwrap();
    let mut text = format!(
        "{head}{MARK}\n## The checks\n\n| check | what holds where it passed | where it failed | by the command |\n|---|---|---|---|\n"
    );
    for check in &CHECKS {
        let running = check.at_boot.map_or_else(|| "yes".into(), |why| format!("no: {why}"));
        text += &format!("| `{}` | {} | {} | {running} |\n", check.name, check.holds, check.cure);
    }
    text += "\n## The JSON document\n\n| key | meaning |\n|---|---|\n";
    for (key, meaning) in KEYS {
        text += &format!("| `{key}` | {meaning} |\n");
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, &text).unwrap();
    }
    assert_eq!(page, text, "UPDATE_DOCS=1 cargo test -p selftest-report writes docs/selftest.md anew");
}
