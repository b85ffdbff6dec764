//! Split rings: what an honest driver gets, and what any other gets.
#![allow(missing_docs)]

mod driver;

use driver::{AVAILABLE, DATA, Driver, END, HIGH, HOLE, INDIRECT, NEXT, Ram, TABLE, TABLES, USED, WRITE};
use proptest::prelude::*;
use virtio::{Broken, Buffer, Chain, Ended, Part, Queue, Ring, Rules};
use vm_types::{Gpa, GuestMemory, MemRange, MemoryError};

const PLAIN: Rules = Rules { indirect: false, event_idx: false };
const ALL: Rules = Rules { indirect: true, event_idx: true };

/// One look that takes what there is.
fn look(driver: &Driver, queue: &mut Queue) -> Result<Vec<Chain>, Broken> {
    let mut ring = Ring::new(queue, &driver.ram, driver.rules);
    let mut chains = Vec::new();
    while let Some(chain) = ring.take()? {
        chains.push(chain);
    }
    ring.end()?;
    Ok(chains)
}

/// What one chain, at descriptor 0, is to a device.
fn only(driver: &mut Driver) -> Result<Chain, Broken> {
    let mut queue = driver.queue(driver.size);
    driver.offer(0);
    let mut chains = look(driver, &mut queue)?;
    assert_eq!(chains.len(), 1);
    Ok(chains.remove(0))
}

fn buffer(at: u64, len: u32) -> Buffer {
    Buffer { at: Gpa(at), len }
}

#[test]
fn a_chain_is_its_buffers_in_order() {
    let mut driver = Driver::new(8, PLAIN);
    driver.describe(0, DATA, 5, NEXT, 6);
    driver.describe(6, HIGH, 4, NEXT, 2);
    driver.describe(2, DATA + 0x100, 7, NEXT | WRITE, 3);
    driver.describe(3, END - 1, 1, WRITE, 99);
    let chain = only(&mut driver).unwrap();
    assert_eq!(chain.readable(), [buffer(DATA, 5), buffer(HIGH, 4)]);
    assert_eq!(chain.writable(), [buffer(DATA + 0x100, 7), buffer(END - 1, 1)]);
    assert_eq!((chain.head(), chain.readable_len(), chain.writable_len()), (0, 9, 8));
    driver.ram.put(DATA, b"hello");
    driver.ram.put(HIGH, b"abcd");
    let mut bytes = [0; 20];
    assert_eq!(chain.read(&driver.ram, 3, &mut bytes), Ok(6));
    assert_eq!(&bytes[..7], b"loabcd\0");
    assert_eq!(chain.read(&driver.ram, 7, &mut bytes[..1]), Ok(1));
    assert_eq!(bytes[0], b'c');
    assert_eq!(chain.read(&driver.ram, 9, &mut bytes), Ok(0));
    assert_eq!(chain.write(&driver.ram, 6, b"xyz"), Ok(2));
    assert_eq!(
        (driver.ram.get(DATA + 0x106, 2), driver.ram.get(END - 1, 1)),
        (b"x\0".to_vec(), b"y".to_vec())
    );
}

#[test]
fn an_indirect_table_holds_the_rest_of_a_chain() {
    let mut driver = Driver::new(4, ALL);
    // The flag for writing says nothing of a table (2.7.5.3.2), and one may begin with a direct descriptor.
    driver.describe(0, DATA, 1, NEXT, 1);
    driver.describe(1, TABLES, 32, INDIRECT | WRITE, 0);
    driver.ram.put(TABLES, &Driver::descriptor(DATA + 1, 2, NEXT, 1));
    driver.ram.put(TABLES + 16, &Driver::descriptor(DATA + 3, 4, WRITE, 0));
    let chain = only(&mut driver).unwrap();
    assert_eq!(chain.readable(), [buffer(DATA, 1), buffer(DATA + 1, 2)]);
    assert_eq!(chain.writable(), [buffer(DATA + 3, 4)]);
}

