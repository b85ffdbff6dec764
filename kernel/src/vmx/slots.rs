//! The mitigation slots of the entry and exit code: one table says which a CPU needs.

use crate::arch::{msr, text};

/// What decides about a slot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exposure {
    /// CPUID.7.0:EDX.
    leaf7_edx: u32,
    /// IA32_ARCH_CAPABILITIES, 0 where absent.
    pub(crate) arch_capabilities: u64,
}

const MD_CLEAR: u32 = 1 << 10;
const IBRS_IBPB: u32 = 1 << 26;
const L1D_FLUSH: u32 = 1 << 28;
const ARCH_CAPABILITIES: u32 = 1 << 29;
const SKIP_L1DFL_VMENTRY: u64 = 1 << 3;
const MDS_NO: u64 = 1 << 5;
const BHI_NO: u64 = 1 << 20;

unsafe extern "C" {
    safe static slot_l1d_flush: u8;
    safe static slot_spec_ctrl_entry: u8;
    safe static slot_verw: u8;
    safe static slot_rsb_fill: u8;
    safe static slot_spec_ctrl_exit: u8;
    safe static slot_branch_history: u8;
}

/// A slot, and whether a CPU needs it.
struct Slot {
    name: &'static str,
    site: fn() -> *const u8,
    needed: fn(&Exposure) -> bool,
}

const SLOTS: [Slot; 6] = [
    Slot {
        name: "L1D flush",
        site: || &raw const slot_l1d_flush,
        needed: |e| e.leaf7_edx & L1D_FLUSH != 0 && e.arch_capabilities & SKIP_L1DFL_VMENTRY == 0,
    },
    Slot {
        name: "SPEC_CTRL on entry",
        site: || &raw const slot_spec_ctrl_entry,
        needed: |e| e.leaf7_edx & IBRS_IBPB != 0,
    },
    Slot {
        name: "VERW",
        site: || &raw const slot_verw,
        needed: |e| e.leaf7_edx & MD_CLEAR != 0 && e.arch_capabilities & MDS_NO == 0,
    },
    // Every CPU: a guest leaves its own return addresses in the buffer.
    Slot { name: "RSB fill", site: || &raw const slot_rsb_fill, needed: |_| true },
    Slot {
        name: "SPEC_CTRL on exit",
        site: || &raw const slot_spec_ctrl_exit,
        needed: |e| e.leaf7_edx & IBRS_IBPB != 0,
    },
    Slot {
        name: "branch history",
        site: || &raw const slot_branch_history,
        needed: |e| e.leaf7_edx & IBRS_IBPB != 0 && e.arch_capabilities & BHI_NO == 0,
    },
];

impl Exposure {
    /// Of this CPU.
    #[must_use]
    pub(crate) fn read() -> Self {
        let leaf7_edx = raw_cpuid::cpuid!(7).edx;
        let arch_capabilities =
            if leaf7_edx & ARCH_CAPABILITIES != 0 { msr::read_safe(0x10a).unwrap_or(0) } else { 0 };
        Self { leaf7_edx, arch_capabilities }
    }

    /// IBPB is needed, and there, when a CPU changes from one VM to another.
    #[must_use]
    pub(crate) const fn ibpb(&self) -> bool {
        self.leaf7_edx & IBRS_IBPB != 0
    }
}

/// Opens the slots this CPU needs. Called once, before any guest runs.
pub(crate) fn fill(exposure: &Exposure) {
    const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
    for slot in SLOTS.iter().filter(|slot| (slot.needed)(exposure)) {
        // SAFETY: the site is a five-byte jump in `enter`; a NOP of the same length lets the slot's code run.
        unsafe { text::patch((slot.site)(), &NOP5) };
        log::info!(target: "vmx", "mitigation: {}", slot.name);
    }
}
