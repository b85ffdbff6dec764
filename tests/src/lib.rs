//! Boots emulated hosts, joins them by a network and drives their consoles.

pub mod console;
pub mod emu;
pub mod guest;
pub mod hub;
pub mod image;
pub mod paths;
pub mod process;
