//! What is shown of VMs with several vCPUs.

use alloc::string::{String, ToString};
use core::sync::atomic::Ordering;

use cmdline::VmOptions;

use super::{Picture, Ran, Sample};
use crate::migration::Migrations;
use crate::testing::{HOME, host, small};

#[test]
fn a_vm_comes_first_and_its_vcpus_follow() {
    let host = host();
    let one = host.vm("one");
    let two = host.vm_with(&VmOptions { vcpus: 2, ..small("two") });
    let mut before = Sample::take(alloc::vec::Vec::new());
    for (slot, permille) in [(&one.vcpus[0], 100), (&two.vcpus[0], 300), (&two.vcpus[1], 900)] {
        slot.ran.fetch_add(permille * 1000, Ordering::Relaxed);
        (0..permille).for_each(|_| slot.exits.count(10));
    }
    let mut now = Sample::take(alloc::vec::Vec::new());
    // A second of a million ticks.
    (before.at_us, now.at_us) = (0, 1_000_000);
    (before.tsc, now.tsc) = (0, 1_000_000);
    let picture = Picture::new(&before, &now, &Migrations::default());
    let text = picture.to_string();
    let lines: alloc::vec::Vec<String> = text.lines().map(words).collect();
    let at = lines.iter().position(|line| line == "one paused 10.0 % 100").expect("the VM has a line");
    let vcpu = |index, state, share| alloc::format!("vcpu {index} on CPU {HOME} {state} {share}");
    assert_eq!(
        lines[at + 1..at + 4],
        [
            "two paused 120.0 % 1200".to_string(),
            vcpu(0, "ready", "30.0 % 300"),
            vcpu(1, "wait-for-sipi", "90.0 % 900")
        ],
        "{text}"
    );
    assert!(lines[at + 4].starts_with("longest turn"), "one of a single vCPU is not said twice: {text}");
    assert!(lines.contains(&alloc::format!("{HOME} 100.0 % 0.0 %")), "each counts where it is: {text}");
    let mut json = String::new();
    json::object(&mut json, |o| picture.json(o)).unwrap();
    let part = r#""cpu_permille":1200,"exits_per_s":1200,"dirty_pages_per_s":null,"vcpus":[{"cpu":1,"state":"ready","cpu_permille":300,"exits_per_s":300},{"#;
    assert!(json.contains(part), "{json}");
}

#[test]
fn a_vm_that_has_just_come_has_done_nothing_yet() {
    let host = host();
    let before = Sample::take(alloc::vec::Vec::new());
    let vm = host.vm("new");
    vm.vcpus[0].ran.store(1 << 40, Ordering::Relaxed);
    let now = Sample::take(alloc::vec::Vec::new());
    let Ran { ticks, .. } = now.vms[0].vcpus[0];
    assert_eq!(ticks, 1 << 40);
    let text = Picture::new(&before, &now, &Migrations::default()).to_string();
    assert!(text.lines().any(|line| words(line) == "new paused 0.0 % 0"), "{text}");
}

/// With single blanks, and without the cell of pages that nobody counts.
fn words(line: &str) -> String {
    let line = line.trim_end().trim_end_matches('-');
    line.split_whitespace().collect::<alloc::vec::Vec<_>>().join(" ")
}
