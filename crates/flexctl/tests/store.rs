//! VMs to files and back over TCP on this machine: `receive` and `send` as processes, a model VM as first source and last
//! target.

mod model;

use std::fs;
use std::path::Path;

use migrate::handover::Word;
use migrate::{Purpose, SourceOutcome, TargetOutcome};
use model::{KEY, Model, Receiver, arrive, flexctl, leave, leave_for, scratch};

fn inspect(file: &Path) -> (i32, String, String) {
    flexctl(&["inspect", file.to_str().unwrap()])
}

/// A file that owns the model VM.
fn stored(folder: &Path, keys: &[&str]) -> std::path::PathBuf {
    let file = folder.join("demo.vm");
    let receiver = Receiver::start(&file, keys);
    let outcome = leave(&Model::full(), receiver.port, keys);
    assert!(matches!(outcome, SourceOutcome::Done(_)), "{outcome:?}");
    let (status, out, errors) = receiver.end();
    assert_eq!(status, 0, "{out}{errors}");
    assert!(out.contains("demo: the VM is the file's"), "{out}");
    file
}

fn send(file: &Path, port: u16, keys: &[&str], more: &[&str]) -> (i32, String, String) {
    let host = format!("127.0.0.1:{port}");
    flexctl(&[&["send", file.to_str().unwrap(), &host], keys, more].concat())
}

