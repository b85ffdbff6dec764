//! The common configuration (4.1.4.3) and the life of a device (3.1).

use crate::broken::Broken;
use crate::bytes::le;
use crate::device::{CONFIG_MOST, Device, Host};
use crate::queue::{NO_VECTOR, Queue};
use crate::ring::{Ended, Ring, Rules};
use alloc::vec::Vec;
use minicbor::{Decode, Encode};
use virtio_spec::{DeviceStatus, F};
use vm_types::{GuestMemory, nospec};

/// Bytes of the common configuration.
pub const COMMON: u32 = 56;

const VERSION_1: u64 = F::VERSION_1.bits().to_ne() as u64;
const EVENT_IDX: u64 = F::EVENT_IDX.bits().to_ne() as u64;
const INDIRECT_DESC: u64 = F::INDIRECT_DESC.bits().to_ne() as u64;

const DRIVER_OK: u8 = DeviceStatus::DRIVER_OK.bits();
const FEATURES_OK: u8 = DeviceStatus::FEATURES_OK.bits();
const NEEDS_RESET: u8 = DeviceStatus::DEVICE_NEEDS_RESET.bits();
/// What a driver can set.
const DRIVERS: u8 = DeviceStatus::ACKNOWLEDGE.bits()
    | DeviceStatus::DRIVER.bits()
    | DRIVER_OK
    | FEATURES_OK
    | DeviceStatus::FAILED.bits();
/// Every bit that a status can have.
pub(crate) const STATUS: u8 = DRIVERS | NEEDS_RESET;

/// Interrupt status (4.1.4.5): buffers were used; the configuration has changed.
const ISR_QUEUE: u8 = 1;
const ISR_CONFIG: u8 = 2;
pub(crate) const ISR: u8 = ISR_QUEUE | ISR_CONFIG;

/// A device behind the registers of the modern interface.
pub struct Virtio<D> {
    pub(crate) device: D,
    pub(crate) registers: Registers,
    pub(crate) queues: Vec<Queue>,
    /// Queues to look at, one bit each.
    pub(crate) looks: u64,
    /// It has come from another host: each interrupt is raised once.
    pub(crate) came: bool,
    /// What the driver has broken, until it is told.
    broken: Option<Broken>,
}

/// Registers that are not a queue's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Registers {
    #[n(0)]
    pub(crate) status: u8,
    #[n(1)]
    pub(crate) isr: u8,
    #[n(2)]
    pub(crate) generation: u8,
    #[n(3)]
    pub(crate) config_vector: u16,
    #[n(4)]
    pub(crate) queue_select: u16,
    #[n(5)]
    pub(crate) device_feature_select: u32,
    #[n(6)]
    pub(crate) driver_feature_select: u32,
    #[n(7)]
    pub(crate) driver_features: u64,
}

impl Registers {
    const RESET: Self = Self {
        status: 0,
        isr: 0,
        generation: 0,
        config_vector: NO_VECTOR,
        queue_select: 0,
        device_feature_select: 0,
        driver_feature_select: 0,
        driver_features: 0,
    };

    fn has(&self, bits: u8) -> bool {
        self.status & bits == bits
    }
}

impl<D: Device> Virtio<D> {
    /// As it is after a reset.
    #[must_use]
    pub fn new(device: D) -> Self {
        let queues = D::QUEUES.iter().map(|most| Queue::new(*most)).collect();
        Self { device, registers: Registers::RESET, queues, looks: 0, came: false, broken: None }
    }

    /// Interrupt vectors: one for each queue, and one for the configuration.
    pub const VECTORS: u16 = D::QUEUES.len() as u16 + 1;

    /// The device itself.
    pub fn device(&mut self) -> &mut D {
        &mut self.device
    }

    /// What is offered.
    pub(crate) fn features(&self) -> u64 {
        VERSION_1 | EVENT_IDX | INDIRECT_DESC | self.device.features()
    }

    /// Whether these can be what was negotiated.
    pub(crate) fn accepts(&self, features: u64) -> bool {
        features & !self.features() == 0 && features & VERSION_1 != 0
    }

    /// The level of the interrupt pin.
    #[must_use]
    pub fn line(&self) -> bool {
        self.registers.isr != 0
    }

    /// Reads the interrupt status, which takes it back.
    pub fn take_isr(&mut self) -> u8 {
        core::mem::take(&mut self.registers.isr)
    }

