//! The driver of Intel's cards against a mock of each family.
#![allow(missing_docs)]

mod common;

use common::{BUS, Dice, Mock, TestCard, mac, nic, nic_of};
use nic::intel::regs::*;
use nic::intel::{DMA_BYTES, Dma, Family, InitError, LoopError, MODELS, Model, Probed, VENDOR_INTEL};
use proptest::prelude::*;
use switch::{Link, MAX_FRAME, MacAddr, Nic, TxError};

fn frame(n: u8, len: usize) -> Vec<u8> {
    let mut f = vec![n; len];
    f[..6].copy_from_slice(&mac(1).0);
    f
}

fn receive_all(nic: &mut impl Nic) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| nic.rx_with(<[u8]>::to_vec)).collect()
}

#[test]
fn comes_up_as_the_manual_says() {
    let (mock, nic) = nic(1);
    assert_eq!(nic.mac(), mac(1));
    assert_eq!(nic.link(), Link::Up(1000));
    let card = mock.look();
    let reg = |r: u32| card.regs.get(&r).copied().unwrap_or(0);
    let queue = |queue: u32| [QUEUE_LEN, QUEUE_H, QUEUE_T].map(|r| reg(queue + r));
    assert_eq!(reg(RX_E1000) as u64 | (reg(RX_E1000 + QUEUE_BAH) as u64) << 32, BUS);
    assert_eq!(queue(RX_E1000), [1024, 0, 63]);
    assert_eq!(queue(TX_E1000), [1024, 0, 0]);
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
        TestCard::new(Family::I8254x, mock.clone(), mock.clone()).map(|n| n.mac())
    };
    assert_eq!(up(|c| c.dead = true), Err(InitError::NoAnswer));
    assert!(matches!(up(|c| c.reset_stuck = true), Err(InitError::ResetStuck(_))));
    assert_eq!(up(|c| c.eeprom = [0xffff; 3]), Err(InitError::NoMac(MacAddr::BROADCAST)));
    assert_eq!(up(|c| c.eeprom = [0; 3]), Err(InitError::NoMac(MacAddr([0; 6]))));
    // The EEPROM of this variant is addressed differently: DONE never comes.
    assert!(matches!(up(|c| c.family = Family::I8257x), Err(InitError::EepromStuck(_))));
    assert!(matches!(up(|c| c.memory.truncate(DMA_BYTES - 1)), Err(InitError::BadArena(..))));
    assert_eq!(up(|_| ()), Ok(mac(1)));
}

#[test]
fn a_card_that_is_looked_at_stays_off_the_bus() {
    for family in FAMILIES {
        let mock = Mock::of(family, mac(1));
        let link = |status, links| mock.card().regs.extend([(STATUS, status), (IXGBE_LINKS, links)]);
        link(0, 0);
        let card = Probed::new(family, mock.clone()).unwrap();
        assert_eq!((card.mac(), card.link()), (mac(1), Link::Down), "{family:?}");
        link(STATUS_LU, LINKS_UP);
        assert_eq!(card.link(), Link::Up(10), "{family:?}");
        let (rx, tx) = mock.look().queues();
        assert!(!mock.look().runs(rx) && !mock.look().runs(tx), "{family:?}");
        card.release();
    }
}

/// One of each family.
const FAMILIES: [Family; 6] =
    [Family::I8254x, Family::I8257x, Family::I217, Family::Igb, Family::I210, Family::Ixgbe];

#[test]
fn models_by_pci_id() {
    let family = |device| Model::of_pci_id(VENDOR_INTEL, device).map(|m| m.family);
    assert_eq!(family(0x100e), Some(Family::I8254x));
    assert_eq!(family(0x10d3), Some(Family::I8257x));
    assert_eq!(family(0x150c), Some(Family::I8257x));
    // They would have to be woken and emptied first.
    for left_out in [0x15b8, 0x1559, 0x15a3] {
        assert_eq!(family(left_out), None);
    }
    assert_eq!(family(0x1521), Some(Family::Igb));
    assert_eq!(family(0x1533), Some(Family::I210));
    assert_eq!(family(0x10fb), Some(Family::Ixgbe));
    assert_eq!(family(0x1572), None);
    assert_eq!(Model::of_pci_id(0x10ec, 0x100e), None);
    for (at, model) in MODELS.iter().enumerate() {
        assert!(FAMILIES.contains(&model.family));
        assert!(MODELS[..at].iter().all(|m| m.device != model.device), "{:04x} twice", model.device);
    }
    assert_eq!(Model::of_pci_id(VENDOR_INTEL, 0x10d3).unwrap().to_string(), "82574L (e1000e)");
}

