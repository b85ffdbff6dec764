//! The forms of values that more than one option uses.

use alloc::string::{String, ToString};
use core::net::Ipv4Addr;

use crate::MAX_NAME;

/// `[a-z0-9-]{1,31}`: the name of a VM or of a CPU level.
pub(crate) fn name(value: &str) -> Option<String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    ((1..=MAX_NAME).contains(&value.len()) && value.bytes().all(fits)).then(|| value.to_string())
}

/// Digits only, within `min..=max`: no sign, no unit.
pub(crate) fn decimal(value: &str, min: u32, max: u32) -> Option<u32> {
    if !value.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    value.parse().ok().filter(|number| (min..=max).contains(number))
}

/// A host's own address: not `0.x`, not multicast, not broadcast.
pub(crate) fn unicast(value: &str) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = value.parse().ok()?;
    (address.octets()[0] != 0 && address.octets()[0] < 224).then_some(address)
}

/// One to `digits` hexadecimal digits without a prefix.
pub(crate) fn hex(word: &str, digits: usize) -> Option<u64> {
    let fits = (1..=digits).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(word, 16).ok().filter(|_| fits)
}

/// `BB:DD.F`, hexadecimal: bus, device and function of PCI.
pub(crate) fn pci(word: &str) -> Option<(u8, u8, u8)> {
    let (bus, rest) = word.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let bus = u8::try_from(hex(bus, 2)?).ok()?;
    let device = u8::try_from(hex(device, 2)?).ok().filter(|device| *device < 32)?;
    Some((bus, device, decimal(function, 0, 7)? as u8))
}
