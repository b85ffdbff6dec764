//! The VM that is offered: judged, and made.

use alloc::vec::Vec;
use core::task::Poll;

use super::files::Files;
use super::{Phase, Target, TargetInput, TargetOutcome};
use crate::body::{Verdict, printable};
use crate::limits;
use crate::reason::Reason;
use crate::vm::{Offer, TargetVm};
use crate::wire::RecordType;

impl Target {
    /// The verdict, or the part of it that needs no memory.
    pub(super) fn check(&mut self, now: u64, vm: &mut impl TargetVm) {
        let (Some(hello), Some(shape)) = (&self.hello, &self.shape) else { return };
        if hello.is_copy() && !vm.stores() {
            return self.refuse(
                "this host runs VMs and keeps no copies: a copy goes to a peer that stores",
                now,
                vm,
            );
        }
        let verdict = vm.check(&Offer {
            hello,
            policy: &self.policy,
            companion: &self.companion,
            shape,
            origin: self.origin.as_ref(),
        });
        match verdict {
            Err(why) => self.refuse(&why, now, vm),
            Ok(()) if hello.check_only => {
                self.accept(vm);
                self.owner = self.owner.step(TargetInput::Stop).0;
                self.close(TargetOutcome::Checked, now);
            }
            Ok(()) => self.phase = Phase::Create,
        }
    }

    /// Makes the VM; whether it is made.
    pub(super) fn create(&mut self, now: u64, vm: &mut impl TargetVm) -> Result<bool, Reason> {
        let (Some(hello), Some(shape)) = (&self.hello, &self.shape) else { return Ok(false) };
        self.made = true;
        match vm.create(&Offer {
            hello,
            policy: &self.policy,
            companion: &self.companion,
            shape,
            origin: self.origin.as_ref(),
        }) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(why)) => {
                self.made = false;
                self.refuse(&why, now, vm);
                Ok(false)
            }
            Poll::Ready(Ok(())) => {
                self.accept(vm);
                self.policy = Vec::new();
                self.companion = Vec::new();
                self.phase = Phase::Fill;
                self.progress = now;
                self.inbox.touch(now);
                Ok(true)
            }
        }
    }

    fn accept(&mut self, vm: &mut impl TargetVm) {
        let (Some(hello), Some(shape)) = (&self.hello, &self.shape) else { return };
        let origin = self.origin.as_ref();
        let offer = Offer { hello, policy: &self.policy, companion: &self.companion, shape, origin };
        let warning = vm.warning(&offer).map(|text| printable(&text, limits::MAX_TEXT));
        let asks = origin.filter(|_| self.made);
        let files = asks.map(|origin| origin.can_send(vm.wants(origin)));
        let verdict = Verdict { refused: None, warning, purpose: hello.purpose, files };
        self.files = Files::new(verdict.files.clone().unwrap_or_default());
        self.outbox.put(RecordType::Verdict, &verdict);
    }

    fn refuse(&mut self, why: &str, now: u64, vm: &mut impl TargetVm) {
        let why = printable(why, limits::MAX_TEXT);
        let verdict = Verdict { refused: Some(why.clone()), warning: None, purpose: None, files: None };
        self.outbox.put(RecordType::Verdict, &verdict);
        self.act(TargetInput::Stop, Reason::Refused(why.clone()), now, vm);
        self.close(TargetOutcome::Refused(why), now);
    }
}
