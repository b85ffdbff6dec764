//! What goes into the guest and comes back: its registers, and the one naked function that moves them (`real.rs`). For the
//! host's tests a made-up guest stands in its place (`mock.rs`).

use mitigations::{Cpu, Plan};

#[cfg(not(target_os = "none"))]
mod mock;
#[cfg(target_os = "none")]
mod real;

#[cfg(not(target_os = "none"))]
pub(crate) use mock::*;
#[cfg(target_os = "none")]
pub(crate) use real::*;

/// The guest's general-purpose registers in ModRM order, RSP left out (it lives in the VMCS), and what
/// the entry code needs. The mitigation slots read the rest.
#[repr(C, align(64))]
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// RAX, RCX, RDX, RBX, (unused), RBP, RSI, RDI, R8 to R15.
    pub gprs: [u64; 16],
    /// IA32_SPEC_CTRL while the guest runs, and while the host does. The high halves are reserved.
    guest_spec_ctrl: u64,
    host_spec_ctrl: u64,
    /// [`READ`] and [`WRITE`].
    spec_ctrl_at_exit: u32,
    /// Not 0 where the host has touched nothing but this guest's own since the exit: no L1D flush is owed.
    untouched: u32,
    /// What of `guest_spec_ctrl` is the host's doing.
    forced_spec_ctrl: u64,
}

/// The guest writes IA32_SPEC_CTRL without an exit: what it holds is kept at each exit.
const READ: u32 = 1;
/// The host's value is written at each exit.
const WRITE: u32 = 2;

impl Context {
    /// Sets who holds what in IA32_SPEC_CTRL. `guest` is what the guest starts with; `told`, what it knows of its CPU;
    /// `passes` says that it writes the register without an exit, so that it knows of all that the CPU takes.
    pub fn init_spec_ctrl(&mut self, plan: &Plan, guest: u64, told: &Cpu, passes: bool) {
        self.host_spec_ctrl = plan.host_spec_ctrl;
        self.forced_spec_ctrl = plan.forced_for(told);
        self.spec_ctrl_at_exit = if passes { READ | WRITE } else { 0 };
        if plan.write_at_exit {
            self.spec_ctrl_at_exit |= WRITE;
        }
        self.set_spec_ctrl(guest);
    }

    /// The guest's IA32_SPEC_CTRL, as it wrote it.
    pub fn spec_ctrl(&self) -> u64 {
        self.guest_spec_ctrl & !self.forced_spec_ctrl
    }

    /// Gives the guest another one.
    pub fn set_spec_ctrl(&mut self, value: u64) {
        self.guest_spec_ctrl = value | self.forced_spec_ctrl;
        if self.guest_spec_ctrl != self.host_spec_ctrl {
            self.spec_ctrl_at_exit |= WRITE; // for good: some CPUs heed only a write after the exit
        }
    }

    /// Says that an exit was handled with this guest's own data and registers alone. It holds for the next entry, unless
    /// [`Self::touched`] takes it back.
    #[inline(always)]
    pub fn untouched(&mut self) {
        self.untouched = 1;
    }

    /// Says that the CPU has done something else since: another VM, devices, the host's own work.
    pub fn touched(&mut self) {
        self.untouched = 0;
    }
}

/// A piece of the entry or exit code that not every CPU needs. Each begins with a jump over itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slot {
    /// L1D is flushed before entry.
    L1dFlush,
    /// The guest's IA32_SPEC_CTRL is loaded.
    SpecCtrlEntry,
    /// Buffers are cleared by VERW before entry.
    Verw,
    /// The return stack buffer is filled after an exit.
    RsbFill,
    /// The host's IA32_SPEC_CTRL is loaded.
    SpecCtrlExit,
    /// The branch history is cleared after an exit.
    BranchHistory,
}
