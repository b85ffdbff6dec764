//! DMA remapping, where the host has it: no device reaches memory but what the network card was given.
//!
//! One set of tables serves every unit. Its root table knows one segment; units of another get tables that let nothing
//! through, as no device of theirs is used.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use acpi_tables::{Dmar, RemappingUnit, ReservedMemory};
use iommu::{Capability, Found, IommuError, Memory, PAGE, Registers, SourceId, Tables, Unit};

use crate::lock::{self, Mutex};
use hw::arch::{mmio, tsc};
use hw::mm::dma::DmaBuffer;
use hw::mm::{Hpa, map};
use hw::platform::pci::{self, Address};

/// Faults that the log tells one by one.
const TOLD: u64 = 8;

struct Iommu {
    units: Vec<Unit<Mmio>>,
    tables: Tables<Pages>,
    reserved: Vec<ReservedMemory>,
    faults: u64,
}

static IOMMU: Mutex<Option<Iommu>> = Mutex::new(lock::IOMMU, None);

#[derive(Debug)]
struct Mmio(Hpa);

impl Registers for Mmio {
    fn read32(&self, offset: u32) -> u32 {
        mmio::read32(Hpa(self.0.0 + u64::from(offset)))
    }

    fn write32(&mut self, offset: u32, value: u32) {
        mmio::write32(Hpa(self.0.0 + u64::from(offset)), value);
    }

    fn delay_us(&mut self, us: u32) {
        tsc::delay(us.into());
    }
}

/// Memory of tables, in the order of allocation.
#[derive(Default)]
struct Pages(Vec<DmaBuffer>);

impl Pages {
    fn find(&self, at: u64) -> Option<(usize, usize)> {
        let page = self.0.iter().position(|page| page.bus_addr(0) == at & !(PAGE - 1))?;
        Some((page, (at % PAGE) as usize))
    }
}

impl Memory for Pages {
    fn page(&mut self) -> Option<u64> {
        let page = DmaBuffer::new(PAGE as usize)?;
        for line in (0..PAGE as usize).step_by(64) {
            page.flush(line);
        }
        let at = page.bus_addr(0);
        self.0.push(page);
        Some(at)
    }

    fn read(&self, at: u64) -> u64 {
        let mut entry = [0; 8];
        if let Some((page, offset)) = self.find(at) {
            self.0[page].read(offset, &mut entry);
        }
        u64::from_le_bytes(entry)
    }

    fn write(&mut self, at: u64, entry: u64) {
        if let Some((page, offset)) = self.find(at) {
            self.0[page].write(offset, &entry.to_le_bytes());
            self.0[page].flush(offset);
        }
    }
}

/// Turns remapping on where ACPI tells of it, or off if it is not `wanted`; no device may use DMA yet. The log says what
/// came of it.
pub(crate) fn init(dmar: Option<&Dmar>, wanted: bool) {
    let Some(dmar) = dmar.filter(|dmar| !dmar.units.is_empty()) else {
        log::info!(target: "iommu", "no IOMMU: devices trusted");
        return;
    };
    if !wanted {
        let left = find(dmar).map(|mut units| units.iter_mut().all(|found| found.unit.disable().is_ok()));
        match left {
            Ok(true) => log::warn!(target: "iommu", "off, as iommu= says: devices trusted"),
            _ => log::error!(target: "iommu", "a remapping unit does not go off: devices may reach nothing"),
        }
        return;
    }
    match enable(dmar) {
        Ok(iommu) => {
            let units = iommu.units.len();
            let plural = if units == 1 { "unit" } else { "units" };
            log::info!(target: "iommu", "on, {units} remapping {plural}: no device reaches memory");
            *IOMMU.lock() = Some(iommu);
        }
        Err(why) => log::warn!(target: "iommu", "{why}: no IOMMU: devices trusted"),
    }
}

/// The units as the firmware left them.
fn find(dmar: &Dmar) -> Result<Vec<Found<Mmio>>, String> {
    let mut units = Vec::new();
    for &RemappingUnit { base, segment, .. } in &dmar.units {
        if base == 0 || base % PAGE != 0 {
            return Err(alloc::format!("unit at {base:#x}: no address of a unit"));
        }
        map::map_mmio(Hpa(base), PAGE);
        let unit =
            Unit::new(Mmio(Hpa(base))).map_err(|error| alloc::format!("unit at {base:#x}: {error}"))?;
        map::map_mmio(Hpa(base), unit.capability().register_bytes().into());
        units.push(Found { base, segment, unit });
    }
    Ok(units)
}

