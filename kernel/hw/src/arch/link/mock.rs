//! Nothing is linked: an image of no bytes.

use super::{Image, Trampoline};

pub(crate) fn image() -> Image {
    Image::default()
}

pub(crate) fn boot_stacks() -> u64 {
    0
}

pub(crate) fn stubs() -> u64 {
    0
}

pub(crate) fn trampoline() -> Trampoline {
    Trampoline { code: &[0; 12], cr3: 0, efer: 4, misc_enable_clear: 8 }
}

pub(crate) fn selftest_guest() -> &'static [u8] {
    &[]
}

pub(crate) fn selftest_controls() -> &'static [u8] {
    &[]
}

pub(crate) fn selftest_spinner() -> &'static [u8] {
    &[0; 4]
}

pub(crate) fn apicv_probe() -> (u64, u64) {
    (0, 0)
}
