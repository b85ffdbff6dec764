//! `run`: one host with one guest, whose serial console is this terminal.

use crate::tools;
use anyhow::{Context, Result, bail};
use std::io::{IsTerminal, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testbench::console::Console;
use testbench::host::{HOST_ENDS, Host, HostSpec, Platform, VmSpec};
use testbench::paths;

/// Exit statuses beyond 0 to 3.
const RESET: u8 = 4;
const GUEST_FAILED: u8 = 5;
const TIME_OUT: u8 = 124;
const LEFT: u8 = 130;

/// Ctrl-], as in telnet and virsh.
const ESCAPE: u8 = 0x1d;
const VM: &str = "guest";

#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 power-off or `debug exit 0`, 1 host or guest error, 2 usage, 3 missing tool, \
    4 reset or triple fault, 5 another `debug exit` (printed last: `guest exit CODE`), 124 time-out, 130 left by Ctrl-]."
)]
pub(crate) struct Args {
    /// What plays the host.
    #[arg(long, default_value = "bochs")]
    backend: Backend,
    /// CPU model of the host: one of Bochs' Intel models, qemu-kvm, or qemu-kvm:MODEL [default: the backend's first].
    #[arg(long, value_name = "MODEL", value_parser = model)]
    host: Option<String>,
    /// Number of host CPUs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    cpus: u32,
    /// CPU level of the guest.
    #[arg(long, default_value = "haswell")]
    level: String,
    /// Number of vCPUs of the guest.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    vcpus: u32,
    /// RAM of the guest in MiB.
    #[arg(long, default_value_t = 256, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=2048))]
    mem: u32,
    /// The guest's kernel: bzImage, ELF with a PVH note, or Multiboot 1.
    #[arg(long, value_name = "FILE", value_parser = file)]
    kernel: PathBuf,
    /// Its initrd, or its Multiboot module.
    #[arg(long, value_name = "FILE", value_parser = file)]
    initrd: Option<PathBuf>,
    /// Its command line.
    #[arg(long, default_value = "", value_name = "TEXT", allow_hyphen_values = true)]
    cmdline: String,
    /// Port 0xF4 ends the guest.
    #[arg(long)]
    debug_exit: bool,
    /// Give up after so many seconds.
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,
    /// Offer the host's own console on a local TCP port, which is printed.
    #[arg(long)]
    host_console: bool,
    /// A further boot option of the host.
    #[arg(long, value_name = "OPTION")]
    host_option: Vec<String>,
    /// Build the host by the profile that takes seconds, for work on the kernel: a larger and slower image.
    #[arg(long)]
    fast: bool,
    /// Where the logs go.
    #[arg(long, value_name = "DIR", default_value_os_t = paths::build().join("logs/run"))]
    keep_logs: PathBuf,
}

/// What plays a host where no CPU model is named.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Backend {
    Bochs,
    QemuKvm,
}

impl Backend {
    /// A newer model and an older one.
    pub(crate) fn models(self) -> [&'static str; 2] {
        match self {
            Self::Bochs => ["corei7_skylake_x", "corei7_haswell_4770"],
            Self::QemuKvm => ["qemu-kvm:Skylake-Server-noTSX-IBRS", "qemu-kvm:Haswell-noTSX"],
        }
    }
}

/// A CPU model by name, for clap.
pub(crate) fn model(name: &str) -> Result<String, String> {
    Platform::parse(name).map(|_| name.to_string())
}

/// A file that can be read, for clap.
pub(crate) fn file(name: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(name).canonicalize().map_err(|e| e.to_string())?;
    if path.is_file() { Ok(path) } else { Err("is not a file".to_string()) }
}

pub(crate) fn main(args: &Args) -> Result<u8> {
    let model = args.host.as_deref().unwrap_or(args.backend.models()[0]);
    let platform = Platform::parse(model).map_err(anyhow::Error::msg)?;
    tools::build_as(args.fast)?;
    let dir = paths::log_dir(&args.keep_logs)?;
    let mut vm = VmSpec::new(VM, &args.kernel);
    vm.mem_mib = args.mem;
    vm.level.clone_from(&args.level);
    vm.initrd.clone_from(&args.initrd);
    vm.cmdline.clone_from(&args.cmdline);
    if args.vcpus > 1 {
        vm.options.push(format!("vcpus={}", args.vcpus));
    }
    if args.debug_exit {
        vm.options.push("debug-exit".to_string());
    }
    let mut spec = HostSpec::new("host", model).with_vm(vm);
    spec.platform = platform;
    spec.cpus = args.cpus;
    spec.options.extend(args.host_option.iter().cloned());
    let mut host = spec.start(&dir, None)?;
    let log = host.console()?.log().display().to_string();
    eprintln!("host {model} boots, its log: {log}");
    if args.host_console {
        offer(host.console()?)?;
    }
    let terminal = Terminal::open();
    if terminal.is_some() {
        eprintln!("Ctrl-] leaves\r");
    }
    let left = Arc::new(AtomicBool::new(false));
    forward_input(host.guest()?, terminal.is_some(), &left)?;
    let outcome = watch(&mut host, args.timeout.map(Duration::from_secs), &left);
    drop(terminal);
    let outcome = outcome?;
    match &outcome {
        Outcome::DebugExit(code) if *code != 0 => {
            println!("guest exit {code}");
        }
        Outcome::TimeOut => eprintln!("time-out after {} s, see {log}", args.timeout.unwrap_or(0)),
        Outcome::Error(text) => eprintln!("{text}, see {log}"),
        other => eprintln!("guest: {}", other.text()),
    }
    Ok(outcome.status())
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    PowerOff,
    Reset,
    TripleFault,
    DebugExit(u64),
    Error(String),
    TimeOut,
    Left,
}