/// What is wrong with a chain of descriptors: the ring has four, of which these are the first; the table at [`TABLES`] has
/// the last two.
#[track_caller]
fn refused(rules: Rules, descriptors: &[(u64, u32, u16, u16)], why: Broken) {
    let mut driver = Driver::new(4, rules);
    for (index, &(at, len, flags, next)) in descriptors.iter().enumerate() {
        driver.describe(index as u16, at, len, flags, next);
    }
    driver.ram.put(TABLES, &Driver::descriptor(TABLES, 16, INDIRECT, 0));
    driver.ram.put(TABLES + 16, &Driver::descriptor(DATA, 1, NEXT, 1));
    assert_eq!(only(&mut driver), Err(why), "{descriptors:?}");
}

#[test]
fn what_a_chain_may_not_be() {
    let outside = |at: u64, len: usize| Broken::Buffer(MemoryError { gpa: Gpa(at), len });
    refused(PLAIN, &[(DATA, 1, NEXT, 0)], Broken::Loop { size: 4 });
    refused(PLAIN, &[(DATA, 1, NEXT, 1), (DATA, 1, NEXT, 0)], Broken::Loop { size: 4 });
    refused(PLAIN, &[(DATA, 1, NEXT, 4)], Broken::Descriptor { index: 4, count: 4 });
    refused(PLAIN, &[(DATA, 0, 0, 0)], Broken::Empty { at: Gpa(DATA) });
    refused(PLAIN, &[(HOLE, 1, 0, 0)], outside(HOLE, 1));
    refused(PLAIN, &[(HOLE - 1, 2, 0, 0)], outside(HOLE - 1, 2));
    refused(PLAIN, &[(HIGH - 1, 2, WRITE, 0)], outside(HIGH - 1, 2));
    refused(PLAIN, &[(END, 1, WRITE, 0)], outside(END, 1));
    // The local APIC, and beyond all addresses.
    refused(PLAIN, &[(0xFEE0_0000, 4, WRITE, 0)], outside(0xFEE0_0000, 4));
    refused(PLAIN, &[(u64::MAX, 2, WRITE, 0)], outside(u64::MAX, 2));
    refused(PLAIN, &[(DATA, 1, WRITE | NEXT, 1), (DATA + 8, 1, 0, 0)], Broken::Order { at: Gpa(DATA + 8) });
    refused(PLAIN, &[(TABLES, 16, INDIRECT, 0)], Broken::NotNegotiated);
    refused(ALL, &[(TABLES, 16, INDIRECT, 0)], Broken::Nested);
    refused(ALL, &[(TABLES + 16, 16, INDIRECT | NEXT, 1)], Broken::IndirectNext);
    refused(ALL, &[(TABLES + 16, 16, INDIRECT, 0)], Broken::Descriptor { index: 1, count: 1 });
    refused(ALL, &[(TABLES + 16, 0, INDIRECT, 0)], Broken::Table { len: 0, size: 4 });
    refused(ALL, &[(TABLES + 16, 24, INDIRECT, 0)], Broken::Table { len: 24, size: 4 });
    refused(ALL, &[(TABLES + 16, 80, INDIRECT, 0)], Broken::Table { len: 80, size: 4 });
    let table = Broken::Area { part: Part::Descriptors, error: MemoryError { gpa: Gpa(HOLE), len: 16 } };
    refused(ALL, &[(HOLE, 16, INDIRECT, 0)], table);
}

#[test]
fn a_whole_ring_in_one_chain_is_no_loop() {
    for rules in [PLAIN, ALL] {
        let mut driver = Driver::new(4, rules);
        (0..4).for_each(|i| driver.describe(i, DATA, 1, if i < 3 { NEXT } else { 0 }, i + 1));
        assert_eq!(only(&mut driver).unwrap().readable().len(), 4);
    }
    let mut driver = Driver::new(4, ALL);
    driver.describe(0, TABLES, 64, INDIRECT, 0);
    (0..4).for_each(|i| {
        let flags = if i < 3 { NEXT } else { 0 };
        driver.ram.put(TABLES + 16 * i, &Driver::descriptor(DATA, 1, flags, i as u16 + 1));
    });
    assert_eq!(only(&mut driver).unwrap().readable().len(), 4);
}

