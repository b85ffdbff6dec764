//! The stages of start-up on the bootstrap CPU, in order, one log line each.

/// Runs every stage.
pub(crate) fn stages(magic: u32, _info: u32) {
    crate::log::early_init();
    let via = match magic {
        loader::MULTIBOOT1_MAGIC => "multiboot1",
        loader::MULTIBOOT2_MAGIC => "multiboot2",
        _ => "an unknown boot protocol",
    };
    crate::log::raw(format_args!(
        "Flexvisor {} ({}, {}) via {via}\n",
        env!("CARGO_PKG_VERSION"),
        env!("FLEXVISOR_COMMIT"),
        if cfg!(debug_assertions) { "debug" } else { "release" }
    ));
}
