//! The stacks of one CPU in one block: each lies above a guard page that stays unmapped.

use core::fmt;

use x86::PAGE_SIZE as PAGE;

use super::link;

/// Bytes of the stack a CPU runs on.
const MAIN: u64 = 64 << 10;
/// Bytes of a stack for one kind of fault.
const FAULT: u64 = 16 << 10;
/// Bytes of a block; the linker script reserves as much for the bootstrap CPU.
pub(crate) const BLOCK: u64 = PAGE + MAIN + 3 * (PAGE + FAULT);

/// The block of stacks of one CPU.
#[derive(Clone, Copy, Debug)]
pub struct Stacks(u64);

/// Which stack of a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stack {
    /// The one it runs on.
    Main,
    /// For a double fault.
    DoubleFault,
    /// For an NMI.
    Nmi,
    /// For a machine check.
    MachineCheck,
}

const ALL: [Stack; 4] = [Stack::Main, Stack::DoubleFault, Stack::Nmi, Stack::MachineCheck];

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Main => "main",
            Self::DoubleFault => "double-fault",
            Self::Nmi => "NMI",
            Self::MachineCheck => "machine-check",
        })
    }
}

impl Stacks {
    /// The bootstrap CPU's, on whose main stack the loader calls the kernel.
    pub fn boot() -> Self {
        Self(link::boot_stacks())
    }

    /// A block at `base`, page-aligned, of [`BLOCK`] bytes.
    pub const fn at(base: u64) -> Self {
        Self(base)
    }

    /// The guard pages.
    pub fn guards(self) -> impl Iterator<Item = u64> {
        ALL.into_iter().map(move |stack| self.guard(stack))
    }

    fn guard(self, stack: Stack) -> u64 {
        match stack {
            Stack::Main => self.0,
            fault => self.0 + PAGE + MAIN + (fault as u64 - 1) * (PAGE + FAULT),
        }
    }

    /// Which of them has its guard page at `address`.
    pub(super) fn guard_at(self, address: u64) -> Option<Stack> {
        ALL.into_iter().find(|&stack| self.guard(stack) == address & !(PAGE - 1))
    }

    /// The address just above a stack.
    pub fn top(self, stack: Stack) -> u64 {
        self.guard(stack) + PAGE + if stack == Stack::Main { MAIN } else { FAULT }
    }
}
