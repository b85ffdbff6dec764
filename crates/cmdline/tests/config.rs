//! Configuration files: merged with the boot line, faults named by file and line.

use cmdline::{ConfigError, ConfigFile, HostOptions, LogLevel, MAX_CONFIG, ModuleRole, modules_of_line};
use proptest::prelude::*;

fn file(name: &str, text: &str) -> ConfigFile {
    ConfigFile::parse(name, text.as_bytes()).unwrap()
}

fn merged(line: &str, files: &[ConfigFile]) -> (HostOptions, Vec<String>) {
    let (options, warnings) = HostOptions::with_config(line, files);
    (options, warnings.iter().map(ToString::to_string).collect())
}

#[test]
fn the_boot_line_wins_then_the_first_file() {
    let host = file("host.cfg/52-54-00-00-00-01", "name=rack-7 # this one\r\naccept=64\r\n");
    let all =
        file("flexvisor.cfg", "\u{feff}# everyone\n\naccept=128 pool=rack\n\tloglevel=debug name=other\n");
    let (options, warnings) = merged("loglevel=warn", &[host, all]);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(options.name.as_deref(), Some("rack-7"));
    assert_eq!(options.pool.as_deref(), Some("rack"));
    assert_eq!((options.accept_mib, options.log_level), (Some(64), LogLevel::Warn));
}

#[test]
fn faults_name_file_and_line_and_change_nothing() {
    let bad = file(
        "flexvisor.cfg",
        "\nlogleve=debug\naccept=lots insecure\nname=a name=b\nmodule x vm=a\n\"pool=x",
    );
    let (options, warnings) = merged("accept=7 what", &[bad]);
    assert_eq!(
        warnings,
        [
            "flexvisor.cfg line 2: unknown option `logleve=debug` (did you mean `loglevel`?)",
            "flexvisor.cfg line 3: option accept=lots: expected MIB (0 to 1048576)",
            "flexvisor.cfg line 4: option name=b is given twice",
            "flexvisor.cfg line 6: unclosed quote in `pool=x`",
            "flexvisor.cfg line 5: `module` rows are read by flexvisor.efi only: name the file to the boot loader",
            "boot line: unknown option `what`",
        ]
    );
    assert!(options.insecure);
    assert_eq!((options.accept_mib, options.name.as_deref()), (Some(7), Some("a")));
}

#[test]
fn secrets_are_not_shown() {
    let hex = "0011223344556677".repeat(4);
    let (options, warnings) = merged("", &[file("c", &format!("kye={hex}\nseed={hex}x"))]);
    assert_eq!(options, HostOptions::default());
    assert!(warnings.len() == 2 && warnings.iter().all(|w| !w.contains("0011")), "{warnings:?}");
}

#[test]
fn module_rows_are_verbatim() {
    let rows = file(
        "c",
        "module vmlinuz vm=a -- quiet # \"x\nmodule\tdir/initrd\tfor=a\nmodules=1\nmodule  \nmodule f",
    );
    let got: Vec<_> = rows.modules().collect();
    let row = |at: usize| got[at].clone().map(|r| (r.number, r.file, r.line)).unwrap();
    assert_eq!(row(0), (1, "vmlinuz".into(), "vm=a -- quiet # \"x".into()));
    assert_eq!(row(1), (2, "dir/initrd".into(), "for=a".into()));
    assert_eq!(got[2], Err(ConfigError::NoFile(4)));
    assert_eq!(row(3), (5, "f".into(), String::new()));
    assert_eq!(rows.line(), "modules=1");
}

#[test]
fn what_the_kernel_sees_keeps_its_line_numbers() {
    let given = file("c", "# x\nmodule a vm=a\n\nname=a # b\nmodule b for=a\nfoo");
    let kept = file("c", &given.without_modules());
    assert_eq!(kept.modules().count(), 0);
    assert_eq!(merged("", &[kept]).1, ["c line 6: unknown option `foo`"]);
}

#[test]
fn comments_start_words_outside_quotes() {
    for (text, line) in [
        ("a=1#2 #3", "a=1#2"),
        ("a=\"1 #2\" b #", "a=\"1 #2\" b"),
        ("\"a # b", "\"a # b"),
        ("#", ""),
        ("a \\\"b #c", "a \\\"b"),
    ] {
        assert_eq!(file("c", text).line(), line, "{text}");
    }
}

#[test]
fn what_is_no_text_is_refused() {
    assert_eq!(ConfigFile::parse("c", b"a=1\n\xff"), Err(ConfigError::NotText(2)));
    assert_eq!(ConfigFile::parse("c", b"a=1\0"), Err(ConfigError::NotText(1)));
    assert_eq!(
        ConfigFile::parse("c", &vec![b' '; MAX_CONFIG + 1]),
        Err(ConfigError::TooLong(MAX_CONFIG + 1))
    );
    assert_eq!(ConfigFile::parse("c", b"").unwrap().line(), "");
}

#[test]
fn the_module_that_holds_it() {
    assert_eq!(ModuleRole::parse("config"), Ok(ModuleRole::Config("config".into())));
    assert_eq!(ModuleRole::parse("/x.cfg config=x.cfg"), Ok(ModuleRole::Config("x.cfg".into())));
    assert_eq!(ModuleRole::parse("/x.cfg -- config"), Ok(ModuleRole::Other));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_file_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(file) = ConfigFile::parse("c", &bytes) {
            let _ = file.modules().count();
            let _ = HostOptions::with_config("", &[file]);
        }
    }

    #[test]
    fn what_is_kept_reads_the_same(text in "([ a-z=#\"\\\\\r\n-]|module ){0,60}") {
        let given = file("c", &text);
        let kept = file("c", &given.without_modules());
        prop_assert_eq!(given.line(), kept.line());
        prop_assert_eq!(kept.modules().count(), 0);
    }
}

#[test]
fn modules_on_a_boot_line() {
    let (line, rows) =
        modules_of_line(r#"console=com1 module="vmlinuz vm=a -- x=\"1 2\"" ip=dhcp module=b -- module=c"#);
    assert_eq!(line, "console=com1 ip=dhcp -- module=c");
    let rows: Vec<_> = rows.into_iter().map(Result::unwrap).collect();
    let rows: Vec<_> = rows.iter().map(|row| (row.number, row.file.as_str(), row.line.as_str())).collect();
    assert_eq!(rows, [(1, "vmlinuz", r#"vm=a -- x="1 2""#), (2, "b", "")]);
    assert_eq!(modules_of_line("a=1 module="), ("a=1".into(), vec![Err(ConfigError::NoFile(1))]));
    assert_eq!(modules_of_line("module=\"a b"), (String::new(), vec![Err(ConfigError::OpenQuote(1))]));
    assert_eq!(modules_of_line("  a=1  b"), ("a=1  b".into(), Vec::new()));
}

proptest! {
    #[test]
    fn any_boot_line_keeps_its_other_words(line in r#"([a-z= "\\-]|module=){0,40}"#) {
        let (rest, rows) = modules_of_line(&line);
        if rows.is_empty() {
            prop_assert_eq!(rest, line.trim_start());
        }
    }
}
