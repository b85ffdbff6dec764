//! Multiboot 1 and 2 hand-off parsed into one BootInfo.
#![no_std]
#![forbid(unsafe_code)]
