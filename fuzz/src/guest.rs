//! What a guest and its image can hand in.

use guest_load::{Module, detect, extract, load};
use vm_types::Gpa;

use crate::memory::Ram;

/// A kernel image, loaded with a module into a small VM, and unpacked as the image builder does.
pub fn load_image(data: &[u8]) {
    let memory = Ram::new(8 << 20);
    let modules = [Module { bytes: &[0x5A; 100], string: "initrd" }];
    if load(&memory, data, "console=ttyS0", &modules, Some(Gpa(0xE_0000))).is_ok() {
        assert!(detect(data).is_ok());
    }
    // A payload or a lean file is never larger than what it came from.
    if let Ok(payload) = extract::payload(data) {
        assert!(payload.bytes.len() <= data.len());
    }
    let _ = extract::lean_elf(data);
}
