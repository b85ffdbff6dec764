//! `vm exits`.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt::Write;
use shell::{Align, Failure, Millis, Output, Table};

use super::answer::chosen;
use super::out::{Out, json_line};
use crate::guest::exits::Counted;
use crate::vm::{VcpuSlot, Vm};
use hw::arch::tsc;

pub(super) fn execute(
    vm: &Vm,
    vcpu: Option<u32>,
    timed: Option<bool>,
    output: Output,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let slots = vm.vcpus.get(chosen(vm, vcpu)?).unwrap_or_default();
    if let Some(on) = timed {
        slots.iter().for_each(|slot| slot.exits.set_timed(on));
    } else {
        print(vm, vcpu, slots, output, out);
    }
    Ok(())
}

fn print(vm: &Vm, vcpu: Option<u32>, slots: &[VcpuSlot], output: Output, out: &mut Out<'_>) {
    let reasons = by_reason(slots);
    let total: u64 = reasons.iter().map(|counted| counted.count).sum();
    let timing = slots.iter().any(|slot| slot.exits.is_timed());
    if output == Output::Json {
        return json_line(out, |o| {
            o.field("vm", &*vm.name.get())?;
            o.field("vcpu", vcpu.map(u64::from))?;
            o.field("timed", timing)?;
            o.field("total", total)?;
            o.array("reasons", |a| {
                reasons.iter().try_for_each(|counted| {
                    a.object(|o| {
                        o.field("number", u64::from(counted.number))?;
                        o.field("reason", counted.text())?;
                        o.field("count", counted.count)?;
                        o.field("timed", counted.timed)?;
                        o.field("ticks", counted.ticks)?;
                        o.field("us", tsc::ns(counted.ticks) / 1000)
                    })
                })
            })
        });
    }
    let mut table = Table::new([
        ("REASON", Align::Left),
        ("EXITS", Align::Right),
        ("TIMED", Align::Right),
        ("TICKS", Align::Right),
        ("TIME", Align::Right),
        ("EACH", Align::Right),
    ]);
    for counted in &reasons {
        let average = counted.ticks.checked_div(counted.timed);
        let times = average.map(|each| {
            let time = Millis(tsc::ns(counted.ticks) / 1000).to_string();
            let each = format!("{each} ({} ns)", tsc::ns(each));
            [counted.timed.to_string(), counted.ticks.to_string(), time, each]
        });
        let [timed, ticks, time, each] = times.unwrap_or_default();
        table.row([counted.text().into(), counted.count.to_string(), timed, ticks, time, each]);
    }
    let _ = write!(out, "{table}");
    let hint = if timing { "" } else { "; `vm exits VM on` measures ticks" };
    let _ = writeln!(out, "{total} exits{hint}");
}

/// Over these vCPUs, the most frequent first.
fn by_reason(slots: &[VcpuSlot]) -> Vec<Counted> {
    let mut reasons: Vec<Counted> = Vec::new();
    for counted in slots.iter().flat_map(|slot| slot.exits.all()) {
        match reasons.iter_mut().find(|known| known.number == counted.number) {
            Some(known) => {
                known.count += counted.count;
                known.timed += counted.timed;
                known.ticks += counted.ticks;
            }
            None => reasons.push(counted),
        }
    }
    reasons.sort_by_key(|counted| core::cmp::Reverse(counted.count));
    reasons
}
