//! External NMIs: what port 0x61 says of them, and how the next one is let through.

/// Why the machine sent an NMI, as port 0x61 reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reason(pub u8);

const SERR: u8 = 1 << 7;
const CHANNEL_CHECK: u8 = 1 << 6;
/// The bits that can be written; a write with ones here clears and masks SERR and channel check.
const CONTROL: u8 = 0x0f;
const MASK_SERR: u8 = 1 << 2;
const MASK_CHANNEL_CHECK: u8 = 1 << 3;

impl Reason {
    /// What to write to port 0x61, one value after the other, so that the error is cleared and the next one makes an NMI
    /// again: the error's mask bit set, then clear. Nothing where the port names no error.
    pub fn rearm(self) -> Option<[u8; 2]> {
        let Self(value) = self;
        let mut mask = 0;
        if value & SERR != 0 {
            mask |= MASK_SERR;
        }
        if value & CHANNEL_CHECK != 0 {
            mask |= MASK_CHANNEL_CHECK;
        }
        (mask != 0).then_some([value & CONTROL | mask, value & CONTROL & !mask])
    }
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match (self.0 & SERR != 0, self.0 & CHANNEL_CHECK != 0) {
            (true, false) => "a PCI system error (SERR#)",
            (false, true) => "an I/O channel check",
            (true, true) => "a PCI system error and an I/O channel check",
            (false, false) => "no reason given (the NMI button, a watchdog?)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn the_error_that_came_is_cleared_and_armed_again() {
        assert_eq!(Reason(0x80 | 0x21).rearm(), Some([0x05, 0x01]));
        assert_eq!(Reason(0x40 | 0x30).rearm(), Some([0x08, 0x00]));
        assert_eq!(Reason(0xc0).rearm(), Some([0x0c, 0x00]));
        assert_eq!(Reason(0x31).rearm(), None);
    }
}
