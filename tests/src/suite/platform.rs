//! What differs from one server to the next: serial ports, memory, processors. In QEMU under TCG, which has no VMX: the
//! host comes up to its console.

use super::{Case, Context};
use crate::console::Console;
use crate::emu::{Machine, Media, Serial, qemu};
use crate::host::PROMPT;
use crate::paths;
use anyhow::{Context as _, Result, ensure};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const LIMIT: u64 = 120;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("platform/two_consoles", LIMIT, two_consoles),
        Case::new("platform/console_on_card", LIMIT, console_on_card),
        Case::new("platform/wrong_console", LIMIT, wrong_console),
        Case::new("platform/console_by_spcr", LIMIT, console_by_spcr),
        // The second CPU's stacks come from the top of memory.
        Case::new("platform/memory_above_4_gib", LIMIT, |context| memory(context, 6 << 10, &["-smp", "2"])),
        Case::new("platform/memory_above_1_tib", LIMIT, |context| {
            let further = [
                "-object",
                "memory-backend-ram,id=ram,size=1100G,reserve=off",
                "-machine",
                "q35,memory-backend=ram",
                "-cpu",
                "max,phys-bits=46",
            ];
            memory(context, 1100 << 10, &further)
        }),
        Case::new("platform/cpus_160", LIMIT, many_cpus),
        Case::new("platform/reports_nmi", LIMIT, nmi),
        Case::new("platform/reports_errors", LIMIT, machine_checks),
    ]
}

fn machine(context: &Context, line: &str, second: Serial, further: &[&str]) -> Result<Machine> {
    let media = Media::Kernel { file: paths::hypervisor(), cmdline: line.to_string(), modules: None };
    let mut config = qemu::Config::new(media);
    config.serial = [Serial::Console, second];
    config.extra = further.iter().map(ToString::to_string).collect();
    let mut machine = config.start("host", &context.dir)?;
    machine.serial.iter_mut().flatten().for_each(|console| console.set_deadline(context.deadline));
    Ok(machine)
}

fn port(machine: &mut Machine, index: usize) -> Result<&mut Console> {
    machine.serial.get_mut(index).and_then(Option::as_mut).context("no such port")
}

/// Runs a command at a port's prompt; gives back the last line before `ok`.
fn command(console: &mut Console, line: &str) -> Result<String> {
    console.send_line(line)?;
    let mut last = String::new();
    console.expect_line(&format!("the answer to `{line}`"), PATIENCE, |line| {
        let end = line == "ok";
        if !end {
            last = line.to_string();
        }
        end.then_some(())
    })?;
    Ok(last)
}

/// Each port has the log and a prompt of its own; what is typed at one is answered there.
fn two_consoles(context: &Context) -> Result<()> {
    let mut machine = machine(context, "console=com2,57600n8 console=com1", Serial::Console, &[])?;
    for index in 0..2 {
        let console = port(&mut machine, index)?;
        console.expect("console: on COM2 and COM1 (boot line)", PATIENCE)?;
        console.expect("console on COM2 and COM1, ", PATIENCE)?;
        console.expect(PROMPT, PATIENCE)?;
    }
    // Both type at the same time.
    port(&mut machine, 0)?.send(b"vers")?;
    let shown = command(port(&mut machine, 1)?, "config show")?;
    ensure!(shown.contains("com2"), "{shown}");
    port(&mut machine, 0)?.send(b"ion\r")?;
    port(&mut machine, 0)?.expect("Flexvisor ", PATIENCE)?;
    port(&mut machine, 0)?.expect("ok", PATIENCE)?;
    let text = port(&mut machine, 0)?.text();
    ensure!(!text.contains("config show"), "COM1 shows what was typed at COM2");
    // A line of the log comes to both.
    port(&mut machine, 0)?.send_line("log console debug")?;
    port(&mut machine, 0)?.expect("ok", PATIENCE)?;
    port(&mut machine, 1)?.expect(PROMPT, PATIENCE)?;
    Ok(())
}

