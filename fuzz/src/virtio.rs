//! Virtio devices: memory that a driver has written anything to, and registers.

use ::devices::{Effect, Whole};
use virtio::{Blk, Broken, Device, Disk, Host, Order, Queue, QueueState, Ring, Rules, What};
use vm_types::{Gpa, GuestMemory, Now};

use crate::{Bytes, Ram, devices};

const RAM: usize = 0x4000;
const SIZE: u16 = 8;
const AVAILABLE: u64 = 0x80;
const USED: u64 = 0x100;

/// A queue at these places, of which both sides have come to `index`.
fn queue(index: u16) -> Queue {
    let state = QueueState {
        size: SIZE,
        available: AVAILABLE,
        used: USED,
        next_available: index,
        next_used: index,
        ..Queue::new(SIZE).state().clone()
    };
    Queue::placed(SIZE, state).expect("places that a queue can have")
}

/// An entry of a descriptor table (virtio 1.2, 2.7.5).
fn descriptor(at: u64, len: u32, flags: u16, next: u16) -> Vec<u8> {
    [&at.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat()
}

/// A seed for [`ring`] or [`disk`]: the rules, the index 0, and memory that holds these bytes at these places.
fn seed(rules: u8, bytes: &[(u64, &[u8])]) -> Vec<u8> {
    let mut seed = vec![0; 3 + 0x400];
    seed[0] = rules;
    for (at, bytes) in bytes {
        seed[3 + *at as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    seed
}

/// What was negotiated and how far both sides have come, then memory, of which the first 0x180 bytes hold the ring.
pub fn ring(data: &[u8]) {
    let mut data = Bytes(data);
    let (rules, index) = (data.u8(), data.u16());
    let rules = Rules { indirect: rules & 1 != 0, event_idx: rules & 2 != 0 };
    let memory = Ram::filled(data.0, RAM);
    let mut queue = queue(index);
    for _ in 0..4 {
        let mut ring = Ring::new(&mut queue, &memory, rules);
        let (mut buffers, mut heads) = (0, Vec::new());
        while let Ok(Some(chain)) = ring.take() {
            for buffer in chain.readable().iter().chain(chain.writable()) {
                assert!(buffer.len > 0 && buffer.at.0 + u64::from(buffer.len) <= RAM as u64, "{buffer:?}");
                buffers += 1;
            }
            assert!(chain.head() < SIZE);
            heads.push(chain.head());
            let mut bytes = vec![0; chain.readable_len() as usize];
            assert_eq!(chain.read(&memory, 0, &mut bytes), Ok(bytes.len()));
            assert_eq!(chain.write(&memory, chain.writable_len(), &[1]), Ok(0));
        }
        assert!(heads.len() <= 512 && buffers <= 512 + usize::from(SIZE));
        for head in heads {
            ring.put(head, 0).expect("the used ring is RAM");
        }
        ring.end().expect("the available ring is RAM");
    }
}

/// Three chains: one indirect, one with a buffer to be read and one to be written.
pub fn ring_seed() -> Vec<u8> {
    let bytes: [(u64, &[u8]); 8] = [
        (0, &descriptor(0x300, 16, 1, 1)),
        (16, &descriptor(0x310, 8, 2, 0)),
        (32, &descriptor(0x200, 32, 4, 0)),
        (0x200, &descriptor(0x320, 16, 1, 1)),
        (0x210, &descriptor(0x330, 1, 2, 0)),
        (48, &descriptor(0x340, 64, 2, 0)),
        (AVAILABLE + 2, &3_u16.to_le_bytes()),
        (AVAILABLE + 4, &[0, 0, 2, 0, 3, 0]),
    ];
    seed(3, &bytes)
}

const HZ: u64 = 20_000_000;
const NOW: Now = Now { tsc: 1, hz: HZ };
/// Where the windows of the entropy device are put.
const PORTS: u16 = 0xC000;
const MEMORY: u64 = 0xE000_0000;
/// 00:02.0.
const FUNCTION: u32 = 1 << 31 | 2 << 11;

/// A host with entropy of a kind.
struct Outside;

impl Host for Outside {
    fn entropy(&mut self, out: &mut [u8]) -> bool {
        out.fill(0x5A);
        true
    }

    fn broken(&mut self, _: &str, why: &Broken) {
        assert!(!why.to_string().is_empty());
    }
}

/// What a driver does to an entropy device on the PCI bus: 12 bytes a step, what and how wide, nothing, where, value.
pub fn function(data: &[u8]) {
    let mut board = devices::with_pci();
    let memory = Ram::new(RAM);
    let mut data = Bytes(data);
    while !data.0.is_empty() {
        let (what, _, at, value) = (data.u8(), data.u8(), data.u16(), data.u64());
        let size = 1 << (what >> 3 & 3);
        let effect = match what & 7 {
            0 => {
                board.io_write(0xCF8, 4, FUNCTION | u32::from(at) & 0xFC, NOW);
                board.io_read(0xCFC + (at & 3), size.min(4), NOW);
                None
            }
            1 => {
                board.io_write(0xCF8, 4, FUNCTION | u32::from(at) & 0xFC, NOW);
                board.io_write(0xCFC + (at & 3), size.min(4), value as u32, NOW)
            }
            2 => {
                board.mmio_read(0, Gpa(MEMORY + u64::from(at & 0x7FFF)), size, NOW);
                None
            }
            3 => board.mmio_write(0, Gpa(MEMORY + u64::from(at & 0x7FFF)), size, value, NOW),
            4 => board.io_write(PORTS + (at & 31), size.min(4), value as u32, NOW),
            5 => {
                // What is not RAM the guest cannot write.
                let _ = memory.write(Gpa(u64::from(at)), &value.to_le_bytes()[..size.into()]);
                None
            }
            6 => {
                let records = board.export();
                let mut there = Whole::new(board.config());
                there.import(&records).expect("its own state");
                assert_eq!(there.export(), records);
                board = there;
                None
            }
            _ => {
                if let Some(vector) = board.pending_interrupt(0) {
                    board.accept(0, vector);
                }
                None
            }
        };
        if effect == Some(Effect::Service) || what & 0x80 != 0 {
            // One look walks 512 descriptors of its 64 places: the rest of 64 chains of 64 comes at the next ones.
            let looks = (0..20).find(|_| !board.service(&memory, &mut Outside, NOW));
            assert!(looks.is_some(), "there is always more to do");
        }
    }
}

/// A driver that comes to DRIVER_OK and asks twice, by port and by memory, moves between, and breaks its ring.
pub fn function_seed() -> Vec<u8> {
    let mut seed = Vec::new();
    let mut step = |what: u8, size: u8, at: u16, value: u64| {
        seed.extend([what | size << 3, 0]);
        seed.extend(at.to_le_bytes());
        seed.extend(value.to_le_bytes());
    };
    step(1, 2, 0x10, PORTS.into());
    step(1, 2, 0x14, MEMORY);
    step(1, 1, 0x04, 7);
    step(1, 1, 0x42, 1 << 15);
    step(3, 2, 0x4000, 0xFEE0_0000);
    step(3, 3, 0x4008, 0x51);
    for status in [1, 3] {
        step(3, 0, 20, status);
    }
    for (half, features) in [(0, 0x3000_0000), (1, 1)] {
        step(3, 2, 8, half);
        step(3, 2, 12, features);
    }
    step(3, 0, 20, 0xB);
    step(3, 1, 24, u64::from(SIZE));
    step(3, 1, 26, 0);
    for (at, area) in [(32, 0), (40, AVAILABLE), (48, USED)] {
        step(3, 3, at, area);
    }
    step(3, 1, 28, 1);
    step(3, 0, 20, 0xF);
    step(5, 3, 0, 0x300);
    step(5, 3, 8, 0x2_0000_0040);
    step(5, 2, AVAILABLE as u16, 1 << 16);
    step(4, 1, 0, 0);
    step(6, 0, 0, 0);
    step(0x87, 0, 0, 0);
    step(5, 2, AVAILABLE as u16, 2 << 16);
    step(3, 1, 0x3000, 0);
    step(2, 0, 0x1000, 0);
    step(5, 2, AVAILABLE as u16, 99 << 16);
    step(4, 1, 0, 0);
    seed
}

const SECTORS: u64 = 16;

/// The same memory as [`ring`] has, as requests to a disk: every order is inside of it, and is asked for again after a move.
pub fn disk(data: &[u8]) {
    let mut data = Bytes(data);
    let (rules, index) = (data.u8(), data.u16());
    let memory = Ram::filled(data.0, RAM);
    let mut queue = queue(index);
    let is = |bit: u8| rules & bit != 0;
    let disk = Disk {
        sectors: SECTORS,
        read_only: is(4),
        flush: is(8),
        discard: is(16),
        zeroes: is(32),
        serial: [b'x'; 20],
    };
    let mut blk = Blk::new(disk);
    let features = blk.features() | 1 << 32;
    let rules = Rules { indirect: is(1), event_idx: is(2) };
    let mut ring = Ring::new(&mut queue, &memory, rules);
    if blk.look(0, features, &mut ring, &mut Outside).is_err() {
        return;
    }
    let in_flight = blk.in_flight(0);
    let mut orders = 0;
    while let Some(Order { id, what }) = blk.take_order() {
        orders += 1;
        let (at, len) = match what {
            What::Flush => continue,
            What::Read { at, len } => {
                assert!(blk.store(&memory, id, 0, &vec![1; len as usize]), "{what:?}");
                (at, len.into())
            }
            What::Write { at, len, .. } => {
                assert!(blk.fetch(&memory, id, 0, &mut vec![0; len as usize]), "{what:?}");
                (at, len.into())
            }
            What::Discard { at, len } | What::Zeroes { at, len, .. } => (at, len),
        };
        assert!(len > 0 && at % 512 == 0 && len % 512 == 0 && at + len <= 512 * SECTORS, "{what:?}");
    }
    assert_eq!(orders, in_flight);
    let mut there = Blk::new(disk);
    there.import(&blk.export()).expect("its own state");
    assert_eq!(there.in_flight(0), in_flight);
}

/// A read of two sectors and a flush.
pub fn disk_seed() -> Vec<u8> {
    let bytes: [(u64, &[u8]); 8] = [
        (0, &descriptor(0x300, 16, 1, 1)),
        (16, &descriptor(0x1000, 1025, 2, 0)),
        (32, &descriptor(0x310, 16, 1, 3)),
        (48, &descriptor(0x2000, 1, 2, 0)),
        (0x308, &3_u64.to_le_bytes()),
        (0x310, &4_u32.to_le_bytes()),
        (AVAILABLE + 2, &2_u16.to_le_bytes()),
        (AVAILABLE + 4, &[0, 0, 2, 0]),
    ];
    seed(0x3B, &bytes)
}
