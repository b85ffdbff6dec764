//! VMX as data: VMCS fields, controls, exit reasons and qualifications, decoded once into an enum.
#![no_std]
#![forbid(unsafe_code)]
