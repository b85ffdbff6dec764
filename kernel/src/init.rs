//! The stages of start-up on the bootstrap CPU, in order, one log line each.

use alloc::string::String;
use alloc::vec::Vec;

use acpi_tables::{Acpi, AddressSpace, Rsdp, find_rsdp};
use bootinfo::{BootInfo, Cut};
use cmdline::{ConfigFile, HostOptions, ModuleRole, Warning, redacted};

use shell::Megahertz;

use crate::boot::{self, Boot};
use crate::log::uarts::{self, Opened};
use crate::version::version;
use crate::{log as host_log, machine, panic, policy, power, stages as stage};
use hw::arch::{self, cpu, memory_types, tsc};
use hw::mm::{self, Hpa, PAGE, frame, map};
use hw::platform::{apic, io_apic, pci, smp};

const MIB: u64 = 1 << 20;

/// Runs every stage. `magic` and `info` are the boot loader's registers.
pub(crate) fn stages(magic: u32, info: u32) -> &'static Boot {
    host_log::init();
    arch::init_boot_cpu();
    policy::flex::unlock_leaves();
    let clock = tsc::calibrate();
    stage::done("clock");
    let parsed = BootInfo::parse(magic, info.into(), &mm::boot_view);
    let line = parsed.as_ref().map_or("", |info| &info.command_line);
    let (files, unreadable) = parsed.as_ref().map_or_else(|_| Default::default(), config_files);
    let (options, warnings) = HostOptions::with_config(line, &files);
    // The firmware's tables may name the console: they are read first, and what is wrong with them told behind.
    let acpi = parsed.as_ref().map_or_else(|_| Ok(Acpi::default()), acpi_tables);
    let spcr = acpi.as_ref().ok().and_then(|acpi| acpi.spcr);
    let console = uarts::open(&options, spcr, parsed.as_ref().ok());
    for target in [host_log::Target::Console, host_log::Target::Ring] {
        host_log::set_level(target, options.log_level);
    }
    panic::set_action(options.panic);
    banner(&parsed);
    let mut info = match parsed {
        Ok(info) => info,
        Err(error) => panic!("boot: {error}"),
    };
    let cut = info.cut_above(map::limit());
    report_console(&console, &options);
    report_boot(&info, &warnings, &unreadable);
    report_cut(cut);
    report_cpu(clock);
    stage::done("hand-over");

    let acpi = report_acpi(acpi);
    if !clock {
        second_clock(&acpi);
    }
    stage::done("acpi");
    let (functions, armed) = pci::quiesce();
    log::info!(target: "pci", "{functions} functions, bus mastering taken from {armed}");
    stage::done("pci");

    frame::init(&info);
    let devices: Vec<(Hpa, u64)> = console.in_memory.iter().filter_map(|at| at.memory()).collect();
    let map = map::init(&info, &devices);
    let heap = mm::init_heap(frame::stats().total);
    host_log::keep();
    let [small, large, huge] = map.pages;
    log::info!(
        target: "mm",
        "{} MiB free, heap {} MiB; {small} pages of 4 KiB, {large} of 2 MiB, {huge} of 1 GiB mapped by {} KiB of tables, {}",
        frame::stats().free / MIB,
        heap / MIB,
        map.tables * PAGE / 1024,
        if map.no_execute { "none writable and executable" } else { "no-execute is missing" },
    );
    stage::done("memory");
    let mut lines: Vec<String> = files.iter().map(ConfigFile::line).collect();
    let config = lines.join(" ");
    lines.iter_mut().for_each(cmdline::erase);
    let boot = boot::set(Boot { info, config, options, consoles: console.ports, acpi });
    start_cpus(boot);
    stage::done("cpus");
    boot
}

fn report_console(console: &Opened, options: &HostOptions) {
    for warning in &console.warnings {
        log::warn!(target: "console", "{warning}");
    }
    let names = Opened::names(&console.ports);
    let wanted = options.consoles.is_empty();
    let instead = if console.by == "default" && !wanted { " instead" } else { "" };
    log::info!(target: "console", "on {names}{instead} ({})", console.by);
}

