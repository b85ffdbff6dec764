//! Where things go in guest-physical memory, and what the guest is told about it.

use alloc::vec::Vec;

use vm_types::{Gpa, GuestMemory, MemRange};

use crate::error::LoadError;

/// Start of what a PC keeps from the system below 1 MiB: the extended BIOS data area.
pub const RESERVED_START: u64 = 0x9_FC00;
/// End of it. The ACPI tables lie in `0xE0000..RESERVED_END`.
pub const RESERVED_END: u64 = 0x10_0000;
/// Interrupt vectors and BIOS data: RAM to the guest, but never used here.
const FIRST_USED: u64 = 0x1000;
/// Exclusive limit of what a 32-bit field can name.
pub(crate) const LIMIT_4G: u64 = 1 << 32;

/// What the guest may do with a part of its address space. The numbers are those of E820.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    /// Usable RAM.
    Ram = 1,
    /// Not for the system's use.
    Reserved = 2,
}

/// One line of the guest's memory map, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct MapEntry {
    pub start: u64,
    pub len: u64,
    pub kind: MapKind,
}

/// The memory map of a VM with that RAM, ascending: RAM without [`RESERVED_START`]`..`[`RESERVED_END`], which is
/// reserved.
#[must_use]
pub fn memory_map(ranges: &[MemRange]) -> Vec<MapEntry> {
    let reserved = (RESERVED_START, RESERVED_END);
    let ram = subtract(&joined(ranges), &[reserved]);
    let entry = |(start, end): (u64, u64), kind| MapEntry { start, len: end - start, kind };
    let mut map: Vec<MapEntry> = ram.into_iter().map(|span| entry(span, MapKind::Ram)).collect();
    let at = map.iter().position(|entry| entry.start >= RESERVED_END).unwrap_or(map.len());
    map.insert(at, entry(reserved, MapKind::Reserved));
    map
}

/// `[start, end)`; never empty.
type Span = (u64, u64);

fn joined(ranges: &[MemRange]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for range in ranges.iter().filter(|range| range.len != 0) {
        let end = range.start.0.saturating_add(range.len);
        match spans.last_mut() {
            Some(last) if last.1 == range.start.0 => last.1 = end,
            _ => spans.push((range.start.0, end)),
        }
    }
    spans
}

/// What is left of `spans` without `holes`.
fn subtract(spans: &[Span], holes: &[Span]) -> Vec<Span> {
    let mut left = spans.to_vec();
    for &(from, to) in holes {
        let pieces = |&(start, end): &Span| [(start, end.min(from)), (start.max(to), end)];
        left = left.iter().flat_map(pieces).filter(|(start, end)| start < end).collect();
    }
    left
}

/// What [`Space::zero`] writes.
pub(crate) static ZEROS: [u8; 4096] = [0; 4096];

/// The guest's RAM with a record of what is still free.
pub(crate) struct Space<'m, M: ?Sized> {
    mem: &'m M,
    free: Vec<Span>,
    ram_end: u64,
}

impl<'m, M: GuestMemory + ?Sized> Space<'m, M> {
    pub(crate) fn new(mem: &'m M) -> Self {
        let ram = joined(mem.ranges());
        let ram_end = ram.last().map_or(0, |span| span.1);
        Space { mem, free: subtract(&ram, &[(0, FIRST_USED), (RESERVED_START, RESERVED_END)]), ram_end }
    }

    pub(crate) fn map(&self) -> Vec<MapEntry> {
        memory_map(self.mem.ranges())
    }

