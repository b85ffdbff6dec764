//! Decodes the x86 instructions that touch emulated MMIO, and walks guest page tables.
#![no_std]
#![forbid(unsafe_code)]
