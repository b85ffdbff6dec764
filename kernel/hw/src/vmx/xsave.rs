//! The page that holds a vCPU's FPU state while it is on no CPU (`arch/xstate.rs`).

use core::ops::{Deref, DerefMut};

use crate::arch::xstate::{AREA, Area};
use crate::mm::{Hpa, frame};

/// The XSAVE area of one vCPU.
pub struct XsaveArea(Hpa);

impl XsaveArea {
    /// Bytes of an area.
    pub const BYTES: usize = AREA;

    /// A zeroed area, for the state that its vCPU is given before it runs; `None` when the host is out of memory.
    pub fn new() -> Option<Self> {
        frame::alloc_page().map(Self)
    }

    /// The saved state.
    pub fn bytes(&self) -> &[u8; Self::BYTES] {
        &(**self).0
    }

    /// The saved state, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8; Self::BYTES] {
        &mut (**self).0
    }
}

impl Deref for XsaveArea {
    type Target = Area;

    fn deref(&self) -> &Area {
        // SAFETY: the page is ours, lives as long as self, and is as large and aligned as an area; any bytes are one.
        unsafe { &*(self.0.0 as *const Area) }
    }
}

impl DerefMut for XsaveArea {
    fn deref_mut(&mut self) -> &mut Area {
        // SAFETY: as above, and nobody else has it.
        unsafe { &mut *(self.0.0 as *mut Area) }
    }
}

impl Drop for XsaveArea {
    fn drop(&mut self) {
        frame::free(self.0, AREA as u64);
    }
}
