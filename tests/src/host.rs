//! A Flexvisor host in an emulator: its boot line, its VMs, its console.

use crate::console::Console;
use crate::emu::bochs::{self, Cpu, MODELS_REFUSED, models_with_ept};
use crate::emu::qemu::{self, Accel};
use crate::emu::{IPS, Machine, Media, Serial};
use crate::hub::{Hub, host_mac};
use crate::image::{self, Module, Protocol};
use crate::paths;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The console's prompt.
pub const PROMPT: &str = "flexvisor> ";

/// Parts of log lines after which a host does not come up, or is no more.
pub const HOST_ENDS: [&str; 5] = ["panic: ", "VMX is ", "VMX lacks ", "EPT is ", "EPT lacks "];

/// Models of Bochs whose real CPU has a broken preemption timer, so that the host takes the APIC's. Theirs works, and Bochs
/// lets no interrupt end the run of a guest that is entered with interrupts off: docs/testing.md.
const PREEMPTION_TIMER_WORKS: [&str; 2] = ["corei5_lynnfield_750", "corei5_arrandale_m520"];

/// Whether hosts check each VM entry by the SDM's rules: in tests, since emulators check few. Not where figures are taken.
static ENTRIES_ARE_CHECKED: AtomicBool = AtomicBool::new(false);

/// From here on, hosts check their VM entries.
pub fn check_entries() {
    ENTRIES_ARE_CHECKED.store(true, Ordering::Relaxed);
}

/// A VM described on its module's command line.
#[derive(Clone, Debug)]
pub struct VmSpec {
    /// The VM's name.
    pub name: String,
    /// RAM in MiB.
    pub mem_mib: u32,
    /// CPU level; empty: the host's choice.
    pub level: String,
    /// Further words of the module line, such as `debug-exit`.
    pub options: Vec<String>,
    /// The guest kernel.
    pub kernel: PathBuf,
    /// Its initrd or its first Multiboot module.
    pub initrd: Option<PathBuf>,
    /// The guest's own command line.
    pub cmdline: String,
}

impl VmSpec {
    /// A VM with 64 MiB at level `haswell` and an empty command line.
    pub fn new(name: &str, kernel: &Path) -> Self {
        Self {
            name: name.to_string(),
            mem_mib: 64,
            level: "haswell".to_string(),
            options: Vec::new(),
            kernel: kernel.to_path_buf(),
            initrd: None,
            cmdline: String::new(),
        }
    }

    /// Its boot modules: kernel and initrd.
    pub fn modules(&self) -> Vec<Module> {
        let Self { name, mem_mib, level, options, cmdline, .. } = self;
        let mut line = format!("vm={name} mem={mem_mib}");
        if !level.is_empty() {
            line.push_str(" level=");
            line.push_str(level);
        }
        for option in options {
            line.push(' ');
            line.push_str(option);
        }
        // A guest that fails is to be seen, not to begin anew.
        if !options.iter().any(|option| option.starts_with("on-reset=")) {
            line.push_str(" on-reset=stop");
        }
        if !cmdline.is_empty() {
            line.push_str(" -- ");
            line.push_str(cmdline);
        }
        let mut modules = vec![Module { file: self.kernel.clone(), line }];
        if let Some(file) = &self.initrd {
            modules.push(Module { file: file.clone(), line: format!("for={name}") });
        }
        modules
    }
}

/// What plays the host.
#[derive(Clone, Debug)]
pub enum Platform {
    /// Bochs with one of its CPU models, or a CPU put together from features.
    Bochs(Cpu),
    /// QEMU.
    Qemu(Accel),
}