#[test]
fn lengths_do_not_overflow() {
    // A range that is as large as buffers can be told of.
    struct Huge([MemRange; 1], Ram);
    impl GuestMemory for Huge {
        fn ranges(&self) -> &[MemRange] {
            &self.0
        }
        fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
            self.1.read(gpa, buf)
        }
        fn write(&self, gpa: Gpa, data: &[u8]) -> Result<(), MemoryError> {
            self.1.write(gpa, data)
        }
    }
    let mut driver = Driver::new(4, PLAIN);
    driver.describe(0, 0, u32::MAX, NEXT | WRITE, 1);
    driver.describe(1, 0, 1, WRITE, 0);
    let mut queue = driver.queue(4);
    driver.offer(0);
    let huge = Huge([MemRange { start: Gpa(0), len: 1 << 40 }], driver.ram);
    assert_eq!(Ring::new(&mut queue, &huge, PLAIN).take(), Err(Broken::Long));
}

#[test]
fn an_index_from_nowhere_breaks_the_ring() {
    for (available, result) in [(4, Ok(4)), (5, Err(5)), (0x8000, Err(0x8000)), (0xFFFF, Err(0xFFFF))] {
        let driver = Driver::new(4, PLAIN);
        driver.describe(0, DATA, 1, 0, 0);
        driver.ram.put(AVAILABLE + 2, &u16::to_le_bytes(available));
        let mut queue = driver.queue(4);
        let broken = |available| Broken::Index { available, size: 4 };
        assert_eq!(look(&driver, &mut queue).map(|chains| chains.len()), result.map_err(broken));
    }
    // Chains that the device holds have their places.
    let mut driver = Driver::new(4, PLAIN);
    driver.describe(0, DATA, 1, 0, 0);
    let mut queue = driver.queue(4);
    for _ in 0..3 {
        driver.offer(0);
    }
    assert_eq!(look(&driver, &mut queue).unwrap().len(), 3);
    for _ in 0..2 {
        driver.offer(0);
    }
    assert_eq!(look(&driver, &mut queue), Err(Broken::Index { available: 2, size: 4 }));
    // A head that is no descriptor.
    let mut driver = Driver::new(4, PLAIN);
    let mut queue = driver.queue(4);
    driver.offer(4);
    assert_eq!(look(&driver, &mut queue), Err(Broken::Descriptor { index: 4, count: 4 }));
}

#[test]
fn where_a_ring_can_be() {
    let placed = |most, size, places| driver::placed(most, size, places, 0).map(drop);
    let good = [TABLE, AVAILABLE, USED];
    for size in [1, 2, 64, 256] {
        assert_eq!(placed(256, size, good), Ok(()));
    }
    for size in [0, 3, 255, 512, 0xFFFF] {
        assert_eq!(placed(256, size, good), Err(Broken::Size { size, most: 256 }));
    }
    let wrong = |part, at| Err(Broken::Place { part, at: Gpa(at) });
    assert_eq!(placed(8, 8, [TABLE + 8, AVAILABLE, USED]), wrong(Part::Descriptors, TABLE + 8));
    assert_eq!(placed(8, 8, [TABLE, AVAILABLE + 1, USED]), wrong(Part::Available, AVAILABLE + 1));
    assert_eq!(placed(8, 8, [TABLE, AVAILABLE, USED + 2]), wrong(Part::Used, USED + 2));
    assert_eq!(placed(8, 8, [TABLE, AVAILABLE, u64::MAX - 3]), wrong(Part::Used, u64::MAX - 3));
    // One that is no RAM shows when it is looked at.
    let driver = Driver::new(8, ALL);
    for (part, places) in [(Part::Available, [TABLE, HOLE, USED]), (Part::Used, [TABLE, AVAILABLE, HOLE])] {
        let mut queue = driver::placed(8, 8, places, 0).unwrap();
        let broken = look(&driver, &mut queue).unwrap_err();
        assert!(matches!(broken, Broken::Area { part: it, .. } if it == part), "{broken}");
    }
}

