//! The kernel's ELF file as one piece of memory.

/// Type of a segment that is loaded (ELF-64, 2.2).
const PT_LOAD: u32 = 1;

/// Where the kernel belongs and what goes there.
pub(crate) struct Image {
    file: &'static [u8],
    /// First byte, physical.
    pub(crate) start: u32,
    /// First byte behind what comes from the file.
    pub(crate) loaded: u32,
    /// First byte behind what the kernel uses.
    pub(crate) end: u32,
    /// The entry in 32-bit protected mode.
    pub(crate) entry: u32,
}

struct Segment {
    address: u32,
    offset: usize,
    in_file: u32,
    in_memory: u32,
}

impl Image {
    pub(crate) fn parse(file: &'static [u8]) -> Option<Self> {
        if file.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let entry = u32::try_from(word(file, 24)?).ok()?;
        let mut image = Self { file, start: u32::MAX, loaded: 0, end: 0, entry };
        for segment in image.segments() {
            let segment = segment?;
            file.get(segment.offset..)?.get(..segment.in_file as usize)?;
            image.start = image.start.min(segment.address);
            image.loaded = image.loaded.max(segment.address.checked_add(segment.in_file)?);
            image.end = image.end.max(segment.address.checked_add(segment.in_memory)?);
        }
        (image.start < image.loaded && image.loaded <= image.end).then_some(image)
    }

    /// Puts the file's part, `loaded - start` bytes of zeros until now, into `to`.
    pub(crate) fn copy(&self, to: &mut [u8]) -> Option<()> {
        for segment in self.segments() {
            let segment = segment?;
            let from = self.file.get(segment.offset..)?.get(..segment.in_file as usize)?;
            let at = (segment.address - self.start) as usize;
            to.get_mut(at..)?.get_mut(..from.len())?.copy_from_slice(from);
        }
        Some(())
    }

    /// The segments to load; `None` for one that cannot be read.
    fn segments(&self) -> impl Iterator<Item = Option<Segment>> + use<> {
        let file = self.file;
        let first = word(file, 32);
        let count = half(file, 56).unwrap_or(0);
        let size = half(file, 54).unwrap_or(0);
        (0..count)
            .map(move |n| {
                let at = usize::try_from(first?).ok()?.checked_add(n * size)?;
                let kind = word(file, at)? as u32;
                let field = |offset| u32::try_from(word(file, at + offset)?).ok();
                let offset = usize::try_from(word(file, at + 8)?).ok()?;
                let segment =
                    Segment { offset, address: field(24)?, in_file: field(32)?, in_memory: field(40)? };
                Some((kind, segment))
            })
            .filter_map(|found| match found {
                Some((PT_LOAD, segment)) => Some(Some(segment)),
                Some(_) => None,
                None => Some(None),
            })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?).into())
}
