//! The host's boot line and the VM lines of boot modules, parsed by one table of options.
//!
//! A table row ([`Spec`]) holds an option's name, the form of its value, its default, its help text and the
//! function that applies it. The same rows make `docs/boot-options.md` ([`markdown`]) and the suggestions for
//! mistyped names, so that the three cannot disagree.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod doc;
mod error;
mod host;
mod module;
mod nic;
mod secret;
mod table;
mod uart;
mod value;
mod wipe;
mod words;

pub use config::{ConfigError, ConfigFile, MAX_CONFIG, ModuleRow, modules_of_line};
pub use doc::markdown;
pub use error::{OptionError, Refused, Warning};
pub use host::{
    Apicv, HostOptions, Idle, InForce, IpConfig, LogLevel, PanicAction, Secrets, SerialUse, SliceTimer,
};
pub use module::{MAX_MEM_MIB, MAX_VCPUS, ModuleRole, VmOptions};
pub use nic::NicChoice;
pub use secret::{Secret, erase, redacted};
pub use table::Spec;
pub use uart::{COM_PORTS, COM1_PORT, COM2_PORT, Console, MAX_BAUD, MAX_CONSOLES, Uart};

/// Longest name of a VM or level, in bytes.
pub const MAX_NAME: usize = 31;
