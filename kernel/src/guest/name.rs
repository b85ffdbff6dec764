//! What a VM is called.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use spin::RwLock;

/// The name of a VM, which the operator may change.
pub(crate) struct Name(RwLock<Arc<str>>);

impl Name {
    pub(crate) fn new(name: &str) -> Self {
        Self(RwLock::new(name.into()))
    }

    /// As it is now.
    pub(crate) fn get(&self) -> Arc<str> {
        Arc::clone(&self.0.read())
    }

    /// As it is now, for an owner.
    pub(crate) fn owned(&self) -> String {
        String::from(&*self.get())
    }

    /// Whether it is this one.
    pub(crate) fn is(&self, name: &str) -> bool {
        &**self.0.read() == name
    }

    /// From now on it is this one.
    pub(crate) fn set(&self, name: &str) {
        *self.0.write() = name.into();
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.get())
    }
}
