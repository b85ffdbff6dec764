//! The machine's UUID (SMBIOS 3.6, 7.2: system information).

use alloc::format;
use alloc::string::String;
use uefi::system;
use uefi::table::cfg::ConfigTableEntry;

/// Largest structure table that is looked through, in bytes.
const MAX_TABLE: usize = 1 << 20;

/// The UUID as `dmidecode` writes it, lower case; none where it is not set.
pub(crate) fn uuid() -> Option<String> {
    let table = table()?;
    let mut at = 0;
    loop {
        let (kind, len) = (*table.get(at)?, usize::from(*table.get(at + 1)?));
        let body = table.get(at..)?.get(..len)?;
        if kind == 1 {
            return body.get(8..24).and_then(text);
        }
        if len < 4 || kind == 127 {
            return None;
        }
        // Strings follow, the last of them empty.
        let strings = table.get(at + len..)?;
        at += len + strings.windows(2).position(|pair| pair == [0, 0])? + 2;
    }
}

fn text(id: &[u8]) -> Option<String> {
    if id.iter().all(|&b| b == 0) || id.iter().all(|&b| b == 0xff) {
        return None;
    }
    let id: &[u8; 16] = id.try_into().ok()?;
    let [a, b, c, d, e, f, g, h, i, j, rest @ ..] = id;
    let node: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    // The first three fields are little-endian.
    Some(format!("{d:02x}{c:02x}{b:02x}{a:02x}-{f:02x}{e:02x}-{h:02x}{g:02x}-{i:02x}{j:02x}-{node}"))
}

fn table() -> Option<&'static [u8]> {
    let find = |wanted| {
        system::with_config_table(|table| {
            table.iter().find(|entry| entry.guid == wanted).map(|entry| entry.address)
        })
    };
    let (address, len) = if let Some(entry) = find(ConfigTableEntry::SMBIOS3_GUID) {
        // SAFETY: the system table says that a 64-bit entry point of 24 bytes is there (SMBIOS 3.6, 5.2.2).
        let entry: [u8; 24] = unsafe { entry.cast::<[u8; 24]>().read_unaligned() };
        (
            usize::from_le_bytes(entry[16..].try_into().ok()?),
            u32::from_le_bytes(entry[12..16].try_into().ok()?) as usize,
        )
    } else {
        let entry = find(ConfigTableEntry::SMBIOS_GUID)?;
        // SAFETY: the same for the 32-bit entry point of 31 bytes (5.2.1).
        let entry: [u8; 31] = unsafe { entry.cast::<[u8; 31]>().read_unaligned() };
        let address = u32::from_le_bytes(entry[24..28].try_into().ok()?) as usize;
        (address, u16::from_le_bytes(entry[22..24].try_into().ok()?).into())
    };
    if address == 0 {
        return None;
    }
    // SAFETY: the entry point says that the table is there; firmware keeps it and maps memory one to one.
    Some(unsafe { core::slice::from_raw_parts(address as *const u8, len.min(MAX_TABLE)) })
}
