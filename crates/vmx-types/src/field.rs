//! The fields of a VMCS, typed by width and access (SDM appendix B).

use core::marker::PhantomData;

/// The width of a field.
pub trait Width {
    /// What it reads as.
    type Value: Copy + Into<u64>;
    /// Bytes of the value, for dumps; a natural-width field counts 8.
    const BYTES: u8;
    /// The low bits of a register that VMREAD has filled; those above are 0.
    fn truncate(register: u64) -> Self::Value;
}

/// A natural-width field: 64 bits on every CPU Flexvisor runs on.
#[derive(Clone, Copy, Debug)]
pub struct Natural;

impl Width for u16 {
    type Value = u16;
    const BYTES: u8 = 2;
    fn truncate(register: u64) -> u16 {
        register as u16
    }
}
impl Width for u32 {
    type Value = u32;
    const BYTES: u8 = 4;
    fn truncate(register: u64) -> u32 {
        register as u32
    }
}
impl Width for u64 {
    type Value = u64;
    const BYTES: u8 = 8;
    fn truncate(register: u64) -> u64 {
        register
    }
}
impl Width for Natural {
    type Value = u64;
    const BYTES: u8 = 8;
    fn truncate(register: u64) -> u64 {
        register
    }
}

/// Whose a field is, and so who may write it (SDM 24.3).
pub trait Group {
    /// Its number, bits 11:10 of the encoding (SDM 24.11.2).
    const NUMBER: u32;
}

/// A group whose fields can be written.
pub trait Writable: Group {}

/// A group whose fields hold any value without harm to the host: VM entry checks them, and they bind nobody but the guest.
pub trait Harmless: Writable {}

macro_rules! groups {
    ($($(#[$doc:meta])* $name:ident = $number:literal: $($face:ident)*;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;
            impl Group for $name {
                const NUMBER: u32 = $number;
            }
            $(impl $face for $name {})*
        )*
    };
}

groups! {
    /// What the guest may do by itself, where tables are, what happens on the way in and out. A wrong value takes the
    /// machine from the host.
    Control = 0: Writable;
    /// Controls that concern the guest alone: the event that is injected, and what it reads of CR0 and CR4.
    Entry = 0: Writable Harmless;
    /// What the CPU says of an exit.
    ReadOnly = 1:;
    /// The guest's registers.
    Guest = 2: Writable Harmless;
    /// The host's registers after an exit.
    Host = 3: Writable;
}

/// The encoding of one field.
#[derive(Debug)]
pub struct Field<W, G = Guest> {
    encoding: u32,
    marker: PhantomData<(W, G)>,
}

impl<W, G> Clone for Field<W, G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W, G> Copy for Field<W, G> {}

impl<W: Width, G> Field<W, G> {
    const fn new(encoding: u32) -> Self {
        Self { encoding, marker: PhantomData }
    }

    /// The encoding that VMREAD and VMWRITE take.
    #[must_use]
    pub const fn encoding(self) -> u32 {
        self.encoding
    }
}

/// A field by name, for a dump of the whole VMCS.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// SDM name in constant form.
    pub name: &'static str,
    /// Encoding for VMREAD.
    pub encoding: u32,
    /// Bytes of the value.
    pub bytes: u8,
}

macro_rules! fields {
    ($($heading:literal: <$width:ty, $group:ty> { $($name:ident = $encoding:literal),* $(,)? })*) => {
        $($(
            #[doc = concat!($heading, ", encoding ", stringify!($encoding), ".")]
            pub const $name: Field<$width, $group> = Field::new($encoding);
        )*)*
        /// Every field, in the order of the SDM's appendix B.
        pub const ALL: &[Named] = &[
            $($(Named { name: stringify!($name), encoding: $encoding, bytes: <$width as Width>::BYTES },)*)*
        ];
    };
}