#[test]
fn every_family_sends_and_receives() {
    for family in FAMILIES {
        let (mock, mut nic) = nic_of(family, 1);
        assert_eq!(nic.mac(), mac(1), "{family:?}");
        let fast = if family == Family::Ixgbe { 10_000 } else { 1000 };
        assert_eq!(nic.link(), Link::Up(fast), "{family:?}");
        for n in 0..200u32 {
            let f = frame(n as u8, 60 + n as usize);
            nic.tx(&f).unwrap();
            nic.poll();
            assert_eq!(mock.card().sent.pop_front(), Some(f.clone()), "{family:?}");
            mock.deliver(&f);
            assert_eq!(receive_all(&mut nic), [f], "{family:?}");
        }
        assert_eq!(mock.look().missed, 0, "{family:?}");
        let mut foreign = frame(1, 60);
        foreign[..6].copy_from_slice(&mac(2).0);
        mock.deliver(&foreign);
        assert_eq!(receive_all(&mut nic).len(), 0, "{family:?}");
        nic.set_promiscuous(true);
        mock.deliver(&foreign);
        assert_eq!(receive_all(&mut nic).len(), 1, "{family:?}");
        let missed = mock.look().missed;
        nic.shut_down().unwrap();
        mock.deliver(&frame(1, 60));
        assert_eq!(mock.look().missed, missed + 1, "{family:?} receives after its end");
        let reg = |r: u32| mock.look().regs.get(&r).copied().unwrap_or(0);
        assert_eq!(reg(CTRL_EXT) & CTRL_EXT_DRV_LOAD, 0, "{family:?}");
    }
}

#[test]
fn each_family_has_its_own_setup() {
    let after = |family| {
        let (mock, _nic) = nic_of(family, 3);
        move |r: u32| mock.look().regs.get(&r).copied().unwrap_or(0)
    };
    let e1000e = after(Family::I8257x);
    assert_eq!(e1000e(TX_E1000 + QUEUE_DCTL), TXDCTL_E1000E);
    assert_eq!(e1000e(CTRL) & CTRL_GIO_MASTER_DISABLE, 0);
    // Fault 2.20: the 82574's firmware must know that a driver has the card, as that of all later ones.
    assert_eq!(e1000e(CTRL_EXT) & CTRL_EXT_DRV_LOAD, CTRL_EXT_DRV_LOAD);
    let i217 = after(Family::I217);
    assert_eq!(i217(CTRL_EXT) & CTRL_EXT_DRV_LOAD, CTRL_EXT_DRV_LOAD);
    let igb = after(Family::Igb);
    assert_eq!([igb(RX_IGB + QUEUE_LEN), igb(RX_IGB + QUEUE_T), igb(SRRCTL_IGB)], [1024, 63, 2]);
    assert_eq!(igb(EIMC_IGB), u32::MAX);
    assert_eq!(igb(RXPBS), 0);
    let i210 = after(Family::I210);
    assert_eq!([i210(RXPBS), i210(TXPBS)], [RXPBS_I210, TXPBS_I210]);
    let ixgbe = after(Family::Ixgbe);
    assert_eq!([ixgbe(RX_IXGBE + QUEUE_LEN), ixgbe(RX_IXGBE + QUEUE_T), ixgbe(SRRCTL_IXGBE)], [1024, 63, 2]);
    assert_eq!(ixgbe(IXGBE_RDRXCTL), RDRXCTL_DMA_READY | RDRXCTL_CRC_STRIP);
    assert_eq!(ixgbe(IXGBE_DCA_RXCTRL), 0);
    assert_eq!(ixgbe(IXGBE_HLREG0), 0x0c03);
    assert_eq!(ixgbe(IXGBE_RXCTRL), RXCTRL_RXEN);
    assert_eq!([ixgbe(RCTL), ixgbe(TCTL)], [0, 0], "registers of another family");
}

