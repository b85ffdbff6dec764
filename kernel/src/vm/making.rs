//! A VM in the making, bit by bit: the order is that of [`Make`], here is what is done. Whoever wants the VM polls it, and
//! drops it where it is not wanted any more.

#[cfg(test)]
mod tests;

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::Poll;

use ::making::{Make, Site};
use translation::Unmapped;
use vm_types::{Backlog, PageSetGrowing};

use super::create::{self, Ground, Spec};
use super::loading::Loading;
use super::registry::{self, Reserved};
use super::source::Source;
use super::{Change, Vm, remains};
use crate::entropy;
use hw::arch::tsc;
use hw::mm::guest::Clearing;
use hw::vmx::translation::{self as tables, Translation};
use hw::vmx::{host, slots};

/// The VM.
pub(crate) struct Making {
    make: Make,
    parts: Parts,
    /// Its name.
    reserved: Option<Reserved>,
}

/// What there is of it.
struct Parts {
    spec: Option<Spec>,
    memory: Option<Clearing>,
    sets: Option<Sets>,
    mmu: Option<Translation>,
    unmapped: Vec<Unmapped>,
    vm: Option<Arc<Vm>>,
    loading: Option<Loading>,
}

/// The sets of its pages, and which of them is made.
struct Sets {
    growing: [PageSetGrowing; 3],
    at: usize,
}

impl Making {
    /// Begins a VM by that name.
    ///
    /// # Errors
    /// What the host cannot give.
    pub(crate) fn new(reserved: Reserved, spec: Spec) -> Result<Self, String> {
        create::check_spec(&spec)?;
        let memory = Clearing::new(spec.ranges.clone());
        let memory = memory.ok_or("guest memory asked for that is free only in pieces too small")?;
        let sets = Sets::new(memory.pages()).ok_or("no room in the host's heap for the sets of its pages")?;
        let parts = Parts {
            spec: Some(spec),
            memory: Some(memory),
            sets: Some(sets),
            mmu: None,
            unmapped: Vec::new(),
            vm: None,
            loading: None,
        };
        Ok(Self { make: Make::default(), parts, reserved: Some(reserved) })
    }

    /// Begins a VM of kernel and modules, which it keeps.
    ///
    /// # Errors
    /// Why it is refused, by option or field and value.
    pub(crate) fn of(reserved: Reserved, source: Source) -> Result<Self, String> {
        Self::new(reserved, create::spec_of(source, entropy::uuid())?)
    }

    /// Bytes of its memory that are to be cleared yet.
    pub(crate) fn to_clear(&self) -> u64 {
        self.parts.memory.as_ref().map_or(0, Clearing::left)
    }

    /// Goes on for a bounded time. The VM, once it is made: in the registry, and paused, or incoming where it comes by
    /// migration.
    pub(crate) fn poll(&mut self) -> Poll<Result<Arc<Vm>, String>> {
        let until = super::steps_until();
        loop {
            if self.reserved.as_ref().is_some_and(Reserved::is_ended) {
                return Poll::Ready(Err("ended by `vm destroy`".into()));
            }
            match self.make.step(&mut self.parts) {
                Ok(true) => return Poll::Ready(self.finish()),
                Ok(false) if tsc::read() < until => {}
                Ok(false) => return Poll::Pending,
                Err(why) => return Poll::Ready(Err(why)),
            }
        }
    }

    fn finish(&mut self) -> Result<Arc<Vm>, String> {
        let vm = self.parts.vm.take().ok_or("it is made already")?;
        let reserved = self.reserved.take().ok_or("it has no name")?;
        if vm.came {
            vm.apply(Change::Arrive)?;
        }
        registry::insert(reserved, Arc::clone(&vm))?;
        Ok(vm)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(mmu) = self.parts.mmu.take() {
            remains::of_tables(mmu);
        }
        if let Some(vm) = self.parts.vm.take() {
            remains::of_vm(vm);
        }
    }
}

impl Sets {
    /// Of a VM with that many pages; none where there is no memory for them.
    fn new(pages: u64) -> Option<Self> {
        let set = PageSetGrowing::new;
        Some(Self { growing: [set(pages)?, set(pages)?, set(pages.div_ceil(512))?], at: 0 })
    }
}

impl Site for Parts {
    fn clear(&mut self, most: u64) -> bool {
        self.memory.as_mut().is_some_and(|memory| memory.step(most))
    }

    fn note(&mut self, words: usize) -> bool {
        let Some(Sets { growing, at }) = &mut self.sets else { return false };
        if !growing.get_mut(*at).is_some_and(|set| set.grow(words)) {
            *at += 1;
        }
        *at < growing.len()
    }

    fn map(&mut self) -> Result<bool, String> {
        let Some(mmu) = &mut self.mmu else {
            let caps = &host::required()?.caps;
            let none = || translation::OutOfMemory.to_string();
            self.mmu = Some(tables::new(caps, slots::plan().large_executable_pages).ok_or_else(none)?);
            let chunks = self.memory.iter().flat_map(Clearing::chunks).rev();
            self.unmapped = chunks.map(|c| Unmapped { gpa: c.gpa, hpa: c.hpa, len: c.len }).collect();
            for run in &self.unmapped {
                log::debug!(target: "vm", "{} MiB of guest RAM at {}", run.len >> 20, run.hpa);
            }
            return Ok(true);
        };
        if let Some(run) = self.unmapped.last_mut()
            && !run.step(mmu).map_err(|error| error.to_string())?
        {
            self.unmapped.pop();
        }
        Ok(!self.unmapped.is_empty())
    }

    fn build(&mut self) -> Result<bool, String> {
        let missing = "it is not cleared and mapped";
        let sets = self.sets.take().ok_or(missing)?;
        let [logged, pages, groups] = sets.growing.map(PageSetGrowing::finish);
        let memory = self.memory.take().and_then(|memory| memory.finish(logged)).ok_or(missing)?;
        let mmu = self.mmu.take().ok_or(missing)?;
        let spec = self.spec.take().ok_or(missing)?;
        let vm = create::build(spec, Ground { memory, mmu, to_send: Backlog::of(pages, groups) })?;
        let loads = vm.source.lock().is_some();
        self.vm = Some(vm);
        Ok(loads)
    }

    fn load(&mut self) -> Result<(), String> {
        if let Some(vm) = &self.vm
            && let Some(source) = &*vm.source.lock()
        {
            self.loading = Some(Loading::begin(vm, source)?);
        }
        Ok(())
    }

    fn copy(&mut self, most: usize) -> Result<bool, String> {
        let (Some(vm), Some(loading)) = (&self.vm, &mut self.loading) else { return Ok(false) };
        loading.step(vm, most)
    }
}
