//! One function for each decoder of foreign bytes. It takes any bytes, and panics where the decoder breaks its word:
//! a panic of its own, an allocation or a run time out of proportion, an answer that contradicts itself.
//!
//! `fuzz_targets/*.rs` hand them to libFuzzer; `replay` runs them over their seeds and mutations of these.

mod firmware;
mod guest;
mod memory;
mod net_frames;
mod operator;
pub use memory::Ram;
pub mod replay;

#[cfg(fuzzing)]
pub use libfuzzer_sys;

/// A target: its name, as that of its file and its folder of seeds, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("acpi", firmware::acpi),
    ("bootinfo", firmware::bootinfo),
    ("cmdline", operator::cmdline),
    ("guest_load", guest::load_image),
    ("net_frames", net_frames::frames),
    ("shell_line", operator::shell_line),
];

/// The function of a target.
#[must_use]
pub fn find(name: &str) -> fn(&[u8]) {
    let target = TARGETS.iter().find(|(n, _)| *n == name);
    target.unwrap_or_else(|| panic!("no fuzz target '{name}'")).1
}

/// The `main` of one target: libFuzzer's under cargo-fuzz, else a replay.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        #[cfg(fuzzing)]
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::find($name)(data));
        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            $crate::replay::run(&[$name], std::time::Duration::from_secs(10))
        }
    };
}
