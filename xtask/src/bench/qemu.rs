//! QEMU's stream and ours of the very same RAM: an idle Debian with 128 MiB, stopped.

use super::tables::Figure;
use super::{PATIENCE, step};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use testbench::process::{Process, run_tool};
use testbench::{guest, paths};

const MIB: usize = 128;
const AGAIN: Duration = Duration::from_millis(100);
/// The guest is at rest once its CPU is found halted so often in a row.
const AT_REST: usize = 30;
const MODEL: &str = "qemu tcg";

pub(super) fn measure(dir: &Path) -> Result<Vec<Figure>> {
    let linux = guest::debian()?;
    let dir = dir.join("qemu");
    fs::create_dir_all(&dir)?;
    let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let (serial, socket) = (file("serial.log"), file("qmp"));
    let mib = MIB.to_string();
    let (kernel, initrd) = (linux.bzimage.to_string_lossy(), linux.initrd.to_string_lossy());
    step("qemu: an idle Debian");
    let mut args = vec!["-accel", "tcg", "-cpu", "Haswell-noTSX", "-machine", "pc", "-m", &mib, "-no-reboot"];
    args.extend([
        "-display",
        "none",
        "-nodefaults",
        "-monitor",
        "none",
        "-kernel",
        &kernel,
        "-initrd",
        &initrd,
    ]);
    let (to_serial, to_socket) = (format!("file:{serial}"), format!("unix:{socket},server=on,wait=off"));
    args.extend(["-append", guest::SHELL_CMDLINE, "-serial", &to_serial, "-qmp", &to_socket]);
    let log = dir.join("qemu.log");
    let mut qemu = Process::start("qemu-system-x86_64", "qemu-system-x86", args, &log)?;
    until("the guest's shell", &mut qemu, || {
        Ok(fs::read_to_string(&serial).unwrap_or_default().contains("guest: init ran"))
    })?;
    let mut monitor = Monitor::connect(&socket)?;
    let mut halted = 0;
    until("a guest at rest", &mut qemu, || {
        let registers = monitor.ask("human-monitor-command", &json!({"command-line": "info registers"}))?;
        halted = if registers.as_str().unwrap_or_default().contains("HLT=1") { halted + 1 } else { 0 };
        Ok(halted == AT_REST)
    })?;
    monitor.ask("stop", &json!({}))?;
    let (ram, stream) = (file("ram"), file("stream"));
    monitor.ask("pmemsave", &json!({"val": 0, "size": MIB << 20, "filename": ram}))?;
    monitor.ask("migrate-set-parameters", &json!({"max-bandwidth": 1_u64 << 40}))?;
    monitor.ask("migrate", &json!({"uri": format!("exec:cat>'{stream}'")}))?;
    until("QEMU's migration", &mut qemu, || {
        let status = monitor.ask("query-migrate", &json!({}))?;
        match status["status"].as_str() {
            Some("completed") => Ok(true),
            Some("failed" | "cancelled") => bail!("QEMU's migration: {status}"),
            _ => Ok(false),
        }
    })?;
    drop(qemu);
    let theirs = fs::metadata(&stream).context("QEMU's stream")?.len();
    step("qemu: our encoder on the same RAM");
    let figures = ours(&ram, theirs);
    fs::remove_file(&ram)?;
    fs::remove_file(&stream)?;
    figures
}

/// What the encoder makes of it: `crates/migrate/examples/encode.rs`.
fn ours(ram: &str, theirs: u64) -> Result<Vec<Figure>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(paths::root());
    command.args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "migrate",
        "--example",
        "encode",
        "--",
        "--json",
    ]);
    let output = run_tool(command.arg(ram).arg(theirs.to_string()), "cargo-web")?;
    let said: Value = serde_json::from_slice(&output).context("the encoder's answer")?;
    let number = |key: &str| said[key].as_f64().with_context(|| format!("no {key} in {said}"));
    step(&format!("qemu: {theirs} bytes by QEMU; ours: {said}"));
    ensure!(number("zero")? > 0.0 && number("data")? > 0.0, "no RAM of a guest: {said}");
    Ok(vec![
        Figure::native("image_zero_page_bytes", number("zero_page_bytes")?, MODEL),
        Figure::native("image_wire_plain", number("none")? / theirs as f64, MODEL),
        Figure::native("image_wire_lz4", number("lz4")? / theirs as f64, MODEL),
    ])
}

/// Asks again and again, until it is so.
fn until(what: &str, qemu: &mut Process, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
    let limit = Instant::now() + PATIENCE;
    while !is()? {
        if let Some(status) = qemu.ended() {
            bail!("QEMU ended while {what} was waited for: {status}");
        }
        ensure!(Instant::now() < limit, "no {what} within {} s", PATIENCE.as_secs());
        sleep(AGAIN);
    }
    Ok(())
}

/// QEMU's machine protocol: a line of JSON each way.
struct Monitor(BufReader<UnixStream>);

impl Monitor {
    fn connect(path: &str) -> Result<Self> {
        let stream = UnixStream::connect(path).with_context(|| path.to_string())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut monitor = Self(BufReader::new(stream));
        monitor.ask("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let mut line = json!({"execute": command, "arguments": arguments}).to_string();
        line.push('\n');
        self.0.get_mut().write_all(line.as_bytes())?;
        loop {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line)? > 0, "QEMU's monitor is gone, after {command}");
            let mut answer: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            if let Some(error) = answer.get("error") {
                bail!("{command}: {error}");
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }
}
