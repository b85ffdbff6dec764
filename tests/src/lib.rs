//! Boots emulated hosts, joins them by a network and drives their consoles.

pub mod chatter;
pub mod console;
pub mod emu;
pub mod flexctl;
pub mod guest;
pub mod host;
pub mod hub;
pub mod image;
pub mod levels;
pub mod migration;
pub mod netboot;
pub mod paths;
pub mod process;
pub mod proof;
pub mod release;
pub mod scenario;
pub mod suite;
pub mod terminal;