impl Outcome {
    /// Reads what follows `vm NAME: ` on the host's log.
    fn parse(event: &str) -> Option<Self> {
        if event.starts_with("refused: ") {
            return Some(Self::Error(event.to_string()));
        }
        let how = event.strip_prefix("stopped: ")?;
        Some(match how {
            "power-off" => Self::PowerOff,
            "reset" => Self::Reset,
            "triple fault" => Self::TripleFault,
            _ => match how.strip_prefix("debug exit ").and_then(|code| code.parse().ok()) {
                Some(code) => Self::DebugExit(code),
                None => Self::Error(how.to_string()),
            },
        })
    }

    fn status(&self) -> u8 {
        match self {
            Self::PowerOff | Self::DebugExit(0) => 0,
            Self::DebugExit(_) => GUEST_FAILED,
            Self::Reset | Self::TripleFault => RESET,
            Self::Error(_) => 1,
            Self::TimeOut => TIME_OUT,
            Self::Left => LEFT,
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Self::PowerOff => "power-off",
            Self::DebugExit(_) => "debug exit 0",
            Self::Reset => "reset",
            Self::TripleFault => "triple fault",
            _ => "left",
        }
    }
}

/// Copies the guest's output to stdout until the host says how the guest ended.
fn watch(host: &mut Host, timeout: Option<Duration>, left: &AtomicBool) -> Result<Outcome> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let prefix = format!("vm {VM}: ");
    let mut shown = 0;
    loop {
        show(host.guest()?, &mut shown)?;
        for line in host.console()?.take_lines() {
            if let Some(outcome) = line.split_once(&prefix).and_then(|(_, event)| Outcome::parse(event)) {
                // The guest's last words may still be on their way through the serial port.
                host.guest()?.drain(Duration::from_millis(300), Duration::from_secs(5));
                show(host.guest()?, &mut shown)?;
                return Ok(outcome);
            }
            if HOST_ENDS.iter().any(|end| line.contains(end)) {
                host.console()?.drain(Duration::from_millis(300), Duration::from_secs(3));
                return Ok(Outcome::Error(format!("the host stopped: {line}")));
            }
        }
        if left.load(Ordering::Relaxed) {
            return Ok(Outcome::Left);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Outcome::TimeOut);
        }
        host.machine.check_alive()?;
        if host.console()?.is_closed() {
            bail!("the emulator closed the host's console");
        }
        host.guest()?.wait_news(shown, Duration::from_millis(50));
    }
}

/// Prints what the console said since.
pub(crate) fn show(guest: &Console, shown: &mut usize) -> Result<()> {
    let text = guest.text_from(*shown);
    if !text.is_empty() {
        *shown += text.len();
        let mut out = std::io::stdout().lock();
        // On a raw terminal a line feed alone does not go back to the left.
        let text = if std::io::stdout().is_terminal() { text.replace('\n', "\r\n") } else { text };
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("stdout")?;
    }
    Ok(())
}

/// Sends what comes on stdin to the guest; its end is not the guest's end.
pub(crate) fn forward_input(guest: &Console, terminal: bool, left: &Arc<AtomicBool>) -> Result<()> {
    let mut to = guest.sender()?;
    let left = Arc::clone(left);
    thread::spawn(move || {
        let mut buffer = [0; 256];
        while let Ok(count) = std::io::stdin().read(&mut buffer) {
            if count == 0 {
                return;
            }
            if terminal && buffer[..count].contains(&ESCAPE) {
                left.store(true, Ordering::Relaxed);
                return;
            }
            if to.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Offers the host's console on a TCP port; what it printed so far comes first.
fn offer(console: &Console) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free TCP port")?;
    eprintln!("host console: nc 127.0.0.1 {}", listener.local_addr()?.port());
    let tap = console.tap();
    let sender = console.sender()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (Ok(mut reader), Ok(mut to)) = (client.try_clone(), sender.try_clone()) else { continue };
            thread::spawn(move || std::io::copy(&mut reader, &mut to));
            let tap = tap.clone();
            thread::spawn(move || copy_tap(&tap, client));
        }
    });
    Ok(())
}

fn copy_tap(tap: &testbench::console::Tap, mut client: TcpStream) {
    let mut at = 0;
    while let Some(text) = tap.wait_from(at) {
        at += text.len();
        if client.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// The terminal in raw mode; as it was when dropped.
pub(crate) struct Terminal {
    saved: String,
}

impl Terminal {
    pub(crate) fn open() -> Option<Self> {
        if !std::io::stdin().is_terminal() {
            return None;
        }
        let saved = stty(&["-g"])?.trim().to_string();
        stty(&["raw", "-echo"])?;
        Some(Self { saved })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        stty(&[&self.saved]);
    }
}

fn stty(args: &[&str]) -> Option<String> {
    let output = Command::new("stty").args(args).stdin(Stdio::inherit()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_decide_the_exit_status() {
        let status = |event| Outcome::parse(event).map(|outcome| outcome.status());
        assert_eq!(status("stopped: power-off"), Some(0));
        assert_eq!(status("stopped: debug exit 0"), Some(0));
        assert_eq!(status("stopped: debug exit 33"), Some(5));
        assert_eq!(status("stopped: reset"), Some(4));
        assert_eq!(status("stopped: triple fault"), Some(4));
        assert_eq!(status("stopped: error: EPT misconfiguration"), Some(1));
        assert_eq!(status("refused: level foo"), Some(1));
        assert_eq!(status("running"), None);
    }
}
