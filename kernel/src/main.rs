//! The image: the kernel, linked with what the machine calls it by.
#![cfg_attr(target_os = "none", no_std, no_main)]

// The first instructions; nothing calls them by name.
#[cfg(target_os = "none")]
use loader as _;

hw::image!(kernel::HOOKS);

/// On the host it is built for its lints alone.
#[cfg(not(target_os = "none"))]
fn main() {}
