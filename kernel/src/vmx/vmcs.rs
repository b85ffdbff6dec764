//! A VMCS region and the safe way to the guest half of the current VMCS.

use vmx_types::flow::Flow;
use vmx_types::vmcs::Vmcs;
use vmx_types::{Event, ExitFields, Field, Width, field};

use super::insn;
use crate::mm::{Hpa, frame};

/// A VMCS region of this CPU's revision.
#[derive(Debug)]
pub(crate) struct VmcsRegion(Hpa);

impl VmcsRegion {
    /// Allocates one; `None` when the host is out of memory.
    #[must_use]
    pub(crate) fn new(revision: u32) -> Option<Self> {
        let page = frame::alloc_page()?;
        // SAFETY: the page is ours alone; a region starts with its revision (SDM 24.2).
        unsafe { (page.0 as *mut u32).write_volatile(revision) };
        Some(Self(page))
    }

    /// Its address.
    #[must_use]
    pub(crate) const fn hpa(&self) -> Hpa {
        self.0
    }
}

impl VmcsRegion {
    /// The way to this VMCS while it is current.
    ///
    /// # Panics
    /// Where it is not current on this CPU: a bug of ours.
    pub(crate) fn current(&self) -> Current {
        use core::sync::atomic::Ordering::Relaxed;
        let current = super::host::this().map_or(0, |cpu| cpu.current_vmcs.load(Relaxed));
        assert_eq!(current, self.0.0, "the VMCS is not current on this CPU");
        Current(())
    }
}

impl Drop for VmcsRegion {
    fn drop(&mut self) {
        frame::free(self.0, 4096);
    }
}

/// The current VMCS of this CPU, guest state only. Whoever holds it runs on the CPU where it is current.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Current(());

impl Current {
    /// Reads any field.
    #[inline(always)]
    #[must_use]
    pub(crate) fn read<W: Width, A>(self, field: Field<W, A>) -> W::Value {
        insn::read(field)
    }

    /// Writes a guest-state or event-injection field.
    ///
    /// # Panics
    /// For a host-state field: those belong to `vmx::host`.
    #[inline(always)]
    pub(crate) fn write<W: Width>(self, field: Field<W>, value: W::Value) {
        // encoding bits 11:10 name the group: 3 is host state (SDM 24.11.2); folds to nothing for a constant
        assert!(field.encoding() >> 10 & 3 != 3, "host state is written by vmx::host");
        // SAFETY: guest state cannot harm the host: VM entry checks it, and controls come from `Controls`.
        unsafe { insn::write(field, value) }
    }

    /// True where the exit happened in an event's delivery.
    #[inline(always)]
    #[must_use]
    pub(crate) fn was_interrupted(self) -> bool {
        self.read(field::IDT_VECTORING_INFO) >> 31 != 0
    }

    /// The event in whose delivery the exit happened (SDM 27.2.4).
    #[inline(always)]
    #[must_use]
    pub(crate) fn interrupted_event(self) -> Option<Event> {
        let info = self.read(field::IDT_VECTORING_INFO);
        if info >> 31 == 0 { None } else { self.decode_interrupted(info) }
    }

    #[cold]
    fn decode_interrupted(self, info: u32) -> Option<Event> {
        let error = self.read(field::IDT_VECTORING_ERROR_CODE);
        Event::decode(info, error, self.read(field::EXIT_INSTRUCTION_LENGTH))
    }

    /// What decides about events.
    #[must_use]
    pub(crate) fn flow(self) -> Flow {
        Flow::read(&self)
    }

    /// Writes back what was decided.
    pub(crate) fn set_flow(self, flow: Flow) {
        self.write(field::GUEST_RFLAGS, flow.rflags);
        self.write(field::GUEST_INTERRUPTIBILITY, flow.interruptibility);
        self.write(field::GUEST_PENDING_DEBUG, flow.pending_debug);
    }
}

impl Vmcs for Current {
    fn get<W: Width, A>(&self, field: Field<W, A>) -> W::Value {
        self.read(field)
    }
}

impl ExitFields for Current {
    fn qualification(&self) -> u64 {
        self.read(field::EXIT_QUALIFICATION)
    }
    fn guest_physical(&self) -> u64 {
        self.read(field::GUEST_PHYSICAL_ADDRESS)
    }
    fn interruption_info(&self) -> u32 {
        self.read(field::EXIT_INTERRUPTION_INFO)
    }
    fn interruption_error_code(&self) -> u32 {
        self.read(field::EXIT_INTERRUPTION_ERROR_CODE)
    }
    fn instruction_length(&self) -> u32 {
        self.read(field::EXIT_INSTRUCTION_LENGTH)
    }
}
