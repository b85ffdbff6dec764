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
