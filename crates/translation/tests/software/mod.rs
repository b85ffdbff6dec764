//! A translation that is not EPT's: a software TLB for each vCPU, filled at page faults by a walk of the guest's own
//! tables. It is what shadow paging comes down to, with a map in place of tables.

use std::collections::BTreeMap;

use translation::{
    Admitted, Asked, Backing, Cause, Change, Eptp, Fault, GuestPaging, HwPaging, Invalid, Kept, OutOfMemory,
    Permission, Shadowed, Step, View,
};
use vm_types::{Backlog, Gpa, GuestMemory, Hpa, PageSet};
use vmx_types::paging::{CR0_PG, CR0_TS, CR0_WP, CR4_PAE, CR4_PGE, ControlRegs};
use x86_decode::{Access, AccessKind, PagingState, WalkError};

/// What a vCPU's TLB has of a linear page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// Page of the host.
    pub(crate) page: u64,
    pub(crate) writable: bool,
    pub(crate) global: bool,
}

#[derive(Default)]
struct Cpu {
    guest: Option<GuestPaging>,
    tlb: BTreeMap<u64, Entry>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begun,
    Asked,
    Answered,
}

/// The translation of one VM with as many vCPUs as are asked for.
#[derive(Default)]
pub(crate) struct Software {
    runs: Vec<(u64, u64, u64)>,
    cpus: BTreeMap<u32, Cpu>,
    tracking: bool,
    work: Option<(Change, Stage, u64)>,
}

impl Software {
    /// What the hardware finds in a vCPU's tables.
    pub(crate) fn entry(&self, vcpu: u32, linear: u64) -> Option<Entry> {
        self.cpus.get(&vcpu)?.tlb.get(&(linear >> 12)).copied()
    }

    /// Notices the next write to each page.
    fn arm(&mut self) {
        self.cpus.values_mut().flat_map(|cpu| cpu.tlb.values_mut()).for_each(|entry| entry.writable = false);
    }
}

pub(crate) struct SoftwareView<'a> {
    of: &'a mut Software,
    vcpu: u32,
}

impl SoftwareView<'_> {
    fn cpu(&mut self) -> &mut Cpu {
        self.of.cpus.entry(self.vcpu).or_default()
    }
}

/// Whether a load drops global translations too (SDM 3A 4.10.4.1).
fn drops_all(old: &ControlRegs, new: &ControlRegs) -> bool {
    (old.cr0 ^ new.cr0) & (CR0_PG | CR0_WP) != 0 || old.cr4 != new.cr4 || old.efer != new.efer
}

impl View for SoftwareView<'_> {
    fn activate(&mut self, guest: &GuestPaging) -> HwPaging {
        let vcpu = self.vcpu;
        let cpu = self.cpu();
        let old = cpu.guest.replace(*guest);
        match old.map(|old| old.regs) {
            Some(old) if drops_all(&old, &guest.regs) => cpu.tlb.clear(),
            // CLTS and the like.
            Some(old) if (old.cr0 ^ guest.regs.cr0) & CR0_TS != 0 && old.cr3 == guest.regs.cr3 => {}
            _ => cpu.tlb.retain(|_, entry| entry.global && guest.regs.cr4 & CR4_PGE != 0),
        }
        HwPaging::Shadowed(Shadowed { cr3: u64::from(vcpu + 1) << 12, cr0: CR0_PG | CR0_WP, cr4: CR4_PAE })
    }

    fn fault(
        &mut self,
        cause: Cause,
        memory: &impl GuestMemory,
        logged: &PageSet,
    ) -> Result<Fault, OutOfMemory> {
        let (linear, error_code) = cause.as_page_fault().expect("nothing else exits");
        let GuestPaging { regs, pdptes, phys_bits } = self.cpu().guest.expect("it has been activated");
        let ControlRegs { cr0, cr3, cr4, efer } = regs;
        let state = PagingState { cr0, cr3, cr4, efer, pdptes: pdptes.unwrap_or_default(), phys_bits };
        let kind = match (cause.fetch(), cause.write()) {
            (true, _) => AccessKind::Execute,
            (_, true) => AccessKind::Write,
            _ => AccessKind::Read,
        };
        let access = Access { kind, user: error_code & 4 != 0, ac: true, pkru: 0 };
        let found = match x86_decode::translate(memory, &state, linear, access) {
            Ok(found) => found,
            Err(WalkError::PageFault { error_code }) => return Ok(Fault::Guests(error_code.into())),
            Err(WalkError::NonCanonical) => panic!("{linear:#x} raises no page fault"),
        };
        let Some(hpa) = self.of.translate(found.gpa) else { return Ok(Fault::Unmapped(found.gpa)) };
        found.mark(memory);
        if cause.write() && self.of.tracking {
            logged.insert(found.gpa.gfn());
        }
        let entry =
            Entry { page: hpa.0 & !0xfff, writable: cause.write(), global: is_global(memory, cr3, linear) };
        self.cpu().tlb.insert(linear >> 12, entry);
        Ok(Fault::Resolved)
    }

    fn invalidate(&mut self, what: Invalid) {
        match what {
            Invalid::Page(linear) => {
                self.cpu().tlb.remove(&(linear >> 12));
            }
            Invalid::All => self.cpu().tlb.clear(),
        }
    }
}

