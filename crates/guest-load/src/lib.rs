//! Loads a guest kernel into guest memory: bzImage, ELF with a PVH note, Multiboot 1 ELF32.
//!
//! [`load`] writes the kernel, its modules and the boot information of its protocol through
//! [`GuestMemory`], and answers with the CPU state ([`Entry`]) that the protocol asks for.
//! Images are foreign bytes: every field is checked, and an error names the field and its value.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bytes;
mod bzimage;
mod elf;
mod entry;
mod error;
pub mod extract;
mod layout;
mod multiboot;
mod noted;
mod pvh;

use vm_types::{Gpa, GuestMemory};

pub use entry::{Entry, Mode, RAX, RBX, RSI, RSP, Segment, TableRegister};
pub use error::LoadError;
pub use layout::{MapEntry, MapKind, RESERVED_END, RESERVED_START, memory_map};

pub use noted::{Copies, Noted};

use layout::Space;

/// The boot protocol an image asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Linux, by its 64-bit boot protocol.
    BzImage,
    /// ELF64 with the note of a PVH entry point (Linux's `vmlinux`, and others).
    PvhElf64,
    /// Multiboot 1: an ELF32, or any file whose header has the address fields.
    Multiboot1,
}

/// A file handed to the guest beside its kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Module<'a> {
    /// The content.
    pub bytes: &'a [u8],
    /// The string that Multiboot and PVH guests see; Linux does not.
    pub string: &'a str,
}

/// Finds out which protocol starts `image`.
///
/// # Errors
/// [`LoadError::NotAKernel`] for none of them; a field's error for an ELF file or header that is broken.
pub fn detect(image: &[u8]) -> Result<Kind, LoadError> {
    if bzimage::is_bzimage(image) {
        return Ok(Kind::BzImage);
    }
    if elf::is_elf64(image) && pvh::entry_point(&elf::Elf::parse(image)?)?.is_some() {
        return Ok(Kind::PvhElf64);
    }
    if multiboot::find_header(image).is_some() {
        return Ok(Kind::Multiboot1);
    }
    Err(LoadError::NotAKernel)
}

/// Loads `image` and everything its protocol needs, and returns the state of the first vCPU.
///
/// * `cmdline`: the guest's command line, verbatim.
/// * `modules`: for a bzImage, joined to one initrd; for a PVH guest, its module list, of which Linux takes the
///   first as its initrd; for a Multiboot guest, its modules with their strings.
/// * `rsdp`: where the caller has put, or will put, the ACPI root pointer. Nothing here is placed in
///   [`RESERVED_START`]`..`[`RESERVED_END`], where the ACPI tables live.
///
/// Where `mem` is a [`Noted`], what comes from the files is copied afterwards, in steps.
///
/// # Errors
/// Why this image cannot start in this VM. The guest memory may then be partly written.
pub fn load<M: GuestMemory + ?Sized>(
    mem: &M,
    image: &[u8],
    cmdline: &str,
    modules: &[Module<'_>],
    rsdp: Option<Gpa>,
) -> Result<Entry, LoadError> {
    let kind = detect(image)?;
    if cmdline.contains('\0') {
        return Err(LoadError::CommandLineNul);
    }
    let mut space = Space::new(mem);
    layout::write_bios_data(&space)?;
    match kind {
        Kind::BzImage => bzimage::load(&mut space, image, cmdline, modules, rsdp),
        Kind::PvhElf64 => pvh::load(&mut space, image, cmdline, modules, rsdp),
        Kind::Multiboot1 => multiboot::load(&mut space, image, cmdline, modules),
    }
}
