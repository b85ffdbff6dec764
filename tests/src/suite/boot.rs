//! From power-on to the ready line, or to a clear refusal.

use super::ways::{self, NO_VMX};
use super::{Case, Context, start};
use crate::emu::Network;
use crate::emu::bochs::{Cpu, models_with_ept};
use crate::emu::qemu::{self, Accel};
use crate::emu::{Media, Serial, bochs};
use crate::host::{HostSpec, Platform};
use crate::image::{self, Protocol};
use crate::paths;
use crate::release;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::time::Duration;

const MODEL: &str = "corei7_skylake_x";
const PATIENCE: Duration = Duration::from_secs(90);
const LIMIT: u64 = 120;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for model in models_with_ept() {
        cases.push(Case::new(&format!("boot/{model}"), LIMIT, move |context| ready(context, model)));
    }
    cases.push(Case::new("boot/multiboot1_grub", LIMIT, multiboot1_grub));
    cases.push(Case::new("boot/multiboot2_qemu", LIMIT, multiboot2_qemu));
    cases.push(Case::new("boot/disk", LIMIT, disk));
    cases.push(Case::new("boot/no_pit", LIMIT, no_pit));
    cases.push(Case::new("boot/efi_disk", ways::LIMIT, efi_disk));
    cases.push(Case::new("boot/release_is_reproducible", ways::LIMIT, reproducible));
    cases.push(Case::new("boot/efi_shell", ways::LIMIT, efi_shell).slow());
    cases.push(Case::new("boot/iso_damaged", ways::LIMIT, iso_damaged));
    cases.push(Case::new("boot/efi_damaged", ways::LIMIT, efi_damaged).slow());
    for (name, network) in [("pxe", Network::Pxe), ("http", Network::Http)] {
        let run = move |context: &Context| ways::missing(context, network);
        cases.push(Case::new(&format!("boot/{name}_missing_file"), ways::LIMIT, run).slow());
    }
    for (name, first, said) in [
        ("pxelinux", "pxelinux.0", "Loading flexvisor.elf... failed!"),
        ("grub_net", "grub/bios.0", "error: premature end of file /flexvisor.elf"),
    ] {
        let run = move |context: &Context| ways::cut_short(context, first, said);
        cases.push(Case::new(&format!("boot/{name}_damaged"), ways::LIMIT, run).slow());
    }
    cases.push(Case::new("boot/ipxe_missing_file", ways::LIMIT, ways::comes_later).slow());
    cases.extend(ways::cases());
    for cpus in [2, 4] {
        cases.push(Case::new(&format!("boot/cpus_{cpus}"), LIMIT, move |context| cpus_run(context, cpus)));
    }
    cases.push(Case::new("boot/console_on_com2", LIMIT, console_on_com2));
    cases.push(Case::new("boot/wrong_options", LIMIT, wrong_options));
    cases.push(Case::new("boot/wrong_modules", LIMIT, wrong_modules));
    cases
}

fn ready(context: &Context, model: &str) -> Result<()> {
    let mut host = start(context, &HostSpec::new("host", model))?;
    host.console()?.expect("Flexvisor *via multiboot2", PATIENCE)?;
    host.wait_ready(PATIENCE)?;
    Ok(())
}

fn hypervisor_image(context: &Context, protocol: Protocol) -> Result<std::path::PathBuf> {
    let file = context.dir.join("host.iso");
    let (kernel, cmdline) = (paths::hypervisor(), "console=com1".to_string());
    image::build(&image::Spec { protocol, kernel, cmdline, modules: Vec::new() }, &file)?;
    Ok(file)
}

fn multiboot1_grub(context: &Context) -> Result<()> {
    let media = Media::Cd(hypervisor_image(context, Protocol::Multiboot1)?);
    let mut machine = bochs::Config::new(Cpu::model(MODEL), media).start("host", &context.dir)?;
    let console = machine.serial[0].as_mut().context("no console")?;
    console.expect("Flexvisor *via multiboot1", PATIENCE)?;
    console.expect("ready: ", PATIENCE)?;
    Ok(())
}

fn disk(context: &Context) -> Result<()> {
    let media = Media::Disk(hypervisor_image(context, Protocol::Multiboot2)?);
    let mut machine = bochs::Config::new(Cpu::model(MODEL), media).start("host", &context.dir)?;
    machine.serial[0].as_mut().context("no console")?.expect("ready: ", PATIENCE)?;
    Ok(())
}

