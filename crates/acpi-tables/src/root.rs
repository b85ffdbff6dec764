//! RSDP, RSDT, XSDT and the header every table starts with (5.2.5 to 5.2.8).

use alloc::vec::Vec;

use crate::bytes::{u32_at, u64_at};
use crate::{AcpiError, MAX_TABLE, MAX_TABLES};

const HEADER: usize = 36;
const RSDP_1_LEN: usize = 20;
const RSDP_2_LEN: usize = 36;

/// Where the root table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rsdp {
    /// Physical address of the root table.
    pub root: u64,
    /// Whether it is an XSDT (64-bit addresses).
    pub extended: bool,
}

impl Rsdp {
    /// Checks and reads an RSDP.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let first = bytes.get(..RSDP_1_LEN)?;
        if !first.starts_with(b"RSD PTR ") || !sums_to_zero(first) {
            return None;
        }
        let revision = first[15];
        let extended = bytes.get(..RSDP_2_LEN).filter(|b| revision >= 2 && sums_to_zero(b));
        match extended.and_then(|b| u64_at(b, 24)).filter(|&root| root != 0) {
            Some(root) => Some(Self { root, extended: true }),
            None => Some(Self { root: u32_at(first, 16)?.into(), extended: false }),
        }
    }
}

/// Looks for the RSDP where a BIOS puts it: the first KiB of the EBDA and 0xE0000 to 0xFFFFF (5.2.5.1).
pub fn find_rsdp<'m, M>(memory: &M) -> Option<Rsdp>
where
    M: Fn(u64, usize) -> Option<&'m [u8]>,
{
    let ebda = memory(0x40e, 2).map(|b| u64::from(u16::from_le_bytes([b[0], b[1]])) << 4);
    let ebda = ebda.filter(|at| (0x400..0xa_0000).contains(at)).map(|at| (at, 1024));
    ebda.into_iter().chain([(0xe_0000, 0x2_0000)]).find_map(|(start, len)| {
        (start..start + len).step_by(16).find_map(|at| {
            memory(at, 8).filter(|b| b.starts_with(b"RSD PTR "))?;
            Rsdp::parse(memory(at, RSDP_2_LEN).or_else(|| memory(at, RSDP_1_LEN))?)
        })
    })
}

/// The physical addresses in the root table.
pub(crate) fn tables<'m, M>(rsdp: Rsdp, memory: &M) -> Result<Vec<u64>, AcpiError>
where
    M: Fn(u64, usize) -> Option<&'m [u8]>,
{
    let (signature, root) = table(rsdp.root, memory).ok_or(AcpiError::Root(rsdp.root))?;
    let entries = &root[HEADER..];
    match (&signature, rsdp.extended) {
        (b"XSDT", true) => {
            Ok(entries.chunks_exact(8).take(MAX_TABLES).filter_map(|e| u64_at(e, 0)).collect())
        }
        (b"RSDT", false) => {
            Ok(entries.chunks_exact(4).take(MAX_TABLES).filter_map(|e| u32_at(e, 0)).map(u64::from).collect())
        }
        _ => Err(AcpiError::Root(rsdp.root)),
    }
}

/// The signature and the whole of the table at an address; `None` where it is unreadable or its checksum is wrong.
pub(crate) fn table<'m, M>(address: u64, memory: &M) -> Option<([u8; 4], &'m [u8])>
where
    M: Fn(u64, usize) -> Option<&'m [u8]>,
{
    let header = memory(address, HEADER)?;
    let len = u32_at(header, 4)? as usize;
    if !(HEADER..=MAX_TABLE).contains(&len) {
        return None;
    }
    let whole = memory(address, len).filter(|t| sums_to_zero(t))?;
    Some((whole.get(..4)?.try_into().ok()?, whole))
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b)) == 0
}
