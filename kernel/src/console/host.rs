//! The host itself: version, log, memory, options, the end.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt::Write;
use shell::{Align, Code, Failure, Hex, HostCommand, LogSink, Output, Size, Span, Table, Utc};

use super::answer::{Done, Job};
use super::events::Events;
use super::out::{Out, json_line};
use super::top::{self, Top};
use super::{lines, msr, net, selftest, who};
use crate::log::{self as host_log, Target};
use crate::vm::{State, files, registry};
use crate::{boot, meter, pool, power, shutdown, stages, version, wall_clock};
use hw::arch::tsc;
use hw::mm::{frame, heap_usage};

pub(super) fn execute(command: HostCommand, out: &mut Out<'_>) -> Result<Done, Failure> {
    match command {
        HostCommand::Version(output) => version(output, out),
        HostCommand::Date(output) => date(output, out),
        HostCommand::Uptime(output) => uptime(output, out),
        HostCommand::Boot(output) => booted(output, out),
        HostCommand::ConfigLine => config_line(out),
        HostCommand::Config(output) => config(output, out),
        HostCommand::Dmesg { previous, utc, output } => return dmesg(previous, utc, output, out),
        HostCommand::Follow { utc } => return Ok(Done::Later(lines::follow(utc))),
        HostCommand::Events { follow, utc, output } => {
            return Ok(Done::Later(Job::Task(Box::new(Events::new(follow, utc, output)))));
        }
        HostCommand::Sessions(output) => who::print(output, out),
        HostCommand::LogLevels(output) => log_levels(output, out),
        HostCommand::Log(sink, level) => set_level(sink, level),
        HostCommand::NetShow(output) => net::show(output, out),
        HostCommand::NetStats(output) => net::stats(output, out),
        HostCommand::NetPing(to) => return net::ping(to),
        HostCommand::Mem(output) => memory(output, out),
        HostCommand::Top { once, anew, output } => {
            if anew {
                meter::forget_longest();
            }
            return Ok(Done::Later(Job::Task(Box::new(Top::new(once, output)))));
        }
        HostCommand::Selftest(output) => return Ok(Done::Later(selftest::start(output))),
        HostCommand::MsrRead { number, output } => msr::read(number, output, out)?,
        HostCommand::MsrWrite { number, value, force } => msr::write(number, value, force)?,
        HostCommand::Reboot { force } => {
            leave("rebooting", force)?;
            power::reboot()
        }
        HostCommand::Poweroff { force } => {
            let off = power::soft_off().map_err(|why| Failure::new(Code::Unsupported, why))?;
            leave("powering off", force)?;
            off.go()
        }
    }
    Ok(Done::Now)
}

/// Leaves VMX operation for good, if no guest is lost by it or the operator says so.
fn leave(what: &str, force: bool) -> Result<(), Failure> {
    let running = registry::all().iter().filter(|vm| vm.state() != State::Stopped).count();
    if running != 0 && !force {
        let vms = if running == 1 { "VM" } else { "VMs" };
        return Err(Failure::new(Code::Force, format!("{running} {vms} would be lost: say --force")));
    }
    log::info!("{what}");
    shutdown::leave_vmx();
    Ok(())
}

fn version(output: Output, out: &mut Out<'_>) {
    if output == Output::Json {
        return json_line(out, |o| {
            o.field("version", version::VERSION)?;
            o.field("commit", version::COMMIT)?;
            o.field("profile", version::PROFILE)
        });
    }
    let _ = writeln!(out, "{}", version::version());
}

fn date(output: Output, out: &mut Out<'_>) {
    let now = wall_clock::unix_seconds();
    if output == Output::Json {
        return json_line(out, |o| {
            o.field("unix_s", now)?;
            o.field("utc", json::Shown(Utc(now)))
        });
    }
    let _ = writeln!(out, "{}", Utc(now));
}

fn uptime(output: Output, out: &mut Out<'_>) {
    let up_us = tsc::micros();
    let since = wall_clock::unix_seconds().saturating_sub(up_us / 1_000_000);
    if output == Output::Json {
        return json_line(out, |o| {
            o.field("up_us", up_us)?;
            o.field("since_unix_s", since)
        });
    }
    let _ = writeln!(out, "up {}, since {}", Span(up_us), Utc(since));
}

fn booted(output: Output, out: &mut Out<'_>) {
    let stages = stages::all();
    let total: u64 = stages.iter().map(|(_, took)| took).sum();
    let Some(boot) = boot::get() else { return };
    if output == Output::Json {
        return json_line(out, |o| {
            o.field("via", json::Shown(boot.info.via))?;
            o.field("loader", boot.info.loader.as_str())?;
            o.field("line", cmdline::redacted(&boot.info.command_line).as_str())?;
            o.field("modules", boot.info.modules.len() as u64)?;
            o.field("us", total)?;
            o.array("stages", |a| {
                stages.iter().try_for_each(|(name, took)| {
                    a.object(|o| {
                        o.field("name", *name)?;
                        o.field("us", *took)
                    })
                })
            })
        });
    }
    let loader = if boot.info.loader.is_empty() { "a nameless loader" } else { &boot.info.loader };
    let _ = writeln!(out, "via       {}, by {loader}", boot.info.via);
    let _ = writeln!(out, "line      {}", cmdline::redacted(&boot.info.command_line));
    let _ = writeln!(out, "modules   {}", boot.info.modules.len());
    for (name, took) in &stages {
        let _ = writeln!(out, "{name:<10}{} ms", stages::Millis(*took));
    }
    let _ = writeln!(out, "in all    {} ms", stages::Millis(total));
}

