//! Seeds lead into the decoders: those of these targets are accepted, so that a mutation starts from what is right.

use std::fs;

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = format!("{}/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(dir).unwrap().map(|f| f.unwrap().path());
    files.map(|f| (f.display().to_string(), fs::read(&f).unwrap())).collect()
}

#[test]
fn images_load() {
    for (name, image) in seeds("guest_load") {
        let memory = flexvisor_fuzz::Ram::new(16 << 20);
        if let Err(error) = guest_load::load(&memory, &image, "", &[], None) {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn tables_are_found() {
    for (name, bytes) in seeds("acpi") {
        let view = |at: u64, len: usize| {
            let at = usize::try_from(at.checked_sub(0xE_0000)?).ok()?;
            bytes.get(at..at.checked_add(len)?)
        };
        let acpi = acpi_tables::Acpi::parse(acpi_tables::find_rsdp(&view).expect(&name), &view).expect(&name);
        assert!(acpi.madt.is_some() && acpi.fadt.is_some() && acpi.skipped.is_empty(), "{name}: {acpi:?}");
    }
}

#[test]
fn streams_run_to_their_end() {
    for (name, stream) in seeds("migrate_target") {
        let copy = name.ends_with("/copy");
        let end = if copy { migrate::TargetOutcome::Copied } else { migrate::TargetOutcome::Runs };
        assert_eq!(flexvisor_fuzz::migration::run_target(&stream), end, "{name}");
    }
    for (name, stream) in seeds("migrate_source") {
        let outcome = flexvisor_fuzz::migration::run_source(&stream);
        let fits = match outcome {
            migrate::SourceOutcome::Done(_) => !name.ends_with("/copy"),
            migrate::SourceOutcome::Copied(_) => name.ends_with("/copy"),
            _ => false,
        };
        assert!(fits, "{name}: {outcome:?}");
    }
}

#[test]
fn links_come_about() {
    for (target, run) in [
        ("link_initiator", flexvisor_fuzz::link::run_initiator as fn(&[u8]) -> bool),
        ("link_responder", flexvisor_fuzz::link::run_responder),
    ] {
        let (name, said) = seeds(target).into_iter().find(|(name, _)| name.ends_with("/whole")).unwrap();
        assert!(run(&said), "{name}");
    }
}

#[test]
fn made_seeds_are_up_to_date() {
    for (target, name, bytes) in flexvisor_fuzz::made_seeds() {
        let file = format!("{}/corpus/{target}/{name}", env!("CARGO_MANIFEST_DIR"));
        assert!(fs::read(&file).is_ok_and(|b| b == bytes), "{file} is stale: cargo run --bin seeds");
    }
}

#[test]
fn every_target_has_its_file_and_seeds() {
    for (name, _) in flexvisor_fuzz::TARGETS {
        let file = format!("{}/fuzz_targets/{name}.rs", env!("CARGO_MANIFEST_DIR"));
        assert!(fs::read_to_string(file).unwrap().contains(&format!("target!(\"{name}\")")));
        assert!(!seeds(name).is_empty());
    }
}

#[test]
fn requests_are_answered() {
    for (name, happens) in flexvisor_fuzz::nbd::seeds() {
        let least = if name == "refused" { 0 } else { 4 };
        let answers = flexvisor_fuzz::nbd::run_replies(&happens);
        assert!(answers >= least, "{name}: {answers} answers");
    }
}