#[test]
fn one_look_does_bounded_work() {
    let mut driver = Driver::new(256, ALL);
    let mut queue = driver.queue(256);
    for i in 0..256 {
        driver.describe(i, TABLES, 16 * 64, INDIRECT, 0);
        driver.offer(i);
    }
    (0..64).for_each(|i| {
        let flags = if i < 63 { NEXT } else { 0 };
        driver.ram.put(TABLES + 16 * i, &Driver::descriptor(DATA, 1, flags, i as u16 + 1));
    });
    let mut looks = 0;
    loop {
        let mut ring = Ring::new(&mut queue, &driver.ram, ALL);
        let mut taken = 0;
        while let Some(chain) = ring.take().unwrap() {
            ring.put(chain.head(), 0).unwrap();
            taken += 1;
        }
        looks += 1;
        assert!(taken <= 8);
        if !ring.end().unwrap().again {
            break;
        }
    }
    assert_eq!((looks, driver.collect().len()), (32, 256), "and the rest at the next");
}

#[test]
fn without_event_idx_the_flag_decides() {
    let mut driver = Driver::new(4, PLAIN);
    driver.describe(0, DATA, 1, 0, 0);
    let mut queue = driver.queue(4);
    for (flags, interrupt) in [(1_u16, false), (0, true)] {
        driver.ram.put(AVAILABLE, &flags.to_le_bytes());
        driver.offer(0);
        let mut ring = Ring::new(&mut queue, &driver.ram, PLAIN);
        let chain = ring.take().unwrap().unwrap();
        ring.put(chain.head(), 0).unwrap();
        assert_eq!(ring.end(), Ok(Ended { interrupt, again: false }));
    }
    let idle = Ring::new(&mut queue, &driver.ram, PLAIN).end();
    assert_eq!(idle, Ok(Ended { interrupt: false, again: false }), "nothing was put back");
}

#[test]
fn the_index_follows_the_element() {
    let mut driver = Driver::new(4, ALL);
    driver.describe(2, DATA, 9, WRITE, 0);
    let mut queue = driver.queue(4);
    driver.offer(2);
    let mut ring = Ring::new(&mut queue, &driver.ram, ALL);
    let chain = ring.take().unwrap().unwrap();
    ring.put(chain.head(), 9).unwrap();
    let written = driver.ram.written.borrow().clone();
    assert_eq!(written, [(USED + 4, 8), (USED + 2, 2)], "the element, then the index, and no more");
    assert_eq!(driver.collect(), [(2, 9)]);
}

/// Memory whose driver makes a chain available just when the device says what it is to be told of.
struct Racing<'a>(&'a Ram);

impl GuestMemory for Racing<'_> {
    fn ranges(&self) -> &[MemRange] {
        self.0.ranges()
    }

    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read(gpa, buf)
    }

    fn write(&self, gpa: Gpa, data: &[u8]) -> Result<(), MemoryError> {
        self.0.put(AVAILABLE + 2, &[1, 0]);
        self.0.write(gpa, data)
    }
}

#[test]
fn what_comes_while_the_device_asks_to_be_told_is_taken() {
    let driver = Driver::new(4, ALL);
    driver.describe(0, DATA, 1, 0, 0);
    let mut queue = driver.queue(4);
    let memory = Racing(&driver.ram);
    // The driver saw that the device was not to be told yet.
    assert!(Ring::new(&mut queue, &memory, ALL).take().unwrap().is_some());
}

