//! What this build is.

use alloc::string::String;

/// The version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built from, with `+` where it was changed.
pub(crate) const COMMIT: &str = env!("FLEXVISOR_COMMIT");
/// How it was built.
pub(crate) const PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };

/// The version as the banner has it.
pub(crate) fn version() -> String {
    alloc::format!("Flexvisor {VERSION} ({COMMIT}, {PROFILE})")
}
