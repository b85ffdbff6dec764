//! The block device: with a driver that others have written and a disk in RAM behind it, and with requests that are none.
#![allow(missing_docs)]

mod driver;
mod peer;

use driver::{DATA, Driver, NEXT, WRITE};
use peer::{Machine, Outside, Pages, Wire};
use std::cell::RefCell;
use std::rc::Rc;
use virtio::{Blk, Broken, Device, Disk, Order, Outcome, Ring, Rules, Virtio, What};
use virtio_drivers::device::blk::{BlkReq, BlkResp, RespStatus, VirtIOBlk};

const SECTORS: u64 = 64;
const FLUSH: u64 = 1 << 9;
const DISCARD: u64 = 1 << 13;
const ZEROES: u64 = 1 << 14;

fn disk() -> Disk {
    let mut serial = [0; 20];
    serial[..5].copy_from_slice(b"disk1");
    Disk { sectors: SECTORS, read_only: false, flush: true, discard: true, zeroes: true, serial }
}

/// A disk in RAM that ends its orders in reverse.
fn serve(bytes: &mut [u8], log: &mut Vec<What>, device: &mut Virtio<Blk>, ram: &peer::Ram) {
    let orders: Vec<Order> = std::iter::from_fn(|| device.device().take_order()).collect();
    for Order { id, what } in orders.into_iter().rev() {
        log.push(what);
        match what {
            What::Read { at, len } => {
                let at = at as usize;
                // In two pieces.
                assert!(device.device().store(ram, id, 0, &bytes[at..at + 100]));
                assert!(device.device().store(ram, id, 100, &bytes[at + 100..at + len as usize]));
                assert!(!device.device().store(ram, id, len, &[0]), "the status is not data");
            }
            What::Write { at, len, .. } => {
                let at = at as usize;
                assert!(device.device().fetch(ram, id, 0, &mut bytes[at..at + len as usize]));
            }
            _ => {}
        }
        device.end(id, Outcome::Done);
        device.end(id, Outcome::Failed);
        assert!(!device.device().fetch(ram, id, 0, &mut []), "it has ended");
    }
}

#[test]
fn a_driver_reads_and_writes_with_several_requests_in_flight() {
    let bytes = Rc::new(RefCell::new(vec![0; (512 * SECTORS) as usize]));
    let log = Rc::new(RefCell::new(Vec::new()));
    let (held, seen) = (Rc::clone(&bytes), Rc::clone(&log));
    let backend = move |device: &mut Virtio<Blk>, ram: &peer::Ram| {
        serve(&mut held.borrow_mut(), &mut seen.borrow_mut(), device, ram);
    };
    let machine = Machine::new(Blk::new(disk()), Box::new(backend));
    let mut driver = VirtIOBlk::<Pages, _>::new(Wire(Rc::clone(&machine))).unwrap();
    assert_eq!((driver.capacity(), driver.readonly()), (SECTORS, false));
    let mut id = [0; 20];
    assert_eq!((driver.device_id(&mut id), &id[..6]), (Ok(5), &b"disk1\0"[..]));
    let first: Vec<u8> = (0..1024).map(|i| (i % 251) as u8).collect();
    driver.write_blocks(3, &first).unwrap();
    assert_eq!(bytes.borrow()[512 * 3..512 * 5], first);
    driver.flush().unwrap();
    let mut back = vec![0; 1024];
    driver.read_blocks(3, &mut back).unwrap();
    assert_eq!(back, first);
    assert_eq!(
        *log.borrow(),
        [
            What::Write { at: 1536, len: 1024, through: false },
            What::Flush,
            What::Read { at: 1536, len: 1024 }
        ]
    );
    assert!(driver.read_blocks(SECTORS as usize - 1, &mut back).is_err(), "beyond the end");
    // Four at once, which end in reverse.
    let mut requests: Vec<(BlkReq, BlkResp, Vec<u8>)> =
        (0..4).map(|_| (BlkReq::default(), BlkResp::default(), vec![0; 512])).collect();
    let real = std::mem::replace(&mut machine.borrow_mut().backend, Box::new(|_, _| {}));
    let mut tokens = Vec::new();
    for (block, (request, response, buffer)) in requests.iter_mut().enumerate() {
        // SAFETY: the request's parts stay where they are until it is completed.
        tokens.push(unsafe { driver.read_blocks_nb(3 + block, request, buffer, response) }.unwrap());
    }
    assert_eq!(driver.peek_used(), None);
    assert_eq!(machine.borrow_mut().device.device().in_flight(0), 4);
    machine.borrow_mut().backend = real;
    machine.borrow_mut().work();
    for index in [3, 2, 1, 0] {
        assert_eq!(driver.peek_used(), Some(tokens[index]));
        let (request, response, buffer) = &mut requests[index];
        // SAFETY: the same as were given.
        unsafe { driver.complete_read_blocks(tokens[index], request, buffer, response) }.unwrap();
        assert_eq!(response.status(), RespStatus::OK);
        assert_eq!(buffer[..], bytes.borrow()[512 * (3 + index)..][..512]);
    }
}

