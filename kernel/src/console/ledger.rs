//! `cpu ledger`.

use core::fmt::Write;
use shell::{Failure, Output};

use super::out::Out;
use crate::policy::ledger;
use crate::vm::Vm;

/// The ledger of a VM on this host, and what changed for it when it came here.
pub(super) fn show(vm: &Vm, output: Output, out: &mut Out<'_>) -> Result<(), Failure> {
    let here = ledger::of(&vm.policy());
    let there = vm.companion.ledger.as_ref();
    let _ = match output {
        Output::Text => {
            let _ = writeln!(out, "vm {}: {}", vm.name, here);
            match there {
                None => Ok(()),
                Some(there) => {
                    let changes = here.changes(there);
                    let from = if there.cpu.is_empty() { "a CPU without name" } else { &there.cpu };
                    let _ =
                        writeln!(out, "came from {from} ({:X}): {} changes", there.signature, changes.len());
                    changes.iter().try_for_each(|change| writeln!(out, "  {change}"))
                }
            }
        }
        Output::Json => json::object(out, |object| {
            object.field("vm", &*vm.name.get())?;
            object.object("here", |object| here.json(object))?;
            if let Some(there) = there {
                object.object("came-from", |object| there.json(object))?;
                object.array("changes", |array| {
                    here.changes(there).iter().try_for_each(|change| {
                        array.object(|object| {
                            object.field("name", &*change.now.name)?;
                            object.field("freer", change.freer())?;
                            object.field("before", change.before.map(|row| row.means.word()))?;
                            object.field("now", change.now.means.word())
                        })
                    })
                })?;
            }
            Ok(())
        })
        .and_then(|()| out.write_char('\n')),
    };
    Ok(())
}
