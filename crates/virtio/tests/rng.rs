//! The entropy device: with a driver that others have written, and with a host that has no entropy.
#![allow(missing_docs)]

mod driver;
mod peer;

use driver::{DATA, Driver, WRITE};
use peer::{Machine, Pages, Wire};
use std::rc::Rc;
use virtio::{Broken, Device, Host, Ring, Rng, Rules};
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::transport::Transport;

#[test]
fn a_driver_gets_random_bytes() {
    let machine = Machine::new(Rng, Box::new(|_, _| {}));
    let mut driver = VirtIORng::<Pages, _>::new(Wire(Rc::clone(&machine))).unwrap();
    let mut bytes = [0; 40];
    for first in [1, 41, 81] {
        assert_eq!(driver.request_entropy(&mut bytes), Ok(40));
        assert_eq!((bytes[0], bytes[39]), (first, first + 39));
    }
    let mut bytes = [0; 1000];
    assert_eq!(driver.request_entropy(&mut bytes), Ok(256), "it may ask again");
    assert_eq!((bytes[255], bytes[256]), (120, 0));
    let features = 1 << 28 | 1 << 29 | 1 << 32;
    let mut wire = Wire(Rc::clone(&machine));

    assert_eq!(wire.read_device_features(), features);
    assert_eq!(machine.borrow_mut().device.common(12) as u32, (features >> 32) as u32, "all was agreed on");
}

/// A host that has entropy only at times.
struct Dry(bool);

impl Host for Dry {
    fn entropy(&mut self, out: &mut [u8]) -> bool {
        if self.0 {
            return false;
        }
        out.fill(0xAA);
        true
    }

    fn broken(&mut self, _: &str, _: &Broken) {}
}

fn look(driver: &Driver, queue: &mut virtio::Queue, dry: bool) -> Result<(), Broken> {
    let mut ring = Ring::new(queue, &driver.ram, driver.rules);
    Rng.look(0, 0, &mut ring, &mut Dry(dry))
}

#[test]
fn without_entropy_requests_wait() {
    let mut driver = Driver::new(4, Rules::default());
    let mut queue = driver.queue(4);
    driver.describe(0, DATA, 8, WRITE, 0);
    driver.describe(1, DATA + 8, 8, WRITE, 0);
    driver.offer(0);
    driver.offer(1);
    look(&driver, &mut queue, true).unwrap();
    assert_eq!((driver.collect(), driver.ram.get(DATA, 16)), (vec![], vec![0; 16]));
    look(&driver, &mut queue, false).unwrap();
    assert_eq!((driver.collect(), driver.ram.get(DATA, 16)), (vec![(0, 8), (1, 8)], vec![0xAA; 16]));
}

#[test]
fn a_request_without_room_breaks_it() {
    let mut driver = Driver::new(4, Rules::default());
    let mut queue = driver.queue(4);
    driver.describe(0, DATA, 8, 0, 0);
    driver.offer(0);
    assert!(matches!(look(&driver, &mut queue, false), Err(Broken::Request(_))));
}