impl Platform {
    /// `qemu-kvm`, `qemu-kvm:MODEL`, `qemu-tcg`, or the name of a Bochs model; an error names what there is.
    pub fn parse(name: &str) -> Result<Self, String> {
        if let Some(model) = name.strip_prefix("qemu-kvm") {
            return Self::kvm(model.strip_prefix(':').unwrap_or(if model.is_empty() {
                "host"
            } else {
                model
            }));
        }
        match name {
            "qemu-tcg" => Ok(Self::Qemu(Accel::Tcg)),
            _ if models_with_ept().any(|model| model == name) || MODELS_REFUSED.contains(&name) => {
                Ok(Self::Bochs(Cpu::model(name)))
            }
            _ => Err(format!(
                "no such CPU model; there are {}, {} (both without what Flexvisor needs), qemu-kvm, \
                 qemu-kvm:MODEL and qemu-tcg",
                models_with_ept().collect::<Vec<_>>().join(", "),
                MODELS_REFUSED.join(", ")
            )),
        }
    }

    fn kvm(model: &str) -> Result<Self, String> {
        let Some(model) = qemu::KVM_MODELS.iter().chain(&["host"]).find(|known| **known == model) else {
            return Err(format!("no such model of QEMU's; there are host, {}", qemu::KVM_MODELS.join(", ")));
        };
        qemu::kvm_vmx().map(|()| Self::Qemu(Accel::Kvm(model)))
    }
}

/// How a host's links are secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKey {
    /// By the pool key of this run of the bench.
    Pool,
    /// By another key, 64 hexadecimal digits.
    Other(String),
    /// As the boot line's further options say; it gets a seed all the same.
    Unset,
    /// As they say, the seed included.
    Operator,
}

/// 32 fresh random bytes in hexadecimal.
pub fn random_hex() -> Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("/dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The pool key of all hosts that this process starts.
pub fn pool_key() -> Result<String> {
    static KEY: OnceLock<String> = OnceLock::new();
    if let Some(key) = KEY.get() {
        return Ok(key.clone());
    }
    let key = random_hex()?;
    Ok(KEY.get_or_init(|| key).clone())
}

/// An emulated machine that boots Flexvisor.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// Prefix of its files and messages.
    pub name: String,
    /// The emulator and its processor.
    pub platform: Platform,
    /// Number of processors.
    pub cpus: u32,
    /// Instructions per emulated second.
    pub ips: u64,
    /// RAM in MiB.
    pub mem_mib: u32,
    /// Boot options beyond those that the other fields give.
    pub options: Vec<String>,
    /// How its links to other hosts are secured.
    pub link: LinkKey,
    /// The VM that COM2 belongs to.
    pub guest_console: Option<String>,
    /// The machine has a COM2 also where no VM owns it.
    pub second_port: bool,
    /// VMs to start with.
    pub vms: Vec<VmSpec>,
    /// The hypervisor's image.
    pub hypervisor: PathBuf,
    /// Further arguments for QEMU.
    pub qemu: Vec<String>,
}

impl HostSpec {
    /// A one-CPU host of a Bochs model, without VMs.
    pub fn new(name: &str, model: &str) -> Self {
        Self {
            name: name.to_string(),
            platform: Platform::Bochs(Cpu::model(model)),
            cpus: 1,
            ips: IPS,
            mem_mib: 512,
            options: Vec::new(),
            link: LinkKey::Pool,
            guest_console: None,
            second_port: false,
            vms: Vec::new(),
            hypervisor: paths::hypervisor(),
            qemu: Vec::new(),
        }
    }

    /// The same with one VM, whose serial port is COM2.
    pub fn with_vm(mut self, vm: VmSpec) -> Self {
        self.mem_mib = self.mem_mib.max(vm.mem_mib + 256);
        self.guest_console = Some(vm.name.clone());
        self.vms.push(vm);
        self
    }

