//! What our own UEFI loader hands over: a Multiboot 2 information block under a magic number of its own.

use crate::RegionKind;
use crate::mb2::{COMMAND_LINE, END, LOADER_NAME, MEMORY_MAP, MODULE, RSDP_1, RSDP_2};

/// Writes an information block into a buffer, without allocating. What does not fit is left out, and [`Builder::is_full`]
/// says so.
#[derive(Debug)]
pub struct Builder<'a> {
    out: &'a mut [u8],
    at: usize,
    full: bool,
}

impl<'a> Builder<'a> {
    /// Starts an empty block. `out` must be aligned to 8 bytes where it is handed over.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 8, full: false }
    }

    /// The boot line.
    pub fn command_line(&mut self, line: &str) {
        self.tag(COMMAND_LINE, &[line.as_bytes(), b"\0"]);
    }

    /// The loader's name.
    pub fn loader(&mut self, name: &str) {
        self.tag(LOADER_NAME, &[name.as_bytes(), b"\0"]);
    }

    /// A module: its first byte, the first behind, and its line.
    pub fn module(&mut self, start: u32, end: u32, line: &str) {
        self.tag(MODULE, &[&start.to_le_bytes(), &end.to_le_bytes(), line.as_bytes(), b"\0"]);
    }

    /// A copy of the ACPI RSDP; `second`: of ACPI 2.0.
    pub fn rsdp(&mut self, bytes: &[u8], second: bool) {
        self.tag(if second { RSDP_2 } else { RSDP_1 }, &[bytes]);
    }

    /// The memory map: start, length in bytes, kind. Neighbours of one kind become one entry.
    pub fn memory_map(&mut self, regions: impl Iterator<Item = (u64, u64, RegionKind)>) {
        let tag = self.at;
        self.tag(MEMORY_MAP, &[&24u32.to_le_bytes(), &0u32.to_le_bytes()]);
        if self.at == tag {
            return;
        }
        let mut last: Option<(u64, u64, RegionKind)> = None;
        for (start, len, kind) in regions {
            match &mut last {
                Some((from, size, of)) if *of == kind && from.checked_add(*size) == Some(start) => {
                    *size = size.saturating_add(len);
                }
                last => {
                    if let Some(region) = last.replace((start, len, kind)) {
                        self.region(region);
                    }
                }
            }
        }
        if let Some(region) = last {
            self.region(region);
        }
        let size = (self.at - tag) as u32;
        self.put(tag + 4, &size.to_le_bytes());
    }

    /// True where something did not fit.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Ends the block; its length in bytes.
    pub fn finish(mut self) -> usize {
        // The end tag has to fit, whatever else does.
        self.at = self.at.min(self.out.len().saturating_sub(8) & !7);
        self.tag(END, &[]);
        let total = self.at as u32;
        self.put(0, &total.to_le_bytes());
        self.put(4, &0u32.to_le_bytes());
        self.at
    }

    fn region(&mut self, (start, len, kind): (u64, u64, RegionKind)) {
        let at = self.at;
        let kind = u32::from(kind);
        let parts: [&[u8]; 4] =
            [&start.to_le_bytes(), &len.to_le_bytes(), &kind.to_le_bytes(), &0u32.to_le_bytes()];
        if self.out.len() < at + 24 + 8 {
            self.full = true;
            return;
        }
        for part in parts {
            let at = self.at;
            self.put(at, part);
            self.at += part.len();
        }
    }

    fn tag(&mut self, kind: u32, parts: &[&[u8]]) {
        let size = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
        let end = (self.at + size).next_multiple_of(8);
        // Always room for the end tag.
        if end + if kind == END { 0 } else { 8 } > self.out.len() {
            self.full = true;
            return;
        }
        self.put(self.at, &kind.to_le_bytes());
        self.put(self.at + 4, &(size as u32).to_le_bytes());
        let mut at = self.at + 8;
        for part in parts {
            self.put(at, part);
            at += part.len();
        }
        self.at = end;
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(to) = self.out.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
            to.copy_from_slice(bytes);
        }
    }
}
