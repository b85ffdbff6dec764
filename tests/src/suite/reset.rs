//! Guests that reset their machine, and VMs that are booted anew.

use super::verbs::json;
use super::{Case, Context, start};
use crate::guest;
use crate::host::{HostSpec, VmSpec};
use anyhow::{Result, ensure};
use std::time::Duration;

const MODEL: &str = "corei7_skylake_x";
const PATIENCE: Duration = Duration::from_secs(120);
const LIMIT: u64 = 240;

/// Each way in which a guest resets its machine: VM, payload, command line.
const WAYS: [(&str, &str, &str); 4] = [
    ("cf9", "reset", "by=0xcf9"),
    ("keyboard", "reset", "by=8042"),
    ("acpi", "reset", ""),
    ("fault", "triple-fault", ""),
];

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("reset/by_the_guest", LIMIT, by_the_guest)]
}

/// A guest that resets itself boots anew, the first time at once; one that does nothing else waits ever longer.
fn by_the_guest(context: &Context) -> Result<()> {
    guest::build_payloads()?;
    let mut spec = HostSpec::new("host", MODEL);
    for (name, payload, cmdline) in WAYS {
        let mut vm = VmSpec::new(name, &guest::payload(payload));
        (vm.mem_mib, vm.cmdline) = (8, cmdline.to_string());
        vm.options.push("on-reset=restart".to_string());
        spec = spec.with_vm(vm);
    }
    let mut host = start(context, &spec)?;
    host.wait_ready(PATIENCE)?;
    let mut left: Vec<String> =
        WAYS.iter().map(|(name, ..)| format!("vm {name}: reset itself 3 times, boots anew in 2 s")).collect();
    while !left.is_empty() {
        let texts: Vec<&str> = left.iter().map(String::as_str).collect();
        let (which, _) = host.console()?.expect_any(&texts, PATIENCE)?;
        left.remove(which);
    }
    for (name, ..) in WAYS {
        let show = json(&mut host, &format!("vm show {name}"))?;
        let resets = show["resets"].as_u64().unwrap_or(0);
        ensure!(show["on_reset"] == "restart" && (3..=6).contains(&resets), "{show}");
        let answer = host.command(&format!("vm destroy {name} --force"), PATIENCE)?;
        ensure!(answer.error.is_none(), "{:?}", answer.error);
    }
    let text = host.console()?.text();
    let booted = text.matches("booted anew, as its guest asked").count();
    ensure!((8..=4 * 6).contains(&booted), "{booted} times booted anew");
    Ok(())
}
