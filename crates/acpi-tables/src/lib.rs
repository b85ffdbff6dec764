//! Parser of the host's static ACPI tables: RSDP, XSDT, MADT, FADT, MCFG, SPCR, DMAR.
#![no_std]
#![forbid(unsafe_code)]
