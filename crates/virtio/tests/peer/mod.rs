//! A driver that others have written (virtio-drivers), over the registers of a device here.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::alloc::Layout;
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;

use virtio::{Broken, Device, Host, Virtio};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Error, Hal, PAGE_SIZE, PhysAddr};
use vm_types::{Gpa, GuestMemory, MemRange, MemoryError};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of RAM, at guest-physical 0.
const RAM: usize = 16 << 20;

thread_local! {
    /// The RAM of this test: its first byte, never given back, and how much of it is given out.
    static BASE: NonNull<u8> = {
        let layout = Layout::from_size_align(RAM, PAGE_SIZE).unwrap();
        // SAFETY: the layout is not empty.
        NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).unwrap()
    };
    static GIVEN: Cell<usize> = const { Cell::new(PAGE_SIZE) };
}

/// A piece of RAM: where a guest and where this program finds it.
fn give(len: usize) -> (PhysAddr, NonNull<u8>) {
    let at = GIVEN.get();
    let end = at + len.next_multiple_of(PAGE_SIZE);
    assert!(end <= RAM, "the test needs more RAM");
    GIVEN.set(end);
    // SAFETY: inside the allocation.
    (at as PhysAddr, BASE.with(|base| unsafe { base.add(at) }))
}

pub struct Pages;

// SAFETY: memory is given out once, aligned to pages, and is zero.
unsafe impl Hal for Pages {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        give(pages * PAGE_SIZE)
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        unreachable!("registers are called, not mapped")
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        let (at, place) = give(buffer.len());
        if direction != BufferDirection::DeviceToDriver {
            // SAFETY: the caller's buffer is valid, the piece is as long.
            unsafe { place.copy_from_nonoverlapping(buffer.cast(), buffer.len()) };
        }
        at
    }

    unsafe fn unshare(paddr: PhysAddr, buffer: NonNull<[u8]>, direction: BufferDirection) {
        if direction != BufferDirection::DriverToDevice {
            let from = BASE.with(|base| {
                // SAFETY: `paddr` came from `share`.
                unsafe { base.add(paddr as usize) }
            });
            // SAFETY: it was shared as a buffer of this length, which the caller has.
            unsafe { from.copy_to_nonoverlapping(buffer.cast(), buffer.len()) };
        }
    }
}

/// That RAM, as the device sees it.
pub struct Ram([MemRange; 1]);

impl Ram {
    fn place(gpa: Gpa, len: usize) -> Result<NonNull<u8>, MemoryError> {
        let end = gpa.0.checked_add(len as u64).filter(|end| *end <= RAM as u64);
        end.ok_or(MemoryError { gpa, len })?;
        // SAFETY: inside the allocation.
        Ok(BASE.with(|base| unsafe { base.add(gpa.0 as usize) }))
    }
}

impl GuestMemory for Ram {
    fn ranges(&self) -> &[MemRange] {
        &self.0
    }

    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        let from = Self::place(gpa, buf.len())?;
        // SAFETY: inside the allocation, which no reference points into.
        unsafe { from.as_ptr().copy_to_nonoverlapping(buf.as_mut_ptr(), buf.len()) };
        Ok(())
    }

    fn write(&self, gpa: Gpa, data: &[u8]) -> Result<(), MemoryError> {
        let to = Self::place(gpa, data.len())?;
        // SAFETY: as above.
        unsafe { to.as_ptr().copy_from_nonoverlapping(data.as_ptr(), data.len()) };
        Ok(())
    }
}

/// A host whose entropy counts.
#[derive(Default)]
pub struct Outside(pub u8);

