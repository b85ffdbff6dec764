//! `vm create`: VMs of files that a server has, while the host runs.

use super::{Case, Context};
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use crate::hub::Hub;
use crate::hub::serve::{Server, Way};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const MODEL: &str = "corei7_skylake_x";
const PATIENCE: Duration = Duration::from_secs(120);
const HOST: &str = "10.77.0.1";
const SERVER: &str = "10.77.0.9";
/// The VM that COM2 belongs to, once it is there.
const SEEN: &str = "web";
const CTRL_C: &[u8] = &[3];

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("create/two_vms", 240, two_vms),
        Case::new("create/failures", 240, failures),
        Case::new("create/in_steps", 400, in_steps),
        Case::new("create/while_it_boots", 240, while_it_boots),
        Case::new("create/silent_server", 240, silent_server).slow(),
        Case::new("create/limit", 400, limit).slow(),
        Case::new("create/debian", 900, debian).slow(),
    ]
}

/// A host without VMs, and a server beside it that has the small guests.
fn start(context: &Context, hub: &Hub, mem_mib: u32) -> Result<(Host, Server)> {
    guest::build_payloads()?;
    hub.capture(&context.dir.join("wire.pcap"))?;
    let mut spec = HostSpec::new("host", MODEL).option(&format!("ip={HOST}/24")).option("idle=poll");
    spec.mem_mib = mem_mib;
    spec.guest_console = Some(SEEN.to_string());
    let mut host = spec.start(&context.dir, Some((hub, 1)))?;
    host.set_deadline(context.deadline);
    let files = Server::files(hub, 9, SERVER.parse().context("address")?)?;
    for name in ["hello", "spin-cli"] {
        let bytes = std::fs::read(guest::payload(name)).with_context(|| name.to_string())?;
        files.put(&format!("/{name}"), bytes, Way::Whole);
    }
    host.wait_ready(PATIENCE)?;
    Ok((host, files))
}

pub(super) fn done(host: &mut Host, command: &str) -> Result<Vec<String>> {
    let answer = host.command(command, PATIENCE)?;
    ensure!(answer.error.is_none(), "`{command}`: {:?}", answer.error);
    Ok(answer.lines)
}

/// The command fails with a text that begins and goes on like that.
pub(super) fn fails(host: &mut Host, command: &str, start: &str, text: &str) -> Result<()> {
    let error = host.command(command, PATIENCE)?.error.with_context(|| format!("`{command}` was obeyed"))?;
    ensure!(
        error.starts_with(start) && error.contains(text),
        "`{command}`: not `{start}...{text}` but `{error}`"
    );
    Ok(())
}

/// The answer to a command that prints one JSON object.
fn object(host: &mut Host, command: &str) -> Result<Value> {
    let lines = done(host, command)?;
    let line = lines.iter().find(|line| line.starts_with('{')).context("no object")?;
    serde_json::from_str(line).with_context(|| line.clone())
}

/// The host's memory but for its heap, whose use goes up and down with what is printed, and what is no memory.
fn memory(host: &mut Host) -> Result<Value> {
    let mut value = object(host, "mem --json")?;
    let object = value.as_object_mut().context("no object")?;
    object.retain(|key, _| !matches!(key.as_str(), "heap_used" | "longest_turn"));
    Ok(value)
}

/// All memory is back: a CPU may hold on to a VM that is gone for a moment.
fn is_back(host: &mut Host, before: &Value) -> Result<()> {
    let mut now = Value::Null;
    for _ in 0..20 {
        now = memory(host)?;
        if now == *before {
            return Ok(());
        }
    }
    bail!("{before} before, {now} now")
}

