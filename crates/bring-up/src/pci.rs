//! PCI: what must hold before a card's registers answer and its DMA reaches memory.

/// Configuration space of one function.
pub trait Function {
    /// Reads the 32-bit register at `register`, a multiple of 4.
    fn read(&self, register: u8) -> u32;
    /// Writes it.
    fn write(&self, register: u8, value: u32);
    /// Waits at least so many microseconds.
    fn delay_us(&self, us: u32);
}

const COMMAND: u8 = 0x04;
const COMMAND_IO: u32 = 1 << 0;
const COMMAND_MEMORY: u32 = 1 << 1;
const COMMAND_MASTER: u32 = 1 << 2;
const STATUS_LIST: u32 = 1 << 20;
const LIST: u8 = 0x34;
const HEADER: u8 = 0x0c;
const BARS: core::ops::Range<u8> = 0x10..0x28;
const POWER_MANAGEMENT: u8 = 1;
const EXPRESS: u8 = 0x10;
/// Link Control, from the start of the Express capability.
const LINK_CONTROL: u8 = 0x10;
const LINK_CONTROL_ASPM: u32 = 3;

/// Where the capability with that id is; none where there is none, or the list is broken.
pub fn capability(function: &impl Function, id: u8) -> Option<u8> {
    if function.read(COMMAND) & STATUS_LIST == 0 {
        return None;
    }
    let mut at = function.read(LIST) as u8 & 0xfc;
    // A broken list can go round: there is room for 48.
    for _ in 0..48 {
        if !(0x40..=0xf8).contains(&at) {
            return None;
        }
        let capability = function.read(at);
        if capability as u8 == id {
            return Some(at);
        }
        at = (capability >> 8) as u8 & 0xfc;
    }
    None
}

/// Brings a function to power state D0, where its registers answer (PCI Power Management 1.2, 3.2). The way there from D3
/// may reset it: its base addresses and its command register are written again. To be done before a BAR is looked at.
pub fn wake(function: &impl Function) {
    const POWER_STATE: u32 = 3;
    /// Bits of the command register's upper half are cleared by ones, and so is PME status, bit 15 of the power register.
    const COMMAND_HALF: u32 = 0xffff;
    const PME_STATUS: u32 = 1 << 15;
    let Some(at) = capability(function, POWER_MANAGEMENT).filter(|at| *at <= 0xf8 - 4) else { return };
    let control = function.read(at + 4);
    if control & POWER_STATE == 0 {
        return;
    }
    let bars = BARS.step_by(4).map(|register| (register, function.read(register)));
    let saved: [(u8, u32); 6] = core::array::from_fn(|index| bars.clone().nth(index).unwrap_or_default());
    let (command, header) = (function.read(COMMAND) & COMMAND_HALF, function.read(HEADER));
    function.write(at + 4, control & COMMAND_HALF & !PME_STATUS & !POWER_STATE);
    function.delay_us(10_000);
    for (register, value) in saved {
        function.write(register, value);
    }
    function.write(HEADER, header);
    function.write(COMMAND, command);
}

/// Opens the bridges between the processor and a card, the one at the root first: each passes the card's registers down and
/// its DMA up only if it decodes memory and is a bus master itself. Firmware that did not boot from the card may have left
/// them shut.
pub fn open_path<F: Function>(bridges: impl Iterator<Item = F>) {
    for bridge in bridges {
        wake(&bridge);
        let command = bridge.read(COMMAND) & 0xffff;
        bridge.write(COMMAND, command | COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER);
    }
}

/// Keeps the link between a card and the bridge above out of L0s and L1, the card's end first (PCI Express 5.4.1.3).
pub fn keep_link_awake<F: Function>(card: &F, bridge: Option<&F>) {
    for end in [Some(card), bridge].into_iter().flatten() {
        let Some(at) = capability(end, EXPRESS).filter(|at| *at <= 0xfc - LINK_CONTROL) else { continue };
        let control = end.read(at + LINK_CONTROL) & 0xffff;
        end.write(at + LINK_CONTROL, control & !LINK_CONTROL_ASPM);
    }
}