/// `flexvisor.efi` on a disk, with settings beside it and most of what can be wrong with them.
fn efi_disk(context: &Context) -> Result<()> {
    let (efi, file) = (context.dir.join("flexvisor.efi"), context.dir.join("esp.img"));
    release::efi(&paths::hypervisor(), &efi)?;
    let config = "# settings\nloglevel=debug\nbogus=1\nmodule data some words\n\
                  module here vm=half\nmodule nothing for=half\nmodule\n";
    let folder = "EFI/BOOT";
    let name = |name: &str| format!("{folder}/{name}");
    let files: [(&str, &[u8]); 5] = [
        (&name("BOOTX64.EFI"), &fs::read(&efi)?),
        (&name(&format!("host.cfg/{}", ways::UUID)), b"loglevel=debug\nname=\0\n"),
        (&name("flexvisor.cfg"), config.as_bytes()),
        (&name("data"), &[7; 5000]),
        (&name("here"), b"x"),
    ];
    release::efi_disk(&files, &file)?;
    let extra = vec!["-uuid".to_string(), ways::UUID.to_string()];
    let config = qemu::Config { uefi: true, extra, ..qemu::Config::new(Media::Disk(file)) };
    let mut machine = config.start("host", &context.dir)?;
    let console = machine.serial[0].as_mut().context("no console")?;
    for line in [
        &format!(
            "flexvisor.efi: error: host.cfg/{}: line 2: not UTF-8 text: the file is ignored",
            ways::UUID
        ),
        "flexvisor.efi: settings from flexvisor.cfg",
        "error: flexvisor.cfg line 6: module nothing is not there",
        "error: flexvisor.cfg: line 7: module names no file",
        "error: vm half is left out: a file of it is missing",
        "Flexvisor *via uefi",
        "boot: error: flexvisor.efi: flexvisor.cfg line 6: module nothing is not there",
        "flexvisor.cfg line 3: unknown option `bogus=1`",
        "5 KiB, `some words`",
        "boot: memory 0x",
        "acpi: 1 CPUs",
        NO_VMX,
    ] {
        console.expect(line, PATIENCE)?;
    }
    ensure!(!console.text().contains("vm=half"), "a VM without its module came through");
    Ok(())
}

/// Options and modules on the line of UEFI's shell, as a boot entry has them too.
fn efi_shell(context: &Context) -> Result<()> {
    let (efi, file) = (context.dir.join("flexvisor.efi"), context.dir.join("esp.img"));
    release::efi(&paths::hypervisor(), &efi)?;
    let line = "fs0:\r\nflexvisor.efi console=com1 module=\"data some words\" loglevel=debug module=\"gone vm=x\"\r\n";
    let files: [(&str, &[u8]); 3] =
        [("flexvisor.efi", &fs::read(&efi)?), ("startup.nsh", line.as_bytes()), ("data", &[7; 5000])];
    release::efi_disk(&files, &file)?;
    let media = Media::Disk(file);
    let mut machine = qemu::Config { uefi: true, ..qemu::Config::new(media) }.start("host", &context.dir)?;
    let console = machine.serial[0].as_mut().context("no console")?;
    for line in [
        "flexvisor.efi: error: load options line 2: module gone is not there",
        "Flexvisor *via uefi",
        "command line `console=com1 loglevel=debug`",
        "boot: error: flexvisor.efi: vm x is left out",
        "5 KiB, `some words`",
        NO_VMX,
    ] {
        console.expect(line, PATIENCE)?;
    }
    Ok(())
}

/// What the release's loader cannot load it says on the serial line, and takes commands there.
fn iso_damaged(context: &Context) -> Result<()> {
    let (cut, file) = (context.dir.join("cut.elf"), context.dir.join("flexvisor.iso"));
    let whole = fs::read(paths::hypervisor())?;
    fs::write(&cut, &whole[..whole.len() / 2])?;
    release::iso(&cut, "console=com1", &[], &file)?;
    let mut machine = qemu::Config::new(Media::Cd(file)).start("host", &context.dir)?;
    let console = machine.serial[0].as_mut().context("no console")?;
    console.expect("error: premature end of file /boot/flexvisor.elf", PATIENCE)?;
    console.expect("grub>", PATIENCE)?;
    console.send_line("set")?;
    console.expect("timeout=0", PATIENCE)?;
    Ok(())
}

/// What makes a start impossible is said where the load options put the host's console, or on COM1; the firmware goes on.
fn efi_damaged(context: &Context) -> Result<()> {
    const ERROR: &str = "flexvisor.efi: error: the kernel in flexvisor.efi is damaged; back to the firmware";
    let (efi, file) = (context.dir.join("flexvisor.efi"), context.dir.join("esp.img"));
    release::efi(&paths::hypervisor(), &efi)?;
    let good = fs::read(&efi)?;
    let mut bad = good.clone();
    let kernel = bad.windows(6).position(|bytes| bytes == b"\x7fELF\x02\x01").context("no kernel")?;
    bad[kernel + 1] = b'e';
    let card = qemu::SERIAL_CARD;
    let line = format!(
        "fs0:\r\nbad.efi console=pci:00:{card:02x}.0\r\nbad.efi console=com4\r\ngood.efi console=com1\r\n"
    );
    let files: [(&str, &[u8]); 3] =
        [("good.efi", &good), ("bad.efi", &bad), ("startup.nsh", line.as_bytes())];
    release::efi_disk(&files, &file)?;
    let serial = [Serial::Console, Serial::Card];
    let config = qemu::Config { uefi: true, serial, ..qemu::Config::new(Media::Disk(file)) };
    let mut machine = config.start("host", &context.dir)?;
    let [Some(console), Some(card)] = machine.serial.as_mut_slice() else { bail!("two serial ports") };
    console.expect("Flexvisor *via uefi", PATIENCE)?;
    console.expect(NO_VMX, PATIENCE)?;
    // Both are consoles of the firmware, too, which shows each error once.
    for (port, which, wanted) in [(card, "card", [2, 1]), (console, "COM1", [1, 2])] {
        let text = port.text();
        let (first, second) = text.split_once("bad.efi console=com4").context("two starts")?;
        let said = [first, second].map(|part| part.matches(ERROR).count());
        ensure!(said == wanted, "the {which} shows the errors {said:?} times");
    }
    Ok(())
}

