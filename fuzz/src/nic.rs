//! A network card that writes what it likes: descriptors, buffers, and what its registers read as.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use nic::intel::regs::*;
use nic::intel::{self, DMA_BYTES, Dma, Family, Registers};
use switch::{MAX_FRAME, MIN_FRAME, Nic};

const FAMILIES: [Family; 6] =
    [Family::I8254x, Family::I8257x, Family::I217, Family::Igb, Family::I210, Family::Ixgbe];

struct State {
    regs: HashMap<u32, u32>,
    memory: Vec<u8>,
}

/// Registers keep what is written to them, but for what a start waits for.
#[derive(Clone)]
struct Card(Rc<RefCell<State>>);

impl Registers for Card {
    fn read32(&self, offset: u32) -> u32 {
        assert!(offset.is_multiple_of(4) && (offset as usize) < intel::BAR_BYTES);
        let value = self.0.borrow().regs.get(&offset).copied().unwrap_or(0);
        match offset {
            CTRL => value & !CTRL_RST,
            EERD => value | 0x0202_0012,
            RAL0 | IXGBE_RAL0 => value | 2,
            RAH0 | IXGBE_RAH0 => value & !1,
            IXGBE_RDRXCTL => value | RDRXCTL_DMA_READY,
            _ => value,
        }
    }

    fn write32(&mut self, offset: u32, value: u32) {
        assert!(offset.is_multiple_of(4) && (offset as usize) < intel::BAR_BYTES);
        self.0.borrow_mut().regs.insert(offset, value);
    }

    fn delay_us(&mut self, _us: u32) {}
}

impl Dma for Card {
    fn size(&self) -> usize {
        DMA_BYTES
    }

    fn bus_addr(&self, offset: usize) -> u64 {
        0x1_0000_0000 + offset as u64
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.0.borrow().memory[offset..offset + to.len()]);
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        self.0.borrow_mut().memory[offset..offset + from.len()].copy_from_slice(from);
    }

    fn with<R>(&self, offset: usize, len: usize, look: impl FnOnce(&[u8]) -> R) -> R {
        look(&self.0.borrow().memory[offset..offset + len])
    }

    fn with_mut<R>(&mut self, offset: usize, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        fill(&mut self.0.borrow_mut().memory[offset..offset + len])
    }
}

/// The family, then steps of eight bytes: what is done, where, and with which bytes.
pub fn card(data: &[u8]) {
    let Some((pick, steps)) = data.split_first() else { return };
    let family = FAMILIES[usize::from(*pick) % FAMILIES.len()];
    let card = Card(Rc::new(RefCell::new(State { regs: HashMap::new(), memory: vec![0; DMA_BYTES] })));
    let mut nic = intel::Card::new(family, card.clone(), card.clone()).expect("a card that starts");
    let buf = [0; MAX_FRAME];
    for step in steps.chunks_exact(8) {
        let at = usize::from(u16::from_le_bytes([step[1], step[2]]));
        let [.., a, b, c, d] = *step else { return };
        match step[0] % 4 {
            // The status quarter of a descriptor: the first 128 are those of both rings.
            0 => card.clone().write(at % 128 * 16 + 8, &[a, b, 0, 0, c, d, 0, 0]),
            1 => card.clone().write(at * 4 % DMA_BYTES, &[a, b, c, d]),
            2 => {
                card.0.borrow_mut().regs.insert(at as u32 & 0xfffc, u32::from_le_bytes([a, b, c, d]));
            }
            _ => {
                let _ = nic.tx(&buf[..usize::from(u16::from_le_bytes([a, b])) % (MAX_FRAME + 1)]);
            }
        }
        nic.poll();
        let _ = nic.link();
        if let Some(len) = nic.rx_with(<[u8]>::len) {
            assert!((MIN_FRAME..=MAX_FRAME).contains(&len));
        }
        assert!(nic.tx_room() < 64);
    }
    let _ = nic.shut_down();
}
