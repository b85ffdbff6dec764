//! All units of a host: they remap by one set of tables, or none does.

use crate::{IommuError, Memory, Registers, Tables, Unit};

/// A unit where the firmware's tables say that there is one.
#[derive(Debug)]
pub struct Found<R> {
    /// Physical address of its registers.
    pub base: u64,
    /// PCI segment of the devices behind it.
    pub segment: u16,
    /// The unit.
    pub unit: Unit<R>,
}

/// Makes every unit remap: those of segment 0 by `tables`, which come back for further entries, those of other segments by
/// `nothing`, since no device of theirs is used.
///
/// The memory of tables that a unit was told of is never given back: the units of other segments read theirs for good,
/// and one that did not carry out a command may do so later, and walk them then.
///
/// # Errors
/// The base of the unit that failed, and how. All have been told to remap no more.
pub fn enable_all<R: Registers, M: Memory>(
    units: &mut [Found<R>],
    tables: Tables<M>,
    nothing: Tables<M>,
) -> Result<Tables<M>, (u64, IommuError)> {
    let failed = units.iter_mut().find_map(|Found { base, segment, unit }| {
        let root = if *segment == 0 { tables.root() } else { nothing.root() };
        unit.enable(root).err().map(|error| (*base, error))
    });
    core::mem::forget(nothing);
    let Some(failed) = failed else { return Ok(tables) };
    core::mem::forget(tables);
    for Found { unit, .. } in units {
        let _ = unit.disable(); // the reason is known already
    }
    Err(failed)
}