/// Fault 2.20: ASPM of the 82574, and 10GBASE-T that trains for longer than 4 s.
#[test]
fn what_a_family_wants_of_its_bus_and_its_link() {
    for family in FAMILIES {
        assert_eq!(family.needs_link_awake(), family == Family::I8257x, "{family:?}");
        let least = if family == Family::Ixgbe { 10_000_000 } else { 4_000_000 };
        assert!((least..=15_000_000).contains(&family.link_patience_us()), "{family:?}");
    }
}

#[test]
fn queues_and_dma_that_do_not_start_are_named() {
    for family in [Family::Igb, Family::I210, Family::Ixgbe] {
        let mock = Mock::of(family, mac(1));
        mock.card().queue_stuck = true;
        let up = TestCard::new(family, mock.clone(), mock.clone()).map(|n| n.mac());
        assert!(matches!(up, Err(InitError::QueueStuck(..))), "{family:?}: {up:?}");
    }
    let mock = Mock::of(Family::Ixgbe, mac(1));
    mock.card().reset_stuck = true;
    let up = TestCard::new(Family::Ixgbe, mock.clone(), mock.clone()).map(|n| n.mac());
    assert!(matches!(up, Err(InitError::ResetStuck(_))), "{up:?}");
    // Without the EEPROM's address there is none.
    let mock = Mock::of(Family::Igb, MacAddr([0xff; 6]));
    let up = TestCard::new(Family::Igb, mock.clone(), mock.clone()).map(|n| n.mac());
    assert_eq!(up, Err(InitError::NoMac(MacAddr([0xff; 6]))));
}

