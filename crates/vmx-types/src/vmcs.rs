//! A VMCS as pure logic sees it.

use crate::field::{Field, Width};

/// Reads fields of a VMCS.
pub trait Vmcs {
    /// The value of a field that this CPU has.
    fn get<W: Width, A>(&self, field: Field<W, A>) -> W::Value;
}
