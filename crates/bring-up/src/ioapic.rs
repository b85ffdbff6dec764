//! I/O APICs (82093AA datasheet): firmware may leave inputs open that interrupt a kernel which takes none of them.

/// The two windows of an I/O APIC.
pub trait Registers {
    /// Reads the register with that index.
    fn read(&mut self, index: u8) -> u32;
    /// Writes it.
    fn write(&mut self, index: u8, value: u32);
}

const VERSION: u8 = 1;
/// First of the redirection entries, of two registers each.
const TABLE: u8 = 0x10;
const MASKED: u32 = 1 << 16;
const DELIVERY: u32 = 7 << 8;
const DELIVERY_SMI: u32 = 2 << 8;
/// An index has 8 bits.
const MOST: u32 = (0x100 - TABLE as u32) / 2;

/// Masks every input but those that make SMIs, which are the firmware's own. How many were open; none where no I/O APIC
/// answers.
pub fn mask(apic: &mut impl Registers) -> Option<u32> {
    let version = apic.read(VERSION);
    if version == u32::MAX || version == 0 {
        return None;
    }
    let entries = ((version >> 16 & 0xff) + 1).min(MOST);
    let mut open = 0;
    for entry in 0..entries {
        let index = TABLE + entry as u8 * 2;
        let value = apic.read(index);
        if value & MASKED == 0 && value & DELIVERY != DELIVERY_SMI {
            apic.write(index, value | MASKED);
            open += 1;
        }
    }
    Some(open)
}

#[cfg(test)]
mod tests {
    use super::{MASKED, Registers, mask};

    struct Table {
        version: u32,
        entries: [u32; 240],
    }

    impl Registers for Table {
        fn read(&mut self, index: u8) -> u32 {
            if index == 1 { self.version } else { self.entries[usize::from(index) - 0x10] }
        }

        fn write(&mut self, index: u8, value: u32) {
            self.entries[usize::from(index) - 0x10] = value;
        }
    }

    /// Fault 2.21: inputs stayed as firmware left them.
    #[test]
    fn all_inputs_are_masked_but_the_firmwares() {
        let mut table = Table { version: 23 << 16 | 0x11, entries: [MASKED; 240] };
        table.entries[2 * 2] = 0x30;
        table.entries[9 * 2] = 0x8000 | 0x39;
        table.entries[7 * 2] = 2 << 8;
        table.entries[24 * 2] = 0x44;
        assert_eq!(mask(&mut table), Some(2));
        assert_eq!(
            [2, 9, 7, 24].map(|n: usize| table.entries[n * 2] & MASKED != 0),
            [true, true, false, false]
        );
    }

    #[test]
    fn nothing_is_written_where_nobody_answers() {
        for version in [u32::MAX, 0] {
            assert_eq!(mask(&mut Table { version, entries: [0; 240] }), None);
        }
        assert_eq!(mask(&mut Table { version: 0xff << 16 | 0x20, entries: [0; 240] }), Some(120));
    }
}
