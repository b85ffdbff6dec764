//! Drivers of network cards, polled. A card is reached through what the driver is handed ([`intel::Registers`],
//! [`intel::Dma`]), and is a [`switch::Nic`] to whoever moves frames.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod intel;