    /// The same with a further boot option.
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_string());
        self
    }

    /// The host's boot line.
    pub fn boot_line(&self) -> String {
        let mut words = self.options.clone();
        if !words.iter().any(|word| word.starts_with("console=")) {
            words.insert(0, "console=com1".to_string());
        }
        if let Some(name) = &self.guest_console {
            words.push(format!("com2=vm:{name}"));
        }
        if ENTRIES_ARE_CHECKED.load(Ordering::Relaxed) && !words.iter().any(|word| word.starts_with("check="))
        {
            words.push("check=entry".to_string());
        }
        if let Platform::Bochs(Cpu::Model(model)) = &self.platform
            && PREEMPTION_TIMER_WORKS.contains(&model.as_str())
            && !words.iter().any(|word| word.starts_with("slice-timer="))
        {
            words.push("slice-timer=preemption".to_string());
        }
        // A Linux of 30 MiB takes an emulated host minutes to digest: only what is small goes along.
        if !words.iter().any(|word| word.starts_with("max-file=")) {
            words.push("max-file=4".to_string());
        }
        words.join(" ")
    }

    /// Key and seed for one start: never the same seed twice.
    fn secrets(&self) -> Result<String> {
        let key = match &self.link {
            LinkKey::Pool => format!(" key={}", pool_key()?),
            LinkKey::Other(key) => format!(" key={key}"),
            LinkKey::Unset => String::new(),
            LinkKey::Operator => return Ok(String::new()),
        };
        Ok(format!("{key} seed={}", random_hex()?))
    }

    /// Writes the boot image.
    pub fn image(&self, out: &Path) -> Result<()> {
        let modules = self.vms.iter().flat_map(VmSpec::modules).collect();
        let (kernel, cmdline) = (self.hypervisor.clone(), self.boot_line() + &self.secrets()?);
        image::build(&image::Spec { protocol: Protocol::Multiboot2, kernel, cmdline, modules }, out)
    }

    /// Builds the image and starts the host, as station `index` of the hub if there is one.
    pub fn start(&self, dir: &Path, hub: Option<(&Hub, u8)>) -> Result<Host> {
        let file = dir.join(format!("{}.iso", self.name));
        self.image(&file)?;
        let media = Media::Cd(file.clone());
        let nic = hub.map(|(hub, index)| hub.plug(host_mac(index))).transpose()?;
        let second =
            if self.guest_console.is_some() || self.second_port { Serial::Console } else { Serial::Absent };
        let serial = [Serial::Console, second];
        let Self { cpus, ips, mem_mib, .. } = *self;
        let machine = match &self.platform {
            Platform::Bochs(cpu) => {
                let cpu = cpu.clone();
                bochs::Config { cpu, cpus, ips, mem_mib, media, serial, nic }.start(&self.name, dir)?
            }
            Platform::Qemu(accel) => {
                let accel = *accel;
                qemu::Config {
                    accel,
                    cpus,
                    mem_mib,
                    media,
                    serial,
                    nic,
                    uefi: false,
                    extra: self.qemu.clone(),
                }
                .start(&self.name, dir)?
            }
        };
        Ok(Host { name: self.name.clone(), machine, image: file })
    }
}

/// A running host.
pub struct Host {
    /// Prefix of its files and messages.
    pub name: String,
    /// The emulator.
    pub machine: Machine,
    image: PathBuf,
}

/// What a console command answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The lines before the last.
    pub lines: Vec<String>,
    /// Code and text of the last line, with a blank between; none after `ok`.
    pub error: Option<String>,
}

impl Host {
    /// The host's own console, on COM1.
    pub fn console(&mut self) -> Result<&mut Console> {
        self.machine.serial.first_mut().and_then(Option::as_mut).context("the host has no console on COM1")
    }

    /// What is on COM2: the console of the VM that owns it, as a rule.
    pub fn guest(&mut self) -> Result<&mut Console> {
        self.machine.serial.get_mut(1).and_then(Option::as_mut).context("nothing is on COM2 of this host")
    }