    /// The bytes of the device's own configuration at `offset`; beyond its end they are 0.
    #[must_use]
    pub fn config(&self, offset: u64) -> u64 {
        let mut bytes = [0; CONFIG_MOST];
        self.device.config(&mut bytes);
        usize::try_from(offset).map_or(0, |at| le::<8>(&bytes, at))
    }

    /// The bytes of the common configuration at `offset`; beyond its end they are 0.
    #[must_use]
    pub fn common(&self, offset: u64) -> u64 {
        let r = &self.registers;
        let device_features = word(self.features(), r.device_feature_select);
        let driver_features = word(r.driver_features, r.driver_feature_select);
        let mut bytes = [0; COMMON as usize];
        let mut put = |at: usize, number: &[u8]| bytes[at..at + number.len()].copy_from_slice(number);
        put(0, &r.device_feature_select.to_le_bytes());
        put(4, &device_features.to_le_bytes());
        put(8, &r.driver_feature_select.to_le_bytes());
        put(12, &driver_features.to_le_bytes());
        put(16, &r.config_vector.to_le_bytes());
        put(18, &(self.queues.len() as u16).to_le_bytes());
        put(20, &[r.status, r.generation]);
        put(22, &r.queue_select.to_le_bytes());
        // One that is not there has size 0 (4.1.4.3.1).
        if let Some(queue) = self.selected() {
            let q = queue.state();
            put(24, &q.size.to_le_bytes());
            put(26, &q.vector.to_le_bytes());
            put(28, &u16::from(q.enabled).to_le_bytes());
            put(30, &r.queue_select.to_le_bytes());
            put(32, &q.descriptors.to_le_bytes());
            put(40, &q.available.to_le_bytes());
            put(48, &q.used.to_le_bytes());
        }
        usize::try_from(offset).map_or(0, |at| le::<8>(&bytes, at))
    }

    /// Writes a register of the common configuration, by its width, or half of one of 64 bits (4.1.3.1); anything else is
    /// no register. True where [`Virtio::service`] is wanted.
    pub fn set_common(&mut self, offset: u64, size: u8, value: u64) -> bool {
        let vector = |value: u64| if value < Self::VECTORS.into() { value as u16 } else { NO_VECTOR };
        let r = &mut self.registers;
        match (offset, size) {
            (0, 4) => r.device_feature_select = value as u32,
            (8, 4) => r.driver_feature_select = value as u32,
            (12, 4) if !r.has(FEATURES_OK) => match r.driver_feature_select {
                0 => set_half(&mut r.driver_features, false, value),
                1 => set_half(&mut r.driver_features, true, value),
                _ => {}
            },
            (16, 2) => r.config_vector = vector(value),
            (20, 1) => return self.set_status(value as u8),
            (22, 2) => r.queue_select = value as u16,
            (26, 2) => {
                if let Some(queue) = self.select() {
                    queue.state.vector = vector(value);
                }
            }
            (24.., _) => return self.set_queue(offset, size, value),
            _ => {}
        }
        false
    }

    /// Writes what makes a queue, which it has until a reset once it is enabled.
    fn set_queue(&mut self, offset: u64, size: u8, value: u64) -> bool {
        let Some(queue) = self.select() else { return false };
        let q = &mut queue.state;
        if q.enabled {
            return false;
        }
        match (offset, size) {
            (24, 2) => q.size = value as u16,
            (28, 2) if value == 1 => {
                if let Err(why) = queue.enable() {
                    return self.break_down(why);
                }
            }
            (32, 8) => q.descriptors = value,
            (32 | 36, 4) => set_half(&mut q.descriptors, offset == 36, value),
            (40, 8) => q.available = value,
            (40 | 44, 4) => set_half(&mut q.available, offset == 44, value),
            (48, 8) => q.used = value,
            (48 | 52, 4) => set_half(&mut q.used, offset == 52, value),
            _ => {}
        }
        false
    }

    /// The driver comes a step further, or starts again (3.1.1).
    fn set_status(&mut self, status: u8) -> bool {
        if status == 0 {
            self.device.reset();
            self.registers = Registers::RESET;
            self.queues = D::QUEUES.iter().map(|most| Queue::new(*most)).collect();
            (self.looks, self.came, self.broken) = (0, false, None);
            return false;
        }
        let mut new = status & DRIVERS & !self.registers.status;
        if new & FEATURES_OK != 0 && !self.accepts(self.registers.driver_features) {
            new &= !FEATURES_OK;
        }
        self.registers.status |= new;
        if new & DRIVER_OK == 0 {
            return false;
        }
        self.look_at_all();
        true
    }

