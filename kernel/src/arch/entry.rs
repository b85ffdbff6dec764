//! The symbol that the loader calls.

// SAFETY: the only definition of this symbol; the loader calls it once, with the C calling convention.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(magic: u32, info: u32) -> ! {
    crate::main(magic, info)
}
