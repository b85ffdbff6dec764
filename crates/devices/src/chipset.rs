//! The small ports of a PC: keyboard controller without a keyboard, port 0x92, debug exit, reset control, and the address
//! register of PCI configuration.

use crate::config::PlatformConfig;
use crate::device::{Device, Touched};
use crate::effect::Effect;
use crate::state::{decode, encode, ensure};
use minicbor::{Decode, Encode};
use vm_types::{Now, StateError, StateRecord};

const KIND: &str = Chipset::KIND;
const VERSION: u16 = 1;
const KEYBOARD_DATA: u16 = 0x60;
const KEYBOARD_CONTROL: u16 = 0x64;
const PORT_A: u16 = 0x92;
const DEBUG_EXIT: u16 = 0xF4;
/// The address register of PCI configuration.
const PCI_ADDRESS: u16 = 0xCF8;
const RESET_CONTROL: u16 = 0xCF9;
const OUTPUT_FULL: u8 = 1;
const SYSTEM_FLAG: u8 = 4;
const LAST_WAS_COMMAND: u8 = 8;
/// The keylock is open.
const UNLOCKED: u8 = 0x10;
const TIME_OUT: u8 = 0x40;
/// What the controller reports for a device that does not answer.
const NO_ANSWER: u8 = 0xFE;
const SELF_TEST_PASSED: u8 = 0x55;
/// Interface test: the clock line is stuck, as without a device.
const CLOCK_STUCK: u8 = 0x01;
const RESET_LINE: u8 = 1;
/// Reset line released, A20 on.
const OUTPUT_PORT: u8 = 0x03;

#[derive(Clone, Encode, Decode)]
pub(crate) struct Chipset {
    /// The keyboard controller's status bits beside OBF and IBF.
    #[n(0)]
    status: u8,
    #[n(1)]
    output: Option<u8>,
    /// The controller's command byte.
    #[n(2)]
    command_byte: u8,
    /// The command whose data byte is awaited.
    #[n(3)]
    command: Option<u8>,
    #[n(4)]
    port92: u8,
    #[n(5)]
    reset_control: u8,
    #[n(6)]
    pci_address: u32,
    /// A write to port 0xF4 ends the VM.
    #[cbor(skip)]
    debug_exit: bool,
}

impl Chipset {
    fn new() -> Self {
        Self {
            status: SYSTEM_FLAG,
            output: None,
            command_byte: 0x34,
            command: None,
            port92: 0x02,
            reset_control: 0,
            pci_address: 0,
            debug_exit: false,
        }
    }

    fn read_keyboard(&mut self, port: u16) -> u8 {
        if port == KEYBOARD_CONTROL {
            return self.status | UNLOCKED | if self.output.is_some() { OUTPUT_FULL } else { 0 };
        }
        self.status &= !TIME_OUT;
        self.output.take().unwrap_or(0)
    }

    /// True when the write pulls the reset line.
    fn write_keyboard(&mut self, port: u16, value: u8) -> bool {
        if port == KEYBOARD_CONTROL {
            self.status |= LAST_WAS_COMMAND;
            return self.keyboard_command(value);
        }
        self.status &= !LAST_WAS_COMMAND;
        match self.command.take() {
            Some(0x60) => self.command_byte = value,
            Some(0xD1) => return value & RESET_LINE == 0,
            // Write to the output buffer: the byte comes back as if a keyboard had sent it.
            Some(0xD2) => self.output = Some(value),
            // A byte for either device: nobody is there.
            _ => {
                self.status |= TIME_OUT;
                self.output = Some(NO_ANSWER);
            }
        }
        false
    }

    fn keyboard_command(&mut self, value: u8) -> bool {
        self.command = None;
        match value {
            0x20 => self.output = Some(self.command_byte),
            0x60 | 0xD1..=0xD4 => self.command = Some(value),
            0xAA => self.output = Some(SELF_TEST_PASSED),
            0xA9 | 0xAB => self.output = Some(CLOCK_STUCK),
            0xAD => self.command_byte |= 0x10,
            0xAE => self.command_byte &= !0x10,
            0xA7 => self.command_byte |= 0x20,
            0xA8 => self.command_byte &= !0x20,
            0xC0 => self.output = Some(0),
            0xD0 => self.output = Some(OUTPUT_PORT),
            // Pulse the output lines that are 0 in the low nibble.
            0xF0..=0xFF => return value & RESET_LINE == 0,
            _ => {}
        }
        false
    }