    /// The driver has put something on a queue. True where [`Virtio::service`] is wanted.
    pub fn notify(&mut self, queue: u16) -> bool {
        let there = usize::from(queue) < self.queues.len();
        self.looks |= u64::from(there).checked_shl(queue.into()).unwrap_or(0);
        there && self.is_live()
    }

    /// Has every queue looked at.
    pub(crate) fn look_at_all(&mut self) {
        self.looks = u64::MAX >> (64 - self.queues.len().clamp(1, 64));
    }

    fn is_live(&self) -> bool {
        self.registers.has(DRIVER_OK | FEATURES_OK) && !self.registers.has(NEEDS_RESET)
    }

    /// Looks at the queues that are to be looked at. `interrupt` raises a vector. True where a look is wanted again, since
    /// this one had done enough.
    pub fn service(
        &mut self,
        memory: &dyn GuestMemory,
        host: &mut dyn Host,
        interrupt: &mut dyn FnMut(u16),
    ) -> bool {
        if !self.is_live() {
            self.tell(host, interrupt);
            return false;
        }
        let looks = core::mem::take(&mut self.looks);
        let came = core::mem::take(&mut self.came);
        if came {
            self.registers.isr |= ISR_CONFIG;
            interrupt(self.registers.config_vector);
        }
        for index in 0..self.queues.len() {
            if looks >> index & 1 == 0 || !self.queues[index].state.enabled {
                continue;
            }
            match self.look(index, memory, host) {
                Ok(ended) => {
                    self.looks |= u64::from(ended.again) << index;
                    if ended.interrupt || came {
                        self.registers.isr |= ISR_QUEUE;
                        interrupt(self.queues[index].state.vector);
                    }
                }
                Err(why) => {
                    // What was taken when it broke is not in flight.
                    let in_flight = self.device.in_flight(index as u16);
                    let q = &mut self.queues[index].state;
                    q.next_available = q.next_used.wrapping_add(in_flight);
                    self.break_down(why);
                    self.tell(host, interrupt);
                    return false;
                }
            }
        }
        self.looks != 0
    }

    fn look(&mut self, index: usize, memory: &dyn GuestMemory, host: &mut dyn Host) -> Result<Ended, Broken> {
        let features = self.registers.driver_features;
        let rules = Rules { indirect: features & INDIRECT_DESC != 0, event_idx: features & EVENT_IDX != 0 };
        let mut ring = Ring::new(&mut self.queues[index], memory, rules);
        self.device.look(index as u16, features, &mut ring, host)?;
        ring.end()
    }

    /// Nothing more until a reset (2.1.2). What was wrong is told at the next [`Virtio::service`], which is wanted.
    fn break_down(&mut self, why: Broken) -> bool {
        self.registers.status |= NEEDS_RESET;
        self.looks = 0;
        self.broken = Some(why);
        true
    }

    fn tell(&mut self, host: &mut dyn Host, interrupt: &mut dyn FnMut(u16)) {
        let Some(why) = self.broken.take() else { return };
        host.broken(D::KIND, &why);
        if self.registers.has(DRIVER_OK) {
            self.registers.generation = self.registers.generation.wrapping_add(1);
            self.registers.isr |= ISR_CONFIG;
            interrupt(self.registers.config_vector);
        }
    }

    fn selected(&self) -> Option<&Queue> {
        let index = usize::from(self.registers.queue_select);
        let queue = self.queues.get(nospec::index(index, self.queues.len()));
        queue.filter(|_| index < self.queues.len())
    }

    fn select(&mut self) -> Option<&mut Queue> {
        let (index, count) = (usize::from(self.registers.queue_select), self.queues.len());
        let queue = self.queues.get_mut(nospec::index(index, count));
        queue.filter(|_| index < count)
    }
}

/// The half of feature bits that is selected.
fn word(bits: u64, select: u32) -> u32 {
    match select {
        0 => bits as u32,
        1 => (bits >> 32) as u32,
        _ => 0,
    }
}

fn set_half(number: &mut u64, high: bool, value: u64) {
    let shift = if high { 32 } else { 0 };
    *number = *number & !(0xFFFF_FFFF << shift) | (value & 0xFFFF_FFFF) << shift;
}
