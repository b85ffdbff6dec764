//! From a bzImage to an ELF file that holds little but what is loaded: the kernel would spend 5 G instructions on
//! unpacking itself in the guest.

use crate::process::{MissingTool, run_tool};
use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Offsets in the setup header (Linux: Documentation/arch/x86/boot.rst).
const SETUP_SECTS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
const GZIP_MAGIC: &[u8] = b"\x1f\x8b";

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PAGE: usize = 4096;

/// Unpacks the kernel ELF out of a bzImage.
pub fn unpack(image: &[u8]) -> Result<Vec<u8>> {
    let setup = match *image.get(SETUP_SECTS).context("not a bzImage")? {
        0 => 4,
        count => usize::from(count),
    };
    let start = (setup + 1) * 512 + read32(image, PAYLOAD_OFFSET)? as usize;
    let length = read32(image, PAYLOAD_LENGTH)? as usize;
    // The last four bytes are the unpacked size, which the tools take for garbage.
    let payload =
        image.get(start..start + length.saturating_sub(4)).context("payload lies outside the file")?;
    let tool = match payload {
        p if p.starts_with(XZ_MAGIC) => ("xz", "xz-utils"),
        p if p.starts_with(GZIP_MAGIC) => ("gzip", "gzip"),
        _ => anyhow::bail!("the payload is neither XZ nor gzip"),
    };
    let file = std::env::temp_dir().join(format!("flexvisor-payload-{}", std::process::id()));
    std::fs::write(&file, payload)?;
    let unpacked = run_tool(Command::new(tool.0).arg("-dc").arg(&file), tool.1);
    let _ = std::fs::remove_file(&file);
    let unpacked = unpacked?;
    ensure!(
        unpacked.starts_with(b"\x7fELF"),
        MissingTool { tool: "an ELF in the bzImage".into(), package: tool.1 }
    );
    Ok(unpacked)
}

/// The same ELF with nothing but its headers, its notes and the bytes of its segments up to the last that is not
/// zero (loaders fill the rest up with zeros).
pub fn lean(elf: &[u8]) -> Result<Vec<u8>> {
    ensure!(elf.get(..6) == Some(b"\x7fELF\x02\x01"), "not a little-endian ELF64 file");
    let table = read64(elf, 32)? as usize;
    let size = usize::from(read16(elf, 54)?);
    let count = usize::from(read16(elf, 56)?);
    ensure!(size == 56 && count < 64, "odd program headers");
    let mut headers = Vec::new();
    for index in 0..count {
        let at = table + index * size;
        headers.push(elf.get(at..at + size).context("program headers lie outside the file")?.to_vec());
    }
    let mut out = elf[..64].to_vec();
    out[32..40].copy_from_slice(&64_u64.to_le_bytes());
    out[40..48].fill(0); // no sections
    out[58..64].fill(0);
    out.resize(64 + count * size, 0);
    let mut moved = Vec::new();
    for header in headers.iter_mut().filter(|header| kind(header) == PT_LOAD) {
        let (from, length) = (read64(header, 8)? as usize, read64(header, 32)? as usize);
        let bytes = elf.get(from..from + length).context("a segment lies outside the file")?;
        let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        out.resize(out.len().next_multiple_of(PAGE), 0);
        moved.push((from, from + used, out.len()));
        write64(header, 8, out.len());
        write64(header, 32, used);
        write64(header, 48, PAGE);
        out.extend(&bytes[..used]);
    }
    for header in headers.iter_mut().filter(|header| kind(header) == PT_NOTE) {
        let (from, length) = (read64(header, 8)? as usize, read64(header, 32)? as usize);
        let home =
            moved.iter().find(|(start, end, _)| (*start..*end).contains(&from) && from + length <= *end);
        let (start, _, to) = home.context("the notes are not within a segment")?;
        write64(header, 8, to + (from - start));
    }
    for (index, header) in headers.iter().enumerate() {
        out[64 + index * size..][..size].copy_from_slice(header);
    }
    Ok(out)
}

fn kind(header: &[u8]) -> u32 {
    read32(header, 0).unwrap_or_default()
}

fn read16(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(bytes.get(at..at + 2).context("file too short")?.try_into()?))
}

fn read32(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(bytes.get(at..at + 4).context("file too short")?.try_into()?))
}

fn read64(bytes: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(bytes.get(at..at + 8).context("file too short")?.try_into()?))
}

fn write64(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u32, offset: usize, length: usize) -> Vec<u8> {
        let mut header = vec![0; 56];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        write64(&mut header, 8, offset);
        write64(&mut header, 32, length);
        write64(&mut header, 40, length);
        header
    }

    #[test]
    fn lean_keeps_bytes_and_notes() {
        let mut elf = vec![0; 0x3000];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        write64(&mut elf, 32, 64);
        elf[54] = 56;
        elf[56] = 2;
        elf[64..120].copy_from_slice(&header(PT_LOAD, 0x2000, 0x1000));
        elf[120..176].copy_from_slice(&header(PT_NOTE, 0x2010, 4));
        elf[0x2010..0x2014].copy_from_slice(b"note");
        let lean = lean(&elf).unwrap();
        assert_eq!(lean.len(), 0x1014);
        assert_eq!(read64(&lean, 64 + 8).unwrap(), 0x1000);
        assert_eq!(read64(&lean, 64 + 40).unwrap(), 0x1000, "size in memory stays");
        let note = read64(&lean, 120 + 8).unwrap() as usize;
        assert_eq!(&lean[note..note + 4], b"note");
    }

    #[test]
    fn foreign_files_are_refused() {
        assert!(lean(b"MZ").is_err());
        assert!(unpack(&[0; 0x300]).is_err());
    }
}
