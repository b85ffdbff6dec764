//! Rings of virtio devices: memory that a driver has written anything to.

use virtio::{Queue, QueueState, Ring, Rules};
use vm_types::{Gpa, GuestMemory};

use crate::{Bytes, Ram};

const RAM: usize = 0x4000;
const SIZE: u16 = 8;
const AVAILABLE: u64 = 0x80;
const USED: u64 = 0x100;

/// What was negotiated and how far both sides have come, then memory, of which the first 0x180 bytes hold the ring.
pub fn ring(data: &[u8]) {
    let mut data = Bytes(data);
    let (rules, index) = (data.u8(), data.u16());
    let rules = Rules { indirect: rules & 1 != 0, event_idx: rules & 2 != 0 };
    let memory = Ram::filled(data.0, RAM);
    let state = QueueState {
        size: SIZE,
        available: AVAILABLE,
        used: USED,
        next_available: index,
        next_used: index,
        ..Queue::new(SIZE).state().clone()
    };
    let mut queue = Queue::placed(SIZE, state).expect("places that a queue can have");
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
    let memory = Ram::new(0x400);
    let put = |at: u64, bytes: &[u8]| memory.write(Gpa(at), bytes).expect("small");
    let descriptor = |at: u64, len: u32, flags: u16, next: u16| {
        [&at.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat()
    };
    put(0, &descriptor(0x300, 16, 1, 1));
    put(16, &descriptor(0x310, 8, 2, 0));
    put(32, &descriptor(0x200, 32, 4, 0));
    put(0x200, &descriptor(0x320, 16, 1, 1));
    put(0x210, &descriptor(0x330, 1, 2, 0));
    put(48, &descriptor(0x340, 64, 2, 0));
    put(AVAILABLE + 2, &3_u16.to_le_bytes());
    put(AVAILABLE + 4, &[0, 0, 2, 0, 3, 0]);
    let mut bytes = vec![0; 0x400];
    memory.read(Gpa(0), &mut bytes).expect("small");
    [&[3, 0, 0][..], &bytes].concat()
}
