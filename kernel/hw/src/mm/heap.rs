//! The heap: a small part of the image until memory is known, then a piece of RAM sized by it.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};

use linked_list_allocator::Heap;
use spin::Mutex;

use super::{Hpa, frame, keep};

const EARLY: usize = 512 << 10;
/// What guests get memory by.
const LARGE_PAGE: u64 = 2 << 20;

#[repr(align(4096))]
struct Early(UnsafeCell<[u8; EARLY]>);

// SAFETY: handed to the early heap once, and used through its lock from then on.
unsafe impl Sync for Early {}

static EARLY_MEMORY: Early = Early(UnsafeCell::new([0; EARLY]));

struct Allocator {
    early: Mutex<Heap>,
    main: Mutex<Heap>,
}

#[cfg_attr(target_os = "none", global_allocator)]
static ALLOCATOR: Allocator = Allocator { early: Mutex::new(Heap::empty()), main: Mutex::new(Heap::empty()) };

// SAFETY: both heaps give out memory that is theirs and used by nobody else; a block goes back to the heap that it
// came from, which its address tells.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut main = self.main.lock();
        let block = if main.size() != 0 {
            main.allocate_first_fit(layout)
        } else {
            let mut early = self.early.lock();
            if early.size() == 0 {
                // SAFETY: the static is the heap's alone, and this happens once.
                unsafe { early.init(EARLY_MEMORY.0.get().cast(), EARLY) };
            }
            early.allocate_first_fit(layout)
        };
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let start = EARLY_MEMORY.0.get().addr();
        let heap = if (start..start + EARLY).contains(&block.addr()) { &self.early } else { &self.main };
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller passes a block that `alloc` gave out with this layout.
            unsafe { heap.lock().deallocate(block, layout) };
        }
    }
}

/// Makes the main heap of a 64th of `ram` bytes. Returns its size.
pub fn init(ram: u64) -> u64 {
    let mut size = (ram / 64).clamp(8 << 20, 1 << 30) & !0xfff;
    // Behind the log, so that the two cut up free memory once. A small machine may not have 8 MiB in one piece.
    let behind = keep::behind().and_then(|Hpa(start)| {
        let end = (start + size).next_multiple_of(LARGE_PAGE);
        frame::take_at(Hpa(start), end - start).then_some((Hpa(start), end - start))
    });
    let at = loop {
        if let Some((at, bytes)) = behind {
            size = bytes;
            break at;
        }
        match frame::take(size, super::PAGE) {
            Some(at) => break at,
            None => size /= 2,
        }
        assert!(size >= 1 << 20, "no memory for the heap");
    };
    let Hpa(base) = at;
    // SAFETY: the frames are mapped, writable and the heap's alone for ever.
    unsafe { ALLOCATOR.main.lock().init(base as *mut u8, size as usize) };
    size
}

/// Bytes of the main heap in use, and its size.
pub fn usage() -> (usize, usize) {
    let heap = ALLOCATOR.main.lock();
    (heap.used(), heap.size())
}
