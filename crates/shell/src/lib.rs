//! The console's commands: one table for parser, help and docs; line editing for dumb terminals.
#![no_std]
#![forbid(unsafe_code)]
