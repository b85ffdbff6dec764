//! What a VM's translation is to one of its vCPUs: how its paging stands in the hardware, what a fault means, and what
//! its guest drops.

use vm_types::{GuestMemory, PageSet};
use vmx_types::paging::ControlRegs;
use vmx_types::qualification::EptViolation;

use crate::words::{Eptp, Fault, OutOfMemory};

/// One vCPU's side of a translation.
///
/// Under [`HwPaging::Nested`] the hardware does all of it, and `fault` alone is called. Under [`HwPaging::Shadowed`] the
/// vCPU's TLB is the implementation's to play, by the rules that the guest's CPU has (SDM 3A 4.10): an entry that the
/// guest has not invalidated may be used, one that it has may not.
pub trait View {
    /// The guest's control registers have been loaded: MOV to CR0, CR3 or CR4, CLTS, LMSW, WRMSR to IA32_EFER, a task
    /// switch, or a state that is imported.
    ///
    /// What such a load invalidates is invalid from here on (SDM 3A 4.10.4.1). Where nothing differs from the last call,
    /// CR3 was loaded with the value that it had. Bits that the guest owns may differ from what it has by now.
    fn activate(&mut self, guest: &GuestPaging) -> HwPaging;
    /// Resolves a fault if it is ours to resolve. `memory`: the guest's tables, for who walks them; a write noticed goes
    /// into `logged`, writes to the guest's tables among them.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed then.
    fn fault(
        &mut self,
        cause: Cause,
        memory: &impl GuestMemory,
        logged: &PageSet,
    ) -> Result<Fault, OutOfMemory>;
    /// The guest's translations of this are invalid from here on.
    fn invalidate(&mut self, what: Invalid);
}

/// What the guest's paging depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestPaging {
    /// As the guest sees them.
    pub regs: ControlRegs,
    /// The PDPTEs, where they were loaded with these registers (SDM 3A 4.4.1).
    pub pdptes: Option<[u64; 4]>,
    /// Width of its physical addresses: bits above are reserved in its tables.
    pub phys_bits: u8,
}

/// How a vCPU's paging stands in the hardware: what the VMCS needs of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HwPaging {
    /// The CPU walks the guest's tables, and what comes out of them is translated once more. Nothing of paging exits.
    Nested(Eptp),
    /// The CPU walks tables of the hypervisor's. MOV to and from CR3, INVLPG and page faults exit, and CR4.PGE is not the
    /// guest's own. EPT and VPID are off: each VM entry and exit drops what the CPU has cached (SDM 28.4.3.1).
    Shadowed(Shadowed),
}

/// Control registers of a vCPU whose tables are the hypervisor's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shadowed {
    /// GUEST_CR3: where the tables are.
    pub cr3: u64,
    /// Bits of GUEST_CR0 that are set whatever the guest's are: PG, WP.
    pub cr0: u64,
    /// The same of GUEST_CR4: PAE, for the format of the tables.
    pub cr4: u64,
}

/// What a guest invalidates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalid {
    /// The page with this linear address: INVLPG, global or not.
    Page(u64),
    /// All: another machine's state comes into the vCPU.
    All,
}

/// Why a vCPU exited for an access. It travels in two registers, like the violation that most are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cause {
    at: u64,
    /// A qualification as of an EPT violation, and what is above it.
    what: u64,
}

/// A page fault: its error code is in bits 32 to 62.
const PAGE_FAULT: u64 = 1 << 63;

impl Cause {
    /// The second-level tables do not allow it.
    #[inline(always)]
    #[must_use]
    pub const fn violation(violation: EptViolation) -> Self {
        Self { at: violation.gpa, what: violation.qualification() & !PAGE_FAULT }
    }

    /// Tables of the hypervisor's do not allow it, which stand for the guest's own: #PF at `linear`.
    #[must_use]
    pub const fn page_fault(linear: u64, error_code: u32) -> Self {
        const WRITE: u32 = 1 << 1;
        const FETCH: u32 = 1 << 4;
        // in the terms of a violation: bit 0 a read, 1 a write, 2 a fetch, 7 and 8 by a linear address, to the page itself
        let access = match error_code & (WRITE | FETCH) {
            0 => 1,
            WRITE => 1 << 1,
            _ => 1 << 2,
        };
        Self { at: linear, what: PAGE_FAULT | ((error_code & 0x7fff_ffff) as u64) << 32 | 3 << 7 | access }
    }

    /// As an EPT violation; for a page fault the address is a linear one.
    #[inline(always)]
    #[must_use]
    pub const fn as_violation(self) -> EptViolation {
        EptViolation::decode(self.what, self.at)
    }

    /// The linear address and the error code of a page fault.
    #[inline(always)]
    #[must_use]
    pub const fn as_page_fault(self) -> Option<(u64, u32)> {
        if self.what & PAGE_FAULT == 0 {
            None
        } else {
            Some((self.at, (self.what >> 32) as u32 & 0x7fff_ffff))
        }
    }

    /// A data write.
    #[inline(always)]
    #[must_use]
    pub const fn write(self) -> bool {
        self.as_violation().write()
    }

    /// An instruction fetch.
    #[inline(always)]
    #[must_use]
    pub const fn fetch(self) -> bool {
        self.as_violation().fetch()
    }

    /// The access was to the page that a linear address translates to, not to a table of the guest's.
    #[inline(always)]
    #[must_use]
    pub const fn linear_translation(self) -> bool {
        self.as_violation().linear_translation()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fault_says_what_the_access_was() {
        for (error_code, read, write, fetch) in [
            (0, true, false, false),
            (3, false, true, false),
            (0x15, false, false, true),
            (6, false, true, false),
        ] {
            let cause = Cause::page_fault(0xffff_8000_0000_1234, error_code);
            let is = (cause.as_violation().read(), cause.write(), cause.fetch());
            assert_eq!(is, (read, write, fetch), "{error_code:#x}");
            assert!(cause.linear_translation());
            assert_eq!(cause.as_page_fault(), Some((0xffff_8000_0000_1234, error_code)));
        }
    }

    /// Whatever a CPU sets above what the SDM defines.
    #[test]
    fn a_violation_stays_what_it_is() {
        assert_eq!(Cause::violation(EptViolation::decode(u64::MAX, 0)).as_page_fault(), None);
        for qualification in [0x1aa, 0x1083, 1 << 2 | 3 << 3, PAGE_FAULT - 1] {
            let violation = EptViolation::decode(qualification, 0x1234_5678);
            let cause = Cause::violation(violation);
            assert_eq!((cause.as_violation(), cause.as_page_fault()), (violation, None));
            assert_eq!(cause.linear_translation(), violation.linear_translation());
        }
    }
}
