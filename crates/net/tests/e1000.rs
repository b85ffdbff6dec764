//! The 8254x driver against a mock card.
#![allow(missing_docs)]

mod common;

use common::{BUS, Dice, Mock, mac, nic};
use net::e1000::regs::*;
use net::e1000::{DMA_BYTES, Dma, E1000, InitError, Variant};
use net::{Link, MAX_FRAME, MacAddr, Nic, TxError};
use proptest::prelude::*;

fn frame(n: u8, len: usize) -> Vec<u8> {
    let mut f = vec![n; len];
    f[..6].copy_from_slice(&mac(1).0);
    f
}

fn receive_all(nic: &mut impl Nic) -> Vec<Vec<u8>> {
    let mut buf = [0; MAX_FRAME];
    std::iter::from_fn(|| nic.rx(&mut buf).map(|n| buf[..n].to_vec())).collect()
}

#[test]
fn comes_up_as_the_manual_says() {
    let (mock, nic) = nic(1);
    assert_eq!(nic.mac(), mac(1));
    assert_eq!(nic.link(), Link::Up(1000));
    let card = mock.look();
    let reg = |r: u32| card.regs.get(&r).copied().unwrap_or(0);
    assert_eq!(reg(RDBAL) as u64 | (reg(RDBAH) as u64) << 32, BUS);
    assert_eq!((reg(RDLEN), reg(RDH), reg(RDT)), (1024, 0, 63));
    assert_eq!((reg(TDLEN), reg(TDH), reg(TDT)), (1024, 0, 0));
    assert_eq!(reg(RCTL), RCTL_EN | RCTL_BAM | RCTL_SECRC);
    assert_eq!(reg(RAL0), 0x1200_5452);
    assert_eq!(reg(RAH0), 0x0134 | RAH_AV);
    assert_eq!(reg(IMC), u32::MAX);
    assert_ne!(reg(CTRL) & CTRL_SLU, 0);
}

#[test]
fn every_failure_of_the_card_has_its_name() {
    let up = |change: fn(&mut common::Card)| {
        let mock = Mock::new(mac(1));
        change(&mut mock.card());
        E1000::new(Variant::I8254x, mock.clone(), mock.clone()).map(|n| n.mac())
    };
    assert_eq!(up(|c| c.dead = true), Err(InitError::NoAnswer));
    assert!(matches!(up(|c| c.reset_stuck = true), Err(InitError::ResetStuck(_))));
    assert_eq!(up(|c| c.eeprom = [0xffff; 3]), Err(InitError::NoMac(MacAddr::BROADCAST)));
    assert_eq!(up(|c| c.eeprom = [0; 3]), Err(InitError::NoMac(MacAddr([0; 6]))));
    // The EEPROM of this variant is addressed differently: DONE never comes.
    assert!(matches!(up(|c| c.variant = Variant::I82574), Err(InitError::EepromStuck(_))));
    assert!(matches!(up(|c| c.memory.truncate(DMA_BYTES - 1)), Err(InitError::BadArena(..))));
    assert_eq!(up(|_| ()), Ok(mac(1)));
}

#[test]
fn variants_by_pci_id() {
    assert_eq!(Variant::of_pci_id(0x8086, 0x100e), Some(Variant::I8254x));
    assert_eq!(Variant::of_pci_id(0x8086, 0x100f), Some(Variant::I8254x));
    assert_eq!(Variant::of_pci_id(0x8086, 0x10d3), Some(Variant::I82574));
    assert_eq!(Variant::of_pci_id(0x10ec, 0x100e), None);
    let mock = Mock::new(mac(9));
    mock.card().variant = Variant::I82574;
    let nic = E1000::new(Variant::I82574, mock.clone(), mock.clone()).unwrap();
    assert_eq!(nic.mac(), mac(9));
    assert_eq!(mock.look().regs[&TXDCTL], TXDCTL_82574);
}

#[test]
fn sends_in_order_over_many_turns_of_the_ring() {
    let (mock, mut nic) = nic(1);
    for n in 0..500u32 {
        let f = frame(n as u8, 14 + n as usize % 1505);
        nic.tx(&f).unwrap();
        assert_eq!(mock.card().sent.pop_front(), Some(f));
    }
    assert_eq!(nic.tx(&[0; 13]), Err(TxError::BadLength(13)));
    assert_eq!(nic.tx(&[0; 1519]), Err(TxError::BadLength(1519)));
    assert_eq!(nic.counters().tx_frames, 500);
}

#[test]
fn a_slow_card_fills_the_ring_and_buffers_come_back() {
    let (mock, mut nic) = nic(1);
    mock.card().hold_tx = true;
    let mut taken = 0;
    while nic.tx(&frame(taken, 60)).is_ok() {
        taken += 1;
    }
    assert_eq!((taken, nic.tx_room()), (63, 0));
    assert_eq!(nic.tx(&frame(0, 60)), Err(TxError::Full));
    assert_eq!(nic.counters().tx_full, 2);
    mock.transmit();
    nic.poll();
    assert_eq!(nic.tx_room(), 63);
    let sent: Vec<u8> = mock.card().sent.drain(..).map(|f| f[59]).collect();
    assert_eq!(sent, (0..63).collect::<Vec<_>>());
}

