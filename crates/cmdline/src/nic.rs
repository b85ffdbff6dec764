//! `nic=`: the network card that the host uses.

use core::fmt;

use crate::value;

/// Which of a host's network cards is its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NicChoice {
    /// The first in PCI order that has a link, else the first.
    #[default]
    Auto,
    /// The one with this Ethernet address.
    Mac([u8; 6]),
    /// The one at this place.
    Place {
        /// 0 to 255.
        bus: u8,
        /// 0 to 31.
        device: u8,
        /// 0 to 7.
        function: u8,
    },
}

impl NicChoice {
    /// `auto`, an address of six bytes with `:` or `-` between them, or `BB:DD.F`.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        if value == "auto" {
            return Some(Self::Auto);
        }
        if let Some((bus, device, function)) = value::pci(value) {
            return Some(Self::Place { bus, device, function });
        }
        let between = if value.contains('-') { '-' } else { ':' };
        let mut bytes = value.split(between);
        let mut mac = [0; 6];
        for byte in &mut mac {
            *byte = bytes.next().filter(|word| word.len() == 2).and_then(|word| value::hex(word, 2))? as u8;
        }
        let station = mac[0] & 1 == 0 && mac != [0; 6];
        (station && bytes.next().is_none()).then_some(Self::Mac(mac))
    }
}

impl fmt::Display for NicChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Mac([a, b, c, d, e, g]) => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
            Self::Place { bus, device, function } => write!(f, "{bus:02x}:{device:02x}.{function}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NicChoice::{self, Auto, Mac, Place};

    #[test]
    fn forms() {
        let mac = Some(Mac([0x52, 0x54, 0, 0xab, 0, 1]));
        assert_eq!(NicChoice::parse("auto"), Some(Auto));
        assert_eq!(NicChoice::parse("52:54:00:ab:00:01"), mac);
        assert_eq!(NicChoice::parse("52-54-00-AB-00-01"), mac);
        assert_eq!(NicChoice::parse("82:1f.7"), Some(Place { bus: 0x82, device: 31, function: 7 }));
        for wrong in [
            "",
            "Auto",
            "eth0",
            "52:54:00:ab:00",
            "52:54:00:ab:00:01:02",
            "52:54:00:ab:00:1",
            "52:54:00:ab:00:g1",
            "52:54-00:ab:00:01",
            "53:54:00:ab:00:01",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "00:20.0",
            "00:02.8",
            "100:02.0",
            "00:02",
        ] {
            assert_eq!(NicChoice::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn shown_as_it_is_written() {
        extern crate std;
        use std::string::ToString;
        for text in ["auto", "52:54:00:ab:00:01", "82:1f.7"] {
            assert_eq!(NicChoice::parse(text).map(|choice| choice.to_string()).as_deref(), Some(text));
        }
    }
}
