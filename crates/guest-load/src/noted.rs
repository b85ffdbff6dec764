//! Loading in steps: what comes from a file is noted while the kernel is loaded, and copied bit by bit afterwards. An
//! initrd of gigabytes holds nobody up.

use alloc::vec::Vec;
use core::cell::RefCell;
use vm_types::{Gpa, GuestMemory, MemRange, MemoryError};

use crate::layout::ZEROS;

/// Writes up to this length are done at once.
const SMALL: usize = 4096;

/// A part of a file that belongs to a place in guest memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Part {
    file: usize,
    from: usize,
    to: usize,
    gpa: Gpa,
}

/// Guest memory that holds zeros, for [`load`](crate::load).
#[derive(Debug)]
pub struct Noted<'m, 'f, M: ?Sized> {
    memory: &'m M,
    files: &'m [&'f [u8]],
    parts: RefCell<Vec<Part>>,
}

/// What is to be copied yet.
#[derive(Debug, Default)]
pub struct Copies {
    /// The last is copied first.
    parts: Vec<Part>,
}

impl<'m, 'f, M: GuestMemory + ?Sized> Noted<'m, 'f, M> {
    /// `files`: kernel and modules, the slices that [`load`](crate::load) gets.
    pub fn new(memory: &'m M, files: &'m [&'f [u8]]) -> Self {
        Self { memory, files, parts: RefCell::new(Vec::new()) }
    }

    /// What was noted.
    #[must_use]
    pub fn copies(self) -> Copies {
        Copies { parts: self.parts.into_inner() }
    }

    /// The file that `data` is a part of, and where it begins there: by its address, as it is the very same memory.
    fn place(&self, data: &[u8]) -> Option<(usize, usize)> {
        let at = data.as_ptr().addr();
        self.files.iter().enumerate().find_map(|(number, file)| {
            let from = at.checked_sub(file.as_ptr().addr())?;
            (from.checked_add(data.len())? <= file.len()).then_some((number, from))
        })
    }
}

impl<M: GuestMemory + ?Sized> GuestMemory for Noted<'_, '_, M> {
    fn ranges(&self) -> &[MemRange] {
        self.memory.ranges()
    }

    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(gpa, buf)
    }

    fn write(&self, gpa: Gpa, data: &[u8]) -> Result<(), MemoryError> {
        if core::ptr::eq(data.as_ptr(), ZEROS.as_ptr()) {
            return Ok(()); // they are there
        }
        let Some((file, from)) = self.place(data).filter(|_| data.len() > SMALL) else {
            return self.memory.write(gpa, data);
        };
        let inside = |range: &MemRange| {
            let at = gpa.0.checked_sub(range.start.0);
            at.is_some_and(|at| at <= range.len && data.len() as u64 <= range.len - at)
        };
        if !self.ranges().iter().any(inside) {
            return self.memory.write(gpa, data); // whatever that answers
        }
        self.parts.borrow_mut().push(Part { file, from, to: from + data.len(), gpa });
        Ok(())
    }
}

impl Copies {
    /// Copies up to `most` bytes of the files that were noted. False once nothing is left.
    ///
    /// # Errors
    /// The memory is another than was loaded into.
    pub fn step<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        files: &[&[u8]],
        most: usize,
    ) -> Result<bool, MemoryError> {
        let Some(part) = self.parts.last_mut() else { return Ok(false) };
        let end = part.from.saturating_add(most).min(part.to);
        let bytes = files.get(part.file).and_then(|file| file.get(part.from..end)).unwrap_or_default();
        memory.write(part.gpa, bytes)?;
        part.gpa = Gpa(part.gpa.0.saturating_add(bytes.len() as u64));
        part.from = end;
        if part.from == part.to {
            self.parts.pop();
        }
        Ok(!self.parts.is_empty())
    }
}