fields! {
    "16-bit control field": <u16, Control> {
        VPID = 0x0000,
        POSTED_INTERRUPT_VECTOR = 0x0002,
        EPTP_INDEX = 0x0004,
        LAST_PID_POINTER_INDEX = 0x0008,
    }
    "16-bit guest-state field": <u16, Guest> {
        GUEST_ES_SELECTOR = 0x0800,
        GUEST_CS_SELECTOR = 0x0802,
        GUEST_SS_SELECTOR = 0x0804,
        GUEST_DS_SELECTOR = 0x0806,
        GUEST_FS_SELECTOR = 0x0808,
        GUEST_GS_SELECTOR = 0x080a,
        GUEST_LDTR_SELECTOR = 0x080c,
        GUEST_TR_SELECTOR = 0x080e,
        GUEST_INTERRUPT_STATUS = 0x0810,
        PML_INDEX = 0x0812,
    }
    "16-bit host-state field": <u16, Host> {
        HOST_ES_SELECTOR = 0x0c00,
        HOST_CS_SELECTOR = 0x0c02,
        HOST_SS_SELECTOR = 0x0c04,
        HOST_DS_SELECTOR = 0x0c06,
        HOST_FS_SELECTOR = 0x0c08,
        HOST_GS_SELECTOR = 0x0c0a,
        HOST_TR_SELECTOR = 0x0c0c,
    }
    "64-bit control field": <u64, Control> {
        IO_BITMAP_A = 0x2000,
        IO_BITMAP_B = 0x2002,
        MSR_BITMAP = 0x2004,
        EXIT_MSR_STORE_ADDRESS = 0x2006,
        EXIT_MSR_LOAD_ADDRESS = 0x2008,
        ENTRY_MSR_LOAD_ADDRESS = 0x200a,
        EXECUTIVE_VMCS = 0x200c,
        PML_ADDRESS = 0x200e,
        TSC_OFFSET = 0x2010,
        VIRTUAL_APIC_ADDRESS = 0x2012,
        APIC_ACCESS_ADDRESS = 0x2014,
        POSTED_INTERRUPT_DESCRIPTOR = 0x2016,
        VM_FUNCTION_CONTROLS = 0x2018,
        EPT_POINTER = 0x201a,
        EOI_EXIT_BITMAP_0 = 0x201c,
        EOI_EXIT_BITMAP_1 = 0x201e,
        EOI_EXIT_BITMAP_2 = 0x2020,
        EOI_EXIT_BITMAP_3 = 0x2022,
        XSS_EXITING_BITMAP = 0x202c,
        ENCLS_EXITING_BITMAP = 0x202e,
        TSC_MULTIPLIER = 0x2032,
        PROC_BASED_CONTROLS_3 = 0x2034,
        ENCLV_EXITING_BITMAP = 0x2036,
        PID_POINTER_TABLE = 0x2042,
    }
    "64-bit read-only data field": <u64, ReadOnly> {
        GUEST_PHYSICAL_ADDRESS = 0x2400,
    }
    "64-bit guest-state field": <u64, Guest> {
        VMCS_LINK_POINTER = 0x2800,
        GUEST_IA32_DEBUGCTL = 0x2802,
        GUEST_IA32_PAT = 0x2804,
        GUEST_IA32_EFER = 0x2806,
        GUEST_IA32_PERF_GLOBAL_CTRL = 0x2808,
        GUEST_PDPTE0 = 0x280a,
        GUEST_PDPTE1 = 0x280c,
        GUEST_PDPTE2 = 0x280e,
        GUEST_PDPTE3 = 0x2810,
    }
    "64-bit host-state field": <u64, Host> {
        HOST_IA32_PAT = 0x2c00,
        HOST_IA32_EFER = 0x2c02,
        HOST_IA32_PERF_GLOBAL_CTRL = 0x2c04,
    }
    "32-bit control field": <u32, Control> {
        PIN_BASED_CONTROLS = 0x4000,
        PROC_BASED_CONTROLS = 0x4002,
        EXCEPTION_BITMAP = 0x4004,
        PAGE_FAULT_ERROR_MASK = 0x4006,
        PAGE_FAULT_ERROR_MATCH = 0x4008,
        CR3_TARGET_COUNT = 0x400a,
        EXIT_CONTROLS = 0x400c,
        EXIT_MSR_STORE_COUNT = 0x400e,
        EXIT_MSR_LOAD_COUNT = 0x4010,
        ENTRY_CONTROLS = 0x4012,
        ENTRY_MSR_LOAD_COUNT = 0x4014,
        TPR_THRESHOLD = 0x401c,
        PROC_BASED_CONTROLS_2 = 0x401e,
        PLE_GAP = 0x4020,
        PLE_WINDOW = 0x4022,
    }
    "32-bit control field of the event that is injected": <u32, Entry> {
        ENTRY_INTERRUPTION_INFO = 0x4016,
        ENTRY_EXCEPTION_ERROR_CODE = 0x4018,
        ENTRY_INSTRUCTION_LENGTH = 0x401a,
    }
    "32-bit read-only data field": <u32, ReadOnly> {
        INSTRUCTION_ERROR = 0x4400,
        EXIT_REASON = 0x4402,
        EXIT_INTERRUPTION_INFO = 0x4404,
        EXIT_INTERRUPTION_ERROR_CODE = 0x4406,
        IDT_VECTORING_INFO = 0x4408,
        IDT_VECTORING_ERROR_CODE = 0x440a,
        EXIT_INSTRUCTION_LENGTH = 0x440c,
        EXIT_INSTRUCTION_INFO = 0x440e,
    }
    "32-bit guest-state field": <u32, Guest> {
        GUEST_ES_LIMIT = 0x4800,
        GUEST_CS_LIMIT = 0x4802,
        GUEST_SS_LIMIT = 0x4804,
        GUEST_DS_LIMIT = 0x4806,
        GUEST_FS_LIMIT = 0x4808,
        GUEST_GS_LIMIT = 0x480a,
        GUEST_LDTR_LIMIT = 0x480c,
        GUEST_TR_LIMIT = 0x480e,
        GUEST_GDTR_LIMIT = 0x4810,
        GUEST_IDTR_LIMIT = 0x4812,
        GUEST_ES_ACCESS_RIGHTS = 0x4814,
        GUEST_CS_ACCESS_RIGHTS = 0x4816,
        GUEST_SS_ACCESS_RIGHTS = 0x4818,
        GUEST_DS_ACCESS_RIGHTS = 0x481a,
        GUEST_FS_ACCESS_RIGHTS = 0x481c,
        GUEST_GS_ACCESS_RIGHTS = 0x481e,
        GUEST_LDTR_ACCESS_RIGHTS = 0x4820,
        GUEST_TR_ACCESS_RIGHTS = 0x4822,
        GUEST_INTERRUPTIBILITY = 0x4824,
        GUEST_ACTIVITY_STATE = 0x4826,
        GUEST_SMBASE = 0x4828,
        GUEST_IA32_SYSENTER_CS = 0x482a,
        PREEMPTION_TIMER = 0x482e,
    }
    "32-bit host-state field": <u32, Host> {
        HOST_IA32_SYSENTER_CS = 0x4c00,
    }
    "Natural-width control field": <Natural, Control> {
        CR0_MASK = 0x6000,
        CR4_MASK = 0x6002,
        CR3_TARGET_0 = 0x6008,
        CR3_TARGET_1 = 0x600a,
        CR3_TARGET_2 = 0x600c,
        CR3_TARGET_3 = 0x600e,
    }
    "Natural-width control field that the guest reads": <Natural, Entry> {
        CR0_READ_SHADOW = 0x6004,
        CR4_READ_SHADOW = 0x6006,
    }
    "Natural-width read-only data field": <Natural, ReadOnly> {
        EXIT_QUALIFICATION = 0x6400,
        IO_RCX = 0x6402,
        IO_RSI = 0x6404,
        IO_RDI = 0x6406,
        IO_RIP = 0x6408,
        GUEST_LINEAR_ADDRESS = 0x640a,
    }
    "Natural-width guest-state field": <Natural, Guest> {
        GUEST_CR0 = 0x6800,
        GUEST_CR3 = 0x6802,
        GUEST_CR4 = 0x6804,
        GUEST_ES_BASE = 0x6806,
        GUEST_CS_BASE = 0x6808,
        GUEST_SS_BASE = 0x680a,
        GUEST_DS_BASE = 0x680c,
        GUEST_FS_BASE = 0x680e,
        GUEST_GS_BASE = 0x6810,
        GUEST_LDTR_BASE = 0x6812,
        GUEST_TR_BASE = 0x6814,
        GUEST_GDTR_BASE = 0x6816,
        GUEST_IDTR_BASE = 0x6818,
        GUEST_DR7 = 0x681a,
        GUEST_RSP = 0x681c,
        GUEST_RIP = 0x681e,
        GUEST_RFLAGS = 0x6820,
        GUEST_PENDING_DEBUG = 0x6822,
        GUEST_IA32_SYSENTER_ESP = 0x6824,
        GUEST_IA32_SYSENTER_EIP = 0x6826,
    }
    "Natural-width host-state field": <Natural, Host> {
        HOST_CR0 = 0x6c00,
        HOST_CR3 = 0x6c02,
        HOST_CR4 = 0x6c04,
        HOST_FS_BASE = 0x6c06,
        HOST_GS_BASE = 0x6c08,
        HOST_TR_BASE = 0x6c0a,
        HOST_GDTR_BASE = 0x6c0c,
        HOST_IDTR_BASE = 0x6c0e,
        HOST_IA32_SYSENTER_ESP = 0x6c10,
        HOST_IA32_SYSENTER_EIP = 0x6c12,
        HOST_RSP = 0x6c14,
        HOST_RIP = 0x6c16,
    }
}

