//! Fault 2.20: a card behind bridges that firmware left shut, or asleep, over a model of configuration space.

use bring_up::pci::{Function, capability, keep_link_awake, open_path, wake};
use std::cell::RefCell;
use std::collections::BTreeMap;

const COMMAND: u8 = 0x04;
const BAR0: u8 = 0x10;
const PM: u8 = 0x40;
const EXPRESS: u8 = 0x50;
const LINK_CONTROL: u8 = EXPRESS + 0x10;

struct Device {
    registers: RefCell<BTreeMap<u8, u32>>,
    /// Writes, for their order across devices.
    log: RefCell<Vec<(u8, u32)>>,
    waited: RefCell<u32>,
}

impl Device {
    /// In power state `state`, with capabilities and a BAR.
    fn new(state: u32) -> Self {
        let registers = BTreeMap::from([
            (COMMAND, 1 << 20 | 0x0003),
            (0x0c, 0x0001_0010),
            (BAR0, 0xfeb0_0000),
            (0x34, u32::from(PM)),
            (PM, 1 | u32::from(EXPRESS) << 8),
            (PM + 4, state | 1 << 15),
            (EXPRESS, 0x10),
            (LINK_CONTROL, 0x1012_0043),
        ]);
        Self { registers: registers.into(), log: RefCell::default(), waited: RefCell::default() }
    }

    fn holds(&self, register: u8) -> u32 {
        self.registers.borrow().get(&register).copied().unwrap_or(0)
    }
}

impl Function for &Device {
    fn read(&self, register: u8) -> u32 {
        assert_eq!(register % 4, 0);
        self.holds(register)
    }

    fn write(&self, register: u8, value: u32) {
        self.log.borrow_mut().push((register, value));
        let mut registers = self.registers.borrow_mut();
        match register {
            COMMAND => _ = registers.insert(COMMAND, 1 << 20 | value & 0xffff),
            // From D3 to D0: the function forgets (PMCSR.No_Soft_Reset is 0).
            0x44 if registers[&0x44] & 3 == 3 && value & 3 == 0 => {
                registers.extend([(0x44, value & 0x7fff), (BAR0, 0), (0x0c, 0), (COMMAND, 1 << 20)]);
            }
            _ => _ = registers.insert(register, value),
        }
    }

    fn delay_us(&self, us: u32) {
        *self.waited.borrow_mut() += us;
    }
}

#[test]
fn a_card_that_wakes_keeps_its_addresses() {
    for state in 1..=3 {
        let device = Device::new(state);
        wake(&&device);
        assert_eq!(device.holds(PM + 4) & 3, 0);
        assert_eq!([BAR0, COMMAND, 0x0c].map(|r| device.holds(r)), [0xfeb0_0000, 1 << 20 | 3, 0x0001_0010]);
        assert!(*device.waited.borrow() >= 10_000, "PCI PM 1.2, 5.6.1");
        assert_eq!(device.log.borrow()[0].1 & 1 << 15, 0, "PME status is cleared by a one");
    }
    let awake = Device::new(0);
    wake(&&awake);
    assert!(awake.log.borrow().is_empty());
}

#[test]
fn every_bridge_above_passes_both_ways() {
    let bridges = [Device::new(3), Device::new(0)];
    for bridge in &bridges {
        bridge.registers.borrow_mut().insert(COMMAND, 1 << 20 | 0x0140);
    }
    open_path(bridges.iter());
    for bridge in &bridges {
        assert_eq!(
            bridge.holds(COMMAND) & 0xffff,
            0x0147,
            "memory, ports and mastering; SERR and parity as they were"
        );
        assert_eq!(bridge.holds(PM + 4) & 3, 0);
    }
}

#[test]
fn both_ends_of_a_link_stay_awake() {
    let (card, bridge) = (Device::new(0), Device::new(0));
    keep_link_awake(&&card, Some(&&bridge));
    for end in [&card, &bridge] {
        assert_eq!(end.holds(LINK_CONTROL), 0x40, "the status half is not written back");
    }
    keep_link_awake(&&card, None);
}

#[test]
fn a_list_that_goes_round_ends() {
    let device = Device::new(0);
    device.registers.borrow_mut().insert(EXPRESS, 0x77 | u32::from(PM) << 8);
    assert_eq!(capability(&&device, 0x11), None);
    device.registers.borrow_mut().insert(0x34, 0x08);
    assert_eq!(capability(&&device, 1), None, "below the capabilities");
    device.registers.borrow_mut().insert(COMMAND, 0);
    assert_eq!(capability(&&device, 1), None, "no list");
}
