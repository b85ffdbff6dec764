//! One function for each decoder of foreign bytes. It takes any bytes, and panics where the decoder breaks its word:
//! a panic of its own, an allocation or a run time out of proportion, an answer that contradicts itself.
//!
//! `fuzz_targets/*.rs` hand them to libFuzzer; `replay` runs them over their seeds and mutations of these.

mod audit;
mod devices;
mod fetching;
mod firmware;
mod guest;
pub mod link;
mod manage;
mod memory;
pub mod migration;
pub mod nbd;
mod net_frames;
mod nic;
mod operator;
mod policy;
mod pool_link;
mod vcpu;
mod virtio;
mod vm_file;
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
    ("cpu_dump", policy::dump),
    ("cpu_host", policy::host),
    ("cpu_ledger", policy::ledger),
    ("cpu_peer", policy::peer),
    ("cpu_policy", policy::decode),
    ("devices_access", devices::access),
    ("devices_import", devices::import),
    ("fetch_http", fetching::http),
    ("fetch_tftp", fetching::tftp),
    ("guest_load", guest::load_image),
    ("isa_findings", audit::findings),
    ("isa_page", audit::page),
    ("link_initiator", link::initiator),
    ("link_responder", link::responder),
    ("log_ring", firmware::log_ring),
    ("manage", manage::manage),
    ("migrate_source", migration::source),
    ("migrate_target", migration::target),
    ("nbd_replies", nbd::replies),
    ("net_frames", net_frames::frames),
    ("nic", nic::card),
    ("page_walk", guest::page_walk),
    ("pool_link", pool_link::link),
    ("shell_line", operator::shell_line),
    ("vcpu_state", vcpu::state),
    ("virtio_blk", virtio::disk),
    ("virtio_pci", virtio::function),
    ("virtio_ring", virtio::ring),
    ("vm_file", vm_file::open),
    ("x86_decode", guest::instruction),
];

/// The function of a target.
#[must_use]
pub fn find(name: &str) -> fn(&[u8]) {
    let target = TARGETS.iter().find(|(n, _)| *n == name);
    target.unwrap_or_else(|| panic!("no fuzz target '{name}'")).1
}

/// Seeds that the crates themselves can make: target, file name, bytes.
#[must_use]
pub fn made_seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let [to_target, to_source] = migration::record(false, false);
    let [copy_to_target, copy_to_source] = migration::record(true, false);
    let [origin_to_target, origin_to_source] = migration::record(false, true);
    // The same, to be sealed again after a mutation.
    let sealed = |stream: &[u8]| [&[stream[0] | 1], &stream[1..]].concat();
    let mut seeds = vec![
        ("isa_findings", "two", audit::seed()),
        ("devices_import", "pci", devices::encode(&devices::with_pci().export())),
        ("devices_import", "fresh", devices::encode(&devices::platform().export())),
        ("migrate_source", "copy", sealed(&copy_to_source)),
        ("migrate_source", "origin", sealed(&origin_to_source)),
        ("migrate_source", "sealed", sealed(&to_source)),
        ("migrate_source", "whole", to_source),
        ("migrate_target", "copy", sealed(&copy_to_target)),
        ("migrate_target", "origin", sealed(&origin_to_target)),
        ("migrate_target", "sealed", sealed(&to_target)),
        ("migrate_target", "whole", to_target),
    ];
    let [to_responder, to_initiator] = link::record();
    // The recorded responder has host key 3, the initiator 2.
    let as_initiator = [&[2], &to_initiator[1..]].concat();
    seeds.extend([("link_initiator", "whole", as_initiator), ("link_responder", "whole", to_responder)]);
    seeds.extend(policy::made_seeds());
    seeds.push(("virtio_blk", "read_and_flush", virtio::disk_seed()));
    seeds.push(("virtio_pci", "asks_twice", virtio::function_seed()));
    seeds.push(("virtio_ring", "three_chains", virtio::ring_seed()));
    seeds.push(("vcpu_state", "long_mode", vcpu::seed()));
    seeds.extend([
        ("vm_file", "origin", vm_file::seed(1, true)),
        ("vm_file", "sealed", vm_file::seed(1, false)),
        ("vm_file", "whole", vm_file::seed(0, false)),
    ]);
    seeds.extend(nbd::seeds().map(|(name, bytes)| ("nbd_replies", name, bytes)));
    seeds.push(("pool_link", "joins", pool_link::record()));
    seeds.push(("log_ring", "two_rounds", firmware::ring_seed()));
    seeds
}

/// Takes an input apart; behind its end there are zeros.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(len.min(self.0.len()));
        self.0 = tail;
        head
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        out.iter_mut().zip(self.take(N)).for_each(|(o, b)| *o = *b);
        out
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
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
