//! A mock of a remapping unit that walks the tables as silicon does.

use iommu::regs::*;
use iommu::{Capability, Depth, Fault, Found, IommuError, Memory, PAGE, Registers, SourceId, Tables, Unit};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// CAP with SAGAW for 3 and 4 levels, two fault records at 0x220; ECAP with IOTLB registers at 0x100.
const CAPS: (u64, u64) = (0b110 << 8 | 0x22 << 24 | 1 << 40, 0x10 << 8);
const FAULTS: u32 = 0x220;
const IOTLB: u32 = 0x108;
const NIC: SourceId = SourceId::new(3, 0, 1);

#[derive(Default)]
struct State {
    memory: HashMap<u64, u64>,
    pages: u64,
    most_pages: u64,
    regs: HashMap<u32, u32>,
    /// The root table that is in use, and whether it is.
    root: u64,
    on: bool,
    /// Translations that are remembered: an invalidation empties it.
    cache: HashMap<(u16, u64), bool>,
    /// A register that never changes by itself.
    stuck: Option<u32>,
    log: Vec<(u32, u32)>,
}

#[derive(Clone)]
struct Mock(Rc<RefCell<State>>);

impl Mock {
    fn new(caps: (u64, u64)) -> Self {
        let mut state = State { most_pages: 100, ..State::default() };
        state.regs.extend([(VER, 0x10), (CAP, caps.0 as u32), (CAP + 4, (caps.0 >> 32) as u32)]);
        state.regs.extend([(ECAP, caps.1 as u32), (ECAP + 4, (caps.1 >> 32) as u32)]);
        Mock(Rc::new(RefCell::new(state)))
    }

    fn reg(&self, at: u32) -> u32 {
        self.0.borrow().regs.get(&at).copied().unwrap_or(0)
    }

    fn set(&self, at: u32, value: u32) {
        self.0.borrow_mut().regs.insert(at, value);
    }

    /// What a device does: true where memory was reached; else a fault is recorded.
    fn dma(&self, device: SourceId, address: u64, write: bool) -> bool {
        if !self.0.borrow().on {
            return true;
        }
        let key = (device.0, address / PAGE);
        let known = self.0.borrow().cache.get(&key).copied();
        let result = if known == Some(true) { Ok(address) } else { self.walk(device, address, write) };
        self.0.borrow_mut().cache.insert(key, result.is_ok());
        match result {
            Ok(reached) => {
                assert_eq!(reached, address, "not one to one");
                true
            }
            Err(reason) => {
                let parts = [address as u32 & !0xfff, (address >> 32) as u32, device.0.into()];
                parts.iter().enumerate().for_each(|(n, part)| self.set(FAULTS + n as u32 * 4, *part));
                self.set(FAULTS + 12, FAULT | if write { 0 } else { FAULT_READ } | reason);
                self.set(FSTS, FSTS_PENDING);
                false
            }
        }
    }

    fn walk(&self, device: SourceId, address: u64, write: bool) -> Result<u64, u32> {
        let state = self.0.borrow();
        let read = |at: u64| state.memory.get(&at).copied().unwrap_or(0);
        let root = read(state.root + u64::from(device.0 >> 8) * 16);
        if root & 1 == 0 {
            return Err(1);
        }
        let context = (root & !0xfff) + u64::from(device.0 & 0xff) * 16;
        let (low, high) = (read(context), read(context + 8));
        if low & 1 == 0 {
            return Err(2);
        }
        assert_eq!(low & 0b1110, 0, "translation type");
        assert_ne!(high >> 8 & 0xffff, 0, "domain 0");
        let levels = [0, 3, 4][(high & 7) as usize];
        if address >> (12 + 9 * levels) != 0 {
            return Err(4);
        }
        let mut table = low & !0xfff;
        for level in (0..levels).rev() {
            let entry = read(table + (address >> (12 + 9 * level) & 511) * 8);
            if entry & if write { 2 } else { 1 } == 0 {
                return Err(if write { 5 } else { 6 });
            }
            table = entry & !0xfff;
        }
        Ok(table | address & 0xfff)
    }
}

impl Registers for Mock {
    fn read32(&self, at: u32) -> u32 {
        self.reg(at)
    }

