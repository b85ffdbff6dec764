//! The live-migration protocol: records, source and target state machines, free of I/O.
#![no_std]
#![forbid(unsafe_code)]
