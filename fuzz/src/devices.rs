//! The guest's board: state from another host, and accesses of a guest.

use devices::{Effect, PlatformConfig, Whole};
use vm_types::{Gpa, Now, StateRecord};

use crate::Bytes;

const HZ: u64 = 20_000_000;

pub(crate) fn platform() -> Whole {
    Whole::new(&PlatformConfig {
        vcpus: 1,
        debug_exit: true,
        rtc_base_unix_secs: 1_700_000_000,
        low_ram: 256 << 20,
        high_ram: 0,
        x2apic: true,
        tsc_deadline: true,
        pci: false,
        rng: false,
    })
}

/// The same with a PCI bus.
pub(crate) fn with_pci() -> Whole {
    Whole::new(&PlatformConfig { pci: true, rng: true, ..*platform().config() })
}

/// Bodies that replace those of a good state: which record, its length in two bytes, the body.
pub fn import(data: &[u8]) {
    let mut board = with_pci();
    let mut records = board.export();
    let mut data = Bytes(data);
    while !data.0.is_empty() {
        let (which, len) = (usize::from(data.u8()), data.u16());
        let count = records.len();
        records[which % count].body = data.take(len.into()).to_vec();
    }
    if board.import(&records).is_ok() {
        run(&mut board, &[]);
    }
}

/// The input of [`import`] that stands for `records`.
pub fn encode(records: &[StateRecord]) -> Vec<u8> {
    let framed = records.iter().enumerate().map(|(i, record)| {
        let len = u16::try_from(record.body.len()).expect("a small body").to_le_bytes();
        [&[i as u8], &len[..], &record.body].concat()
    });
    framed.collect::<Vec<_>>().concat()
}

/// Accesses: what and how wide, time since the last, address, value; 12 bytes each.
pub fn access(data: &[u8]) {
    run(&mut platform(), data);
}

fn run(board: &mut Whole, data: &[u8]) {
    let mut now = Now { tsc: 1, hz: HZ };
    let mut sink = [0; 64];
    let mut data = Bytes(data);
    while !data.0.is_empty() {
        let (what, wait, address, value) = (data.u8(), data.u8(), data.u16(), data.u64());
        // Up to 7 s, most of them short.
        now.tsc += u64::from(wait & 15) << ((wait >> 4) * 3 / 2);
        let size = 1 << (what >> 3 & 3);
        let lapic = Gpa(devices::LAPIC_BASE + u64::from(address & 0xFFF));
        let effect = match what & 7 {
            0 => {
                let got = board.io_read(address, size.min(4), now);
                assert!(size >= 4 || u64::from(got) < 1 << (8 * size), "port {address:#x}: {got:#x}");
                None
            }
            1 => board.io_write(address, size.min(4), value as u32, now),
            2 => {
                board.mmio_read(0, lapic, size, now);
                None
            }
            3 => board.mmio_write(0, lapic, size, value, now),
            4 => {
                let gpa = Gpa(devices::IOAPIC_BASE + u64::from(address & 0xFF));
                board.mmio_read(0, gpa, size, now);
                board.mmio_write(0, gpa, size, value, now)
            }
            5 => {
                let msr = match address & 0x1FFF {
                    0 => 0x1B,
                    1 => 0x6E0,
                    low => 0x800 + u32::from(low & 0xFF),
                };
                let _ = board.msr_read(0, msr, now);
                let _ = board.msr_write(0, msr, value, now);
                None
            }
            6 => {
                board.uart_input(&value.to_le_bytes(), now);
                board.with_apic(0, |apic| apic.set_cr8(address as u8 & 15));
                None
            }
            _ => {
                board.advance(now);
                board.take_init_sipi(0);
                if let Some(vector) = board.pending_interrupt(0) {
                    board.accept(0, vector);
                }
                None
            }
        };
        if effect == Some(Effect::UartFull) || what & 0x80 != 0 {
            board.uart_output(&mut sink);
        }
    }
    board.advance(now);
    assert!(
        board.next_event().is_none_or(|at| at > now.tsc),
        "a timer is overdue: {:?} at {now:?}",
        board.next_event()
    );
    // Whatever a guest did to it: its state travels.
    let records = board.export();
    let mut copy = Whole::new(board.config());
    if let Err(error) = copy.import(&records) {
        panic!("its own state is refused: {error}");
    }
    assert_eq!(copy.export(), records);
}
