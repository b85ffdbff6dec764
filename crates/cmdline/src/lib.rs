//! The host's boot line and the VM lines of boot modules, parsed by one table of options.
#![no_std]
#![forbid(unsafe_code)]
