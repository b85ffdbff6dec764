//! What an instruction that the hypervisor carries out can see and change.

use vm_types::{Gpa, GuestMemory};

use crate::code::CodeSize;
use crate::insn::Segment;
use crate::paging::PagingState;

/// The general-purpose registers by encoding: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
pub type Gprs = [u64; 16];

/// The processor's state that instructions change, and the modes that they depend on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// General-purpose registers.
    pub gprs: Gprs,
    /// RFLAGS.
    pub rflags: u64,
    /// RIP.
    pub rip: u64,
    /// Mode and default sizes of the code segment.
    pub code: CodeSize,
    /// The current privilege level; 3 in virtual-8086 mode.
    pub cpl: u8,
    /// How linear addresses are translated.
    pub paging: PagingState,
}

/// A segment register's hidden part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentRegister {
    /// Linear address of offset 0.
    pub base: u64,
    /// Highest offset (lowest but one where the segment grows down), in bytes.
    pub limit: u32,
    /// Access rights as the VMCS has them (SDM table 24-2).
    pub rights: u32,
}

/// A vector register: ZMM, whose low parts are YMM and XMM.
pub type Vector = [u8; 64];

/// The rest of the processor, and the board around it. Nothing here can fail: whatever can has been looked at before.
pub trait Machine {
    /// Guest RAM.
    type Ram: GuestMemory + ?Sized;

    /// Guest RAM.
    fn ram(&self) -> &Self::Ram;

    /// A segment register.
    fn segment(&self, segment: Segment) -> SegmentRegister;

    /// Linear address of a segment's offset 0, for whoever needs no more of its register.
    fn segment_base(&self, segment: Segment) -> u64 {
        self.segment(segment).base
    }

    /// PKRU; asked only where CR4.PKE is set.
    fn pkru(&mut self) -> u32;

    /// Reads 1, 2, 4 or 8 bytes of what is not RAM, zero-extended. Where nothing is, all bits are ones.
    fn load(&mut self, gpa: Gpa, size: u8) -> u64;

    /// Writes the low 1, 2, 4 or 8 bytes of `value` to what is not RAM.
    fn store(&mut self, gpa: Gpa, size: u8, value: u64);

    /// Reads 1, 2 or 4 bytes from a port, zero-extended.
    fn input(&mut self, port: u16, size: u8) -> u32;

    /// Writes 1, 2 or 4 bytes to a port.
    fn output(&mut self, port: u16, size: u8, value: u32);

    /// A vector register, by number from 0 to 15.
    fn vector(&mut self, register: u8) -> Vector;

    /// Changes a vector register.
    fn set_vector(&mut self, register: u8, value: &Vector);

    /// Loads the low word of CR0, once the instruction is done.
    fn lmsw(&mut self, word: u16);
}

/// An exception instead of the instruction, which has changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// 0 to 31.
    pub vector: u8,
    /// As pushed on the stack, for vectors that have one.
    pub error_code: Option<u32>,
    /// What CR2 becomes; page faults have it.
    pub cr2: Option<u64>,
}

impl Fault {
    /// #DE.
    pub const DIVIDE: Self = Self { vector: 0, error_code: None, cr2: None };
    /// #UD.
    pub const UNDEFINED: Self = Self { vector: 6, error_code: None, cr2: None };
    /// #SS(0).
    pub const STACK: Self = Self { vector: 12, error_code: Some(0), cr2: None };
    /// #GP(0).
    pub const PROTECTION: Self = Self { vector: 13, error_code: Some(0), cr2: None };
    /// #AC(0).
    pub const ALIGNMENT: Self = Self { vector: 17, error_code: Some(0), cr2: None };

    /// #PF for an access to linear address `linear`.
    #[must_use]
    pub const fn page(linear: u64, error_code: u32) -> Self {
        Self { vector: 14, error_code: Some(error_code), cr2: Some(linear) }
    }
}
