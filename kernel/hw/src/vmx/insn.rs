//! The VMX instructions (SDM 30.3), one function each. Nothing else executes them. For the host's tests `mock.rs` stands in
//! their place.

#[cfg(not(target_os = "none"))]
mod mock;
#[cfg(target_os = "none")]
mod real;

#[cfg(not(target_os = "none"))]
pub(crate) use mock::*;
#[cfg(target_os = "none")]
pub(crate) use real::*;

/// How a VMX instruction failed (SDM 30.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(target_os = "none"), expect(dead_code, reason = "a machine made up fails none"))]
pub(crate) enum VmFail {
    /// No current VMCS.
    Invalid,
    /// The current VMCS holds the error number.
    Valid,
}

/// What INVEPT and INVVPID flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum Scope {
    /// One EPT pointer, or one VPID.
    Single = 1,
    /// Everything.
    All = 2,
}