    fn write32(&mut self, at: u32, value: u32) {
        let stuck = self.0.borrow().stuck == Some(at);
        self.0.borrow_mut().log.push((at, value));
        match at {
            GCMD if !stuck => {
                let once = ROOT_POINTER | WRITE_BUFFER;
                let old = self.reg(GSTS) & ROOT_POINTER;
                let latched = if value & ROOT_POINTER != 0 { ROOT_POINTER } else { old };
                self.set(GSTS, value & !once | latched);
                let root = u64::from(self.reg(RTADDR)) | u64::from(self.reg(RTADDR + 4)) << 32;
                let mut state = self.0.borrow_mut();
                if value & ROOT_POINTER != 0 {
                    state.root = root;
                }
                state.on = value & TRANSLATION != 0;
            }
            _ if at == CCMD + 4 || at == IOTLB + 4 => {
                assert_ne!(value & 1 << 31, 0);
                assert_eq!(self.reg(GSTS) & QUEUED, 0, "registers do not serve while the queue does");
                self.set(at, if stuck { value } else { value & !(1 << 31) });
                self.0.borrow_mut().cache.clear();
            }
            PMEN if !stuck => self.set(PMEN, value & PMEN_ENABLE | value >> 31),
            FSTS => self.set(FSTS, self.reg(FSTS) & !(value & FSTS_OVERFLOW)),
            _ if at == FAULTS + 12 && value & FAULT != 0 => {
                self.set(at, 0);
                self.set(FSTS, 0);
            }
            _ if stuck => {}
            _ => self.set(at, value),
        }
    }

    fn delay_us(&mut self, _us: u32) {}
}

impl Memory for Mock {
    fn page(&mut self) -> Option<u64> {
        let mut state = self.0.borrow_mut();
        state.pages += 1;
        (state.pages <= state.most_pages).then(|| 0x12_0000_0000 + state.pages * PAGE)
    }

    fn read(&self, at: u64) -> u64 {
        self.0.borrow().memory.get(&at).copied().unwrap_or(0)
    }

    fn write(&mut self, at: u64, entry: u64) {
        assert!(at.is_multiple_of(8));
        self.0.borrow_mut().memory.insert(at, entry);
    }
}

fn up(mock: &Mock) -> (Unit<Mock>, Tables<Mock>) {
    let mut unit = Unit::new(mock.clone()).unwrap();
    let depth = Capability::common_depth([unit.capability()].into_iter()).unwrap();
    let tables = Tables::new(mock.clone(), depth).unwrap();
    unit.enable(tables.root()).unwrap();
    (unit, tables)
}

#[test]
fn a_device_reaches_what_it_was_given_and_nothing_else() {
    for caps in [CAPS, (0b010 << 8 | 0x22 << 24, 0x10 << 8)] {
        let mock = Mock::new(caps);
        let (mut unit, mut tables) = up(&mock);
        assert!(!mock.dma(NIC, 0x1000, true), "before anything was given");
        assert_eq!(unit.next_fault(), Some(Fault { device: NIC, address: 0x1000, read: false, reason: 1 }));
        assert_eq!(unit.next_fault(), None);
        // Across a table of 2 MiB and one of 1 GiB, and not at page borders.
        let (start, last) = (0x3fff_f800, 0x4000_1fff);
        tables.map(start, last).unwrap();
        tables.admit(NIC).unwrap();
        unit.invalidate().unwrap();
        assert_eq!(tables.pages(), 3);
        for address in [0x3fff_f000, 0x3fff_ffff, 0x4000_0000, 0x4000_1fff] {
            assert!(mock.dma(NIC, address, true) && mock.dma(NIC, address, false), "{address:#x}");
        }
        for address in [0, 0x3fff_efff, 0x4000_2000, 0x5_4000_0000] {
            assert!(!mock.dma(NIC, address, false), "{address:#x}");
            let fault = unit.next_fault().unwrap();
            assert_eq!((fault.device, fault.address, fault.read), (NIC, address & !0xfff, true));
            assert_eq!(fault.reason, 6);
        }
        for other in [SourceId::new(3, 0, 0), SourceId::new(3, 1, 1), SourceId::new(0, 0, 1)] {
            assert!(!mock.dma(other, 0x4000_0000, true), "{other}");
            assert_eq!(unit.next_fault().map(|f| f.device), Some(other));
        }
        tables.map(start, last).unwrap();
        assert_eq!(tables.pages(), 3, "twice the same is once");
        unit.disable().unwrap();
        assert!(mock.dma(SourceId::new(9, 9, 1), 0, true));
    }
}