    pub(crate) fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), LoadError> {
        Ok(self.mem.write(at, bytes)?)
    }

    pub(crate) fn zero(&self, at: Gpa, len: u64) -> Result<(), LoadError> {
        let mut done = 0;
        while done < len {
            let step = (len - done).min(ZEROS.len() as u64);
            // `claim` has shown that `at + len` does not wrap.
            self.write(Gpa(at.0 + done), ZEROS.get(..step as usize).unwrap_or(&ZEROS))?;
            done += step;
        }
        Ok(())
    }

    /// Takes a fixed place.
    pub(crate) fn claim(&mut self, what: &'static str, start: u64, len: u64) -> Result<Gpa, LoadError> {
        let inside = |end| self.free.iter().any(|&(from, to)| from <= start && end <= to);
        match start.checked_add(len) {
            Some(end) if inside(end) => {
                self.take(start, len);
                Ok(Gpa(start))
            }
            _ => Err(LoadError::NotFree { what, start, len, ram_end: self.ram_end }),
        }
    }

    /// Takes the lowest free place: boot structures, which the guest reads by 32-bit addresses.
    pub(crate) fn place_low(&mut self, what: &'static str, len: u64, align: u64) -> Result<Gpa, LoadError> {
        self.place_above(what, 0, len, align, LIMIT_4G)
    }

    /// Takes the lowest free place from `min` on that ends at or below `limit`. `align` is a power of two.
    pub(crate) fn place_above(
        &mut self,
        what: &'static str,
        min: u64,
        len: u64,
        align: u64,
        limit: u64,
    ) -> Result<Gpa, LoadError> {
        let fits = |&(from, to): &Span| {
            let start = from.max(min).checked_next_multiple_of(align.max(1))?;
            (start.checked_add(len)? <= to.min(limit)).then_some(start)
        };
        let start = self.free.iter().find_map(fits);
        self.taken_at(start, what, len, limit)
    }

    /// Takes the highest free place that ends at or below `limit`. `align` is a power of two.
    pub(crate) fn place_high(
        &mut self,
        what: &'static str,
        len: u64,
        align: u64,
        limit: u64,
    ) -> Result<Gpa, LoadError> {
        let fits = |&(from, to): &Span| {
            let last = to.min(limit).checked_sub(len)?;
            let start = last - last % align.max(1);
            (start >= from).then_some(start)
        };
        let start = self.free.iter().rev().find_map(fits);
        self.taken_at(start, what, len, limit)
    }

    fn taken_at(
        &mut self,
        start: Option<u64>,
        what: &'static str,
        len: u64,
        limit: u64,
    ) -> Result<Gpa, LoadError> {
        let start = start.ok_or(LoadError::NoRoom { what, len, limit, ram_end: self.ram_end })?;
        self.take(start, len);
        Ok(Gpa(start))
    }

    fn take(&mut self, start: u64, len: u64) {
        self.free = subtract(&self.free, &[(start, start.saturating_add(len))]);
    }
}

/// What software looks for in the BIOS data area: the segment of the extended area, and the RAM below it in KiB.
pub(crate) fn write_bios_data<M: GuestMemory + ?Sized>(space: &Space<'_, M>) -> Result<(), LoadError> {
    space.write(Gpa(0x40E), &((RESERVED_START >> 4) as u16).to_le_bytes())?;
    space.write(Gpa(0x413), &((RESERVED_START >> 10) as u16).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_of_a_vm_with_a_hole() {
        let range = |start, len| MemRange { start: Gpa(start), len };
        let ranges = [range(0, 0xA_0000), range(0xA_0000, 0xBFF6_0000), range(1 << 32, 1 << 30)];
        let map: Vec<_> = memory_map(&ranges).iter().map(|e| (e.start, e.start + e.len, e.kind)).collect();
        assert_eq!(
            map,
            [
                (0, 0x9_FC00, MapKind::Ram),
                (0x9_FC00, 0x10_0000, MapKind::Reserved),
                (0x10_0000, 0xC000_0000, MapKind::Ram),
                (1 << 32, 5 << 30, MapKind::Ram),
            ]
        );
        let small: Vec<_> = memory_map(&[range(0, 0x10_0000)]).iter().map(|e| e.start).collect();
        assert_eq!(small, [0, 0x9_FC00]);
    }

    #[test]
    fn subtraction_cuts_edges_and_middles() {
        assert_eq!(subtract(&[(0, 10), (20, 30)], &[(2, 4), (8, 22), (29, 40)]), [(0, 2), (4, 8), (22, 29)]);
        assert!(subtract(&[(5, 6)], &[(0, 9)]).is_empty());
    }
}
