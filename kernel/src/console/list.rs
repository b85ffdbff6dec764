//! `vm list`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt::Write;
use shell::{Align, ListOptions, ListSort, Output, Size, Span, Table};

use super::session::Out;
use super::vm::{bytes, total_exits};
use crate::vm::{Vm, registry};

pub(super) fn print(options: ListOptions, output: Output, out: &mut Out<'_>) {
    let vms = chosen(options);
    if output == Output::Json {
        let _ = json::array(out, |a| {
            vms.iter().try_for_each(|vm| {
                a.object(|o| {
                    o.field("name", &*vm.name.get())?;
                    o.field("state", vm.state().name())?;
                    o.field("level", vm.policy.level_name())?;
                    o.field("vcpus", vm.vcpus.len() as u64)?;
                    o.field("memory", bytes(vm))?;
                    o.field("cpu_permille", vm.usage.permille())?;
                    o.field("up_us", vm.clock.up_us())?;
                    o.field("exits", total_exits(vm))
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
    for vm in vms {
        table.row([
            vm.name.owned(),
            vm.state().name().into(),
            vm.vcpus.len().to_string(),
            Size(bytes(&vm)).to_string(),
            percent(vm.usage.permille()),
            Span(vm.clock.up_us()).to_string(),
            vm.policy.level_name().into(),
        ]);
    }
    let _ = write!(out, "{table}");
}

fn percent(permille: u64) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

fn chosen(options: ListOptions) -> Vec<Arc<Vm>> {
    let mut vms = registry::all();
    vms.retain(|vm| options.state.is_none_or(|state| vm.state().name() == state));
    match options.sort {
        ListSort::Arrival => {}
        ListSort::Name => vms.sort_by_cached_key(|vm| vm.name.owned()),
        ListSort::Cpu => vms.sort_by_key(|vm| Reverse(vm.usage.permille())),
        ListSort::Mem => vms.sort_by_key(|vm| Reverse(bytes(vm))),
        ListSort::Uptime => vms.sort_by_key(|vm| Reverse(vm.clock.up_us())),
    }
    vms
}