#[test]
fn link_of_a_10_gbit_card() {
    let (mock, nic) = nic_of(Family::Ixgbe, 1);
    for (links, link) in [
        (0x7000_0000, Link::Up(10_000)),
        (0x7800_0000, Link::Up(2_500)),
        (0x6000_0000, Link::Up(1_000)),
        (0x5000_0000, Link::Up(100)),
        (0x5800_0000, Link::Up(5_000)),
        (0x3000_0000, Link::Down),
        (u32::MAX, Link::Down),
    ] {
        mock.card().regs.insert(IXGBE_LINKS, links);
        assert_eq!(nic.link(), link, "{links:#x}");
    }
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

/// A frame is written where the card takes it from; one that is given up, or has no room, touches none that is in flight.
#[test]
fn frames_are_written_in_place() {
    let (mock, mut nic) = nic(1);
    mock.card().hold_tx = true;
    let fill = |nic: &mut TestCard, byte: u8, len, send| {
        nic.tx_with(len, |to| {
            to.fill(byte);
            (to.len(), send)
        })
    };
    for n in 0..63 {
        assert_eq!(fill(&mut nic, 0xee, MAX_FRAME, false), MAX_FRAME);
        assert_eq!(fill(&mut nic, n, 60 + usize::from(n), true), 60 + usize::from(n));
    }
    assert_eq!((nic.tx_room(), fill(&mut nic, 0xdd, 1000, true)), (0, 1000));
    assert_eq!((nic.counters().tx_frames, nic.counters().tx_full), (63, 1));
    mock.transmit();
    let sent: Vec<_> = mock.card().sent.drain(..).collect();
    assert_eq!(sent, (0..63).map(|n| vec![n; 60 + usize::from(n)]).collect::<Vec<_>>());
    nic.poll();
    // Room again; what is no frame is not sent.
    assert_eq!([13, 1519].map(|len| fill(&mut nic, 1, len, true)), [13, MAX_FRAME]);
    assert_eq!((nic.counters().tx_frames, nic.tx_room()), (63, 63));
}

/// What is shown lies in the card's buffer, and the card has no descriptor of it before it was looked at.
#[test]
fn frames_are_shown_before_their_buffer_is_given_back() {
    let (mock, mut nic) = nic(1);
    for n in 0..200 {
        mock.deliver(&frame(n, 60));
        let tail = mock.look().regs[&(RX_E1000 + QUEUE_T)];
        let seen = nic.rx_with(|shown| (shown.to_vec(), mock.look().regs[&(RX_E1000 + QUEUE_T)]));
        assert_eq!(seen, Some((frame(n, 60), tail)));
    }
    assert_eq!(mock.look().missed, 0);
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

/// Issue 12, point 4. Frames come round inside the card, nothing gets to the wire, and afterwards all is as it was.
#[test]
fn a_card_sends_to_itself() {
    for family in [Family::I8257x, Family::Igb, Family::I210] {
        let (mock, mut nic) = nic_of(family, 1);
        nic.set_promiscuous(true);
        mock.deliver(&frame(1, 60)); // waits to be read
        let before = mock.look().regs.clone();
        assert_eq!(nic.try_loop(), Ok(8), "{family:?}");
        for register in [CTRL, RCTL] {
            assert_eq!(mock.look().regs[&register], before[&register], "{family:?} {register:#x}");
        }
        assert!(mock.look().sent.is_empty() && mock.look().missed == 0);
        nic.tx(&frame(2, 100)).unwrap();
        assert_eq!(mock.card().sent.pop_front(), Some(frame(2, 100)), "{family:?}");
        mock.deliver(&frame(3, 100));
        assert_eq!(receive_all(&mut nic), [frame(3, 100)], "{family:?}");
    }
}

/// What is wrong with a loop has its name, and the card is on the wire again all the same.
#[test]
fn a_loop_that_fails() {
    let looped = |change: fn(&mut common::Card)| {
        let (mock, mut nic) = nic_of(Family::Igb, 1);
        change(&mut mock.card());
        let result = nic.try_loop();
        let (rctl, ctrl) = (mock.look().regs[&RCTL], mock.look().regs[&CTRL]);
        assert!(rctl & RCTL_LBM_MAC == 0 && ctrl & (CTRL_FRCSPD | CTRL_FRCDPX) == 0, "{result:?}");
        result
    };
    assert_eq!(looped(|card| card.looped = |_| None), Err(LoopError::Lost(60)));
    let long = looped(|card| card.looped = |frame| (frame.len() < 1000).then_some(frame));
    assert_eq!(long.unwrap_err().to_string(), "a frame of 1500 bytes did not come back in 500 ms");
    fn flipped(mut frame: Vec<u8>) -> Option<Vec<u8>> {
        *frame.last_mut()? ^= 1;
        Some(frame)
    }
    assert_eq!(looped(|card| card.looped = flipped), Err(LoopError::Changed(60)));
    fn cut(mut frame: Vec<u8>) -> Option<Vec<u8>> {
        frame.pop().map(|_| frame)
    }
    assert_eq!(looped(|card| card.looped = cut), Err(LoopError::Changed(60)));
    // What was sent before must be on the wire first.
    let (mock, mut nic) = nic_of(Family::I210, 1);
    mock.card().hold_tx = true;
    nic.tx(&frame(1, 60)).unwrap();
    assert_eq!(nic.try_loop(), Err(LoopError::Stuck(1)));
    // Cards without one are left alone.
    for family in [Family::I8254x, Family::I217, Family::Ixgbe] {
        let (mock, mut nic) = nic_of(family, 1);
        let before = mock.look().regs.clone();
        assert!(matches!(nic.try_loop(), Err(LoopError::NotOffered(_))), "{family:?}");
        assert_eq!(mock.look().regs, before, "{family:?}");
    }
}

proptest! {
    /// A card that writes anything anywhere in its memory, at any time, gets no frame out of bounds and no panic.
    #[test]
    fn a_hostile_card(seed in 1u64.., family in 0..FAMILIES.len(), steps in prop::collection::vec((0usize..DMA_BYTES - 16, any::<[u8; 16]>()), 1..200)) {
        let (mock, mut nic) = nic_of(FAMILIES[family], 1);
        let mut dice = Dice(seed);
        for (offset, bytes) in steps {
            // Descriptors are where it hurts.
            let offset = if dice.one_in(2) { offset % 2032 } else { offset };
            mock.clone().write(offset, &bytes);
            nic.poll();
            for _ in 0..3 {
                if let Some(len) = nic.rx_with(<[u8]>::len) {
                    prop_assert!((14..=MAX_FRAME).contains(&len));
                }
            }
            mock.card().hold_tx = true;
            let _ = nic.tx(&frame(1, 60));
            nic.tx_with(99, |to| ((), to.iter().all(|byte| *byte != 7)));
            prop_assert!(nic.tx_room() < 64);
        }
    }
}
