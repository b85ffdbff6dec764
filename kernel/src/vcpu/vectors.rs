//! Vector registers for instructions that the hypervisor carries out. They are the guest's across exits: the area is stored,
//! changed, and loaded again.

use vmx_types::state::{set_vector, vector};

use super::Vcpu;
use hw::arch::xstate;

impl Vcpu {
    /// Stores the guest's state in its area; which components that is.
    #[inline(never)] // one place in the image stores it for both
    fn store_vectors(&mut self) -> u64 {
        let allowed = self.policy.xcr0_allowed();
        xstate::save(&mut self.xsave, allowed);
        allowed
    }

    /// Vector register `register`, 0 to 15.
    pub(crate) fn vector(&mut self, register: u8) -> [u8; 64] {
        let allowed = self.store_vectors();
        let value = vector(self.xsave.bytes(), allowed, register);
        xstate::load(&self.xsave, allowed, self.xcr0);
        value
    }

    /// Changes vector register `register`, 0 to 15.
    pub(crate) fn set_vector(&mut self, register: u8, value: &[u8; 64]) {
        let allowed = self.store_vectors();
        set_vector(self.xsave.bytes_mut(), allowed, register, value);
        xstate::load(&self.xsave, allowed, self.xcr0);
    }
}