/// The server has been told how every transfer by TFTP ended.
fn all_told(files: &Server) -> Result<()> {
    for _ in 0..100 {
        if files.open() == 0 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("{} transfers are open at the server", files.open())
}

fn sha256(file: &Path) -> Result<String> {
    let output =
        Command::new("sha256sum").arg(file).output().context("sha256sum: apt-get install coreutils")?;
    let text = String::from_utf8(output.stdout)?;
    let digest = text.split(' ').next().filter(|word| word.len() == 64);
    Ok(digest.with_context(|| format!("sha256sum said {text}"))?.to_string())
}

/// One by HTTP with a module, one by TFTP that spins; both live, the prompt does too, and all memory comes back.
fn two_vms(context: &Context) -> Result<()> {
    let hub = Hub::new();
    let (mut host, files) = start(context, &hub, 256)?;
    files.put("/initrd.img", b"abc".repeat(50_000), Way::Unsaid);
    files.put("/plain", std::fs::read(guest::payload("spin-cli"))?, Way::Unsaid);
    let before = memory(&mut host)?;
    let digest = sha256(&guest::payload("hello"))?;
    let create = format!(
        "vm create {SEEN} --kernel http://{SERVER}/hello --sha256 {digest} --initrd http://{SERVER}/initrd.img \
         --mem 16 --cmdline \"two  blanks, 'quotes' -- exit=7\" --debug-exit"
    );
    let said = done(&mut host, &create)?.join("\n");
    ensure!(said.contains(&digest) && said.contains("initrd: "), "{said}");
    host.guest()?.expect("hello: command line 'two  blanks, 'quotes' -- exit=7'", PATIENCE)?;
    host.guest()?.expect("150000 bytes", PATIENCE)?;
    host.vm_event(SEEN, &["stopped: debug exit 7"], PATIENCE)?;
    // Kernel and module are still here.
    done(&mut host, &format!("vm start {SEEN}"))?;
    host.vm_event(SEEN, &["stopped: debug exit 7"], PATIENCE)?;
    ensure!(files.asked() == ["http hello", "http initrd.img"], "{:?}", files.asked());

    let free = |pool: &Value| pool["members"][0]["free_mib"].as_u64();
    let earlier = object(&mut host, "pool show --json")?;
    done(&mut host, &format!("vm create spin --kernel tftp://{SERVER}/spin-cli --mem 8 --paused"))?;
    // What the pool shows of this host is true at once.
    let pool = object(&mut host, "pool show --json")?;
    ensure!(pool["vms"][0]["name"] == "spin" && pool["vms"][0]["on"] == pool["members"][0]["name"], "{pool}");
    ensure!(free(&pool).is_some() && free(&pool).map(|free| free + 8) <= free(&earlier), "{earlier}, {pool}");
    ensure!(files.asked().last().is_some_and(|asked| asked == "tftp spin-cli"), "{:?}", files.asked());
    let list = done(&mut host, "vm list --json")?.join("\n");
    ensure!(list.contains("\"paused\""), "{list}");
    done(&mut host, "vm start spin")?;
    let one = memory(&mut host)?;
    ensure!(one["guests"] == 24 << 20, "{one}");
    // It takes this one CPU all it gets; the prompt answers, and another VM can still be made.
    for _ in 0..5 {
        done(&mut host, "version")?;
    }
    fails(&mut host, &format!("vm create spin --kernel tftp://{SERVER}/none"), "state ", "spin")?;
    done(&mut host, &format!("vm create third --kernel tftp://{SERVER}/plain --mem 8"))?;
    for (name, force) in [(SEEN, ""), ("spin", " --force"), ("third", " --force")] {
        done(&mut host, &format!("vm destroy {name}{force}"))?;
    }
    all_told(&files)?;
    is_back(&mut host, &before)
}

/// What cannot be is refused before the server hears of it; what goes wrong on the way leaves nothing behind.
fn failures(context: &Context) -> Result<()> {
    let hub = Hub::new();
    let (mut host, files) = start(context, &hub, 128)?;
    let before = memory(&mut host)?;
    let kernel = format!("--kernel http://{SERVER}/hello --mem 8");
    let refused = [
        (format!("vm create x --kernel http://{SERVER}/hello --mem 4096"), "unsupported ", "4096 MiB"),
        (format!("vm create x {kernel} --level pentium"), "unsupported ", "pentium"),
        (format!("vm create x {kernel} --sha256 abc"), "usage ", "abc"),
        (format!("vm create x {kernel} --cmdline \"open"), "usage ", "quote"),
        (format!("vm create x {kernel} --initrd-sha256 {}", "0".repeat(64)), "usage ", "--initrd"),
        (format!("vm create X {kernel}"), "usage ", "X"),
        (format!("vm create x --mem 8 --initrd http://{SERVER}/a"), "usage ", "--kernel"),
        (format!("vm create x --kernel https://{SERVER}/hello"), "usage ", "https"),
        ("vm create x --kernel http://server.lan/hello".to_string(), "usage ", "DNS"),
    ];
    for (command, start, text) in refused {
        fails(&mut host, &command, start, text)?;
    }
    ensure!(files.asked().is_empty(), "the server was asked for {:?}", files.asked());

    files.put("/cut", vec![0; 40_000], Way::EndsAfter(20_000));
    files.put("/huge", vec![0; 10], Way::Announced(1 << 40));
    files.put("/empty", Vec::new(), Way::Whole);
    files.put("/noise", vec![0x55; 3000], Way::Whole);
    files.put("/silent", vec![0; 40_000], Way::SilentAfter(20_000));
    let wrong = format!("hello --sha256 {}", "12".repeat(32));
    let failing = [
        ("http", "none", "the server answers 404 Not Found"),
        ("tftp", "none", "the server answers error 1: File not found"),
        ("http", wrong.as_str(), "SHA-256 is "),
        ("tftp", wrong.as_str(), "SHA-256 is "),
        ("http", "cut", "truncated: the server ended after 20000 of 40000 bytes"),
        ("tftp", "cut", "truncated: the server ended after 20000 of 40000 bytes"),
        ("http", "huge", "1099511627776 bytes"),
        ("tftp", "huge", "1099511627776 bytes"),
        ("http", "noise", "not a kernel"),
        ("http", "empty", "not a kernel"),
        ("tftp", "empty", "not a kernel"),
    ];
    for (scheme, what, text) in failing {
        let command = format!("vm create x --mem 8 --kernel {scheme}://{SERVER}/{what}");
        fails(&mut host, &command, "failed ", text)?;
    }
    fails(
        &mut host,
        &format!("vm create x --mem 8 --kernel http://{SERVER}:81/hello"),
        "failed ",
        "refused",
    )?;
    for (scheme, term) in [("http", "dumb"), ("tftp", "ansi")] {
        done(&mut host, &format!("term {term}"))?;
        let asked = files.asked().len();
        let command = format!("vm create x --mem 8 --kernel {scheme}://{SERVER}/silent");
        host.console()?.send_line(&command)?;
        // A line each two seconds, or one that is rewritten in place.
        let line = host.console()?.expect(" of 39.0 KiB", PATIENCE)?;
        ensure!(line.contains("kernel: "), "{line}");
        ensure!(files.asked().len() == asked + 1, "{:?}", files.asked());
        host.console()?.send(CTRL_C)?;
        host.console()?.expect("error: failed: vm x: not made: interrupted", PATIENCE)?;
    }
    done(&mut host, "term dumb")?;
    all_told(&files)?;
    is_back(&mut host, &before)?;
    ensure!(done(&mut host, "vm list --json")?.iter().any(|line| line == "[]"), "a VM is left");
    // And what is right still works.
    done(&mut host, &format!("vm create {SEEN} {kernel}"))?;
    host.guest()?.expect("hello: done", PATIENCE)?;
    Ok(())
}

/// A large VM is made and reset bit by bit: the console answers meanwhile, Ctrl-C ends the one and not the wait for the
/// other, and what is asked of the VM in between has an answer. Fault 3.4.
fn in_steps(context: &Context) -> Result<()> {
    const LARGE: u32 = 400;
    let hub = Hub::new();
    let (mut host, _files) = start(context, &hub, 512)?;
    let before = memory(&mut host)?;
    let create = format!("vm create {SEEN} --kernel http://{SERVER}/spin-cli --mem {LARGE}");
    done(&mut host, "term ansi")?;
    host.console()?.send_line(&create)?;
    let line = host.console()?.expect("memory: * to clear", PATIENCE)?;
    ensure!(line.contains("MiB"), "{line}");
    host.console()?.send(CTRL_C)?;
    host.console()?.expect(&format!("error: failed: vm {SEEN}: not made: interrupted"), PATIENCE)?;
    done(&mut host, "term dumb")?;
    is_back(&mut host, &before)?;

    done(&mut host, &create)?;
    let reset = format!("vm reset {SEEN} --force");
    host.console()?.send_line(&reset)?;
    host.console()?.expect(&format!("vm {SEEN}: resetting"), PATIENCE)?;
    host.console()?.send(CTRL_C)?;
    let goes_on = format!("error: failed: not waited for: the reset of vm {SEEN} goes on");
    host.console()?.expect(&goes_on, PATIENCE)?;
    let list = done(&mut host, "vm list --state resetting")?;
    ensure!(list.iter().any(|line| line.starts_with(SEEN)), "{list:?}");
    for command in ["start", "pause", "resume", "stop", "regs"] {
        fails(&mut host, &format!("vm {command} {SEEN}"), "busy ", "(phase reset)")?;
    }
    fails(&mut host, &reset, "busy ", "(phase reset)")?;
    fails(&mut host, &format!("vm dirty start {SEEN}"), "busy ", "(phase reset)")?;
    fails(&mut host, &format!("migrate {SEEN} 10.77.0.5"), "busy ", "(phase reset)")?;
    host.vm_event(SEEN, &["booted anew"], PATIENCE)?;
    let list = done(&mut host, "vm list --json")?.join("\n");
    ensure!(list.contains("\"running\""), "{list}");

    // And one that is not waited for at all.
    host.console()?.send_line(&reset)?;
    host.console()?.expect(&format!("vm {SEEN}: resetting"), PATIENCE)?;
    host.console()?.send(CTRL_C)?;
    host.console()?.expect(&goes_on, PATIENCE)?;
    done(&mut host, &format!("vm destroy {SEEN} --force"))?;
    is_back(&mut host, &before)
}

/// The VM of a boot module that takes its time is made while the console answers, and can be ended.
fn while_it_boots(context: &Context) -> Result<()> {
    const NAME: &str = "large";
    guest::build_payloads()?;
    let mut vm = VmSpec::new(NAME, &guest::payload("halt-forever"));
    vm.mem_mib = 700;
    let mut host = HostSpec::new("host", MODEL).with_vm(vm).option("idle=poll").start(&context.dir, None)?;
    host.set_deadline(context.deadline);
    let ready = host.wait_ready(PATIENCE)?;
    ensure!(ready.starts_with("1 vm (1 being made), "), "{ready}");
    let list = done(&mut host, "vm list --json")?.join("\n");
    ensure!(list.contains("\"making\"") && list.contains(&(700_u64 << 20).to_string()), "{list}");
    fails(&mut host, &format!("vm show {NAME}"), "busy ", "is being made")?;
    fails(&mut host, &format!("vm rename {NAME} x"), "busy ", "is being made")?;
    done(&mut host, &format!("vm destroy {NAME}"))?;
    host.vm_event(NAME, &["refused: ended by `vm destroy`"], PATIENCE)?;
    fails(&mut host, &format!("vm show {NAME}"), "not-found ", NAME)?;
    let memory = memory(&mut host)?;
    ensure!(memory["guests"] == 0 && memory["kernels"] == 0, "{memory}");
    Ok(())
}

/// A server that says nothing more, or never was there, is given up.
fn silent_server(context: &Context) -> Result<()> {
    let hub = Hub::new();
    let (mut host, files) = start(context, &hub, 128)?;
    let before = memory(&mut host)?;
    files.put("/silent", vec![0; 40_000], Way::SilentAfter(20_000));
    for scheme in ["http", "tftp"] {
        let silent = format!("vm create x --mem 8 --kernel {scheme}://{SERVER}/silent");
        fails(&mut host, &silent, "failed ", "the server has been silent for 20 s")?;
        let nobody = format!("vm create x --mem 8 --kernel {scheme}://10.77.0.77/hello");
        let why = "no answer to ARP for 10.77.0.77: is the host on, in this network?";
        fails(&mut host, &nobody, "failed ", why)?;
    }
    is_back(&mut host, &before)
}

/// As many VMs as a host takes, and one more; a guest that stays too small for its kernel.
fn limit(context: &Context) -> Result<()> {
    const MOST: usize = 64;
    let hub = Hub::new();
    let (mut host, files) = start(context, &hub, 512)?;
    let before = memory(&mut host)?;
    let create = |index: usize| format!("vm create v{index} --kernel http://{SERVER}/hello --mem 2 --paused");
    for index in 0..MOST {
        done(&mut host, &create(index))?;
    }
    fails(&mut host, &create(MOST), "state ", "64 VMs are on this host, the most it takes")?;
    ensure!(files.asked().len() == MOST, "{} requests", files.asked().len());
    // All of them at once on the one CPU.
    for index in 0..MOST {
        done(&mut host, &format!("vm start v{index}"))?;
    }
    for index in 0..MOST {
        done(&mut host, &format!("vm destroy v{index} --force"))?;
    }
    is_back(&mut host, &before)?;
    let small = format!("vm create v0 --kernel http://{SERVER}/hello --mem 1");
    fails(&mut host, &small, "failed ", "RAM of this VM")?;
    is_back(&mut host, &before)
}

/// Debian's kernel to its shell.
fn debian(context: &Context) -> Result<()> {
    let linux = guest::debian()?;
    let hub = Hub::new();
    let (mut host, files) = start(context, &hub, 768)?;
    let before = memory(&mut host)?;
    for (path, file) in [("/vmlinux", &linux.kernel), ("/initrd", &linux.initrd)] {
        files.put(path, std::fs::read(file).with_context(|| file.display().to_string())?, Way::Whole);
    }
    let create = format!(
        "vm create {SEEN} --kernel http://{SERVER}/vmlinux --sha256 {} --initrd http://{SERVER}/initrd \
         --initrd-sha256 {} --mem 256 --level haswell --cmdline \"{}\"",
        sha256(&linux.kernel)?,
        sha256(&linux.initrd)?,
        guest::SHELL_CMDLINE
    );
    let long = Duration::from_secs(600);
    let answer = host.command(&create, long)?;
    ensure!(answer.error.is_none(), "{answer:?}");
    ensure!(answer.lines.iter().filter(|line| line.contains(" of ")).count() > 1, "no progress: {answer:?}");
    let console = host.guest()?;
    console.expect("guest# ", long)?;
    console.send_line("echo $((6 * 7)) answers; poweroff -f")?;
    console.expect("42 answers", PATIENCE)?;
    host.vm_event(SEEN, &["stopped: power-off"], PATIENCE)?;
    done(&mut host, &format!("vm destroy {SEEN}"))?;
    is_back(&mut host, &before)
}
