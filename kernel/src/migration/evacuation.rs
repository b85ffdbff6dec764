//! All VMs of this host, one after the other, to another: for maintenance.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddrV4;
use migrate::Tuning;

use crate::ended::Ended;
use crate::vm::{State, Vm};

/// What is left of it, and what came of the rest.
pub(super) struct Evacuation {
    to: SocketAddrV4,
    tuning: Tuning,
    left: VecDeque<String>,
    moved: usize,
    stayed: Vec<(String, String)>,
}

impl Evacuation {
    /// Every VM is named in the end, those that do not run among them.
    ///
    /// # Errors
    /// There is no VM.
    pub(super) fn new(vms: Vec<Arc<Vm>>, to: SocketAddrV4, tuning: Tuning) -> Result<Self, String> {
        if vms.is_empty() {
            return Err("no VM is on this host".into());
        }
        let (mut left, mut stayed) = (VecDeque::new(), Vec::new());
        for vm in vms {
            match vm.state() {
                State::Running => left.push_back(vm.name.owned()),
                other => stayed.push((vm.name.owned(), format!("it is {}, not running", other.name()))),
            }
        }
        Ok(Self { to, tuning, left, moved: 0, stayed })
    }

    pub(super) fn to(&self) -> SocketAddrV4 {
        self.to
    }

    pub(super) fn tuning(&self) -> Tuning {
        self.tuning.clone()
    }

    /// The VM that is moved now.
    pub(super) fn next(&mut self) -> Option<String> {
        self.left.pop_front()
    }

    pub(super) fn ended(&mut self, name: String, ended: Ended) {
        match ended {
            Ended::Done => self.moved += 1,
            Ended::Refused(why) => self.stayed.push((name, format!("peer refuses: {why}"))),
            Ended::Failed(why) => self.stayed.push((name, why)),
        }
    }

    /// The operator ended it: the rest stays.
    pub(super) fn give_up(&mut self) {
        self.stayed.extend(self.left.drain(..).map(|name| (name, "cancelled".to_string())));
    }

    /// Lists what stays.
    pub(super) fn finish(self) -> Ended {
        let Self { moved, stayed, .. } = self;
        for (name, why) in &stayed {
            log::warn!(target: "migrate", "migrate all: vm {name} stays: {why}");
        }
        log::info!(target: "migrate", "migrate all: {moved} moved, {} stay", stayed.len());
        match stayed.as_slice() {
            [] => Ended::Done,
            stayed => {
                let names: Vec<&str> = stayed.iter().map(|(name, _)| name.as_str()).collect();
                Ended::Failed(format!("{moved} moved, {} stay: {}", stayed.len(), names.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests;
