//! A virtio device on the PCI bus: how it shows itself, its life, its interrupts, what a driver can break, and its state.
#![allow(missing_docs)]

mod machine;
mod virtio_bus;

use devices::{Effect, OnBoard, PlatformConfig, VirtioPci};
use machine::NOW;
use proptest::prelude::*;
use virtio::{Broken, CONFIG_MOST, Device, Host, Ring};
use virtio_bus::*;
use vm_types::StateRecord;

const KIND: &str = "reverser";

/// Writes what it reads back in reverse; its second queue holds each request until the next one comes.
#[derive(Default)]
struct Reverser {
    held: Vec<u16>,
}

impl Device for Reverser {
    const KIND: &'static str = KIND;
    const TYPE: u16 = 40;
    const QUEUES: &'static [u16] = &[4, 4];
    const CONFIG: u32 = 6;

    fn features(&self) -> u64 {
        1 << 7
    }

    fn config(&self, out: &mut [u8; CONFIG_MOST]) {
        out[..6].copy_from_slice(b"abcdef");
    }

    fn reset(&mut self) {
        self.held.clear();
    }

    fn look(&mut self, queue: u16, _: u64, ring: &mut Ring<'_>, _: &mut dyn Host) -> Result<(), Broken> {
        while let Some(chain) = ring.take()? {
            let mut bytes = vec![0; chain.readable_len() as usize];
            chain.read(ring.memory(), 0, &mut bytes)?;
            bytes.reverse();
            let written = chain.write(ring.memory(), 0, &bytes)?;
            if queue == 0 {
                ring.put(chain.head(), written as u32)?;
            } else {
                for head in core::mem::replace(&mut self.held, vec![chain.head()]) {
                    ring.put(head, 0)?;
                }
            }
        }
        Ok(())
    }

    fn in_flight(&self, queue: u16) -> u16 {
        if queue == 1 { self.held.len() as u16 } else { 0 }
    }

    fn export(&self) -> Vec<u8> {
        self.held.iter().map(|head| *head as u8).collect()
    }

    fn import(&mut self, state: &[u8]) -> Result<(), String> {
        self.held = state.iter().map(|head| u16::from(*head)).collect();
        Ok(())
    }
}

impl OnBoard for Reverser {
    const CLASS: u32 = 0xFF_0000;

    fn build(_: &PlatformConfig) -> Self {
        Self::default()
    }
}

type Tested = VirtioPci<Reverser>;

const PAGE: u64 = 0x1_0000;
const OTHER: u64 = 0x2_0000;
const DATA: u64 = 0x4_0000;
const ALL: u64 = VERSION_1 | EVENT_IDX | 1 << 28 | 1 << 7;

/// A driver that has come to DRIVER_OK, with both queues.
fn driven(features: u64) -> Bench {
    let mut bench = Bench::new::<Tested>();
    bench.route(3);
    assert_eq!(bench.negotiate(features), 0xB);
    bench.store(CONFIG_VECTOR, 2, 2);
    bench.queue(0, 4, PAGE);
    bench.queue(1, 4, OTHER);
    bench.store(STATUS, 1, 0xF);
    assert_eq!(bench.load(STATUS, 1), 0xF);
    bench
}

/// A request on the queue at `page`, its number `index`: three bytes to be reversed.
fn request(bench: &Bench, page: u64, index: u16) {
    bench.put(DATA, b"xyz");
    bench.put(DATA + 0x10, &[0; 4]);
    bench.describe(page, 0, DATA, 3, 1, 1);
    bench.describe(page, 1, DATA + 0x10, 4, 2, 0);
    bench.offer(page, index, 0);
}

