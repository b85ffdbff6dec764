//! The order of the locks: a CPU that holds one takes only such as come after it in this list. Debug builds check it at each
//! lock (`hw::lock`); so does every test of the kernel, and `scripts/test --fast`.
//!
//! The story: a migration used to be polled with the network's lock held, because the bytes that it sends go there. Its
//! harvest waits for the CPUs that run the guest. The day an exit of that guest takes the network's lock, which is what a
//! network card of a guest does, both wait for each other. So what a guest's exit can take comes after what its CPU holds
//! anyhow, its vCPU; the network comes after all that is a VM's; and who holds the network asks nothing of a VM.
//!
//! `hw` has locks of its own, for pages, tables, the heap and PCI: whoever has one takes no lock of these.

use hw::lock::Rank;

pub(crate) use hw::lock::{Mutex, MutexGuard, assert_none_held};

/// Makes a [`Rank`] of each line, its place that of the line.
macro_rules! order {
    ($($name:ident: $what:literal,)*) => {
        #[expect(non_camel_case_types, reason = "each is the place of the constant of its name")]
        #[expect(clippy::upper_case_acronyms, reason = "the same")]
        enum Place { $($name),* }
        const ORDER: &[&str] = &[$($what),*];
        $(#[doc = $what] pub(crate) const $name: Rank = Rank::new(ORDER, Place::$name as usize);)*
    };
}

order! {
    // What CPU 0's loop goes on with. Most are taken for a moment, to take the list out and to put it back.
    POOL: "membership of a pool",
    LINKS: "links to other hosts",
    FETCHING: "files that are fetched",
    RESETS: "VMs that are reset",
    ENDINGS: "VMs that are destroyed",
    CHANGES: "changes of a VM's tables",
    REMAINS: "what is left of VMs",
    VMS: "the VMs of this host",
    OUTCOME: "what became of an order",
    // A VM's. The vCPU's is held while it runs, so that all an exit takes comes after it.
    RESTARTS: "how often a VM was reset",
    SOURCE: "what a VM was made of",
    HASHING: "digests of files",
    VCPU: "a vCPU",
    CONSOLE: "what a guest printed",
    BOARD: "a VM's board",
    AUDIT: "a VM's audit",
    TRANSLATION: "a VM's translation",
    TRACKING: "how a VM's writes are noticed",
    STOP_REASON: "why a VM stopped",
    POLICY: "what a guest sees of CPUs",
    LEVEL: "the level of the pool",
    VPIDS: "VPIDs",
    // The host's.
    NETWORK: "card, switch and stack",
    IOMMU: "remapping units",
    SESSIONS: "who uses the console",
    EVENTS: "events",
    STAGES: "stages of the boot",
    SECRETS: "keys of the command line",
    ERRORS: "machine checks and NMIs",
    METER: "the longest turn",
    ENTROPY: "randomness",
    LOG: "the log and its ports",
}
