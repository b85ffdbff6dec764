//! A host with a few CPUs, and a VM on it.

use super::cpu::{Access, Cpu, Reached};
use super::{Memory, Unseen};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use translation::{
    Asked, Backing, Caches, Cause, Change, CpuSet, DirtyMethod, Ept, Eptp, Fault, Features, OutOfMemory,
    Tags, Tracked, View,
};
use vm_types::{Backlog, Gpa, Hpa, PageSet};
use vmx_types::qualification::EptViolation;

/// What is left out, to see whether the model finds it out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Flaw {
    #[default]
    None,
    /// No INVEPT of what a change made stale.
    NoFlush,
    /// No INVEPT when a CPU runs a VM for the first time.
    NoFlushOfNewRoot,
    /// No INVVPID when a vCPU comes to a CPU.
    NoFlushOfVpid,
}

pub(crate) struct Host {
    pub(crate) memory: Memory,
    pub(crate) cpus: Vec<Cpu>,
    pub(crate) flaw: Flaw,
    /// Its CPUs log the pages whose dirty flag they set.
    pub(crate) pml: bool,
}

/// The CPU that runs the hypervisor's code.
struct On<'h>(&'h Host, usize);

impl Caches for On<'_> {
    fn invept(&self, eptp: Eptp) {
        if self.0.flaw != Flaw::NoFlushOfNewRoot {
            self.0.cpus[self.1].invept(eptp);
        }
    }

    fn invvpid(&self, vpid: u16) {
        if self.0.flaw != Flaw::NoFlushOfVpid {
            self.0.cpus[self.1].invvpid(vpid);
        }
    }
}

impl Host {
    pub(crate) fn new(pages: usize, cpus: usize, flaw: Flaw) -> Self {
        Self {
            memory: Memory::new(pages),
            cpus: (0..cpus).map(|_| Cpu::default()).collect(),
            flaw,
            pml: true,
        }
    }
}

pub(crate) const FEATURES: Features = Features { access_dirty: true, executable_large_pages: false };
/// As a CPU before Haswell.
pub(crate) const NO_FLAGS: Features = Features { access_dirty: false, executable_large_pages: false };

pub(crate) struct Vm<'h> {
    pub(crate) host: &'h Host,
    pub(crate) ept: RefCell<Ept<'h, &'h Memory>>,
    pub(crate) ram: (u64, u64),
    logged: PageSet,
    backlog: Backlog,
    pub(crate) ran_on: CpuSet,
    last: Cell<Option<usize>>,
    /// CPUs answer a moment after they were asked.
    pub(crate) late: bool,
    /// They do not answer.
    pub(crate) silent: bool,
    /// How often they were asked.
    pub(crate) asks: Cell<u32>,
    asked: RefCell<Option<(Asked, Vec<usize>)>>,
    pub(crate) vpid: u16,
    /// How often the guest has written, where a test counts that.
    pub(crate) content: Cell<u64>,
    /// Called between any two steps of the hypervisor: CPUs may do something there.
    pub(crate) meanwhile: Option<&'h dyn Fn(&Vm<'h>)>,
}

impl<'h> Vm<'h> {
    /// RAM from guest-physical 0 on, at `hpa`.
    pub(crate) fn new(host: &'h Host, features: Features, hpa: u64, len: u64, vpid: u16) -> Self {
        let mut ept = Ept::new(&host.memory, features).unwrap();
        ept.map(Gpa(0), Hpa(hpa), len).unwrap();
        Self {
            host,
            ept: RefCell::new(ept),
            ram: (hpa, hpa + len),
            logged: PageSet::new(len / 4096),
            backlog: Backlog::new(len / 4096),
            ran_on: CpuSet::new(host.cpus.len()),
            last: Cell::new(None),
            late: false,
            silent: false,
            asks: Cell::new(0),
            asked: RefCell::new(None),
            vpid,
            content: Cell::new(0),
            meanwhile: None,
        }
    }

    pub(crate) fn tags(&self) -> Tags {
        Tags { eptp: self.ept.borrow().cached(), vpid: Some(self.vpid) }
    }