#[test]
fn ranges_that_cannot_be_are_refused() {
    let mock = Mock::new(CAPS);
    let mut tables = Tables::new(mock.clone(), Depth::Three).unwrap();
    assert_eq!(tables.map(0x2000, 0x1fff), Err(IommuError::BadRange(0x2000, 0x1fff)));
    assert_eq!(tables.map(0, 1 << 39), Err(IommuError::TooHigh(1 << 39, 39)));
    assert_eq!(tables.map(u64::MAX, u64::MAX), Err(IommuError::TooHigh(u64::MAX, 39)));
    tables.map((1 << 39) - 1, (1 << 39) - 1).unwrap();
    mock.0.borrow_mut().most_pages = 0;
    assert_eq!(tables.admit(NIC), Err(IommuError::NoMemory));
    assert_eq!(tables.map(0, 0), Err(IommuError::NoMemory));
    assert!(Tables::new(mock, Depth::Four).is_err());
}

#[test]
fn what_firmware_left_is_taken_over() {
    let mock = Mock::new((CAPS.0 | 1 << 4 | 1 << 5, CAPS.1));
    // Remapping, queued invalidation, interrupt remapping and protected memory are on.
    mock.set(GSTS, TRANSLATION | QUEUED | 1 << 25);
    mock.set(PMEN, PMEN_ENABLE | PMEN_ON);
    mock.set(FSTS, FSTS_OVERFLOW);
    up(&mock);
    assert_eq!(mock.reg(GSTS), TRANSLATION | ROOT_POINTER | 1 << 25, "interrupt remapping stays");
    assert_eq!(mock.reg(PMEN), 0);
    assert_eq!(mock.reg(FECTL), FECTL_MASK);
    let log = &mock.0.borrow().log;
    let on = log.iter().rposition(|w| w.0 == GCMD && w.1 & TRANSLATION != 0).unwrap();
    let invalidated = log.iter().rposition(|w| w.0 == IOTLB + 4).unwrap();
    assert!(invalidated < on, "remapping began with old translations");
}

#[test]
fn commands_that_do_not_end_are_named() {
    let text = |at: u32| {
        let mock = Mock::new(CAPS);
        mock.0.borrow_mut().stuck = Some(at);
        Unit::new(mock).unwrap().enable(0x1000).unwrap_err().to_string()
    };
    assert!(text(GCMD).starts_with("setting of the root table does not end"));
    assert!(text(CCMD + 4).starts_with("invalidation of contexts does not end"));
    assert!(text(IOTLB + 4).starts_with("invalidation of translations does not end"));
    let mock = Mock::new((CAPS.0 | 1 << 6, CAPS.1));
    mock.set(PMEN, PMEN_ENABLE | PMEN_ON);
    mock.0.borrow_mut().stuck = Some(PMEN);
    let error = Unit::new(mock).unwrap().enable(0x1000).unwrap_err();
    assert!(error.to_string().starts_with("protected memory does not end"));
}

#[test]
fn units_that_are_none_or_do_not_fit_together() {
    for version in [0, u32::MAX] {
        let mock = Mock::new(CAPS);
        mock.set(VER, version);
        assert!(matches!(Unit::new(mock), Err(IommuError::NoAnswer)));
    }
    let caps = |sagaw: u64| Capability { cap: sagaw << 8, ecap: 0 };
    let common = |sagaw: &[u64]| Capability::common_depth(sagaw.iter().map(|s| caps(*s)));
    assert_eq!(common(&[0b110, 0b110]), Ok(Depth::Four));
    assert_eq!(common(&[0b110, 0b010]), Ok(Depth::Three));
    assert_eq!(common(&[0b100, 0b010]), Err(IommuError::NoDepth(0)));
    assert_eq!(common(&[0b1000]), Err(IommuError::NoDepth(0b1000)));
}