/// The EOI-exit bitmap, 64 vectors in each.
pub const EOI_EXIT_BITMAPS: [Field<u64, Control>; 4] =
    [EOI_EXIT_BITMAP_0, EOI_EXIT_BITMAP_1, EOI_EXIT_BITMAP_2, EOI_EXIT_BITMAP_3];

/// The four PDPTEs of a guest with PAE paging.
pub const GUEST_PDPTES: [Field<u64>; 4] = [GUEST_PDPTE0, GUEST_PDPTE1, GUEST_PDPTE2, GUEST_PDPTE3];

/// A guest segment register: selector, base, limit and access rights follow one another in every group
/// of fields, so the index of the register gives all four.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Segment {
    /// ES
    Es,
    /// CS
    Cs,
    /// SS
    Ss,
    /// DS
    Ds,
    /// FS
    Fs,
    /// GS
    Gs,
    /// LDTR
    Ldtr,
    /// TR
    Tr,
}

impl Segment {
    /// All eight, in the order of the fields.
    pub const ALL: [Self; 8] =
        [Self::Es, Self::Cs, Self::Ss, Self::Ds, Self::Fs, Self::Gs, Self::Ldtr, Self::Tr];

    /// The field of its selector.
    #[must_use]
    pub const fn selector(self) -> Field<u16> {
        Field::new(GUEST_ES_SELECTOR.encoding + 2 * self as u32)
    }

