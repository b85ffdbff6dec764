//! Vector registers for instructions that the hypervisor carries out. They are the guest's across exits: the area is stored,
//! changed, and loaded again.

use vmx_types::state::{set_vector, vector};

use super::Vcpu;
use crate::arch::xstate;
use crate::vm::Vm;

impl Vcpu {
    /// Vector register `register`, 0 to 15.
    pub(crate) fn vector(&mut self, vm: &Vm, register: u8) -> [u8; 64] {
        let allowed = vm.policy.xcr0_allowed();
        xstate::save(&mut self.xsave, allowed);
        let value = vector(self.xsave.bytes(), allowed, register);
        xstate::load(&self.xsave, allowed, self.xcr0);
        value
    }

    /// Changes vector register `register`, 0 to 15.
    pub(crate) fn set_vector(&mut self, vm: &Vm, register: u8, value: &[u8; 64]) {
        let allowed = vm.policy.xcr0_allowed();
        xstate::save(&mut self.xsave, allowed);
        set_vector(self.xsave.bytes_mut(), allowed, register, value);
        xstate::load(&self.xsave, allowed, self.xcr0);
    }
}