fn console_on_card(context: &Context) -> Result<()> {
    let line = format!("console=pci:00:{:02x}.0,9600", qemu::SERIAL_CARD);
    let mut machine = machine(context, &line, Serial::Card, &[])?;
    let card = port(&mut machine, 1)?;
    card.expect("console: on pci:00:10.0 (boot line)", PATIENCE)?;
    card.expect("console on pci:00:10.0, ", PATIENCE)?;
    card.expect(PROMPT, PATIENCE)?;
    let version = command(card, "version")?;
    ensure!(version.starts_with("Flexvisor "), "{version}");
    let other = port(&mut machine, 0)?.text();
    ensure!(!other.contains("Flexvisor "), "COM1 got {other:?}");
    Ok(())
}

/// No such port, none that answers, one in RAM, a card that is none: each is named, and COM1 works.
fn wrong_console(context: &Context) -> Result<()> {
    let line = "console=com9 console=com3,0x2e0,mmio:0x200000,pci:00:00.0";
    let mut machine = machine(context, line, Serial::Absent, &[])?;
    let console = port(&mut machine, 0)?;
    for text in [
        "console: warning: no console on COM3: no 16550 answers there",
        "console: warning: no console on port 0x2e0: no 16550 answers there",
        "console: warning: no console on mmio:0x200000: RAM is there",
        "console: warning: no console on pci:00:00.0: the card there is no 16550 serial port (class 0600)",
        "console: on COM1 instead (default)",
        "boot: warning: boot line: option console=com9: expected PORT",
        "console on COM1, ",
    ] {
        console.expect(text, PATIENCE)?;
    }
    console.expect(PROMPT, PATIENCE)?;
    command(console, "version")?;
    Ok(())
}

/// An SPCR of revision 2 for a 16550 at I/O port `port` with 115200 baud.
fn spcr(port: u16) -> Vec<u8> {
    let mut table = vec![0; 80];
    table[..4].copy_from_slice(b"SPCR");
    table[4] = 80;
    table[8] = 2;
    table[10..16].copy_from_slice(b"FLEXVI");
    table[40..44].copy_from_slice(&[1, 8, 0, 1]);
    table[44..46].copy_from_slice(&port.to_le_bytes());
    table[58] = 7;
    table[64..68].fill(0xff);
    table[9] = table.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
    table
}

/// What firmware names is taken where the boot line names nothing, and only there.
fn console_by_spcr(context: &Context) -> Result<()> {
    let file = context.dir.join("spcr.bin");
    std::fs::write(&file, spcr(0x2f8))?;
    let table = format!("file={}", file.display());
    let further = ["-acpitable", table.as_str()];
    {
        let mut machine = machine(context, "idle=hlt", Serial::Console, &further)?;
        let second = port(&mut machine, 1)?;
        second.expect("console: on COM2 (ACPI SPCR)", PATIENCE)?;
        second.expect(PROMPT, PATIENCE)?;
        command(second, "version")?;
        let other = port(&mut machine, 0)?.text();
        ensure!(!other.contains("Flexvisor "), "COM1 got {other:?}");
    }
    for (line, text) in [
        ("console=com1", "console: on COM1 (boot line)"),
        (
            "com2=vm:demo",
            "console: warning: the console that ACPI SPCR names is not used: the boot line gives COM2 to vm demo",
        ),
    ] {
        let mut machine = machine(context, line, Serial::Console, &further)?;
        let first = port(&mut machine, 0)?;
        first.expect(text, PATIENCE)?;
        first.expect(PROMPT, PATIENCE)?;
    }
    Ok(())
}

/// All of the machine's RAM is there, and little of it is touched for that.
fn memory(context: &Context, mib: u64, further: &[&str]) -> Result<()> {
    let size = format!("{mib}M");
    let further = [&["-m", &size], further].concat();
    let mut machine = machine(context, "console=com1", Serial::Absent, &further)?;
    let console = port(&mut machine, 0)?;
    let number = |line: &str, behind: &str| {
        let (head, _) = line.split_once(behind)?;
        head.rsplit(' ').next()?.parse::<u64>().ok()
    };
    let ram = console.expect_line("the size of RAM", PATIENCE, |line| number(line, " MiB of RAM in "))?;
    ensure!(ram <= mib && ram + 2 >= mib, "{ram} MiB of {mib}");
    let free = console.expect_line("free memory", PATIENCE, |line| number(line, " MiB free, heap "))?;
    // The heap, which is a 64th up to 1 GiB, and some MiB.
    ensure!(free + (mib / 64).min(1024) + 16 >= mib, "{free} MiB of {mib} are free");
    console.expect(PROMPT, PATIENCE)?;
    let json = command(console, "mem --json")?;
    let total = json.split_once("\"total\":").context("no total")?.1;
    let digits = total.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    let total = digits.parse::<u64>()? >> 20;
    ensure!(total <= ram && total + 16 >= ram, "{total} MiB of {ram}");
    // What the emulator itself holds says what was touched.
    let status = std::fs::read_to_string(format!("/proc/{}/status", machine.process.id()))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let resident = resident.trim().trim_end_matches(" kB").parse::<u64>()? >> 10;
    ensure!(resident < 1024, "the machine has touched {resident} MiB");
    Ok(())
}

