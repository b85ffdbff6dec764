//! Extended page tables (SDM 28.3).

mod apart;
mod audit;
mod change;
mod entry;
mod map;
mod table;
mod track;
mod work;

pub use table::{Ept, Features};
