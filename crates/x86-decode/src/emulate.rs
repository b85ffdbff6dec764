//! One instruction of the guest, from its bytes to its effects.

use vm_types::Gpa;

use crate::access::unchecked_linear;
use crate::code::{DecodeError, MAX_LEN};
use crate::decode::decode;
use crate::execute::execute;
use crate::insn::Segment;
use crate::machine::{Cpu, Fault, Machine};
use crate::paging::{WalkError, fetch};

/// Why an instruction was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It raises an exception.
    Fault(Fault),
    /// It is outside of what this crate performs.
    NotEmulated {
        /// What it is.
        error: DecodeError,
        /// Its bytes, and what follows.
        bytes: [u8; MAX_LEN],
    },
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Carries out the instruction at RIP, or one iteration of it where it repeats: RIP has moved unless another one is due.
/// `faulted` is the address at which the CPU met something that is not RAM, where it did.
///
/// # Errors
/// [`Refused`]; nothing has changed then.
pub fn emulate<M: Machine>(cpu: &mut Cpu, machine: &mut M, faulted: Option<Gpa>) -> Result<(), Refused> {
    let linear = unchecked_linear(cpu, machine, Segment::Cs, cpu.rip);
    let mut bytes = [0; MAX_LEN];
    let count =
        fetch(machine.ram(), &cpu.paging, linear, cpu.cpl == 3, &mut bytes).map_err(|error| match error {
            // The guest has changed its tables since: the CPU would find the same.
            WalkError::PageFault { error_code } => Fault::page(linear, error_code),
            WalkError::NonCanonical => Fault::PROTECTION,
        })?;
    let insn = decode(&bytes[..count], cpu.code).map_err(|error| Refused::NotEmulated { error, bytes })?;
    Ok(execute(&insn, cpu, machine, faulted)?)
}
