//! A CPU with its caches.

use super::{ACCESSED, ADDRESS, DIRTY, EXECUTE, LARGE, Memory, PRESENT, WRITE};
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use translation::{Eptp, Tags};

/// What the CPU does with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    Write,
    Fetch,
}

/// Something cached. An entry is cached with the flags that the CPU set in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cached {
    /// A guest-physical mapping, or an entry that leads to one: tagged by EP4TA (SDM 28.4.1).
    Physical { ep4ta: u64, level: u32, prefix: u64, entry: u64 },
    /// A combined mapping: by EP4TA and VPID; the guest uses one PCID. A CPU without VPID tags with 0.
    Combined { ep4ta: u64, vpid: u16, linear: u64, gpa: u64, level: u32, entry: u64 },
}

/// A way to translate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// By a translation that is cached.
    Cached { entry: u64, level: u32, gpa: u64 },
    /// By a walk from the table that holds the entries of `level`.
    Walk { table: u64, level: u32 },
}

/// Where an access came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reached {
    /// This page of the host.
    Page(u64),
    /// An EPT violation.
    Violation,
}

#[derive(Default)]
pub(crate) struct Cpu {
    cached: RefCell<Vec<Cached>>,
    /// Guest-physical addresses that PML has logged.
    pub(crate) log: RefCell<Vec<u64>>,
}

const fn shift(level: u32) -> u32 {
    12 + 9 * (level - 1)
}

const fn page(entry: u64, level: u32, gpa: u64) -> u64 {
    let within = (1 << shift(level)) - 1;
    (entry & ADDRESS & !within) | (gpa & within & !0xfff)
}

const fn allows(entry: u64, access: Access) -> bool {
    match access {
        Access::Read => entry & PRESENT != 0,
        Access::Write => entry & WRITE != 0,
        Access::Fetch => entry & EXECUTE != 0,
    }
}

fn eptp(tags: Tags) -> u64 {
    tags.eptp.expect("its tables are EPT's").0
}

fn has_flags(tags: Tags) -> bool {
    eptp(tags) & 1 << 6 != 0
}

impl Cpu {
    /// All ways in which an access may be translated. `gpa`: where the guest's tables say that `linear` is.
    pub(crate) fn ways(&self, tags: Tags, linear: u64, gpa: u64, access: Access) -> Vec<Way> {
        let (ours, vpid) = (eptp(tags) & ADDRESS, tags.vpid.unwrap_or(0));
        // A write by an entry whose dirty flag is not set yet has to set it in memory.
        let usable = |entry| {
            allows(entry, access) && (access != Access::Write || !has_flags(tags) || entry & DIRTY != 0)
        };
        let mut ways = vec![Way::Walk { table: ours, level: 4 }];
        for cached in &*self.cached.borrow() {
            match *cached {
                Cached::Physical { ep4ta, level, prefix, entry }
                    if ep4ta == ours && prefix == gpa >> shift(level) =>
                {
                    if level == 1 || entry & LARGE != 0 {
                        if usable(entry) {
                            ways.push(Way::Cached { entry, level, gpa });
                        }
                    } else {
                        ways.push(Way::Walk { table: entry & ADDRESS, level: level - 1 });
                    }
                }
                Cached::Combined { ep4ta, vpid: v, linear: l, gpa, level, entry }
                    if ep4ta == ours && v == vpid && l == linear && usable(entry) =>
                {
                    ways.push(Way::Cached { entry, level, gpa });
                }
                _ => {}
            }
        }
        ways
    }

    /// Translates in one of the ways.
    pub(crate) fn go(
        &self,
        memory: &Memory,
        tags: Tags,
        linear: u64,
        gpa: u64,
        access: Access,
        way: Way,
    ) -> Reached {
        let (mut table, mut level) = match way {
            Way::Cached { entry, level, gpa } => return Reached::Page(page(entry, level, gpa)),
            Way::Walk { table, level } => (table, level),
        };
        let (ep4ta, vpid) = (eptp(tags) & ADDRESS, tags.vpid.unwrap_or(0));
        loop {
            let Some(at) = memory.entry(table, (gpa >> shift(level)) as usize & 511) else {
                return Reached::Page(table); // a table in the memory of somebody else
            };
            let mut entry = at.load(Ordering::Relaxed);
            let leaf = level == 1 || entry & LARGE != 0;
            if !allows(entry, access) {
                self.violation(tags, linear, gpa);
                return Reached::Violation;
            }
            if has_flags(tags) {
                let dirty = leaf && access == Access::Write;
                if dirty && entry & DIRTY == 0 {
                    self.log.borrow_mut().push(gpa);
                }
                entry |= ACCESSED | if dirty { DIRTY } else { 0 };
                at.store(entry, Ordering::Relaxed);
            }
            self.keep(Cached::Physical { ep4ta, level, prefix: gpa >> shift(level), entry });
            if leaf {
                self.keep(Cached::Combined { ep4ta, vpid, linear, gpa, level, entry });
                return Reached::Page(page(entry, level, gpa));
            }
            (table, level) = (entry & ADDRESS, level - 1);
        }
    }

    fn keep(&self, new: Cached) {
        let mut cached = self.cached.borrow_mut();
        if !cached.contains(&new) {
            cached.push(new);
        }
    }

    /// An EPT violation drops what would translate the address (SDM 28.4.3.1).
    fn violation(&self, tags: Tags, linear: u64, gpa: u64) {
        let ours = eptp(tags) & ADDRESS;
        self.cached.borrow_mut().retain(|cached| match *cached {
            Cached::Physical { ep4ta, level, prefix, .. } => ep4ta != ours || prefix != gpa >> shift(level),
            Cached::Combined { ep4ta, linear: l, .. } => ep4ta != ours || l != linear,
        });
    }

    /// INVEPT, single context (SDM 28.4.3.1).
    pub(crate) fn invept(&self, eptp: Eptp) {
        self.cached.borrow_mut().retain(|cached| match *cached {
            Cached::Physical { ep4ta, .. } | Cached::Combined { ep4ta, .. } => ep4ta != eptp.0 & ADDRESS,
        });
    }

    /// INVVPID, single context: guest-physical mappings stay.
    pub(crate) fn invvpid(&self, vpid: u16) {
        self.cached.borrow_mut().retain(|cached| match *cached {
            Cached::Physical { .. } => true,
            Cached::Combined { vpid: v, .. } => v != vpid,
        });
    }

    /// The guest's MOV to CR3, without an exit: as [`Cpu::invvpid`] of the VPID that is current.
    pub(crate) fn guest_flushes(&self, tags: Tags) {
        self.invvpid(tags.vpid.unwrap_or(0));
    }
}