/// As many as an xAPIC's ids allow for, roughly: QEMU 7.2 has no x2APIC under TCG.
fn many_cpus(context: &Context) -> Result<()> {
    let mut machine = machine(context, "console=com1", Serial::Absent, &["-smp", "160"])?;
    let console = port(&mut machine, 0)?;
    console.expect("acpi: 160 CPUs", PATIENCE)?;
    console.expect("cpu: 160 running", PATIENCE)?;
    console.expect(PROMPT, PATIENCE)?;
    command(console, "cpu")?;
    Ok(())
}

/// A machine with QEMU's monitor at hand, which makes the machine report things.
fn monitored(context: &Context, line: &str) -> Result<(Machine, Monitor)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let chardev = format!("socket,id=monitor,host=127.0.0.1,port={port}");
    let further = ["-chardev", &chardev, "-mon", "chardev=monitor,mode=readline", "-smp", "2"];
    let mut machine = machine(context, line, Serial::Absent, &further)?;
    let (stream, _) = listener.accept()?;
    let console = port0(&mut machine)?;
    console.expect("mce: 10 banks, recovery+", PATIENCE)?;
    console.expect("ready: ", PATIENCE)?;
    console.expect(PROMPT, PATIENCE)?;
    Ok((machine, Monitor(stream)))
}

fn port0(machine: &mut Machine) -> Result<&mut Console> {
    port(machine, 0)
}

struct Monitor(TcpStream);

impl Monitor {
    fn command(&mut self, line: &str) -> Result<()> {
        writeln!(self.0, "{line}").context("QEMU's monitor")
    }
}

/// Fault 2.19: an NMI is told, and the next one, too; the console goes on without waiting for its port.
fn nmi(context: &Context) -> Result<()> {
    let (mut machine, mut monitor) = monitored(context, "console=com1")?;
    let console = port0(&mut machine)?;
    for _ in 0..2 {
        monitor.command("nmi")?;
        console.expect("nmi: warning: * unexpected NMIs, the last on CPU * at 0x", PATIENCE)?;
        console.expect("no reason given", PATIENCE)?;
    }
    command(console, "version")?;
    Ok(())
}

/// Fault 2.5: corrected errors are found and told; a broadcast machine check that hit nobody stops nothing, and the next one
/// does not either; one that hit the hypervisor stops it, with the bank named.
fn machine_checks(context: &Context) -> Result<()> {
    // VAL, UC, EN, ADDRV, S, AR, PCC with a memory read error of channel 1 or 2
    const CORRECTED: &str = "0x9400000000000091";
    const OPTIONAL: &str = "0xb500000000000092";
    const FATAL: &str = "0xb600000000000091";
    let (mut machine, mut monitor) = monitored(context, "console=com1 panic=debug-exit")?;
    let console = port0(&mut machine)?;
    monitor.command(&format!("mce 0 4 {CORRECTED} 0 0x12345000 0"))?;
    console.expect(
        "mce: warning: CPU 0: corrected error: bank 4: memory read, channel 1, address 0x12345000",
        PATIENCE,
    )?;
    for _ in 0..2 {
        monitor.command(&format!("mce -b 0 5 {OPTIONAL} 5 0x6000 0"))?;
        console
            .expect("mce: warning: CPU 0: uncorrected error, found before it was used: bank 5", PATIENCE)?;
        command(console, "version")?;
    }
    monitor.command(&format!("mce 0 6 {FATAL} 5 0x7000 0"))?;
    console.expect("mce: CPU 0: bank 6: memory read, channel 1, address 0x7000", PATIENCE)?;
    console.expect("panic: CPU 0: #MC machine check", PATIENCE)?;
    Ok(())
}