fn reproducible(context: &Context) -> Result<()> {
    let image = paths::hypervisor();
    let files = ["one", "two"].map(|name| {
        let mut files = release::make(&image, &context.dir.join(name))?;
        // GRUB's images are made as well.
        files.extend(
            ["bios.0", "uefi.efi"].map(|file| context.dir.join(name).join("netboot/grub").join(file)),
        );
        anyhow::Ok(files)
    });
    let [one, two] = files;
    for (one, two) in one?.iter().zip(two?) {
        ensure!(fs::read(one)? == fs::read(&two)?, "{} and {} differ", one.display(), two.display());
    }
    Ok(())
}

fn multiboot2_qemu(context: &Context) -> Result<()> {
    let mut spec = HostSpec::new("host", MODEL);
    spec.platform = Platform::Qemu(Accel::Tcg);
    start(context, &spec)?.console()?.expect("Flexvisor *via multiboot2", PATIENCE)?;
    Ok(())
}

/// A machine without a PIT: the ACPI timer stands in.
fn no_pit(context: &Context) -> Result<()> {
    let media =
        Media::Kernel { file: paths::hypervisor(), cmdline: "console=com1".to_string(), modules: None };
    let mut machine =
        qemu::Config { extra: vec!["-machine".into(), "pc,pit=off".into()], ..qemu::Config::new(media) }
            .start("host", &context.dir)?;
    let console = machine.serial[0].as_mut().context("no console")?;
    console.expect("the PIT does not count", PATIENCE)?;
    console.expect(" MHz by the ACPI timer", PATIENCE)?;
    console.expect("ready: ", PATIENCE)?;
    Ok(())
}

fn cpus_run(context: &Context, cpus: u32) -> Result<()> {
    let mut spec = HostSpec::new("host", MODEL);
    spec.cpus = cpus;
    let mut host = start(context, &spec)?;
    host.console()?.expect(&format!("cpu: {cpus} running"), PATIENCE)?;
    host.wait_ready(PATIENCE)?;
    Ok(())
}

fn console_on_com2(context: &Context) -> Result<()> {
    let mut spec = HostSpec::new("host", MODEL).option("console=com2");
    spec.second_port = true;
    let mut host = start(context, &spec)?;
    host.guest()?.expect("Flexvisor ", PATIENCE)?;
    host.guest()?.expect("ready: ", PATIENCE)?;
    let other = host.console()?.text();
    ensure!(other.is_empty(), "COM1 got {other:?}");
    Ok(())
}

fn wrong_options(context: &Context) -> Result<()> {
    let spec = HostSpec::new("host", MODEL).option("loglevel=loud").option("bogus=1");
    let mut host = start(context, &spec)?;
    host.wait_ready(PATIENCE)?;
    let text = host.console()?.text();
    for word in ["loud", "bogus"] {
        // The line itself is echoed: that is not enough.
        let named = text.lines().any(|line| line.contains(word) && !line.contains("command line `"));
        ensure!(named, "no warning names {word}");
    }
    Ok(())
}

/// Modules that are not what their lines say are named; the host comes up, with what is right.
fn wrong_modules(context: &Context) -> Result<()> {
    let long = vec![b'#'; 70_000];
    let files: [(&str, &str, &[u8]); 5] = [
        ("noise", "config=noise", b"loglevel=debug\nname=\0\xff"),
        ("long", "config=long", &long),
        ("right", "config=right", b"loglevel=debug bogus=1\nmodule vmlinuz vm=x"),
        ("lost", "for=nobody", b"x"),
        ("words", "some words", b"x"),
    ];
    let mut modules = Vec::new();
    for (name, line, bytes) in files {
        let file = context.dir.join(name);
        fs::write(&file, bytes)?;
        modules.push(format!("{} {line}", file.display()));
    }
    let (file, cmdline) = (paths::hypervisor(), "console=com1".to_string());
    let media = Media::Kernel { file, cmdline, modules: Some(modules.join(",")) };
    let mut machine = qemu::Config::new(media).start("host", &context.dir)?;
    let console = machine.serial[0].as_mut().context("no console")?;
    console.expect("ready: ", PATIENCE)?;
    let text = console.text();
    for said in [
        "noise: line 2: not UTF-8 text: the file is ignored",
        "long: 70000 bytes, more than 65536: ignored",
        "right line 1: unknown option `bogus=1`",
        "right line 2: ",
        "boot: memory 0x",
        "is for a VM that no module describes",
        "has neither vm= nor for=: ignored",
    ] {
        ensure!(text.contains(said), "nothing says `{said}`");
    }
    Ok(())
}