#[test]
fn how_it_shows_itself() {
    let mut bench = Bench::new::<Tested>();
    assert_eq!(bench.config(0, 4), 0x1068_1AF4);
    assert_eq!(bench.config(8, 4), 0xFF00_0001, "revision 1: modern");
    assert!(bench.config(0x2E, 2) >= 0x40);
    assert_eq!(bench.config(0x3C, 2), 0x010A, "INTA#, IRQ 10");
    let mut seen = Vec::new();
    let mut at = bench.config(0x34, 1) as u8;
    while at != 0 {
        let (id, next, len, what) = (
            bench.config(at, 1),
            bench.config(at + 1, 1) as u8,
            bench.config(at + 2, 1),
            bench.config(at + 3, 1),
        );
        if id == 9 {
            let place = (bench.config(at + 4, 1), bench.config(at + 8, 4), bench.config(at + 12, 4));
            seen.push((what, len, place));
            if what == 2 {
                assert_eq!(bench.config(at + 16, 4), 2, "the step from queue to queue");
            }
        } else {
            assert_eq!((id, what << 8 | len), (0x11, 2), "MSI-X of three entries");
        }
        at = next;
    }
    let [common, ports, notify, isr, config, portal] = seen[..] else { panic!("{seen:?}") };
    assert_eq!(common, (1, 16, (1, 0, 56)));
    assert_eq!(ports, (2, 20, (0, 0, 32)), "notifications by port come first");
    assert_eq!(notify, (2, 20, (1, 0x3000, 0x1000)));
    assert_eq!(isr, (3, 16, (1, 0x1000, 1)));
    assert_eq!(config, (4, 16, (1, 0x2000, 6)));
    assert_eq!(portal, (5, 20, (0, 0, 0)));
    for (bar, size) in [(0x10, 0xFFFF_FFE1), (0x14, 0xFFFF_8000), (0x18, 0)] {
        bench.set_config(bar, 4, u32::MAX);
        assert_eq!(bench.config(bar, 4), size, "{bar:#x}");
    }
}

#[test]
fn features_are_agreed_on() {
    let mut bench = Bench::new::<Tested>();
    assert_eq!(bench.features(), ALL);
    bench.store(FEATURE_SELECT, 4, 2);
    assert_eq!(bench.load(FEATURES, 4), 0);
    assert_eq!(bench.negotiate(ALL), 0xB);
    bench.accept(VERSION_1);
    assert_eq!(bench.load(ACCEPT, 4), 1);
    bench.store(ACCEPT_SELECT, 4, 0);
    assert_eq!(bench.load(ACCEPT, 4), ALL & 0xFFFF_FFFF, "agreed is agreed");
    assert_eq!(bench.negotiate(VERSION_1), 0xB);
    for refused in [0, EVENT_IDX, VERSION_1 | 1, VERSION_1 | 1 << 33, VERSION_1 | 1 << 63] {
        assert_eq!(bench.negotiate(refused), 3, "{refused:#x}");
    }
    assert_eq!((bench.load(CONFIG, 4), bench.load(CONFIG + 4, 4)), (0x6463_6261, 0x6665));
    assert_eq!((bench.load(CONFIG + 1, 1), bench.load(CONFIG + 64, 4)), (0x62, 0));
}

#[test]
fn registers_hold_what_they_can() {
    let mut bench = Bench::new::<Tested>();
    assert_eq!(bench.load(18, 2), 2, "queues");
    bench.store(SELECT, 2, 1);
    assert_eq!((bench.load(SIZE, 2), bench.load(30, 2), bench.load(VECTOR, 2)), (4, 1, 0xFFFF));
    for (written, read) in [(0, 0), (2, 2), (3, 0xFFFF), (0xFFFF, 0xFFFF)] {
        bench.store(VECTOR, 2, written);
        bench.store(CONFIG_VECTOR, 2, written);
        assert_eq!((bench.load(VECTOR, 2), bench.load(CONFIG_VECTOR, 2)), (read, read));
    }
    bench.store(DESCRIPTORS, 4, 0x8765_4320);
    bench.store(DESCRIPTORS + 4, 4, 0x10);
    assert_eq!(bench.load(DESCRIPTORS, 8), 0x10_8765_4320);
    bench.store(DESCRIPTORS + 2, 2, 0);
    bench.store(SIZE, 4, 0);
    assert_eq!((bench.load(DESCRIPTORS, 8), bench.load(SIZE, 2)), (0x10_8765_4320, 4), "not by their width");
    bench.store(SELECT, 2, 2);
    assert_eq!((bench.load(SIZE, 2), bench.load(ENABLE, 2)), (0, 0), "no third queue");
    bench.store(SIZE, 2, 4);
    bench.store(ENABLE, 2, 1);
    assert_eq!((bench.load(SIZE, 2), bench.load(STATUS, 1)), (0, 0));
    // Once enabled a queue stays as it is, until the reset.
    bench.queue(0, 2, PAGE);
    bench.store(SIZE, 2, 4);
    bench.store(ENABLE, 2, 0);
    bench.store(USED, 8, 0);
    assert_eq!((bench.load(SIZE, 2), bench.load(ENABLE, 2), bench.load(USED, 8)), (2, 1, PAGE + 0x2000));
    bench.store(STATUS, 1, 0);
    bench.store(SELECT, 2, 0);
    assert_eq!((bench.load(SIZE, 2), bench.load(ENABLE, 2), bench.load(USED, 8)), (4, 0, 0));
    // The last of the common configuration, and behind it.
    assert_eq!((bench.load(52, 8), bench.load(56, 4), bench.load(0x800, 8)), (0, 0, 0));
}