/// Whether the entry of a 32-bit guest's page table has G: a walk does not tell.
fn is_global(memory: &impl GuestMemory, cr3: u64, linear: u64) -> bool {
    let entry = |at: u64| {
        let mut bytes = [0; 4];
        memory.read(Gpa(at), &mut bytes).unwrap();
        u64::from(u32::from_le_bytes(bytes))
    };
    let table = entry((cr3 & !0xfff) + (linear >> 22) * 4) & !0xfff;
    entry(table + (linear >> 12 & 0x3ff) * 4) & 1 << 8 != 0
}

impl Backing for Software {
    type View<'a> = SoftwareView<'a>;
    const FOLLOWS_PAGING: bool = true;

    fn view(&mut self, vcpu: u32) -> SoftwareView<'_> {
        SoftwareView { of: self, vcpu }
    }

    fn cached(&self) -> Option<Eptp> {
        None
    }

    fn map(&mut self, gpa: Gpa, hpa: Hpa, len: u64) -> Result<(), OutOfMemory> {
        self.runs.push((gpa.0, hpa.0, len));
        Ok(())
    }

    fn map_device(&mut self, gpa: Gpa, hpa: Hpa) -> Result<(), OutOfMemory> {
        self.map(gpa, hpa, 4096)
    }

    fn unmap_device(&mut self, gpa: Gpa) -> bool {
        let before = self.runs.len();
        self.runs.retain(|(from, ..)| *from != gpa.0);
        before != self.runs.len()
    }

    fn translate(&self, gpa: Gpa) -> Option<Hpa> {
        let within = |(from, _, len): &&(u64, u64, u64)| (*from..from + len).contains(&gpa.0);
        self.runs.iter().find(within).map(|(from, hpa, _)| Hpa(hpa + gpa.0 - from))
    }

    fn first_write(&self, _: u64, _: &PageSet) -> bool {
        false // no violation comes
    }

    fn under_way(&self) -> Option<Change> {
        self.work.map(|(change, ..)| change)
    }

    fn begin(&mut self, change: Change) {
        if self.work.is_none() {
            self.work = Some((change, Stage::Begun, 0));
        }
    }

    fn step(&mut self, logged: &PageSet, backlog: &Backlog) -> Step {
        let Some((change, stage, mut count)) = self.work else { return Step::Idle };
        match (stage, change) {
            (Stage::Asked, _) => return Step::Wait(Asked::Flush),
            (Stage::Answered, _) => {
                self.work = None;
                return Step::Done(change, Ok(count));
            }
            (Stage::Begun, Change::Track(_)) => {
                self.tracking = true;
                logged.drain(|_, _| ());
                self.arm();
            }
            (Stage::Begun, Change::Harvest) => {
                logged.drain(|first, bits| {
                    let mut adding = backlog.adding(first & !511).expect("the guest's memory");
                    adding.add((first / 64 % 8) as usize, bits);
                    count += u64::from(adding.end());
                });
                self.arm();
            }
            (Stage::Begun, Change::Untrack) => self.tracking = false,
            (Stage::Begun, Change::Audit | Change::EndAudit) => {}
        }
        self.work = Some((change, Stage::Asked, count));
        Step::Ask(Asked::Flush)
    }

    fn answered(&mut self) {
        if let Some((_, stage, _)) = &mut self.work {
            *stage = Stage::Answered;
        }
    }

    fn keep(&mut self, _: Gpa, _: Permission) -> Result<Option<Kept>, OutOfMemory> {
        unimplemented!("no audit here")
    }

    fn admit(&mut self, _: Gpa, _: Admitted, _: &PageSet) {
        unimplemented!("no audit here")
    }

    fn revoke_code(&mut self, _: Gpa) {
        unimplemented!("no audit here")
    }

    fn take_apart(&mut self) -> bool {
        self.runs.pop().is_some()
    }
}