fn enable(dmar: &Dmar) -> Result<Iommu, String> {
    let mut units = find(dmar)?;
    let name = |error: IommuError| alloc::format!("{error}");
    let depth = Capability::common_depth(units.iter().map(|found| found.unit.capability())).map_err(name)?;
    let tables = Tables::new(Pages::default(), depth).map_err(name)?;
    let nothing = Tables::new(Pages::default(), depth).map_err(name)?;
    let tables = iommu::enable_all(&mut units, tables, nothing)
        .map_err(|(base, error)| alloc::format!("unit at {base:#x}: {error}"))?;
    let units = units.into_iter().map(|found| found.unit).collect();
    Ok(Iommu { units, tables, reserved: dmar.reserved.clone(), faults: 0 })
}

/// Lets a device of segment 0 reach `len` bytes, and what the firmware keeps for it.
///
/// # Errors
/// The memory cannot be mapped, or a unit does not obey: the device must stay off the bus.
pub(crate) fn allow(device: Address, at: Hpa, len: u64) -> Result<(), IommuError> {
    let mut guard = IOMMU.lock();
    let Some(iommu) = guard.as_mut() else { return Ok(()) };
    iommu.tables.map(at.0, at.0 + len - 1)?;
    let mut foreign = 0;
    for region in &iommu.reserved {
        if !region.devices.iter().any(|scope| scope.resolve(bus_behind) == Some(place(device))) {
            foreign += 1;
            continue;
        }
        iommu.tables.map(region.start, region.last)?;
        log::info!(
            target: "iommu",
            "{device} reaches {:#x}-{:#x} of the firmware as well",
            region.start,
            region.last
        );
    }
    if foreign > 0 {
        log::info!(target: "iommu", "{foreign} regions of the firmware's devices stay closed: those are silenced");
    }
    iommu.tables.admit(source(device))?;
    // A device of conventional PCI speaks in the name of the bridge above it (VT-d 3.4.1).
    if let Some(bridge) = pci::bridge_to(device.bus) {
        iommu.tables.admit(source(bridge))?;
        iommu.tables.admit(SourceId::new(device.bus, 0, 0))?;
    }
    for unit in &mut iommu.units {
        unit.invalidate()?;
    }
    log::info!(target: "iommu", "{device} reaches {} KiB, all others nothing", iommu.tables.pages() * PAGE / 1024);
    Ok(())
}

fn source(at: Address) -> SourceId {
    SourceId::new(at.bus, at.device, at.function)
}

fn place(at: Address) -> (u8, u8, u8) {
    (at.bus, at.device, at.function)
}

fn bus_behind(bus: u8, device: u8, function: u8) -> Option<u8> {
    pci::behind(Address { bus, device, function })
}

/// Tells the log of accesses that were stopped since the last call. Reads a register of each unit.
pub(crate) fn poll() {
    let mut guard = IOMMU.lock();
    let Some(Iommu { units, faults, .. }) = guard.as_mut() else { return };
    for unit in units {
        // A device that goes on and on may not hold this CPU.
        for _ in 0..TOLD {
            let Some(fault) = unit.next_fault() else { break };
            *faults += 1;
            match *faults {
                1..TOLD => log::warn!(target: "iommu", "{fault}"),
                TOLD => log::warn!(target: "iommu", "{fault}; further ones are not told"),
                _ => {}
            }
        }
    }
}

/// What stands between devices and memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    /// Remapping units in use.
    units: usize,
    /// Pages that the network card reaches.
    pages: u64,
    /// Accesses that were stopped.
    pub(crate) faults: u64,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { units, pages, faults } = self;
        write!(f, "{units} remapping units, {} KiB reachable, {faults} accesses stopped", pages * PAGE / 1024)
    }
}

/// The state now; none without an IOMMU.
pub(crate) fn state() -> Option<State> {
    let guard = IOMMU.lock();
    let Iommu { units, tables, faults, .. } = guard.as_ref()?;
    Some(State { units: units.len(), pages: tables.pages(), faults: *faults })
}