/// What no boot option holds any more, or does not hold yet: levels of the log, the pool.
fn config_line(out: &mut Out<'_>) {
    let Some(boot) = boot::get() else { return };
    let mut changed = alloc::vec![("loglevel", name(host_log::level(Target::Console)).to_string())];
    let pool = pool::with(|pool| {
        let others = pool.members().into_iter().filter(|member| member.id != pool.own().id);
        let peers = others.filter_map(|member| member.address).chain(pool.waits_for());
        let peers: Vec<_> = peers.map(|address| address.to_string()).collect();
        (pool.name().unwrap_or_default().to_string(), peers.join(","))
    });
    if let Ok((pool, peers)) = pool {
        changed.extend([("pool", pool), ("peers", peers)]);
    }
    let options = cmdline::HostOptions::in_force(&boot.sources());
    let _ = writeln!(out, "{}", cmdline::HostOptions::line_for(&options, &changed));
}

fn config(output: Output, out: &mut Out<'_>) {
    let Some(boot) = boot::get() else { return };
    let options = cmdline::HostOptions::in_force(&boot.sources());
    if output == Output::Json {
        let _ = json::array(out, |a| {
            options.iter().try_for_each(|option| {
                a.object(|o| {
                    o.field("option", option.name)?;
                    o.field("value", option.value.as_str())?;
                    o.field("from", option.from)
                })
            })
        });
        let _ = out.write_char('\n');
        return;
    }
    let mut table = Table::new(["OPTION", "FROM", "VALUE"].map(|name| (name, Align::Left)));
    for option in options {
        table.row([option.name.into(), option.from.into(), option.value]);
    }
    let _ = write!(out, "{table}");
}

fn dmesg(previous: bool, utc: bool, output: Output, out: &mut Out<'_>) -> Result<Done, Failure> {
    if previous && utc {
        let text = "--utc: when the boot before began is not known";
        return Err(Failure::new(Code::Unsupported, text));
    }
    let job = if previous { lines::previous(output) } else { Some(lines::recent(None, utc, output)) };
    Ok(match job {
        Some(job) => Done::Later(job),
        None => {
            let _ = out.write_str("none\n");
            Done::Now
        }
    })
}

const fn to_option(level: shell::LogLevel) -> cmdline::LogLevel {
    match level {
        shell::LogLevel::Error => cmdline::LogLevel::Error,
        shell::LogLevel::Warn => cmdline::LogLevel::Warn,
        shell::LogLevel::Info => cmdline::LogLevel::Info,
        shell::LogLevel::Debug => cmdline::LogLevel::Debug,
        shell::LogLevel::Trace => cmdline::LogLevel::Trace,
    }
}

const fn name(level: cmdline::LogLevel) -> &'static str {
    match level {
        cmdline::LogLevel::Error => "error",
        cmdline::LogLevel::Warn => "warn",
        cmdline::LogLevel::Info => "info",
        cmdline::LogLevel::Debug => "debug",
        cmdline::LogLevel::Trace => "trace",
    }
}

fn log_levels(output: Output, out: &mut Out<'_>) {
    let [console, ring] = [Target::Console, Target::Ring].map(|target| name(host_log::level(target)));
    if output == Output::Json {
        return json_line(out, |o| {
            o.field("console", console)?;
            o.field("ring", ring)
        });
    }
    let _ = writeln!(out, "console   {console}\nring      {ring}");
}

fn set_level(sink: Option<LogSink>, level: shell::LogLevel) {
    let level = to_option(level);
    if sink != Some(LogSink::Ring) {
        host_log::set_level(Target::Console, level);
    }
    if sink != Some(LogSink::Console) {
        host_log::set_level(Target::Ring, level);
    }
}

fn memory(output: Output, out: &mut Out<'_>) {
    let stats = frame::stats();
    let (heap_used, heap) = heap_usage();
    let vms = registry::all();
    let guests: u64 = vms.iter().map(|vm| vm.ram()).sum();
    let files = files::usage();
    let kernels: u64 = files.iter().map(|file| file.bytes).sum();
    let used = stats.total - stats.free;
    // Page tables of host and guests, vCPUs, rings of the card.
    let other = used.saturating_sub(guests + kernels + heap as u64);
    if output == Output::Json {
        return json_line(out, |o| {
            o.field("total", stats.total)?;
            o.field("free", stats.free)?;
            o.field("guests", guests)?;
            o.field("kernels", kernels)?;
            o.array("files", |a| {
                files.iter().try_for_each(|file| {
                    a.object(|o| {
                        o.field("bytes", file.bytes)?;
                        o.field(
                            "sha256",
                            file.sha256.as_ref().map(|digest| Hex(digest).to_string()).as_deref(),
                        )?;
                        o.field("users", file.users)
                    })
                })
            })?;
            o.field("heap", heap as u64)?;
            o.field("heap_used", heap_used as u64)?;
            o.field("other", other)?;
            o.object("longest_turn", top::longest_turn)
        });
    }
    let users: u64 = files.iter().map(|file| file.users).sum();
    let kernels_row = format!("{} ({} files, used {users} times)", Size(kernels), files.len());
    let heap_row = format!("{} ({} used)", Size(heap as u64), Size(heap_used as u64));
    for (name, text) in [
        ("total", Size(stats.total).to_string()),
        ("free", Size(stats.free).to_string()),
        ("guests", Size(guests).to_string()),
        ("kernels", kernels_row),
        ("heap", heap_row),
        ("other", Size(other).to_string()),
    ] {
        let _ = writeln!(out, "{name:<10}{text}");
    }
}
