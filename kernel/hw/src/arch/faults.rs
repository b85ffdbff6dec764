//! Deliberate faults, to look at what the host makes of them. In the image only with feature `faults`; the boot line
//! chooses one with `fault=NAME`, which ends with the panic that it provokes.

use alloc::vec::Vec;
use core::hint::black_box;

/// Does what the command line names; `with_log_locked` calls what it is given while the log is locked.
pub fn run(command_line: &str, with_log_locked: fn(fn())) {
    let mut words = command_line.split_whitespace();
    match words.find_map(|word| word.strip_prefix("fault=")) {
        None => {}
        Some("null") => _ = black_box(read(8)),
        Some("text") => write(run as *const () as u64),
        Some("exec") => execute(Vec::from([0xc3_u8; 16]).leak().as_ptr() as u64),
        Some("stack") => _ = black_box(recurse(1)),
        Some("locked") => with_log_locked(|| panic!("with the log locked")),
        Some("panic") => panic!("asked for"),
        Some(name) => panic!("no fault `{name}`"),
    }
}

fn read(at: u64) -> u64 {
    // SAFETY: none: the fault is what the test wants.
    unsafe { (black_box(at) as *const u64).read_volatile() }
}

fn write(at: u64) {
    // SAFETY: none: the fault is what the test wants.
    unsafe { (black_box(at) as *mut u8).write_volatile(0xcc) };
}

fn execute(at: u64) {
    // SAFETY: none: the fault is what the test wants.
    let code: extern "C" fn() = unsafe { core::mem::transmute(black_box(at)) };
    code();
}

#[expect(unconditional_recursion, reason = "the overflow is what the test wants")]
fn recurse(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    recurse(room[7] + 1) + room[9]
}
