//! What happens when the hypervisor itself fails.

use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    crate::log::raw(format_args!("panic: {info}\n"));
    loop {
        crate::arch::hlt();
    }
}
