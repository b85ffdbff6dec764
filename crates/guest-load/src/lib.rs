//! Loads a guest kernel into guest memory: bzImage, ELF with a PVH note, Multiboot 1 ELF32.
#![no_std]
#![forbid(unsafe_code)]
