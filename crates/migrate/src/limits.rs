//! Every constant that a number from the wire is checked against.

/// Bytes in the body of a memory record.
pub const MAX_MEMORY_BODY: usize = 64 * 1024;
/// Bytes in the body of a small control record.
pub const MAX_CONTROL_BODY: usize = 4 * 1024;
/// Bytes in the CPU policy.
pub const MAX_POLICY_BODY: usize = 64 * 1024;
/// Bytes that a VM takes along for the operator.
pub const MAX_COMPANION_BODY: usize = MAX_UNKNOWN_BODY;
/// Bytes in one piece of the console's history.
pub const MAX_HISTORY_BODY: usize = MAX_UNKNOWN_BODY;
/// Bytes in the description of what a VM was made from.
pub const MAX_ORIGIN_BODY: usize = MAX_UNKNOWN_BODY;
/// Bytes in a piece of a file, with its head.
pub const MAX_FILE_BODY: usize = MAX_UNKNOWN_BODY;
/// Files that a VM was made from.
pub const MAX_FILES: usize = 64;
/// Bytes in one of them: 1 TiB.
pub const MAX_FILE_BYTES: u64 = 1 << 40;
/// Bytes in one state record, its CBOR wrapping included.
pub const MAX_STATE_BODY: usize = 256 * 1024;
/// Bytes in the body of an optional record that this version does not know.
pub const MAX_UNKNOWN_BODY: usize = 64 * 1024;
/// State records of one VM.
pub const MAX_STATE_RECORDS: usize = 4096;
/// Bytes of all state records of one VM, whatever its shape.
pub const MAX_STATE_BYTES: usize = 16 * 1024 * 1024;
/// Of them what a vCPU can need: registers, and the XSAVE area, 11 KiB with all that is defined (SDM 1 13.5).
pub(crate) const STATE_OF_VCPU: usize = 64 * 1024;
/// What a device can need: the longest is a UART with full queues.
pub(crate) const STATE_OF_DEVICE: usize = 16 * 1024;
/// What belongs to the VM as a whole: the findings of its audit, 16 KiB, and room for what later versions have.
pub(crate) const STATE_OF_VM: usize = 128 * 1024;

/// Memory ranges of one VM.
pub const MAX_RANGES: usize = 64;
/// Pages of 4 KiB of one VM: 1 TiB.
pub const MAX_PAGES: u64 = 1 << 28;
/// Page frames lie below this one: SDM 3A 4.1.4, MAXPHYADDR is at most 52.
pub const MAX_GFN: u64 = 1 << 40;
/// vCPUs of one VM.
pub const MAX_VCPUS: u32 = 1024;
/// Names in the list of guest devices.
pub const MAX_DEVICES: usize = 64;
/// Bytes in a name: of a VM, a device, a kind of state.
pub const MAX_NAME: usize = 64;
/// Bytes in a reason given by the peer.
pub const MAX_TEXT: usize = 1024;
/// Ticks a second that a TSC may have.
pub const TSC_HZ: core::ops::RangeInclusive<u64> = 1_000_000..=100_000_000_000;
/// Bytes at the start of a stream that are shown when it is not one of ours.
pub const SHOWN_BYTES: usize = 4;
/// Nanoseconds that a guest may have stood still: a day.
pub const MAX_DOWNTIME_NS: u64 = 86_400_000_000_000;
/// Rounds of one migration that a target puts up with.
pub const MAX_ROUNDS: u32 = 4096;
/// Records handled in one poll.
pub(crate) const RECORDS_PER_POLL: usize = 16;
