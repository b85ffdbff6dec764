//! LEB128: seven bits a byte, the lowest first; the shortest form only.

/// Bytes in the longest varint.
pub(crate) const MAX: usize = 10;

/// Bytes that `value` takes.
pub(crate) const fn len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Writes `value` to the front of `out`, which has room for it, and says how many bytes it took.
pub(crate) fn put(out: &mut [u8], mut value: u64) -> usize {
    let mut n = 0;
    for slot in out {
        n += 1;
        *slot = value as u8 & 0x7f;
        value >>= 7;
        if value == 0 {
            break;
        }
        *slot |= 0x80;
    }
    n
}

/// Reads the varint at the front of `bytes`, and says how many bytes it took.
pub(crate) fn get(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().take(MAX).enumerate() {
        if i == MAX - 1 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return (byte != 0 || i == 0).then_some((value, i + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_has_one_form() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut out = [0xff; MAX];
                let n = put(&mut out, value);
                assert_eq!(n, len(value), "{value:#x}");
                assert_eq!(get(&out[..n]), Some((value, n)));
                assert_eq!(get(&out[..n - 1]), None);
            }
        }
        assert_eq!(get(&[0x80, 0x00]), None);
        assert_eq!(get(&[0xff; 10]), None);
        assert_eq!(get(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), None);
    }
}
