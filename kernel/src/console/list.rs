//! `vm list`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt::Write;
use shell::{Align, ListOptions, ListSort, Output, Size, Span, Table};

use super::out::Out;
use crate::vm::registry::Nascent;
use crate::vm::{Vm, registry};

/// A VM of this host, or one that is being made.
struct Row {
    name: String,
    state: &'static str,
    level: String,
    vcpus: u64,
    memory: u64,
    permille: u64,
    up_us: u64,
    exits: u64,
}

impl Row {
    fn of(vm: &Vm) -> Self {
        Self {
            name: vm.name.owned(),
            state: vm.state().name(),
            level: vm.policy().level_name().into(),
            vcpus: vm.vcpus.len() as u64,
            memory: vm.ram(),
            permille: vm.usage.permille(),
            up_us: vm.clock.up_us(),
            exits: vm.exits(),
        }
    }

    fn being_made(vm: &Nascent) -> Self {
        Self {
            name: vm.name.clone(),
            state: "making",
            level: vm.level.clone(),
            vcpus: vm.vcpus.into(),
            memory: vm.bytes,
            permille: 0,
            up_us: 0,
            exits: 0,
        }
    }
}

pub(super) fn print(options: ListOptions, output: Output, out: &mut Out<'_>) {
    let rows = chosen(options);
    if output == Output::Json {
        let _ = json::array(out, |a| {
            rows.iter().try_for_each(|row| {
                a.object(|o| {
                    o.field("name", row.name.as_str())?;
                    o.field("state", row.state)?;
                    o.field("level", row.level.as_str())?;
                    o.field("vcpus", row.vcpus)?;
                    o.field("memory", row.memory)?;
                    o.field("cpu_permille", row.permille)?;
                    o.field("up_us", row.up_us)?;
                    o.field("exits", row.exits)
                })
            })
        });
        let _ = out.write_char('\n');
        return;
    }
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("STATE", Align::Left),
        ("VCPUS", Align::Right),
        ("MEM", Align::Right),
        ("CPU", Align::Right),
        ("UPTIME", Align::Right),
        ("LEVEL", Align::Left),
    ]);
    for row in rows {
        table.row([
            row.name,
            row.state.into(),
            row.vcpus.to_string(),
            Size(row.memory).to_string(),
            percent(row.permille),
            Span(row.up_us).to_string(),
            row.level,
        ]);
    }
    let _ = write!(out, "{table}");
}

fn percent(permille: u64) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

fn chosen(options: ListOptions) -> Vec<Row> {
    let mut rows: Vec<Row> = registry::all().iter().map(|vm| Row::of(vm)).collect();
    rows.extend(registry::making().iter().map(|vm| Row::being_made(vm)));
    rows.retain(|row| options.state.is_none_or(|state| row.state == state));
    match options.sort {
        ListSort::Arrival => {}
        ListSort::Name => rows.sort_by(|a, b| a.name.cmp(&b.name)),
        ListSort::Cpu => rows.sort_by_key(|row| Reverse(row.permille)),
        ListSort::Mem => rows.sort_by_key(|row| Reverse(row.memory)),
        ListSort::Uptime => rows.sort_by_key(|row| Reverse(row.up_us)),
    }
    rows
}