#[test]
fn receives_in_order_and_gives_descriptors_back_in_batches() {
    let (mock, mut nic) = nic(1);
    let mut expected = 0u32;
    for burst in 0..40 {
        for n in 0..burst {
            mock.deliver(&frame(n as u8, 60 + n));
        }
        let got = receive_all(&mut nic);
        assert_eq!(got.len(), burst);
        for (n, f) in got.iter().enumerate() {
            assert_eq!(*f, frame(n as u8, 60 + n));
            expected += 1;
        }
    }
    assert_eq!(mock.look().missed, 0);
    assert_eq!(nic.counters().rx_frames, u64::from(expected));
    assert!(mock.look().rdt_writes < expected as usize / 4, "{} doorbells", mock.look().rdt_writes);
}

#[test]
fn overrun_loses_frames_but_not_the_ring() {
    let (mock, mut nic) = nic(1);
    for n in 0..100 {
        mock.deliver(&frame(n, 60));
    }
    assert_eq!(mock.look().missed, 37);
    let got: Vec<u8> = receive_all(&mut nic).iter().map(|f| f[20]).collect();
    assert_eq!(got, (0..63).collect::<Vec<_>>());
    mock.deliver(&frame(200, 60));
    assert_eq!(receive_all(&mut nic), [frame(200, 60)]);
}

#[test]
fn damaged_and_impossible_frames_are_skipped() {
    let (mock, mut nic) = nic(1);
    let good = RXD_STAT_DD | RXD_STAT_EOP;
    mock.deliver_raw(&frame(1, 60), good, RXD_ERRORS & 1, 60);
    mock.deliver_raw(&frame(2, 60), good, 0, 0xffff);
    mock.deliver_raw(&frame(3, 60), good, 0, 13);
    mock.deliver_raw(&frame(4, 60), good, 0, 1519);
    // A frame over three buffers, then a good one.
    mock.deliver_raw(&frame(5, 60), RXD_STAT_DD, 0, 60);
    mock.deliver_raw(&frame(6, 60), RXD_STAT_DD, 0, 60);
    mock.deliver_raw(&frame(7, 60), good, 0, 60);
    mock.deliver(&frame(8, 60));
    assert_eq!(receive_all(&mut nic), [frame(8, 60)]);
    assert_eq!(nic.counters().rx_bad, 7);
    // A frame longer than the caller's buffer is lost, not cut.
    mock.deliver(&frame(9, 200));
    assert_eq!(nic.rx(&mut [0; 100]), None);
}

#[test]
fn promiscuous_on_and_off() {
    let (mock, mut nic) = nic(1);
    let mut foreign = frame(1, 60);
    foreign[..6].copy_from_slice(&mac(2).0);
    mock.deliver(&foreign);
    assert_eq!(receive_all(&mut nic).len(), 0);
    nic.set_promiscuous(true);
    assert!(nic.promiscuous());
    mock.deliver(&foreign);
    assert_eq!(receive_all(&mut nic).len(), 1);
    nic.set_promiscuous(false);
    mock.deliver(&foreign);
    assert_eq!(receive_all(&mut nic).len(), 0);
}

#[test]
fn link_is_read_from_the_card() {
    let (mock, nic) = nic(1);
    for (status, link) in [
        (0x83, Link::Up(1000)),
        (0x43, Link::Up(100)),
        (3, Link::Up(10)),
        (0x81, Link::Down),
        (u32::MAX, Link::Down),
    ] {
        mock.card().regs.insert(STATUS, status);
        assert_eq!(nic.link(), link);
    }
}

#[test]
fn shut_down_stops_dma() {
    let (mock, mut nic) = nic(1);
    nic.shut_down().unwrap();
    mock.deliver(&frame(1, 60));
    assert_eq!(mock.look().missed, 1);
}

proptest! {
    /// A card that writes anything anywhere in its memory, at any time, gets no frame out of bounds and no panic.
    #[test]
    fn a_hostile_card(seed in 1u64.., steps in prop::collection::vec((0usize..DMA_BYTES - 16, any::<[u8; 16]>()), 1..200)) {
        let (mock, mut nic) = nic(1);
        let mut dice = Dice(seed);
        let mut buf = [0; MAX_FRAME];
        for (offset, bytes) in steps {
            // Descriptors are where it hurts.
            let offset = if dice.one_in(2) { offset % 2032 } else { offset };
            mock.clone().write(offset, &bytes);
            nic.poll();
            for _ in 0..3 {
                if let Some(len) = nic.rx(&mut buf) {
                    prop_assert!((14..=MAX_FRAME).contains(&len));
                }
            }
            mock.card().hold_tx = true;
            let _ = nic.tx(&frame(1, 60));
            prop_assert!(nic.tx_room() < 64);
        }
    }
}
