//! Every constant that a number from the wire is checked against, and the times.

/// The version this crate writes and the newest it reads.
pub const VERSION: u16 = 1;
/// The oldest version it reads.
pub const OLDEST_VERSION: u16 = 1;

/// Hosts of a pool, lost ones included.
pub const MAX_MEMBERS: usize = 16;
/// Links at once: each other member twice while both ends dial, and some that ask.
pub const MAX_LINKS: usize = 2 * MAX_MEMBERS + 4;
/// Hosts that left or were forgotten and are remembered as such.
pub const MAX_GONE: usize = 64;
/// Records that a set holds.
pub(crate) const MAX_RECORDS: usize = MAX_MEMBERS + MAX_GONE;
/// Bytes in the name of a pool, a host or a VM.
pub const MAX_NAME: usize = 31;
/// Bytes in a VM's name: other services allow as many.
pub const MAX_VM_NAME: usize = 64;
/// Bytes in a software version.
pub const MAX_SOFTWARE: usize = 64;
/// Bytes in a reason given by the peer.
pub const MAX_TEXT: usize = 1024;
/// Running VMs that a host names; it counts the others.
pub const MAX_VMS: usize = 32;
/// VMs of a host that are known by their uuids.
pub const MAX_UUIDS: usize = 256;
/// Different CPU policies of these VMs.
pub const MAX_GUEST_POLICIES: usize = 8;
/// Bytes in the body of a message: a host's policy, those of its VMs, and some.
pub const MAX_BODY: usize = 192 * 1024;
/// Bytes in the body of a message that is no record.
pub const MAX_SMALL_BODY: usize = 4 * 1024;
/// Version of a record; a peer cannot drive it to where it would end.
pub const MAX_VERSION: u64 = 1 << 48;
/// Ticks a second that a TSC may have.
pub const TSC_HZ: core::ops::RangeInclusive<u64> = 1_000_000..=20_000_000_000;
/// Addresses that a host dials on its own.
pub const MAX_SEEDS: usize = MAX_MEMBERS;
/// Messages handled in one poll of a link.
pub(crate) const MESSAGES_PER_POLL: usize = 8;
/// How often a host takes over another's claim to its own record before it takes that for a second host.
pub(crate) const MAX_CLAIMS: u32 = 16;

/// Times, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// A link says something at least this often.
    pub beat_us: u64,
    /// A link over which nothing came for so long is closed.
    pub silence_us: u64,
    /// A link must have said HELLO after this time.
    pub hello_us: u64,
    /// A member without a link for so long is called lost.
    pub lost_us: u64,
    /// First pause between two attempts to reach a host; it doubles.
    pub retry_us: u64,
    /// Longest pause.
    pub max_retry_us: u64,
    /// The member with the higher id leaves the first attempt to the other for so long.
    pub courtesy_us: u64,
    /// A link that was given up is cut after this time, whether its last words went out or not.
    pub farewell_us: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            beat_us: 2_000_000,
            silence_us: 20_000_000,
            hello_us: 30_000_000,
            lost_us: 10_000_000,
            retry_us: 1_000_000,
            max_retry_us: 15_000_000,
            courtesy_us: 2_000_000,
            farewell_us: 3_000_000,
        }
    }
}
