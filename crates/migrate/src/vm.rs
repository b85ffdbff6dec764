//! What the machines ask of the VM on their host.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::task::Poll;

use vm_types::{MemoryError, StateError, StateRecord};

use crate::body::{Hello, Shape};
use crate::origin::Origin;
use crate::page::{PAGE_BYTES, PageKind, scan};
use crate::writers::Shares;

/// The VM on the host it leaves. `gfn` are page frame numbers: guest-physical address / 4096.
pub trait SourceVm {
    /// Starts to record which pages are written. Called until it is `Ready`, with a bounded amount of work each time:
    /// the guest runs meanwhile, and other connections are served. [`SourceVm::stop_tracking`] ends it in the middle too.
    ///
    /// # Errors
    /// In words, where the host cannot; nothing is recorded then.
    fn start_tracking(&mut self) -> Poll<Result<(), String>>;

    /// Adds the pages written since the last harvest to the set that [`SourceVm::take_dirty`] empties, and
    /// says how many the set holds. Called until it is `Ready`, as [`SourceVm::start_tracking`]. When it is, every CPU has acknowledged the loss of its cached
    /// translations, so that a later write is recorded again: only then may a page be read.
    fn harvest(&mut self) -> Poll<u64>;

    /// Takes the lowest page frame from `from` on out of the harvested set.
    fn take_dirty(&mut self, from: u64) -> Option<u64>;

    /// Copies a page out.
    ///
    /// # Errors
    /// [`MemoryError`] where the frame is not RAM.
    fn read_page(&mut self, gfn: u64, page: &mut [u8; PAGE_BYTES]) -> Result<(), MemoryError>;

    /// Says what a page holds, and copies it out where that is data. To be replaced where a page can be
    /// scanned in place ([`crate::scan_shared`]): a write that races with the scan makes the page dirty again.
    ///
    /// # Errors
    /// As [`SourceVm::read_page`].
    fn classify_page(&mut self, gfn: u64, page: &mut [u8; PAGE_BYTES]) -> Result<PageKind, MemoryError> {
        self.read_page(gfn, page)?;
        Ok(scan(page))
    }

    /// Pages that each vCPU has made dirty, by its place, counted since whenever: asked after each harvest with the guest
    /// running. A page counts for the one that wrote to it first. None where the host cannot say who writes.
    fn dirtied(&mut self) -> Option<Vec<u64>> {
        None
    }

    /// Leaves the vCPUs these shares of their CPUs; 100 for all ends the throttling.
    fn throttle(&mut self, shares: &Shares);

    /// Asks the guest to stop; `Ready` when no vCPU runs any more, with the ticks that this took from the first call on. Called
    /// until it is.
    fn pause(&mut self) -> Poll<u64>;

    /// Undoes [`SourceVm::pause`], and that alone: also while it is still pending, and never the operator's pause.
    fn resume(&mut self);

    /// Counts every page harvested since [`SourceVm::start_tracking`] as dirty again: the attempt failed.
    fn give_back(&mut self);

    /// Ends the recording, and frees what it took, at once or by and by.
    fn stop_tracking(&mut self);

    /// What the guest has printed since the last call, for the operator's eyes: bytes of the VM's owner, at most
    /// [`crate::limits::MAX_HISTORY_BODY`]. Asked after the first round, and when the guest is paused, until there is
    /// nothing more.
    fn history(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// Copies a piece of a file of [`crate::SourceParams::origin`] out, which lies within its length.
    ///
    /// # Errors
    /// In words.
    fn read_file(&mut self, number: u32, _offset: u64, _into: &mut [u8]) -> Result<(), String> {
        Err(format!("file {number} is not here"))
    }

    /// The state of vCPUs and devices, taken while the guest is paused. The guest's TSC in it is that of this call:
    /// the time that passes from here on is what [`TargetVm::run`] gets.
    ///
    /// # Errors
    /// In words, where some state cannot be exported.
    fn export_state(&mut self) -> Result<Vec<StateRecord>, String>;

    /// Why the guest is over, where it ended by itself: its migration ends then.
    fn ended(&self) -> Option<String> {
        None
    }

    /// Marks the VM as given away: from now on it never runs here by itself. COMMIT is queued after this.
    ///
    /// # Errors
    /// A vCPU is on a CPU, or could get there: the VM is not given away, and the migration fails.
    fn give_up(&mut self) -> Result<(), String>;

    /// The target runs it: the VM and its memory are freed.
    fn free(&mut self);

    /// It is not known whether the target runs it: the VM stays, paused, until an operator decides.
    fn mark_unknown(&mut self);
}

/// What the source asks the target to take.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// Who, and which VM.
    pub hello: &'a Hello,
    /// The CPU policy: bytes of the `cpu-policy` crate, unchecked.
    pub policy: &'a [u8],
    /// What came along for the operator: bytes of the `cpu-policy` crate, unchecked; none from an older source.
    pub companion: &'a [u8],
    /// Checked against the constants of [`crate::limits`] only.
    pub shape: &'a Shape,
    /// What the VM was made from, where the source says it; its numbers are checked against the same constants.
    pub origin: Option<&'a Origin>,
}

