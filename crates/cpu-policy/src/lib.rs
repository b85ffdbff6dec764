//! CPU levels as data, rendered CPUID tables, MSR policy and the comparison of a policy with a host.
#![no_std]
#![forbid(unsafe_code)]