impl Host for Outside {
    fn entropy(&mut self, out: &mut [u8]) -> bool {
        for byte in out {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
        true
    }

    fn broken(&mut self, kind: &str, why: &Broken) {
        panic!("{kind}: {why}");
    }
}

/// What a device does once its driver has told it, besides its rings.
pub type Backend<D> = Box<dyn FnMut(&mut Virtio<D>, &Ram)>;

pub struct Machine<D> {
    pub device: Virtio<D>,
    pub ram: Ram,
    pub outside: Outside,
    pub backend: Backend<D>,
    /// Interrupts so far, and kicks.
    pub interrupts: usize,
    pub kicks: usize,
}

impl<D: Device> Machine<D> {
    pub fn new(device: D, backend: Backend<D>) -> Rc<RefCell<Self>> {
        let ram = Ram([MemRange { start: Gpa(0), len: RAM as u64 }]);
        let (device, outside) = (Virtio::new(device), Outside::default());
        Rc::new(RefCell::new(Self { device, ram, outside, backend, interrupts: 0, kicks: 0 }))
    }

    /// Looks at the rings until there is nothing left, and lets the backend work.
    pub fn work(&mut self) {
        let Self { device, ram, outside, backend, interrupts, .. } = self;
        let mut serve = |device: &mut Virtio<D>| {
            while device.service(ram, outside, &mut |_| *interrupts += 1) {}
        };
        serve(device);
        backend(device, ram);
        serve(device);
    }

    fn set(&mut self, offset: u64, size: u8, value: u64) {
        if self.device.set_common(offset, size, value) {
            self.work();
        }
    }
}

/// The transport that a driver is given.
pub struct Wire<D>(pub Rc<RefCell<Machine<D>>>);

impl<D: Device> Transport for Wire<D> {
    fn device_type(&self) -> DeviceType {
        DeviceType::try_from(D::TYPE).unwrap()
    }

    fn read_device_features(&mut self) -> u64 {
        let mut machine = self.0.borrow_mut();
        let mut half = |select: u64| {
            machine.set(0, 4, select);
            machine.device.common(4) & 0xFFFF_FFFF
        };
        half(0) | half(1) << 32
    }

    fn write_driver_features(&mut self, features: u64) {
        let mut machine = self.0.borrow_mut();
        for half in 0..2 {
            machine.set(8, 4, half);
            machine.set(12, 4, features >> (32 * half) & 0xFFFF_FFFF);
        }
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        let mut machine = self.0.borrow_mut();
        machine.set(22, 2, queue.into());
        machine.device.common(24) as u32 & 0xFFFF
    }

    fn notify(&mut self, queue: u16) {
        let mut machine = self.0.borrow_mut();
        machine.kicks += 1;
        if machine.device.notify(queue) {
            machine.work();
        }
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_retain(self.0.borrow().device.common(20) as u32 & 0xFF)
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.0.borrow_mut().set(20, 1, status.bits().into());
    }

    fn set_guest_page_size(&mut self, _: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver: PhysAddr,
        device: PhysAddr,
    ) {
        let mut machine = self.0.borrow_mut();
        machine.set(22, 2, queue.into());
        machine.set(24, 2, size.into());
        machine.set(32, 8, descriptors);
        machine.set(40, 8, driver);
        machine.set(48, 8, device);
        machine.set(28, 2, 1);
    }

    fn queue_unset(&mut self, _: u16) {}

    fn queue_used(&mut self, queue: u16) -> bool {
        let mut machine = self.0.borrow_mut();
        machine.set(22, 2, queue.into());
        machine.device.common(28) & 0xFFFF != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::from_bits_retain(self.0.borrow_mut().device.take_isr().into())
    }

    fn read_config_generation(&self) -> u32 {
        self.0.borrow().device.common(21) as u32 & 0xFF
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, Error> {
        if offset + size_of::<T>() > D::CONFIG as usize {
            return Err(Error::ConfigSpaceTooSmall);
        }
        let bytes = self.0.borrow().device.config(offset as u64).to_le_bytes();
        T::read_from_bytes(&bytes[..size_of::<T>()]).map_err(|_| Error::ConfigSpaceTooSmall)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _: usize, _: T) -> Result<(), Error> {
        Ok(())
    }
}