proptest! {
    /// Whatever a unit reads as, nothing panics and every wait ends.
    #[test]
    fn any_unit(words in prop::collection::vec(any::<u32>(), 64), cap: u64, ecap: u64) {
        struct Noise(Vec<u32>, u64, u64);
        impl Registers for Noise {
            fn read32(&self, at: u32) -> u32 {
                assert!(at.is_multiple_of(4) && at < 0x8000);
                match at {
                    CAP => self.1 as u32,
                    0x0c => (self.1 >> 32) as u32,
                    ECAP => self.2 as u32,
                    0x14 => (self.2 >> 32) as u32,
                    _ => self.0[at as usize / 4 % 64],
                }
            }
            fn write32(&mut self, at: u32, value: u32) {
                self.0[at as usize / 4 % 64] ^= value;
            }
            fn delay_us(&mut self, _: u32) {}
        }
        if let Ok(mut unit) = Unit::new(Noise(words, cap, ecap)) {
            prop_assert!(unit.capability().register_bytes() <= 0x8000);
            for _ in 0..300 {
                if unit.next_fault().is_none() {
                    break;
                }
            }
            let _ = unit.invalidate();
            let _ = unit.disable();
        }
    }

    /// Only what was mapped is reached.
    #[test]
    fn any_ranges(ranges in prop::collection::vec((0u64..1 << 36, 0u64..0x8000), 1..6), probes in prop::collection::vec(0u64..1 << 36, 20)) {
        let mock = Mock::new(CAPS);
        let (mut unit, mut tables) = up(&mock);
        tables.admit(NIC).unwrap();
        for (start, len) in &ranges {
            tables.map(*start, start + len).unwrap();
        }
        unit.invalidate().unwrap();
        let edges = ranges.iter().flat_map(|(s, l)| [s.saturating_sub(PAGE), *s, s + l, s + l + PAGE]);
        for address in probes.iter().copied().chain(edges) {
            let page = address / PAGE;
            let given = ranges.iter().any(|(s, l)| (s / PAGE..=(s + l) / PAGE).contains(&page));
            prop_assert_eq!(mock.dma(NIC, address, true), given, "{:#x}", address);
        }
    }
}

/// Memory of tables that counts when it is given back.
struct Lent(Mock, Rc<RefCell<u32>>);

impl Drop for Lent {
    fn drop(&mut self) {
        *self.1.borrow_mut() += 1;
    }
}

impl Memory for Lent {
    fn page(&mut self) -> Option<u64> {
        self.0.page()
    }

    fn read(&self, at: u64) -> u64 {
        Memory::read(&self.0, at)
    }

    fn write(&mut self, at: u64, entry: u64) {
        Memory::write(&mut self.0, at, entry);
    }
}

/// A unit that did not answer in time may carry the command out later, and walks the tables then: they are there still.
#[test]
fn tables_outlive_a_unit_that_fails() {
    for stuck in [None, Some(GCMD), Some(IOTLB + 4)] {
        let (first, second) = (Mock::new(CAPS), Mock::new(CAPS));
        second.0.borrow_mut().stuck = stuck;
        let given_back = Rc::new(RefCell::new(0));
        let tables = || Tables::new(Lent(first.clone(), given_back.clone()), Depth::Three).unwrap();
        let mut units = [(0xfed9_0000, 0, &first), (0xfed9_1000, 1, &second)]
            .map(|(base, segment, mock)| Found { base, segment, unit: Unit::new(mock.clone()).unwrap() });
        let enabled = iommu::enable_all(&mut units, tables(), tables());
        assert_eq!(*given_back.borrow(), 0, "{stuck:?}");
        match stuck {
            None => {
                assert!(first.0.borrow().on && second.0.borrow().on);
                assert_ne!(first.0.borrow().root, second.0.borrow().root, "another segment has its own");
                drop(enabled.unwrap());
                assert_eq!(*given_back.borrow(), 1, "the other units read theirs for good");
            }
            Some(_) => {
                let (base, error) = enabled.err().unwrap();
                assert!(base == 0xfed9_1000 && matches!(error, IommuError::Stuck(..)), "{base:#x}: {error}");
                assert!(!first.0.borrow().on, "all or none");
            }
        }
    }
}
