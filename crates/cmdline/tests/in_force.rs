//! What is in force, and where it comes from.

use cmdline::HostOptions;

#[test]
fn the_strongest_source_wins_and_secrets_are_hidden() {
    let key = "0123456789abcdef".repeat(4);
    let boot = format!("idle=poll panic=loud insecure key={key}");
    let options = HostOptions::in_force(&[("boot line", &boot), ("config", "idle=hlt name=a panic=reboot")]);
    assert_eq!(options.len(), HostOptions::table().len());
    for (name, value, from) in [
        ("idle", "poll", "boot line"),
        // A bad value is not in force: the next source is.
        ("panic", "reboot", "config"),
        ("insecure", "yes", "boot line"),
        ("key", "...", "boot line"),
        ("name", "a", "config"),
        ("loglevel", "info", "default"),
        ("seed", "", "default"),
    ] {
        let row = options.iter().find(|option| option.name == name).unwrap();
        assert_eq!((row.value.as_str(), row.from), (value, from), "{name}");
    }
}

/// What the operator has changed since the start is in the line that `config show --boot` prints, secrets aside.
#[test]
fn the_line_for_the_next_boot() {
    let key = "ab".repeat(32);
    let boot = format!("ip=10.0.0.1/24 key={key} loglevel=warn name=a selftest");
    let options = HostOptions::in_force(&[("boot line", &boot), ("config", "idle=poll name=b")]);
    let changed = [("loglevel", "debug".to_string()), ("pool", "lab".to_string()), ("name", String::new())];
    let line = HostOptions::line_for(&options, &changed);
    let mut words: Vec<_> = line.split(' ').collect();
    words.sort_unstable();
    assert_eq!(words, ["idle=poll", "ip=10.0.0.1/24", "key=...", "loglevel=debug", "pool=lab", "selftest"]);
    let again = HostOptions::in_force(&[("boot line", &line.replace("...", &key))]);
    assert_eq!(HostOptions::line_for(&again, &[]), line);
    assert_eq!(HostOptions::line_for(&HostOptions::in_force(&[]), &[]), "");
}
