//! `migrate`: moving VMs, watching and ending that.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use core::net::SocketAddrV4;
use migrate::{Goal, Mebibytes, Tuning};
use shell::{Code, Failure, MigrateCommand, MigrateOptions, Named, Output, Peer};

use super::answer::{Done, Job, find};
use super::names;
use super::out::Out;
use crate::migration::{Aim, Migrations, Report, tuning};
use crate::pool;

pub(super) fn execute(
    command: MigrateCommand<'_>,
    migrations: &mut Migrations,
    out: &mut Out<'_>,
) -> Result<Done, Failure> {
    match command {
        MigrateCommand::Check { vm, host } => {
            migrations.start(vm, address(host)?, tuning(), Aim::Check)?;
            Ok(Done::Later(Job::Migration { live: false }))
        }
        MigrateCommand::Move { vm, host, options } => {
            let aim = if options.copy { Aim::Copy } else { Aim::Move };
            migrations.start(vm, address(host)?, tuned(options), aim)?;
            Ok(begun(options))
        }
        MigrateCommand::All { host, options } => {
            migrations.start_all(address(host)?, tuned(options))?;
            Ok(begun(options))
        }
        MigrateCommand::Status(output) => {
            status(migrations.report(), output, out);
            Ok(Done::Now)
        }
        MigrateCommand::Cancel(vm) => {
            find(vm)?;
            migrations.cancel(Some(vm))?;
            Ok(Done::Now)
        }
        MigrateCommand::Resolve { vm, verdict, receipt, force } => {
            if let Some(receipt) = migrations.resolve(vm, verdict, receipt, force)? {
                let _ = writeln!(out, "receipt={receipt}");
            }
            Ok(Done::Now)
        }
    }
}

/// Where a host takes migrations; for a member of the pool, where it says so.
fn address(host: Peer<'_>) -> Result<SocketAddrV4, Failure> {
    match host {
        Peer::At(address) => Ok(address),
        Peer::Member(name) => pool::address_of(name).ok_or_else(|| {
            let near = names::nearest(Named::Members, name);
            let text = format!("no member '{name}' of the pool{near}; members: {}", pool::other_names());
            Failure::new(Code::NotFound, text)
        }),
    }
}

fn begun(options: MigrateOptions) -> Done {
    if options.detach { Done::Now } else { Done::Later(Job::Migration { live: options.live }) }
}

fn tuned(options: MigrateOptions) -> Tuning {
    let default = Goal::default();
    let goal = Goal {
        downtime_ms: options.downtime_ms.unwrap_or(default.downtime_ms),
        timeout_ms: options.timeout_s.map(|s| s.saturating_mul(1000)),
        on_timeout: options.on_timeout,
    };
    let compression = options.compress.unwrap_or(tuning().compression);
    Tuning { goal, compression, verify: options.verify, ..tuning() }
}

fn status(report: Option<Report>, output: Output, out: &mut Out<'_>) {
    // The console cannot fail.
    let _ = match (report, output) {
        (None, Output::Text) => out.write_str("no migration since this host started\n"),
        (None, Output::Json) => out.write_str("{\"status\":\"none\"}\n"),
        (Some(report), Output::Text) => text(&report, out),
        (Some(report), Output::Json) => json::object(out, |o| {
            o.field("vm", report.vm.as_str())?;
            o.field("to", json::Shown(report.to))?;
            report.progress.json(o)?;
            report.error.as_deref().map_or(Ok(()), |error| o.field("error-desc", error))
        })
        .and_then(|()| out.write_char('\n')),
    };
}

fn text(report: &Report, out: &mut Out<'_>) -> core::fmt::Result {
    let Report { vm, to, progress, error } = report;
    let p = progress;
    writeln!(out, "vm        {vm}\nto        {to}\nstatus    {}", p.status.name())?;
    if let Some(error) = error {
        writeln!(out, "error     {error}")?;
    }
    writeln!(out, "round     {}\nguest     {} % of its CPU", p.round, p.share)?;
    writeln!(
        out,
        "ram       {}, {} left, {} sent",
        Mebibytes(p.total),
        Mebibytes(p.remaining),
        Mebibytes(p.transferred)
    )?;
    writeln!(
        out,
        "pages     {} normal, {} duplicate, {} dirty a second",
        p.normal, p.duplicate, p.dirty_pages_rate
    )?;
    write!(out, "time      {} ms, {} ms of it setup", p.total_ms, p.setup_ms)?;
    match (p.downtime_ms, p.expected_downtime_ms) {
        (Some(ms), _) => writeln!(out, ", downtime {ms} ms"),
        (None, Some(ms)) => writeln!(out, ", downtime {ms} ms expected"),
        (None, None) => writeln!(out),
    }
}

/// One line that is rewritten in place: it ends where it began, so that whatever is printed next replaces it.
pub(super) fn live(report: &Report, out: &mut Out<'_>) {
    const COLUMNS: usize = 79;
    let mut line = String::new();
    let Report { vm, progress, .. } = report;
    let _ = write!(line, "migrate {vm}: {} {}: {progress}", progress.status.name(), progress.round);
    let shown: String = line.chars().take(COLUMNS).collect();
    let _ = write!(out, "{shown:COLUMNS$}\r");
}
