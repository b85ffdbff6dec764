//! Ethernet switch, 8254x NIC driver and the host's TCP/IP port, behind traits.
#![no_std]
#![forbid(unsafe_code)]
