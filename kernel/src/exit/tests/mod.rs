//! Exits as guests make them, and what they find afterwards.

mod cpuid;
mod exceptions;
mod garbage;
mod io;
mod memory;
mod msr;
mod registers;
mod stops;
mod virtio;

use hw::mock::Guest;

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RBX: usize = 3;

/// Interruption information of #UD and #GP.
const UD: u32 = 0x8000_0306;
const GP: u32 = 0x8000_0b0d;

/// Where the guests of these tests begin.
const START: u64 = 0x10_0020;

/// Privilege level 3 in SS, which is where VMX looks for it.
fn in_user_mode(guest: &mut Guest<'_>) {
    let rights = guest.read(vmx_types::field::GUEST_SS_ACCESS_RIGHTS);
    guest.set(vmx_types::field::GUEST_SS_ACCESS_RIGHTS, rights | 3 << 5);
}