    /// The field of its base.
    #[must_use]
    pub const fn base(self) -> Field<Natural> {
        Field::new(GUEST_ES_BASE.encoding + 2 * self as u32)
    }

    /// The field of its limit.
    #[must_use]
    pub const fn limit(self) -> Field<u32> {
        Field::new(GUEST_ES_LIMIT.encoding + 2 * self as u32)
    }

    /// The field of its access rights.
    #[must_use]
    pub const fn access_rights(self) -> Field<u32> {
        Field::new(GUEST_ES_ACCESS_RIGHTS.encoding + 2 * self as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits 14:13 of an encoding give the width, bits 11:10 the type (SDM 24.11.2).
    #[test]
    fn encodings_agree_with_width_and_group() {
        for field in ALL {
            let width = match field.encoding >> 13 & 3 {
                0 => 2,
                2 => 4,
                _ => 8,
            };
            assert_eq!(width, field.bytes, "{}", field.name);
            let kind = field.encoding >> 10 & 3;
            let named = match field.name {
                n if n.starts_with("GUEST_PHYSICAL") || n.starts_with("GUEST_LINEAR") => 1,
                n if n.starts_with("GUEST_") => 2,
                n if n.starts_with("HOST_") => 3,
                _ => kind,
            };
            assert_eq!(kind, named, "{}", field.name);
        }
    }

    #[test]
    fn segments_reach_their_fields() {
        assert_eq!(Segment::Tr.selector().encoding(), GUEST_TR_SELECTOR.encoding());
        assert_eq!(Segment::Cs.base().encoding(), GUEST_CS_BASE.encoding());
        assert_eq!(Segment::Ldtr.limit().encoding(), GUEST_LDTR_LIMIT.encoding());
        assert_eq!(Segment::Gs.access_rights().encoding(), GUEST_GS_ACCESS_RIGHTS.encoding());
    }
}
