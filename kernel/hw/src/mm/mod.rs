//! Physical memory, the heap and the host's page tables.
//!
//! All RAM and every register that is in use are mapped one to one: a host-physical address is a pointer.

pub mod dma;
pub mod frame;
pub mod guest;
mod heap;
pub mod held;
pub mod keep;
pub mod map;

pub use heap::{init as init_heap, usage as heap_usage};
pub use vm_types::Hpa;
pub use x86::PAGE_SIZE as PAGE;

pub(crate) use crate::arch::link::image;

/// Highest address that the loader's page tables map.
const LOADER_MAPS: u64 = 1 << 32;

/// What boot parsers read of physical memory: anything but the first bytes below 4 GiB, while the loader's page tables
/// are live. The slices must not be kept: what they show is nobody's yet and is reused later.
pub fn boot_view(address: u64, len: usize) -> Option<&'static [u8]> {
    let end = address.checked_add(len as u64)?;
    if address == 0 || end > LOADER_MAPS {
        return None;
    }
    // SAFETY: mapped by the loader; nothing writes there as long as the parsers, which copy what they keep, run. The
    // image itself is never handed out by a boot loader, and plain bytes are valid whatever they hold.
    Some(unsafe { core::slice::from_raw_parts(address as *const u8, len) })
}

/// Fills a page of ours with 32-bit words by their number.
pub fn fill_page(page: Hpa, word: impl Fn(usize) -> u32) {
    // SAFETY: callers pass a page that they have from `frame` and gave to nobody.
    let words = unsafe { &mut *(page.0 as *mut [u32; (PAGE / 4) as usize]) };
    for (number, to) in words.iter_mut().enumerate() {
        *to = word(number);
    }
}

/// The bytes of a boot module, until it is given back to [`frame`].
pub fn module_bytes(module: &bootinfo::Module) -> &'static [u8] {
    let len = module.end.saturating_sub(module.start) as usize;
    // SAFETY: `frame` and `map` leave modules alone and mapped; nothing writes there before `frame::free`.
    unsafe { core::slice::from_raw_parts(module.start as *const u8, len) }
}