/// A request with this head, a piece of data to be read and one to be written: what becomes of it.
fn ask(
    disk: Disk,
    features: u64,
    kind: u32,
    sector: u64,
    data: &[u8],
    room: u32,
) -> Result<(Option<What>, Option<u8>), Broken> {
    let mut driver = Driver::new(256, Rules::default());
    let mut queue = driver.queue(256);
    driver.ram.put(DATA, &[&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes(), data].concat());
    let more = if room > 0 { NEXT } else { 0 };
    driver.describe(0, DATA, 16 + data.len() as u32, more, 1);
    let status = DATA + 0x4000;
    driver.describe(1, status, room, WRITE, 0);
    driver.ram.put(status, &vec![0xEE; room as usize]);
    driver.offer(0);
    let mut blk = Blk::new(disk);
    let mut ring = Ring::new(&mut queue, &driver.ram, driver.rules);
    blk.look(0, features, &mut ring, &mut Outside::default())?;
    let order = blk.take_order().map(|order| order.what);
    let answered = driver.collect().len() == 1;
    assert_eq!((answered, order.is_some()), (order.is_none(), !answered));
    let status = driver.ram.get(status + u64::from(room) - 1, 1)[0];
    Ok((order, answered.then_some(status)))
}

#[test]
fn what_a_disk_is_asked_and_what_it_refuses() {
    const ALL: u64 = FLUSH | DISCARD | ZEROES;
    let ordered = |what| Ok((Some(what), None));
    let (failed, unsupported) = (Ok((None, Some(1))), Ok((None, Some(2))));
    let read_only = Disk { read_only: true, ..disk() };
    let sector = [7; 512];
    assert_eq!(ask(disk(), ALL, 0, 63, &[], 513), ordered(What::Read { at: 63 * 512, len: 512 }));
    for (at, room) in [(63, 1025), (64, 513), (u64::MAX, 513), (u64::MAX >> 9, 513), (0, 512), (0, 1)] {
        assert_eq!(ask(disk(), ALL, 0, at, &[], room), failed, "{at} {room}");
    }
    let write = |through| What::Write { at: 0, len: 512, through };
    assert_eq!(ask(disk(), ALL, 1, 0, &sector, 1), ordered(write(false)));
    assert_eq!(ask(disk(), 0, 1, 0, &sector, 1), ordered(write(true)), "without FLUSH");
    assert_eq!(ask(read_only, ALL, 1, 0, &sector, 1), failed);
    assert_eq!(ask(disk(), ALL, 1, 64, &sector, 1), failed);
    assert_eq!(ask(disk(), ALL, 4, 0, &[], 1), ordered(What::Flush));
    assert_eq!(ask(disk(), 0, 4, 0, &[], 1), unsupported);
    for other in [2, 10, 14, 16, 99, u32::MAX] {
        assert_eq!(ask(disk(), ALL, other, 0, &[], 1), unsupported, "{other}");
    }
    let range = |at: u64, sectors: u32, flags: u32| {
        [&at.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
    };
    assert_eq!(ask(disk(), ALL, 11, 0, &range(8, 56, 0), 1), ordered(What::Discard { at: 4096, len: 28672 }));
    let zeroes = What::Zeroes { at: 512, len: 512, unmap: true, through: false };
    assert_eq!(ask(disk(), ALL, 13, 0, &range(1, 1, 1), 1), ordered(zeroes));
    for wrong in [range(8, 57, 0), range(64, 0, 0), range(u64::MAX, 2, 0), range(1, 1, 0)[..15].to_vec()] {
        assert_eq!(ask(disk(), ALL, 13, 0, &wrong, 1), failed, "{wrong:?}");
    }
    assert_eq!(ask(disk(), ALL, 11, 0, &range(8, 8, 1), 1), unsupported);
    assert_eq!(ask(disk(), ALL, 13, 0, &range(8, 8, 2), 1), unsupported);
    assert_eq!(ask(read_only, ALL, 13, 0, &range(8, 8, 0), 1), failed);
    assert_eq!(ask(disk(), 0, 11, 0, &range(8, 8, 0), 1), unsupported);
    assert!(matches!(ask(disk(), ALL, 0, 0, &[], 0), Err(Broken::Request(_))), "no room for a status");
}

#[test]
fn what_is_in_flight_is_ordered_again_elsewhere() {
    let mut driver = Driver::new(256, Rules::default());
    let mut queue = driver.queue(256);
    for head in [4, 2] {
        let at = DATA + 0x1000 * u64::from(head);
        driver.ram.put(at + 8, &[head as u8]);
        driver.describe(head, at, 16, NEXT, head + 1);
        driver.describe(head + 1, at + 16, 513, WRITE, 0);
        driver.offer(head);
    }
    let mut here = Blk::new(disk());
    let look = |blk: &mut Blk, queue: &mut virtio::Queue| {
        let mut ring = Ring::new(queue, &driver.ram, driver.rules);
        blk.look(0, FLUSH, &mut ring, &mut Outside::default()).unwrap();
    };
    look(&mut here, &mut queue);
    let mut there = Blk::new(disk());
    there.import(&here.export()).unwrap();
    assert_eq!((there.in_flight(0), there.export()), (2, here.export()));
    let mut moved = virtio::Queue::new(256);
    moved.import(queue.state().clone(), 2).unwrap();
    look(&mut there, &mut moved);
    for at in [4, 2] {
        assert_eq!(there.take_order().unwrap().what, What::Read { at: 512 * at, len: 512 });
    }
    assert_eq!((there.take_order(), there.in_flight(0)), (None, 2));
    // A reset forgets them, and what was ordered then is not answered.
    there.reset();
    assert_eq!(there.in_flight(0), 0);
    assert!(!there.store(&driver.ram, 0, 0, &[1]));
    assert!(Blk::new(disk()).import(&[0x81, 0x80, 0]).is_err());
}