    /// What the guest last wrote to the address register of PCI configuration.
    pub(crate) fn pci_address(&self) -> u32 {
        self.pci_address
    }

    /// True on the rise of RST_CPU.
    fn write_reset(&mut self, value: u8) -> bool {
        let rises = value & !self.reset_control & 4 != 0;
        self.reset_control = value & 0x0A;
        rises
    }
}

impl Device for Chipset {
    const KIND: &'static str = "chipset";
    const PORTS: &'static [(u16, u16)] = &[
        (KEYBOARD_DATA, KEYBOARD_DATA),
        (KEYBOARD_CONTROL, KEYBOARD_CONTROL),
        (PORT_A, PORT_A),
        (DEBUG_EXIT, DEBUG_EXIT),
        (PCI_ADDRESS, PCI_ADDRESS + 3),
    ];
    /// The keyboard's.
    const IRQ: Option<u8> = Some(1);

    fn build(config: &PlatformConfig) -> Self {
        Self { debug_exit: config.debug_exit, ..Self::new() }
    }

    /// The address register of PCI configuration answers as a whole only: one of its bytes is the reset control.
    #[inline(always)]
    fn takes(port: u16, size: u8) -> bool {
        size == 1 || port == PCI_ADDRESS && size == 4
    }

    fn input(&mut self, port: u16, size: u8, _: Now) -> (u32, Touched) {
        let byte = match port {
            KEYBOARD_DATA | KEYBOARD_CONTROL => {
                return (self.read_keyboard(port).into(), Touched::LINE);
            }
            // A20 is always on.
            PORT_A => self.port92,
            PCI_ADDRESS if size == 4 => return (self.pci_address, Touched::NOTHING),
            RESET_CONTROL => self.reset_control,
            _ => 0xFF,
        };
        (byte.into(), Touched::NOTHING)
    }

    fn output(&mut self, port: u16, size: u8, value: u32, _: Now) -> (Option<Effect>, Touched) {
        let byte = value as u8;
        let reset = match port {
            KEYBOARD_DATA | KEYBOARD_CONTROL => self.write_keyboard(port, byte),
            PORT_A => {
                self.port92 = byte & 0xFE | 0x02;
                byte & 1 != 0
            }
            DEBUG_EXIT if self.debug_exit => return (Some(Effect::DebugExit(byte)), Touched::NOTHING),
            PCI_ADDRESS if size == 4 => {
                self.pci_address = value & 0x80FF_FFFC;
                false
            }
            RESET_CONTROL => self.write_reset(byte),
            _ => false,
        };
        (reset.then_some(Effect::Reset), Touched::LINE)
    }

    fn line(&self) -> bool {
        self.output.is_some() && self.command_byte & 1 != 0
    }

    fn export(&self) -> StateRecord {
        encode(KIND, 0, VERSION, self)
    }

    fn import(record: &StateRecord, config: &PlatformConfig) -> Result<Self, StateError> {
        let chipset: Self = decode(record, VERSION)?;
        let status = chipset.status;
        ensure(status & !(SYSTEM_FLAG | LAST_WAS_COMMAND | TIME_OUT) == 0, KIND, "status", status)?;
        let command = chipset.command.unwrap_or(0x60);
        ensure(matches!(command, 0x60 | 0xD1..=0xD4), KIND, "command", command)?;
        ensure(chipset.port92 & 3 == 2, KIND, "port 0x92", chipset.port92)?;
        ensure(chipset.reset_control & !0x0A == 0, KIND, "reset control", chipset.reset_control)?;
        ensure(chipset.pci_address & !0x80FF_FFFC == 0, KIND, "PCI address", chipset.pci_address)?;
        Ok(Self { debug_exit: config.debug_exit, ..chipset })
    }
}
