//! The device models of a guest's machine, free of I/O: UART, PIC, PIT, RTC, IO-APIC, local APIC, PM timer, ACPI tables.
#![no_std]
#![forbid(unsafe_code)]