    /// No wait of this host's consoles goes on past `deadline`.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.machine.serial.iter_mut().flatten().for_each(|console| console.set_deadline(deadline));
    }

    /// Waits for the line that says that the host is up; gives back what follows `ready: `.
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<String> {
        let ends = [&["ready: "], &HOST_ENDS[..]].concat();
        let (which, line) = self.console()?.expect_any(&ends, timeout)?;
        if which != 0 {
            self.console()?.drain(Duration::from_millis(300), Duration::from_secs(3));
            let text = self.console()?.text();
            let log = self.console()?.log().display().to_string();
            bail!("{}: {line}\n--- last lines of {log} ---\n{}", self.name, crate::console::tail(&text, 40));
        }
        Ok(line.split_once("ready: ").map_or("", |(_, rest)| rest).to_string())
    }

    /// Gives a command to the console and collects its answer.
    pub fn command(&mut self, command: &str, timeout: Duration) -> Result<Answer> {
        let console = self.console()?;
        console.send_line(command)?;
        let (mut lines, mut begins) = (Vec::new(), 0);
        let error = console.expect_line(&format!("the answer to `{command}`"), timeout, |line| {
            if line == "ok" {
                return Some(None);
            }
            if let Some(failure) = failure(line) {
                return Some(Some(failure));
            }
            if !line.contains(PROMPT) {
                lines.push(line.to_string());
            }
            // What comes before its echo is the rest of a line of the log, whose begin was waited for.
            if line.contains(PROMPT) || line == command {
                begins = lines.len();
            }
            None
        })?;
        too_wide(command, lines.get(begins..).unwrap_or_default())?;
        Ok(Answer { lines, error })
    }

    /// Waits for an event of a VM on the host's log: `vm NAME: ` and then one of `events`.
    pub fn vm_event(&mut self, vm: &str, events: &[&str], timeout: Duration) -> Result<String> {
        let patterns: Vec<String> = events.iter().map(|event| format!("vm {vm}: {event}")).collect();
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        let (_, line) = self.console()?.expect_any(&patterns, timeout)?;
        let prefix = format!("vm {vm}: ");
        Ok(line.split_once(&prefix).map_or("", |(_, rest)| rest).to_string())
    }
}

/// Code and text, with a blank between, of a line `error: CODE: text` that ends an answer.
pub(crate) fn failure(line: &str) -> Option<String> {
    let (code, text) = line.strip_prefix("error: ")?.split_once(": ")?;
    Some(format!("{code} {text}"))
}

/// No answer is wider than a terminal, but for what programs read, what is made to be copied, and lines of the log.
fn too_wide(command: &str, lines: &[String]) -> Result<()> {
    let raw = ["--json", "cpu dump", "config show --boot", "dmesg", "vm log", "log -f", "events"];
    if raw.iter().any(|raw| command.contains(raw)) {
        return Ok(());
    }
    let wide = |line: &&String| line.chars().count() > 80 && !line.contains("] ");
    match lines.iter().find(wide) {
        Some(line) => bail!("`{command}`: a line of {} columns: {line}", line.chars().count()),
        None => Ok(()),
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Images are large and can be made again; the logs stay.
        self.machine.process.kill();
        let _ = std::fs::remove_file(&self.image);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_the_hypervisor_reads_them() {
        let mut vm = VmSpec::new("demo", Path::new("/k"));
        vm.options.push("debug-exit".to_string());
        vm.initrd = Some("/i".into());
        vm.cmdline = "console=ttyS0".to_string();
        let lines: Vec<String> = vm.modules().into_iter().map(|module| module.line).collect();
        assert_eq!(
            lines,
            ["vm=demo mem=64 level=haswell debug-exit on-reset=stop -- console=ttyS0", "for=demo"]
        );
        let host = HostSpec::new("a", "corei7_skylake_x").with_vm(vm).option("ip=10.0.0.1/24");
        assert_eq!(host.boot_line(), "console=com1 ip=10.0.0.1/24 com2=vm:demo max-file=4");
    }
}
