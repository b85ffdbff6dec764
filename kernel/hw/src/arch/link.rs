//! What the linker puts together: where the parts of the image lie, and the code that is written in assembly. The host's
//! tests have none of it: `mock.rs`.

#[cfg(not(target_os = "none"))]
mod mock;
#[cfg(target_os = "none")]
mod real;

#[cfg(not(target_os = "none"))]
pub(crate) use mock::*;
#[cfg(target_os = "none")]
pub(crate) use real::*;

/// The parts of the image, each in whole pages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Image {
    /// First address.
    pub(crate) start: u64,
    /// End of the code.
    pub(crate) text_end: u64,
    /// End of the constants.
    pub(crate) rodata_end: u64,
    /// End of all.
    pub(crate) end: u64,
}

/// Code for a CPU that comes up in real mode. Bytes at an offset of it are filled in before it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trampoline {
    /// The code.
    pub(crate) code: &'static [u8],
    /// Offset of the word for CR3.
    pub(crate) cr3: usize,
    /// Offset of the word for EFER.
    pub(crate) efer: usize,
    /// Offset of the word for the bits of IA32_MISC_ENABLE that are to be cleared.
    pub(crate) misc_enable_clear: usize,
}