#[test]
fn to_a_file_and_back() {
    for (name, keys) in [("keyed", &["--key", KEY][..]), ("insecure", &["--insecure"])] {
        let folder = scratch(name);
        let file = stored(&folder, keys);
        let (status, text, errors) = inspect(&file);
        assert_eq!((status, errors.as_str()), (0, ""));
        for part in [
            "vm         demo (42424242424242424242424242424242)\nstate      owner\n",
            "level      haswell-v",
            "ram        2688 KiB in 2 ranges\n  from     0x0: 160 pages\n  from     0x100000: 512 pages\n",
            "pages      168 zero, 168 fill, 336 data\nrecord     vcpu 0 v1: 3 bytes\nrecord     uart 1 v1: 5000 bytes\n",
            "made from  mem=3 level=haswell vcpus=2 topology=2:1:1\n  line     console=ttyS0\n  kernel   9000 bytes, sha256 ",
            ", from http://10.0.0.9/vmlinux\n  module   8589934592 bytes, not here\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let (_, json, _) = flexctl(&["inspect", "--json", file.to_str().unwrap()]);
        assert!(json.contains(r#""state":"owner","name":"demo""#), "{json}");
        assert!(json.contains(r#""pages":{"zero":168,"fill":168,"data":336}"#), "{json}");
        assert!(text.contains("\npolicy\n  vendor ") && text.contains("\n  CPUID.1:ECX "), "{text}");
        assert!(json.contains(r#""policy":{"#), "{json}");
        assert!(json.contains(r#""sockets:cores:threads":"2:1:1""#), "{json}");
        assert!(
            json.contains(
                r#""origin":{"options":"mem=3 level=haswell vcpus=2 topology=2:1:1","args":"console=ttyS0""#
            ),
            "{json}"
        );
        assert!(
            json.contains(r#"{"bytes":8589934592,"sha256":null,"text":"large","url":null,"here":false}"#),
            "{json}"
        );

        let (port, arrived) = arrive(keys, false);
        let (status, out, errors) = send(&file, port, keys, &[]);
        assert_eq!(status, 0, "{out}{errors}");
        assert!(out.contains("demo: done: ") && out.contains("the file is used"), "{out}");
        let (model, outcome) = arrived.join().unwrap();
        assert_eq!(outcome, TargetOutcome::Runs);
        assert!(model == Model::full(), "the VM is another one");
        assert!(inspect(&file).1.contains("\nstate      used\n"));

        // Nobody listens there any more: it is refused before that matters.
        let (status, out, errors) = send(&file, port, keys, &[]);
        assert_eq!((status, out.as_str()), (2, ""));
        assert!(
            errors.contains("demo.vm: the file is used; a host runs its VM: it is not sent twice"),
            "{errors}"
        );
        fs::remove_dir_all(folder).unwrap();
    }
}

/// Shape and policy are records of their own: no file is made where they contradict each other.
#[test]
fn a_machine_with_other_vcpus_than_its_policy_is_not_kept() {
    let folder = scratch("vcpus");
    let file = folder.join("demo.vm");
    let receiver = Receiver::start(&file, &["--insecure"]);
    let outcome = leave(&Model::full().with_vcpus(3), receiver.port, &["--insecure"]);
    let SourceOutcome::Failed(reason) = outcome else { panic!("{outcome:?}") };
    let why = "the machine has 3 vCPUs, its CPU policy says 2";
    assert!(reason.to_string().contains(why), "{reason}");
    let (status, out, errors) = receiver.end();
    assert!(status != 0 && format!("{out}{errors}").contains(why), "{out}{errors}");
    assert!(!file.exists());
    fs::remove_dir_all(folder).unwrap();
}

/// The VM runs on at its source, so only another VM may begin from the file; as often as wanted.
#[test]
fn a_checkpoint_starts_clones_only() {
    let keys = &["--insecure"][..];
    let folder = scratch("checkpoint");
    let file = folder.join("demo.vm");
    let receiver = Receiver::start(&file, keys);
    let outcome = leave_for(&Model::full(), Some(Purpose::Copy), receiver.port, keys);
    assert!(matches!(outcome, SourceOutcome::Copied(_)), "{outcome:?}");
    let (status, out, errors) = receiver.end();
    assert_eq!(status, 0, "{out}{errors}");
    assert!(out.contains("demo: a copy is the file's; the VM runs on at its source"), "{out}");
    assert!(inspect(&file).1.contains("\nstate      checkpoint\n"));

    let (status, _, errors) = send(&file, 1, keys, &[]);
    assert_eq!(status, 2);
    assert!(
        errors.contains(
            "the file is checkpoint; its VM ran on elsewhere; it starts only as another one: say --clone"
        ),
        "{errors}"
    );

    let mut uuids = vec![Model::full().uuid];
    for (more, name) in [(&["--clone"][..], "demo-clone"), (&["--clone", "--name", "second"], "second")] {
        let (port, arrived) = arrive(keys, false);
        let (status, out, errors) = send(&file, port, keys, more);
        assert_eq!(status, 0, "{out}{errors}");
        assert!(out.contains(&format!("{name}: done: ")) && out.contains("the file is checkpoint"), "{out}");
        let (model, outcome) = arrived.join().unwrap();
        assert_eq!(outcome, TargetOutcome::Runs);
        assert_eq!(model.name, name);
        assert!(!uuids.contains(&model.uuid), "{:?}", model.uuid);
        uuids.push(model.uuid);
        let mut same = model;
        (same.name, same.uuid) = ("demo".into(), Model::full().uuid);
        assert!(same == Model::full(), "the clone is not what the VM was");
    }
    let (status, _, errors) = ask(&file, 9, &[]);
    assert!(status == 2 && errors.contains("there is nobody to ask"), "{errors}");
    let (status, _, errors) = send(&file, 1, keys, &["--clone", "--name", "two words"]);
    assert_eq!(status, 2, "{errors}");
    assert!(errors.contains("name of the clone"), "{errors}");
    fs::remove_dir_all(folder).unwrap();
}

/// A suspended VM can be a template too, and stays what it is.
#[test]
fn a_clone_of_a_suspended_vm_leaves_it_to_the_file() {
    let keys = &["--insecure"][..];
    let folder = scratch("template");
    let file = stored(&folder, keys);
    // Clones may begin side by side, while the VM itself is sent once.
    let busy = fs::File::open(&file).unwrap();
    busy.lock().unwrap();
    let (status, _, errors) = send(&file, 1, keys, &[]);
    assert!(status == 2 && errors.contains("another process uses it"), "{errors}");
    let (port, arrived) = arrive(keys, false);
    let (status, out, errors) = send(&file, port, keys, &["--clone"]);
    assert_eq!(status, 0, "{out}{errors}");
    assert_eq!(arrived.join().unwrap().1, TargetOutcome::Runs);
    let (port, arrived) = arrive(keys, true);
    let (status, out, _) = send(&file, port, keys, &["--clone"]);
    assert!(status == 1 && out.contains("no room here; no clone began; the file is owner"), "{out}");
    arrived.join().unwrap();
    assert!(inspect(&file).1.contains("\nstate      owner\n"));
    fs::remove_dir_all(folder).unwrap();
}

/// Where the VM could go is known before a host is asked.
#[test]
fn a_file_is_a_subject_of_the_other_commands() {
    let folder = scratch("subject");
    let file = stored(&folder, &["--insecure"]);
    let dumps = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cpu-policy/tests/dumps");
    let host = |name: &str| dumps.join(name).to_str().unwrap().to_string();
    let (haswell, sandy) = (host("corei7_haswell_4770.cpu"), host("corei7_sandy_bridge_2600k.cpu"));
    let vm = file.to_str().unwrap();
    let (status, out, errors) = flexctl(&["check", vm, &haswell]);
    assert!(
        status == 0 && out.contains("at haswell-v1\n  runs on        corei7_haswell_4770: yes"),
        "{out}{errors}"
    );
    let (status, out, _) = flexctl(&["check", vm, &sandy]);
    assert!(status == 1 && out.contains("AVX2"), "{out}");
    assert!(flexctl(&["diff", vm, "haswell"]).1.contains("are the same"));
    let (status, out, _) = flexctl(&["explain", vm]);
    assert!(status == 0 && out.starts_with("demo "), "{out}");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let (status, _, errors) = flexctl(&["check", vm, &haswell]);
    assert!(status == 2 && errors.contains("cut short: "), "{errors}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_that_exists_is_left_alone() {
    let folder = scratch("exists");
    let file = folder.join("demo.vm");
    fs::write(&file, "mine").unwrap();
    let (status, _, errors) =
        flexctl(&["receive", file.to_str().unwrap(), "--listen", "127.0.0.1:0", "--insecure"]);
    assert_eq!(status, 2);
    assert!(errors.contains("demo.vm: it exists"), "{errors}");
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn cut_and_altered_files_are_refused_with_the_place() {
    let folder = scratch("altered");
    let file = stored(&folder, &["--insecure"]);
    let whole = fs::read(&file).unwrap();
    let refused = |bytes: &[u8], why: &str| {
        fs::write(&file, bytes).unwrap();
        let (status, out, errors) = inspect(&file);
        assert_eq!((status, out.as_str()), (2, ""), "{why}");
        assert!(errors.contains(why), "{why} in {errors}");
        // Port 9 is never asked.
        let (status, out, again) = send(&file, 9, &["--insecure"], &[]);
        assert_eq!((status, out.as_str()), (2, ""), "{why}");
        assert_eq!(again, errors);
    };
    refused(&whole[..whole.len() - 1], "cut short: ");
    refused(&whole[..100_000], "cut short: 100000 bytes are there, ");
    let mut bytes = whole.clone();
    let at = whole.len().div_euclid(2) & !0xfff;
    bytes[at + 17] ^= 1;
    refused(&bytes, "altered: page of frame 0x");
    fs::write(&file, &bytes).unwrap();
    assert!(inspect(&file).2.contains(&format!("at offset {at:#x}")));
    let uart = whole.windows(64).rposition(|bytes| bytes == [7; 64]).unwrap();
    let mut bytes = whole;
    bytes[uart] ^= 1;
    refused(&bytes, "altered: state record uart 1 at offset 0x");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_failed_send_leaves_the_vm_with_the_file() {
    let folder = scratch("failed");
    let keys = &["--key", KEY];
    let file = stored(&folder, keys);
    // The host refuses.
    let (port, arrived) = arrive(keys, true);
    let (status, out, _) = send(&file, port, keys, &[]);
    assert_eq!(status, 1, "{out}");
    assert!(out.contains("failed: peer refuses: no room here") && out.contains("the file is owner"), "{out}");
    assert!(matches!(arrived.join().unwrap().1, TargetOutcome::Refused(_)));
    // Another pool.
    let (port, arrived) = arrive(keys, false);
    let other = KEY.replace("00", "01");
    let (status, _, errors) = send(&file, port, &["--key", &other], &[]);
    assert_eq!(status, 2);
    assert!(errors.contains("127.0.0.1"), "{errors}");
    assert!(inspect(&file).1.contains("\nstate      owner\n"));
    let (status, out, errors) = send(&file, port, keys, &[]);
    assert_eq!(status, 0, "{out}{errors}");
    assert!(arrived.join().unwrap().0 == Model::full());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_lost_migration_leaves_no_file() {
    let folder = scratch("lost");
    let file = folder.join("demo.vm");
    let receiver = Receiver::start(&file, &["--insecure"]);
    model::leave_and_vanish(&Model::full(), receiver.port, &["--insecure"]);
    let (status, out, errors) = receiver.end();
    assert_eq!(status, 1, "{errors}");
    assert!(out.contains("failed: "), "{out}");
    assert!(!file.exists());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_lost_commit_is_asked_for() {
    let folder = scratch("asked");
    let file = folder.join("demo.vm");
    let keys = &["--key", KEY];
    let mut receiver = Receiver::start(&file, keys);
    let deal = model::leave_until_given(&Model::full(), receiver.port, keys);
    receiver.wait_for("held: ");
    assert!(inspect(&file).1.contains("\nstate      held\n"));
    assert_eq!(model::question(&deal, receiver.port, keys), Word::Runs);
    let (status, out, errors) = receiver.end();
    assert_eq!(status, 0, "{out}{errors}");
    assert!(inspect(&file).1.contains("\nstate      owner\n"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_held_file_wants_a_receipt() {
    let folder = scratch("held");
    let file = folder.join("demo.vm");
    let mut receiver = Receiver::start(&file, &["--insecure"]);
    let deal = model::leave_until_given(&Model::full(), receiver.port, &["--insecure"]);
    receiver.wait_for("held: ");
    receiver.kill();
    let (status, _, errors) = send(&file, 9, &["--insecure"], &[]);
    assert!(status == 2 && errors.contains("the file is held; its source may run the VM"), "{errors}");
    let resolve = |more: &[&str]| flexctl(&[&["resolve", file.to_str().unwrap(), "run-here"], more].concat());
    assert!(resolve(&[]).2.contains("the VM may run on the source: give the receipt"));
    assert!(resolve(&[&"0".repeat(64)]).2.contains("no receipt of the source"));
    let (status, out, errors) = resolve(&[&deal.receipt().to_string()]);
    assert_eq!(status, 0, "{errors}");
    assert!(out.contains("the file is owner"), "{out}");
    assert!(resolve(&["--force"]).2.contains("nothing to resolve"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_given_file_never_sends_again() {
    let folder = scratch("given");
    let keys = &["--insecure"];
    let file = stored(&folder, keys);
    let (port, host) = model::vanish(keys);
    let (status, out, _) = send(&file, port, keys, &["--wait", "2"]);
    assert_eq!(status, 1, "{out}");
    assert!(out.contains("unknown: the host does not answer") && out.contains("the file is given"), "{out}");
    let (status, _, errors) = send(&file, port, keys, &[]);
    assert!(status == 2 && errors.contains("the file is given; a host may run its VM"), "{errors}");
    let (status, out, _) = flexctl(&["resolve", file.to_str().unwrap(), "discard"]);
    assert!(status == 0 && out.contains("the file is used"), "{out}");
    let receipt = out.trim_end().rsplit("receipt=").next().unwrap();
    assert!(host.join().unwrap().takes(receipt), "{out}");
    fs::remove_dir_all(folder).unwrap();
}

fn ask(file: &Path, port: u16, more: &[&str]) -> (i32, String, String) {
    let host = format!("127.0.0.1:{port}");
    flexctl(&[&["ask", file.to_str().unwrap(), &host, "--insecure"], more].concat())
}

/// A file whose source was lost with COMMIT queued, and the deal of that source.
fn held(folder: &Path) -> (std::path::PathBuf, migrate::handover::Deal) {
    let file = folder.join("demo.vm");
    let mut receiver = Receiver::start(&file, &["--insecure"]);
    let deal = model::leave_until_given(&Model::full(), receiver.port, &["--insecure"]);
    receiver.wait_for("held: ");
    receiver.kill();
    (file, deal)
}

#[test]
fn the_source_of_a_held_file_is_asked_by_command() {
    let keys = &["--insecure"];
    let folder = scratch("ask-held");
    let (file, deal) = held(&folder);
    // Nobody is there.
    let (status, out, _) = ask(&file, 9, &["--wait", "1"]);
    assert_eq!(status, 1);
    assert!(out.contains("unknown: the source does not say") && out.contains("the file is held"), "{out}");
    // It has started anew.
    let (port, source) = model::asked(deal.clone(), None, Word::Holds, keys);
    let (status, out, errors) = ask(&file, port, &[]);
    assert_eq!(status, 1, "{out}{errors}");
    assert!(out.contains("unknown: ") && out.contains("the file is held"), "{out}");
    source.join().unwrap();
    // It gave the VM up, and frees its copy when it hears of this one.
    let (port, source) = model::asked(deal.clone(), Some(Word::Commit), Word::Runs, keys);
    let (status, out, errors) = ask(&file, port, &[]);
    assert_eq!(status, 0, "{out}{errors}");
    assert!(out.contains("demo: done: the VM is the file's; the file is owner"), "{out}");
    assert_eq!(source.join().unwrap(), [Word::Holds, Word::Runs]);
    // It can be told again, and a source that runs the VM all the same is not passed over.
    let (port, source) = model::asked(deal.clone(), Some(Word::Commit), Word::Runs, keys);
    assert_eq!(ask(&file, port, &[]).0, 0);
    assert_eq!(source.join().unwrap(), [Word::Runs]);
    let (port, source) = model::asked(deal, Some(Word::Kept), Word::Runs, keys);
    let (status, out, _) = ask(&file, port, &[]);
    assert!(status == 1 && out.contains("there are two of it"), "{out}");
    source.join().unwrap();
    let (status, out, _) = ask(&file, 9, &["--wait", "1"]);
    assert!(status == 1 && out.contains("was not told"), "{out}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_source_that_keeps_the_vm_removes_the_held_file() {
    let folder = scratch("ask-kept");
    let (file, deal) = held(&folder);
    let whole = fs::read(&file).unwrap();
    // One that is not whole takes nothing over.
    fs::write(
        &file,
        [&whole[..whole.len() / 2], &[!whole[whole.len() / 2]], &whole[whole.len() / 2 + 1..]].concat(),
    )
    .unwrap();
    let (status, _, errors) = ask(&file, 9, &[]);
    assert!(status == 2 && errors.contains("altered: "), "{errors}");
    fs::write(&file, whole).unwrap();
    let (port, source) = model::asked(deal, Some(Word::Kept), Word::Destroyed, &["--insecure"]);
    let (status, out, errors) = ask(&file, port, &[]);
    assert_eq!(status, 1, "{out}{errors}");
    assert!(out.contains("failed: the source keeps the VM") && out.contains("the file is removed"), "{out}");
    assert!(!file.exists());
    assert_eq!(source.join().unwrap(), [Word::Holds, Word::Destroyed]);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_host_of_a_given_file_is_asked_by_command() {
    let keys = &["--insecure"];
    let folder = scratch("ask-given");
    let file = stored(&folder, keys);
    let given = |file: &Path| {
        let (port, host) = model::vanish(keys);
        let (status, out, _) = send(file, port, keys, &["--wait", "1"]);
        assert!(status == 1 && out.contains("the file is given"), "{out}");
        host.join().unwrap()
    };
    // The host has destroyed its copy: it can be sent anew.
    let deal = given(&file);
    let (port, host) = model::asked(deal, Some(Word::Destroyed), Word::Commit, keys);
    let (status, out, errors) = ask(&file, port, &[]);
    assert_eq!(status, 1, "{out}{errors}");
    assert!(out.contains("failed: the host has no copy") && out.contains("the file is owner"), "{out}");
    host.join().unwrap();
    // It runs the VM.
    let deal = given(&file);
    let (port, host) = model::asked(deal, Some(Word::Runs), Word::Commit, keys);
    let (status, out, errors) = ask(&file, port, &["--json"]);
    assert_eq!(status, 0, "{out}{errors}");
    assert!(out.contains(r#""state":"used","outcome":"done: the host runs the VM"}"#), "{out}");
    assert_eq!(host.join().unwrap(), [Word::Commit]);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn links_have_a_key_or_say_insecure() {
    for keys in [&[][..], &["--insecure", "--key", KEY], &["--key", "00"]] {
        let (status, _, _) = flexctl(&[&["receive", "never.vm", "--listen", "127.0.0.1:0"], keys].concat());
        assert_eq!(status, 2, "{keys:?}");
    }
}