fn banner(info: &Result<BootInfo, bootinfo::BootError>) {
    let version = version();
    match info {
        Ok(info) => host_log::plain(format_args!("{version} via {}\n", info.via)),
        Err(_) => host_log::plain(format_args!("{version}\n")),
    }
}

/// The modules with host options; and what is wrong, with them or by the loader's word. The loader's page tables still
/// map them.
fn config_files(info: &BootInfo) -> (Vec<ConfigFile>, Vec<String>) {
    let (mut files, mut unreadable) = (Vec::new(), Vec::new());
    for module in &info.modules {
        let role = ModuleRole::parse(&module.command_line);
        let bytes =
            usize::try_from(module.end - module.start).ok().and_then(|len| mm::boot_view(module.start, len));
        let name = match role {
            Ok(ModuleRole::Config(name)) => name,
            Ok(ModuleRole::LoaderErrors) => {
                unreadable.extend(loader_errors(bytes.unwrap_or_default()));
                continue;
            }
            _ => continue,
        };
        match bytes
            .ok_or_else(|| "not in memory: ignored".into())
            .and_then(|bytes| ConfigFile::parse(&name, bytes).map_err(|error| alloc::format!("{error}")))
        {
            Ok(file) => files.push(file),
            Err(error) => unreadable.push(alloc::format!("config {name}: {error}")),
        }
    }
    (files, unreadable)
}

/// What a loader found wrong, a line each.
fn loader_errors(text: &[u8]) -> impl Iterator<Item = String> {
    const MAX: usize = 64;
    const WIDTH: usize = 200;
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.take(MAX).map(|line| {
        let printable =
            line.iter().map(|&byte| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '?' });
        printable.take(WIDTH).collect()
    })
}

fn report_boot(info: &BootInfo, warnings: &[Warning], unreadable: &[String]) {
    let loader = if info.loader.is_empty() { "a nameless loader" } else { &info.loader };
    log::info!(target: "boot", "loaded by {loader}, command line `{}`", redacted(&info.command_line));
    for error in unreadable {
        log::error!(target: "boot", "{error}");
    }
    for warning in warnings {
        log::warn!(target: "boot", "{warning}");
    }
    for module in &info.modules {
        let size = (module.end - module.start).div_ceil(1024);
        log::info!(target: "boot", "module at {:#x}, {size} KiB, `{}`", module.start, redacted(&module.command_line));
    }
    for region in &info.memory {
        log::debug!(target: "boot", "memory {:#x}-{:#x} {:?}", region.start, region.end, region.kind);
    }
    let usable = info.usable(PAGE).total();
    log::info!(target: "boot", "{} MiB of RAM in {} regions", usable / MIB, info.memory.len());
}

fn report_cut(cut: Cut) {
    if cut.usable > 0 {
        let (lost, limit) = (cut.usable.div_ceil(MIB), map::limit());
        log::warn!(target: "boot", "{lost} MiB of RAM lie at {limit:#x} or above, where this CPU cannot reach: not used");
    }
    if cut.modules > 0 {
        log::warn!(target: "boot", "{} boot modules lie where this CPU cannot reach: ignored", cut.modules);
    }
}

fn report_cpu(clock: bool) {
    let cpuid = hw::arch::cpu::id();
    let brand = cpuid.get_processor_brand_string();
    let (family, model, stepping) =
        cpuid.get_feature_info().map_or((0, 0, 0), |f| (f.family_id(), f.model_id(), f.stepping_id()));
    log::info!(
        target: "cpu",
        "{}, family {family:#x} model {model:#x} stepping {stepping}, TSC {}",
        brand.as_ref().map_or("unnamed", |b| b.as_str().trim()),
        Megahertz(tsc::hz()),
    );
    if !bring_up::tsc::is_invariant(|leaf| cpu::cpuid(leaf, 0)) {
        log::info!(target: "cpu", "the TSC is not invariant: it may stop or change its rate in power states");
    }
    if !clock {
        log::warn!(target: "cpu", "the PIT does not count: times up to here are guesses");
    }
}