#[test]
fn a_request_is_done_at_each_kind_of_kick() {
    let mut bench = driven(ALL);
    let portal = 0xA4;
    assert_eq!(bench.config(portal, 4) >> 16, 0x0514);
    type Kick = fn(&mut Bench, u8);
    let kicks: [(&str, Kick); 3] = [
        ("port", |bench, _| bench.kick(0)),
        ("memory", |bench, _| bench.store(NOTIFY, 2, 0)),
        ("configuration space", |bench, portal| {
            bench.set_config(portal + 4, 1, 1);
            bench.set_config(portal + 8, 4, NOTIFY as u32);
            bench.set_config(portal + 12, 4, 2);
            let at = machine::address(DEVICE, 0, portal + 16);
            bench.board.io_write(0xCF8, 4, at, NOW);
            assert_eq!(bench.board.io_write(0xCFC, 2, 0, NOW), Some(Effect::Service));
            bench.service();
        }),
    ];
    for (index, (name, kick)) in kicks.into_iter().enumerate() {
        request(&bench, PAGE, index as u16);
        // The driver has seen all before.
        bench.put(PAGE + 0x1004 + 8, &(index as u16).to_le_bytes());
        kick(&mut bench, portal);
        assert_eq!((bench.used(PAGE), bench.get(DATA + 0x10)), (index as u16 + 1, *b"zyx\0"), "{name}");
        assert_eq!(bench.get(PAGE + 0x2004 + 8 * index as u64), [0, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(bench.interrupts(), [0x50], "{name}");
        assert_eq!(
            bench.get::<2>(PAGE + 0x2004 + 32),
            (index as u16 + 1).to_le_bytes(),
            "tell me of the next"
        );
    }
    request(&bench, PAGE, 3);
    bench.put(PAGE + 0x1004 + 8, &9_u16.to_le_bytes());
    bench.kick(0);
    assert_eq!((bench.used(PAGE), bench.interrupts()), (4, vec![]), "an interrupt that the driver wants not");
    // A queue that is not there.
    assert_eq!(bench.board.io_write(PORTS + 4, 2, 2, NOW), None);
}

#[test]
fn the_portal_reaches_what_is_there() {
    let mut bench = Bench::new::<Tested>();
    let portal = 0xA4;
    // Even where no window is open.
    bench.set_config(4, 2, 0);
    let mut read = |bar: u32, offset: u64, width: u32, size: u8| {
        bench.set_config(portal + 4, 1, bar);
        bench.set_config(portal + 8, 4, offset as u32);
        bench.set_config(portal + 12, 4, width);
        bench.config(portal + 16, size)
    };
    assert_eq!(read(1, CONFIG, 4, 4), 0x6463_6261);
    assert_eq!(read(1, CONFIG + 1, 1, 1), 0x62);
    assert_eq!(read(1, 18, 2, 4), 2);
    assert_eq!(read(1, TABLE + 12, 4, 4), 1, "the table of MSI-X");
    // Nothing: no such window, none of that width, across its end.
    for (bar, offset, width) in
        [(2, 0, 4), (9, 0, 4), (1, CONFIG, 3), (1, CONFIG, 0), (1, CONFIG + 2, 4), (1, 0x8000, 4)]
    {
        assert_eq!(read(bar, offset, width, 4), 0, "{bar} {offset:#x} {width}");
    }
}

#[test]
fn without_msix_it_is_a_pin() {
    let mut bench = Bench::new::<Tested>();
    bench.negotiate(VERSION_1);
    bench.queue(0, 4, PAGE);
    bench.store(STATUS, 1, 0xF);
    request(&bench, PAGE, 0);
    assert_eq!(bench.config(6, 2) & 8, 0);
    bench.kick(0);
    assert_eq!(bench.config(6, 2) & 8, 8, "the pin is up");
    assert_eq!((bench.load(ISR, 1), bench.load(ISR, 1)), (1, 0), "reading takes it back");
    assert_eq!(bench.config(6, 2) & 8, 0);
    bench.put(PAGE + 0x1000, &[1, 0]);
    request(&bench, PAGE, 1);
    bench.kick(0);
    assert_eq!((bench.used(PAGE), bench.load(ISR, 1)), (2, 0), "VIRTQ_AVAIL_F_NO_INTERRUPT");
}

#[test]
fn nothing_is_done_before_driver_ok() {
    let mut bench = Bench::new::<Tested>();
    bench.negotiate(VERSION_1);
    bench.queue(0, 4, PAGE);
    request(&bench, PAGE, 0);
    assert_eq!(bench.board.io_write(PORTS, 2, 0, NOW), None);
    assert_eq!(bench.used(PAGE), 0);
    bench.store(STATUS, 1, 0xF);
    assert_eq!(bench.used(PAGE), 1, "what waits is done then");
    // Even without a kick.
    bench.negotiate(VERSION_1);
    bench.put(PAGE, &[0; 0x3000]);
    bench.queue(0, 4, PAGE);
    request(&bench, PAGE, 0);
    bench.store(STATUS, 1, 0xF);
    assert_eq!(bench.used(PAGE), 1);
    // One that has agreed on nothing.
    let mut bench = Bench::new::<Tested>();
    bench.queue(0, 4, PAGE);
    request(&bench, PAGE, 0);
    bench.store(STATUS, 1, 7);
    bench.kick(0);
    assert_eq!(bench.used(PAGE), 0);
}

/// What a driver can break, how that is told, and that a reset helps.
#[track_caller]
fn breaks(told: &str, harm: impl Fn(&mut Bench)) {
    let mut bench = driven(ALL);
    request(&bench, PAGE, 0);
    harm(&mut bench);
    bench.kick(0);
    bench.kick(0);
    assert_eq!(bench.outside.told, [format!("{KIND}: {told}")]);
    assert_eq!(bench.load(STATUS, 1), 0x4F, "DEVICE_NEEDS_RESET");
    assert_eq!((bench.load(GENERATION, 1), bench.load(ISR, 1)), (1, 2));
    assert_eq!(bench.interrupts(), [0x52], "the configuration has changed");
    let mut bench = bench.moved::<Tested>();
    bench.service();
    assert_eq!((bench.load(STATUS, 1), bench.outside.told.len()), (0x4F, 1), "there, too");
    assert_eq!(bench.negotiate(ALL), 0xB);
    bench.put(PAGE, &[0; 0x3000]);
    bench.queue(0, 4, PAGE);
    bench.store(STATUS, 1, 0xF);
    request(&bench, PAGE, 0);
    bench.kick(0);
    assert_eq!((bench.used(PAGE), bench.get(DATA + 0x10)), (1, *b"zyx\0"));
}

#[test]
fn what_a_driver_can_break() {
    breaks("9 chains available on a ring of 4", |bench| bench.put(PAGE + 0x1002, &[9, 0]));
    breaks("descriptor 4 of 4", |bench| bench.offer(PAGE, 0, 4));
    breaks("a chain of more than 4 descriptors, the size of its ring", |bench| {
        bench.describe(PAGE, 0, DATA, 3, 1, 0);
    });
    breaks("buffer: 3 bytes at gpa 0xfee00000 are not guest RAM", |bench| {
        bench.describe(PAGE, 0, LAPIC, 3, 1, 1);
    });
    breaks("buffer: 4 bytes at gpa 0xffffd are not guest RAM", |bench| {
        bench.describe(PAGE, 1, 0xF_FFFD, 4, 2, 0);
    });
    breaks("a buffer of 0 bytes at gpa 0x40000", |bench| bench.describe(PAGE, 0, DATA, 0, 1, 1));
    breaks("an indirect descriptor in an indirect table", |bench| {
        bench.describe(PAGE, 0, PAGE, 16, 4, 0);
    });
}

#[test]
fn a_request_that_breaks_the_used_ring_is_not_in_flight() {
    let mut bench = Bench::new::<Tested>();
    bench.negotiate(ALL);
    bench.store(DESCRIPTORS, 8, PAGE);
    bench.store(AVAILABLE, 8, PAGE + 0x1000);
    // Behind the end of RAM.
    bench.store(USED, 8, 0x10_0000);
    bench.store(ENABLE, 2, 1);
    request(&bench, PAGE, 0);
    bench.store(STATUS, 1, 0xF);
    assert_eq!(bench.outside.told, [format!("{KIND}: used ring: 8 bytes at gpa 0x100004 are not guest RAM")]);
    bench.moved::<Tested>();
}

const LAPIC: u64 = devices::LAPIC_BASE;

#[test]
fn a_queue_that_cannot_be_breaks_the_device() {
    type Harm = (&'static str, u64, u8, u64);
    let harms: [Harm; 4] = [
        ("a queue of size 3, powers of two up to 4 can be", SIZE, 2, 3),
        ("a queue of size 8, powers of two up to 4 can be", SIZE, 2, 8),
        ("no descriptor table can be at gpa 0x10008", DESCRIPTORS, 8, PAGE + 8),
        ("no used ring can be at gpa 0xfffffffffffffffc", USED, 8, !3),
    ];
    for (told, register, size, value) in harms {
        let mut bench = Bench::new::<Tested>();
        bench.negotiate(VERSION_1);
        bench.store(DESCRIPTORS, 8, PAGE);
        bench.store(AVAILABLE, 8, PAGE + 0x1000);
        bench.store(USED, 8, PAGE + 0x2000);
        bench.store(register, size, value);
        bench.store(ENABLE, 2, 1);
        assert_eq!(bench.outside.told, [format!("{KIND}: {told}")]);
        assert_eq!((bench.load(STATUS, 1), bench.load(ISR, 1)), (0x4B, 0), "no interrupt before DRIVER_OK");
        bench.store(STATUS, 1, 0xF);
        bench.kick(0);
        assert_eq!(bench.load(STATUS, 1), 0x4F);
        bench.store(STATUS, 1, 0);
        assert_eq!(bench.load(STATUS, 1), 0);
    }
}

#[test]
fn after_a_move_nobody_waits() {
    let mut bench = driven(ALL);
    // The kick was lost, and so is the interrupt of the second queue.
    request(&bench, PAGE, 0);
    request(&bench, OTHER, 0);
    bench.kick(1);
    let mut bench = bench.moved::<Tested>();
    assert_eq!((bench.used(PAGE), bench.interrupts()), (0, vec![]));
    bench.service();
    assert_eq!((bench.used(PAGE), bench.used(OTHER)), (1, 0), "one is held on");
    assert_eq!(bench.interrupts(), [0x52, 0x51, 0x50], "each once");
    bench.service();
    assert_eq!(bench.interrupts(), [], "and not again");
    request(&bench, OTHER, 1);
    bench.kick(1);
    assert_eq!(bench.used(OTHER), 1, "what was in flight comes back");
}

#[test]
fn a_reset_forgets_what_was_in_flight() {
    let mut bench = driven(ALL);
    request(&bench, OTHER, 0);
    bench.kick(1);
    bench.store(STATUS, 1, 0);
    bench.moved::<Tested>();
}

#[test]
fn states_that_cannot_be_are_refused() {
    let mut bench = driven(ALL);
    request(&bench, OTHER, 0);
    bench.kick(1);
    let records = bench.board.export();
    let with = |change: &dyn Fn(&mut Vec<u8>)| -> Result<(), String> {
        let mut records: Vec<StateRecord> = records.clone();
        let record = records.iter_mut().find(|record| record.kind == KIND).unwrap();
        change(&mut record.body);
        let mut other = Bench::new::<Tested>();
        other.board.import(&records).map(drop).map_err(|error| error.why)
    };
    assert_eq!(with(&|_| {}), Ok(()));
    let replace = |from: &'static [u8], to: &'static [u8]| {
        with(&move |body| {
            let at = body.windows(from.len()).position(|window| window == from).expect("the field is there");
            body[at..at + from.len()].copy_from_slice(to);
        })
    };
    let out = |what: &str| Err(format!("{what} is out of range"));
    // Status 0xF, no interrupt, generation 0, vector 2, queue 1 and half 1 selected, features.
    assert_eq!(replace(&[0x88, 0x0F, 0, 0, 2], &[0x88, 0x10, 0, 0, 2]), out("status = 0x10"));
    assert_eq!(replace(&[0x88, 0x0F, 0, 0, 2], &[0x88, 0x0F, 4, 0, 2]), out("interrupt status = 0x4"));
    assert_eq!(replace(&[0x88, 0x0F, 0, 0, 2], &[0x88, 0x0F, 0, 0, 3]), out("vector = 0x3"));
    let offered = "features 0x130000081 were negotiated, 0x130000080 are offered here";
    assert_eq!(replace(&[1, 0x30, 0, 0, 0x80], &[1, 0x30, 0, 0, 0x81]), Err(offered.into()));
    let features = "features 0x230000080 were negotiated, 0x130000080 are offered here";
    assert_eq!(replace(&[1, 0x30, 0, 0, 0x80], &[2, 0x30, 0, 0, 0x80]), Err(features.into()));
    // A queue: size 4, enabled, its vector.
    let size = "queue 0: a queue of size 3, powers of two up to 4 can be";
    assert_eq!(replace(&[0x88, 4, 0xF5, 0], &[0x88, 3, 0xF5, 0]), Err(size.into()));
    assert_eq!(replace(&[0x88, 4, 0xF5, 1], &[0x88, 4, 0xF5, 3]), out("vector = 0x3"));
    // Its indices at the end, then the one request that the device holds.
    let indices = |available, used, enabled| {
        Err(format!(
            "queue 1: 1 requests in flight, indices {available} and {used} of 4 places, enabled: {enabled}"
        ))
    };
    assert_eq!(replace(&[1, 0, 0x41, 0], &[1, 1, 0x41, 0]), indices(1, 1, true));
    assert_eq!(replace(&[1, 0, 0x41, 0], &[5, 0, 0x41, 0]), indices(5, 0, true));
    assert_eq!(replace(&[0x88, 4, 0xF5, 1], &[0x88, 4, 0xF4, 1]), indices(1, 0, false));
}

proptest! {
    /// Whatever a driver writes, in registers and in memory: its state travels, and goes on as it would have.
    #[test]
    fn any_driver_is_survived(
        steps in prop::collection::vec((0_u8..12, any::<u16>(), any::<u64>()), 0..200),
    ) {
        let mut bench = driven(ALL);
        for (step, at, value) in steps {
            let offset = u64::from(at & 0x3F);
            match step {
                0..=2 => bench.store(offset, 1 << (step + 1), value),
                3 => bench.store(STATUS, 1, value & 0x8F),
                4 => bench.store(u64::from(at & 0x7FFF), 4, value),
                5 => { bench.load(u64::from(at & 0x7FFF), 8); }
                6 => bench.kick(at & 3),
                7 => request(&bench, if value & 1 == 0 { PAGE } else { OTHER }, at),
                8 => bench.describe(PAGE, (at & 3).into(), value & 0x1F_FFFF, (value >> 32) as u32 & 0xFFF, at >> 2 & 7, at >> 5 & 7),
                9 => bench.set_config(at as u8 & 0xFC, 4, value as u32),
                10 => bench = bench.moved::<Tested>(),
                _ => bench.queue(at & 1, 4, if at & 1 == 0 { PAGE } else { OTHER }),
            }
        }
        bench.moved::<Tested>().service();
    }
}