proptest! {
    /// A driver that tells and looks only when it is asked to, and a device that holds requests as long as it likes: all
    /// come back once, and nobody waits for the other.
    #[test]
    fn nobody_waits_for_ever(
        size in (0_u32..6).prop_map(|log| 1_u16 << log),
        event_idx: bool,
        indirect: bool,
        start: u16,
        steps in prop::collection::vec((any::<bool>(), 1_usize..9), 1..120),
    ) {
        let rules = Rules { indirect, event_idx };
        let mut driver = Driver::new(size, rules);
        // As after a long life.
        (driver.available, driver.seen) = (start, start);
        let mut queue = driver.queue(size);
        driver.ram.put(AVAILABLE + 2, &start.to_le_bytes());
        driver.ram.put(USED + 2, &start.to_le_bytes());
        driver.ram.put(USED + 4 + 8 * u64::from(size), &start.to_le_bytes());
        driver.collect();
        let mut free: Vec<u16> = (0..size).collect();
        let (mut kicked, mut interrupted) = (false, false);
        let (mut offered, mut back) = (0, 0);
        let mut held = Vec::new();
        for step in steps.into_iter().map(Some).chain([None; 80]) {
            if let Some((true, count)) = step {
                for _ in 0..count {
                    let Some(head) = free.pop() else { break };
                    driver.describe(head, DATA + u64::from(head), 1, WRITE, 0);
                    kicked |= driver.offer(head);
                    offered += 1;
                }
            }
            let finish = match step { Some((_, count)) => count, None => usize::MAX };
            let mut ring = Ring::new(&mut queue, &driver.ram, rules);
            if std::mem::take(&mut kicked) {
                while let Some(chain) = ring.take().unwrap() {
                    held.push(chain.head());
                }
            }
            for head in held.drain(..finish.min(held.len())) {
                ring.put(head, 1).unwrap();
            }
            interrupted |= ring.end().unwrap().interrupt;
            if std::mem::take(&mut interrupted) {
                for (head, written) in driver.collect() {
                    prop_assert_eq!(written, 1);
                    prop_assert!(!free.contains(&(head as u16)));
                    free.push(head as u16);
                    back += 1;
                }
            }
        }
        prop_assert_eq!((back, held.len()), (offered, 0));
    }

    /// Any bytes at all, in tables, rings and indices: an error or chains of RAM, after bounded work.
    #[test]
    fn any_memory_is_survived(
        size in (0_u32..9).prop_map(|log| 1_u16 << log),
        event_idx: bool,
        indirect: bool,
        available in 0_u16..40,
        descriptors in prop::collection::vec((0_u64..END + 0x1000, 0_u32..0x800, 0_u16..8, 0_u16..40), 64),
        heads in prop::collection::vec(0_u16..40, 64),
    ) {
        let driver = Driver::new(size, Rules { indirect, event_idx });
        for (index, &(at, len, flags, next)) in descriptors.iter().enumerate() {
            // Tables among the descriptors, too.
            let at = if flags & INDIRECT != 0 && len & 1 == 0 { TABLE + (at & 0x3F0) } else { at };
            let len = if flags & INDIRECT != 0 && len & 2 == 0 { len & !15 } else { len };
            driver.describe(index as u16, at, len, flags, next);
        }
        let ring: Vec<u8> = heads.iter().flat_map(|head| head.to_le_bytes()).collect();
        driver.ram.put(AVAILABLE + 4, &ring);
        driver.ram.put(AVAILABLE + 2, &available.to_le_bytes());
        let mut queue = driver.queue(size);
        let mut ring = Ring::new(&mut queue, &driver.ram, driver.rules);
        let mut walked = 0;
        while let Ok(Some(chain)) = ring.take() {
            let buffers = [chain.readable(), chain.writable()].concat();
            prop_assert!((1..=usize::from(size)).contains(&buffers.len()));
            for buffer in &buffers {
                let end = buffer.at.0 + u64::from(buffer.len);
                prop_assert!(end <= HOLE || buffer.at.0 >= HIGH && end <= END);
            }
            walked += buffers.len();
            let mut bytes = vec![0; chain.readable_len() as usize];
            prop_assert_eq!(chain.read(&driver.ram, 0, &mut bytes), Ok(bytes.len()));
        }
        prop_assert!(walked <= 512 + 256);
    }
}