/// Measures the TSC by the timer that ACPI names.
fn second_clock(acpi: &Acpi) {
    let timer = acpi.fadt.and_then(|fadt| fadt.pm_timer).filter(|timer| timer.space == AddressSpace::Io);
    let port = timer.and_then(|timer| u16::try_from(timer.address).ok()).filter(|&port| port != 0);
    if port.is_some_and(tsc::calibrate_by_pm_timer) {
        log::info!(target: "cpu", "TSC {} by the ACPI timer", Megahertz(tsc::hz()));
    } else if let Some(source) = tsc::calibrate_by_cpuid() {
        log::info!(target: "cpu", "TSC {} by {source}", Megahertz(tsc::hz()));
    } else {
        log::error!(target: "cpu", "neither PIT, ACPI timer nor CPUID tells the TSC's rate: no guest can run; switch the HPET's legacy mode or the PIT on in firmware");
    }
}

/// The firmware's tables, read while the loader's page tables still map everything below 4 GiB.
fn acpi_tables(info: &BootInfo) -> Result<Acpi, String> {
    let handed = info.rsdp.as_deref().and_then(Rsdp::parse);
    let rsdp = handed.or_else(|| find_rsdp(&mm::boot_view)).ok_or("no RSDP")?;
    Acpi::parse(rsdp, &mm::boot_view).map_err(|error| alloc::format!("{error}"))
}

fn report_acpi(acpi: Result<Acpi, String>) -> Acpi {
    let acpi = acpi.unwrap_or_else(|error| {
        log::warn!(target: "acpi", "{error}: one CPU only");
        Acpi::default()
    });
    for table in &acpi.skipped {
        log::warn!(target: "acpi", "table {} at {:#x} is damaged", table.signature.escape_ascii(), table.address);
    }
    if let Some((register, value)) = acpi.fadt.and_then(|fadt| fadt.reset) {
        power::set_reset(register, value);
    }
    if let (Some(fadt), Some(types)) = (&acpi.fadt, acpi.s5) {
        power::set_soft_off(fadt, types);
    }
    let (cpus, io_apics) = acpi
        .madt
        .as_ref()
        .map_or((1, 0), |madt| (madt.cpus.iter().filter(|c| c.enabled).count(), madt.io_apics.len()));
    log::info!(
        target: "acpi",
        "{cpus} CPUs, {io_apics} IO-APICs, {} remapping units",
        acpi.dmar.as_ref().map_or(0, |dmar| dmar.units.len())
    );
    acpi
}

fn start_cpus(boot: &Boot) {
    // Ids from 255 on are reached by an x2APIC only, whatever firmware asks for.
    let wide =
        boot.acpi.madt.as_ref().is_some_and(|madt| madt.cpus.iter().any(|c| c.enabled && c.apic_id >= 255));
    let opt_out = boot.acpi.dmar.as_ref().is_some_and(|dmar| dmar.x2apic_opt_out);
    let mode = apic::init(opt_out && !wide);
    machine::init_cpu();
    memory_types::init_cpu();
    let mut others = 0;
    if let Some(madt) = &boot.acpi.madt {
        log::debug!(target: "acpi", "{} inputs of I/O APICs were open", io_apic::mask_all(madt));
        match trampoline_page(&boot.info) {
            Some(page) => others = smp::start_all(madt, page),
            None => log::warn!(target: "cpu", "no free page below 640 KiB: one CPU only"),
        }
    }
    let running = cpu::count();
    let of = if running <= others { alloc::format!(" of {}", others + 1) } else { String::new() };
    log::info!(target: "cpu", "{running}{of} running, {mode}, APIC timer {} kHz", apic::timer_hz() / 1000);
}

/// A page below 640 KiB that is RAM and holds no module. The boot loader's own data has been copied by now.
fn trampoline_page(info: &BootInfo) -> Option<Hpa> {
    let mut low = info.usable(PAGE);
    low.remove(0, PAGE);
    low.remove(0xa_0000, u64::MAX);
    for module in &info.modules {
        low.remove(module.start & !(PAGE - 1), module.end.next_multiple_of(PAGE));
    }
    low.take_high(PAGE, PAGE).map(Hpa)
}