/// The guest's RAM on the host it comes to.
pub trait TargetMemory {
    /// Puts a page in place.
    ///
    /// # Errors
    /// [`MemoryError`] where the frame is not RAM.
    fn write_page(&mut self, gfn: u64, page: &[u8; PAGE_BYTES]) -> Result<(), MemoryError>;

    /// Fills a page with an 8-byte little-endian word.
    ///
    /// # Errors
    /// As [`TargetMemory::write_page`].
    fn fill_page(&mut self, gfn: u64, word: u64) -> Result<(), MemoryError>;

    /// Copies a page out: what a delta is applied to, and what a digest is taken of.
    ///
    /// # Errors
    /// As [`TargetMemory::write_page`].
    fn read_page(&self, gfn: u64, page: &mut [u8; PAGE_BYTES]) -> Result<(), MemoryError>;
}

/// The VM on the host it comes to.
pub trait TargetVm: TargetMemory {
    /// Whether this host can run it. Changes nothing.
    ///
    /// # Errors
    /// The exact leaf, bit, MSR, device or size that does not fit.
    fn check(&mut self, offer: &Offer<'_>) -> Result<(), String>;

    /// Whether it keeps copies of VMs that run on elsewhere ([`crate::body::Purpose::Copy`]), and never runs them.
    fn stores(&self) -> bool {
        false
    }

    /// What the operator should know of a VM that this host can run. Changes nothing.
    fn warning(&mut self, _offer: &Offer<'_>) -> Option<String> {
        None
    }

    /// Makes the VM with all its memory, zeroed. Called until it is `Ready`.
    ///
    /// # Errors
    /// In words; nothing is left behind then.
    fn create(&mut self, offer: &Offer<'_>) -> Poll<Result<(), String>>;

    /// Which files of the origin are to come, by number: asked once the VM is made. What has no digest or no content does
    /// not come, whatever is said.
    fn wants(&mut self, _origin: &Origin) -> Vec<u32> {
        Vec::new()
    }

    /// Takes the next bytes of a file that was wanted; the numbers ascend.
    ///
    /// # Errors
    /// In words: the migration ends.
    fn take_file(&mut self, number: u32, _bytes: &[u8]) -> Result<(), String> {
        Err(format!("file {number} was not wanted"))
    }

    /// All of a file is here, and has its digest.
    ///
    /// # Errors
    /// As [`TargetVm::take_file`].
    fn end_file(&mut self, _number: u32) -> Result<(), String> {
        Ok(())
    }

    /// Takes what [`SourceVm::history`] gave, unchecked. It decides nothing: what is wrong with it is left out.
    fn take_history(&mut self, _piece: &[u8]) {}

    /// Checks and loads all the state. Nothing may be left that could keep [`TargetVm::run`] from running.
    ///
    /// # Errors
    /// The record at fault.
    fn import_state(&mut self, records: &[StateRecord]) -> Result<(), StateError>;

    /// Lets the guest run. `elapsed_ns`: time since [`SourceVm::export_state`], by which its time line goes on.
    fn run(&mut self, elapsed_ns: u64);

    /// Frees all that [`TargetVm::create`] made, even while that is pending.
    fn destroy(&mut self);
}