    pub(crate) fn eptp(&self) -> Eptp {
        self.tags().eptp.expect("its tables are EPT's")
    }

    /// An exit for an access that the tables do not allow.
    pub(crate) fn fault(&self, violation: EptViolation) -> Result<Fault, OutOfMemory> {
        self.with(|tables| tables.view(0).fault(Cause::violation(violation), &Unseen, &self.logged))
    }

    /// Where its vCPU is.
    pub(crate) fn cpu(&self) -> usize {
        self.last.get().expect("it was loaded")
    }

    /// Its vCPU comes to a CPU. What the last one has logged goes into the set, as when it is taken off there.
    pub(crate) fn load(&self, cpu: usize) {
        self.take_logs();
        translation::load(&self.ran_on, cpu, self.last.get(), self.tags(), &On(self.host, cpu));
        self.last.set(Some(cpu));
    }

    /// Pages of the host that an access may reach, in whatever way the CPU translates.
    pub(crate) fn may_reach(&self, cpu: usize, linear: u64, gpa: u64, access: Access) -> BTreeSet<u64> {
        let on = &self.host.cpus[cpu];
        let ways = on.ways(self.tags(), linear, gpa, access);
        let reached =
            ways.into_iter().map(|way| on.go(&self.host.memory, self.tags(), linear, gpa, access, way));
        reached
            .filter_map(|reached| if let Reached::Page(page) = reached { Some(page) } else { None })
            .collect()
    }

    /// The same of a guest whose linear addresses are guest-physical ones.
    pub(crate) fn reaches(&self, cpu: usize, gpa: u64, access: Access) -> BTreeSet<u64> {
        self.may_reach(cpu, gpa, gpa, access)
    }

    /// True where every page that may be reached is the VM's own.
    pub(crate) fn stays_inside(&self, cpu: usize, gpa: u64) -> bool {
        let inside = |page: &u64| (self.ram.0..self.ram.1).contains(page);
        [Access::Read, Access::Write, Access::Fetch]
            .into_iter()
            .all(|access| self.reaches(cpu, gpa, access).iter().all(inside))
    }

    pub(crate) fn change(&self, change: Change) -> u64 {
        translation::finish(self, change).expect("memory for tables")
    }

    pub(crate) fn track(&self, method: DirtyMethod) -> u64 {
        self.change(Change::Track(method))
    }

    fn take_logs(&self) {
        for cpu in self.ran_on.iter() {
            for gpa in self.host.cpus[cpu].log.borrow_mut().drain(..).filter(|_| self.host.pml) {
                self.logged.insert(gpa >> 12);
            }
        }
    }

    /// `cpus`: those that had run it when they were asked.
    fn answer(&self, asked: Asked, cpus: impl Iterator<Item = usize>) {
        match asked {
            Asked::Logs => self.take_logs(),
            Asked::Flush => {
                for cpu in cpus.filter(|_| self.host.flaw != Flaw::NoFlush) {
                    self.host.cpus[cpu].invept(self.eptp());
                }
            }
        }
    }

    fn interrupted(&self) {
        if let Some(meanwhile) = self.meanwhile {
            meanwhile(self);
        }
    }
}

impl<'h> Tracked for Vm<'h> {
    type Tables = Ept<'h, &'h Memory>;

    fn with<R>(&self, f: impl FnOnce(&mut Self::Tables) -> R) -> R {
        self.interrupted();
        f(&mut self.ept.borrow_mut())
    }

    fn logged(&self) -> &PageSet {
        &self.logged
    }

    fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    fn ask(&self, asked: Asked) {
        self.interrupted();
        self.asks.set(self.asks.get() + 1);
        if self.late {
            *self.asked.borrow_mut() = Some((asked, self.ran_on.iter().collect()));
        } else {
            self.answer(asked, self.ran_on.iter());
        }
    }

    fn has_answered(&self, _: Asked) -> bool {
        if self.silent {
            return false;
        }
        let Some((asked, cpus)) = self.asked.take() else { return true };
        self.interrupted();
        self.answer(asked, cpus.into_iter());
        false
    }
}
