//! Loading in steps ends as loading in one go does, and no step writes more than it may.

mod support;

use std::cell::Cell;

use guest_load::{Module, Noted, load};
use support::*;
use vm_types::{Gpa, GuestMemory, MemRange, MemoryError};

const STEP: usize = 64 << 10;

/// Counts what is written between two looks.
struct Counted<'a>(&'a Ram, Cell<usize>);

impl GuestMemory for Counted<'_> {
    fn ranges(&self) -> &[MemRange] {
        self.0.ranges()
    }

    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read(gpa, buf)
    }

    fn write(&self, gpa: Gpa, data: &[u8]) -> Result<(), MemoryError> {
        self.1.set(self.1.get() + data.len());
        self.0.write(gpa, data)
    }
}

/// Issue 12, fault 3.4: a kernel and its initrd were copied in one go on CPU 0.
#[test]
fn a_large_initrd_is_copied_in_steps() {
    let initrd = pattern(20 << 20);
    for kernel in [bzimage(), pvh(), multiboot_elf()] {
        let modules =
            [Module { bytes: &initrd, string: "one" }, Module { bytes: &initrd[5..99], string: "" }];
        let once = Ram::blank_mib(64);
        let entry = load(&once, &kernel, "quiet", &modules, Some(Gpa(0xE_0000))).unwrap();

        let ram = Ram::blank_mib(64);
        let counted = Counted(&ram, Cell::new(0));
        let files = [&kernel[..], &initrd, &initrd[5..99]];
        let noted = Noted::new(&counted, &files);
        assert_eq!(load(&noted, &kernel, "quiet", &modules, Some(Gpa(0xE_0000))).unwrap(), entry);
        assert!(counted.1.get() < STEP, "{} bytes at once", counted.1.get());
        let (mut copies, mut steps) = (noted.copies(), 1);
        loop {
            counted.1.set(0);
            let more = copies.step(&counted, &files, STEP).unwrap();
            assert!(counted.1.get() <= STEP);
            if !more {
                break;
            }
            steps += 1;
        }
        assert!(steps >= (20 << 20) / STEP, "{steps} steps");
        assert!(ram.bytes(0, 64 << 20) == once.bytes(0, 64 << 20));
        assert!(!copies.step(&counted, &files, STEP).unwrap());
    }
}

/// What does not fit is refused when it is noted, as it is when it is written.
#[test]
fn a_place_outside_ram_is_refused_at_once() {
    let (ram, file) = (Ram::mib(1), pattern(64 << 10));
    let files = [&file[..]];
    let noted = Noted::new(&ram, &files);
    for gpa in [(1 << 20) - 4096, 1 << 20, u64::MAX - 100] {
        assert!(noted.write(Gpa(gpa), &file).is_err());
    }
    noted.write(Gpa(4096), &file).unwrap();
    assert_eq!(ram.bytes(4096, 1), [0xA5], "not yet");
    assert!(!noted.copies().step(&ram, &files, file.len()).unwrap());
    assert_eq!(ram.bytes(4096, file.len()), file);
}
