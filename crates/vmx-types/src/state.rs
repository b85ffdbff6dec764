//! The architectural state of a vCPU: where a guest starts, and what travels when it moves.

use alloc::string::String;
use alloc::vec::Vec;
use minicbor::{Decode, Encode};

use crate::event::Event;
use crate::paging::ControlRegs;

pub(crate) mod xsave;

pub use xsave::{XSAVE_MAX, XSAVE_MIN, clean as clean_xsave, set_vector, vector};

/// A segment register with its hidden part; `rights` as in the VMCS (SDM table 24-2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct SegmentState {
    /// Selector.
    #[n(0)]
    pub selector: u16,
    /// Base address.
    #[n(1)]
    pub base: u64,
    /// Limit in bytes.
    #[n(2)]
    pub limit: u32,
    /// Access rights; bit 16 says unusable.
    #[n(3)]
    pub rights: u32,
}

/// GDTR or IDTR.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct TableState {
    /// Base address.
    #[n(0)]
    pub base: u64,
    /// Limit in bytes.
    #[n(1)]
    pub limit: u32,
}

/// Everything of a vCPU that its VM's policy, devices and memory do not hold. Taken at an instruction
/// boundary.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct VcpuState {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    #[n(0)]
    pub gprs: [u64; 16],
    /// RIP
    #[n(1)]
    pub rip: u64,
    /// RFLAGS
    #[n(2)]
    pub rflags: u64,
    /// CR0 as the guest sees it.
    #[n(3)]
    pub cr0: u64,
    /// CR2
    #[n(4)]
    pub cr2: u64,
    /// CR3 as the guest sees it.
    #[n(5)]
    pub cr3: u64,
    /// CR4 as the guest sees it.
    #[n(6)]
    pub cr4: u64,
    /// IA32_EFER with LMA.
    #[n(7)]
    pub efer: u64,
    /// XCR0
    #[n(8)]
    pub xcr0: u64,
    /// ES, CS, SS, DS, FS, GS, LDTR, TR.
    #[n(9)]
    pub segments: [SegmentState; 8],
    /// GDTR
    #[n(10)]
    pub gdtr: TableState,
    /// IDTR
    #[n(11)]
    pub idtr: TableState,
    /// DR0 to DR3, DR6.
    #[n(12)]
    pub debug: [u64; 5],
    /// DR7
    #[n(13)]
    pub dr7: u64,
    /// IA32_SYSENTER_CS, ESP, EIP.
    #[n(14)]
    pub sysenter: [u64; 3],
    /// IA32_PAT
    #[n(15)]
    pub pat: u64,
    /// IA32_STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE.
    #[n(16)]
    pub msrs: [u64; 5],
    /// IA32_TSC_AUX
    #[n(17)]
    pub tsc_aux: u64,
    /// Waits in HLT.
    #[n(18)]
    pub halted: bool,
    /// Waits for a start-up IPI.
    #[n(19)]
    pub wait_for_sipi: bool,
    /// Interruptibility state (SDM table 24-3).
    #[n(20)]
    pub interruptibility: u32,
    /// Pending debug exceptions (SDM table 24-4).
    #[n(21)]
    pub pending_debug: u64,
    /// An event whose delivery was interrupted: interruption information, 0 for none.
    #[n(22)]
    pub event_info: u32,
    /// Its error code.
    #[n(23)]
    pub event_error_code: u32,
    /// Its instruction length.
    #[n(24)]
    pub event_length: u32,
    /// An NMI waits for its window.
    #[n(25)]
    pub nmi_pending: bool,
    /// XSAVE area in standard format, at least 576 bytes; what is cut off is zero.
    #[cbor(n(26), with = "minicbor::bytes")]
    pub xsave: Vec<u8>,
    /// IA32_TSC_ADJUST: what this vCPU's TSC shows beyond the VM's time line.
    #[n(27)]
    pub tsc_adjust: u64,
    /// MTRRs.
    #[n(28)]
    pub mtrr: MtrrState,
    /// IA32_SPEC_CTRL, of a guest that has it; readers that do not know it have no such guests.
    #[n(29)]
    pub spec_ctrl: Option<u64>,
    /// MSR_MISC_FEATURES_ENABLES, of a guest that uses it: bit 0 is CPUID faulting.
    #[n(30)]
    pub misc_features: Option<u64>,
    /// The four PDPTEs, registers of a guest with PAE paging. Readers that do not know them load them from memory, as
    /// this one does where they are missing.
    #[n(31)]
    pub pdptes: Option<[u64; 4]>,
}

/// The memory-type range registers; storage alone, since EPT decides memory types.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct MtrrState {
    /// IA32_MTRR_PHYSBASE and PHYSMASK by turns.
    #[n(0)]
    pub variable: [u64; 16],
    /// The eleven fixed ranges by ascending address.
    #[n(1)]
    pub fixed: [u64; 11],
    /// IA32_MTRR_DEF_TYPE.
    #[n(2)]
    pub def_type: u64,
}

impl MtrrState {
    /// As firmware leaves them to what it starts: enabled, all of memory write-back. A Linux that finds them off gives up
    /// PAT as well (`arch/x86/mm/pat/memtype.c`). After reset they are off: [`MtrrState::default`].
    pub const FIRMWARE: Self = Self { variable: [0; 16], fixed: [0; 11], def_type: 1 << 11 | 6 };
}

/// Version of the record's schema.
pub const VERSION: u16 = 1;

impl VcpuState {
    /// The record's body.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if minicbor::encode(self, &mut out).is_err() {
            unreachable!("a vector takes every write");
        }
        out
    }

    /// Reads a record's body.
    ///
    /// # Errors
    /// What the decoder found wrong, in words.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        vm_types::decode_strict(bytes)
    }

    /// The control registers.
    #[must_use]
    pub const fn control_regs(&self) -> ControlRegs {
        ControlRegs { cr0: self.cr0, cr3: self.cr3, cr4: self.cr4, efer: self.efer }
    }

    /// The event to inject, if any.
    #[must_use]
    pub const fn event(&self) -> Option<Event> {
        Event::decode(self.event_info, self.event_error_code, self.event_length)
    }
}

#[cfg(test)]
mod tests;
