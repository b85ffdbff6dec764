//! How a command goes on once it has been understood.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::ops::Range;
use core::task::Poll;

use shell::{Code, Failure, Named, TermSettings};

use super::names;
use super::out::Out;
use crate::migration::Migrations;
use crate::vm::{Vm, registry};

/// How a command that did not fail goes on.
pub(super) enum Done {
    /// It is over.
    Now,
    /// It ends later.
    Later(Job),
    /// The terminal is to be a guest's.
    Attach(Attachment),
    /// It is about the terminal.
    Term(TermSettings),
    /// The session is to end.
    Exit,
}

/// What goes on behind a command that has not ended.
pub(crate) enum Job {
    /// One or more migrations from this host; `live`: with a line that is rewritten in place.
    Migration {
        /// Whether there is such a line.
        live: bool,
    },
    /// A question to the pool.
    Pool,
    /// Work that is done step by step.
    Task(Box<dyn Task>),
}

/// Work of one command that takes its time: it is polled by the management loop, and never blocks it.
pub(crate) trait Task {
    /// Goes on for a bounded time; what is printed goes to `out`.
    fn poll(&mut self, migrations: &mut Migrations, out: &mut Out<'_>) -> Poll<Result<(), Failure>>;

    /// The operator said Ctrl-C. The next poll is the last one where it ends by that.
    fn interrupt(&mut self);

    /// Whether what it prints stops at the end of a screen: an answer that is written once, from beginning to end.
    fn is_paged(&self) -> bool {
        false
    }

    /// A byte that was typed meanwhile. False where it means nothing to the task: it is kept for the prompt.
    fn key(&mut self, _byte: u8) -> bool {
        false
    }
}

/// A guest's console that was asked for.
pub(crate) struct Attachment {
    /// The VM.
    pub(crate) vm: Arc<Vm>,
    /// Nothing goes to the guest.
    pub(crate) read_only: bool,
}

/// The VM of that name.
///
/// # Errors
/// There is none, or it is being made.
pub(super) fn find(name: &str) -> Result<Arc<Vm>, Failure> {
    registry::find(name).ok_or_else(|| {
        if registry::nascent(name).is_some() {
            let text = format!("vm {name} is being made: wait for it, or end that by `vm destroy {name}`");
            return Failure::new(Code::Busy, text);
        }
        let near = names::nearest(Named::Vms, name);
        Failure::new(Code::NotFound, format!("no VM named {name}{near}"))
    })
}

/// The numbers of the vCPUs that a command is about: the one that it names, or all.
///
/// # Errors
/// There is none of that number.
pub(super) fn chosen(vm: &Vm, vcpu: Option<u32>) -> Result<Range<usize>, Failure> {
    let Some(vcpu) = vcpu else { return Ok(0..vm.vcpus.len()) };
    the_vcpu(vm, vcpu).map(|index| index..index + 1)
}

/// The vCPU of that number, as an index.
///
/// # Errors
/// There is none.
pub(super) fn the_vcpu(vm: &Vm, vcpu: u32) -> Result<usize, Failure> {
    let count = vm.vcpus.len();
    let index = usize::try_from(vcpu).ok().filter(|index| *index < count);
    let last = count.saturating_sub(1);
    let has = if last == 0 { String::from("1, vCPU 0") } else { format!("{count}, vCPUs 0 to {last}") };
    let none = || Failure::new(Code::NotFound, format!("vm {} has no vCPU {vcpu}: it has {has}", vm.name));
    index.ok_or_else(none)
}

pub(super) fn state_error(text: String) -> Failure {
    Failure::new(Code::State, text)
}
