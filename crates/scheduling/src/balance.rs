//! Which vCPU moves to another CPU, where one CPU has more to do than another for some time.
//!
//! A row is what a CPU's vCPUs want of it: one that always wants to run counts as one, another by how often it does when it is
//! looked at. What is moved shortens one row and makes the other longer by as much, so that a difference of [`APART`]
//! becomes at most half a vCPU the other way: nothing moves back but for what guests begin or end to do.

use alloc::vec;

use crate::place::{ApicIds, Place, next, takes_guests};

/// Between two looks, in microseconds.
pub const INTERVAL_US: u64 = 10_000;
/// So many looks are judged together, at the end of which one vCPU may move.
pub const LOOKS: u32 = 16;
/// By how much two rows differ of which one gives to the other, in vCPUs times looks: by one and a half. So it is two of those
/// that always want to run, or nearly two where they sleep at times.
pub const APART: u32 = LOOKS * 3 / 2;
/// How many judgements a vCPU stays that has moved: about a second.
pub const RESTS: u32 = 6;

/// What was seen of a vCPU over [`LOOKS`] looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Its VM: of those with one number the vCPUs wait for each other.
    pub vm: u64,
    /// The CPU where it lives.
    pub cpu: usize,
    /// How often it wanted to run, or ran.
    pub wanted: u32,
    /// It stays: an operator wants it there, or it has just come.
    pub stays: bool,
}

/// Which of these vCPUs moves, and to which CPU of these; none where rows are even enough, or what could move has to stay.
/// It is one of the longest row, of the VM that has most there, the one that wants the CPU most.
#[must_use]
pub fn judge(seen: &[Seen], places: &[Place], ids: ApicIds) -> Option<(usize, usize)> {
    let mut rows = vec![0; places.len()];
    for vcpu in seen {
        if let Some(row) = rows.get_mut(vcpu.cpu) {
            *row += vcpu.wanted;
        }
    }
    let movable = |cpu: usize| {
        seen.iter().enumerate().filter(move |(_, vcpu)| vcpu.cpu == cpu && !vcpu.stays && vcpu.wanted > 0)
    };
    let longest =
        (0..places.len()).filter(|&cpu| movable(cpu).next().is_some()).max_by_key(|&cpu| rows[cpu])?;
    let siblings = |vm: u64, cpu: usize| {
        seen.iter().filter(|vcpu| vcpu.vm == vm && vcpu.cpu == cpu).map(|vcpu| vcpu.wanted).sum::<u32>()
    };
    let (which, mover) =
        movable(longest).max_by_key(|(_, vcpu)| (siblings(vcpu.vm, longest), vcpu.wanted))?;
    // Where a new vCPU would be placed, of the CPUs that have so much less to do: by that, in whole vCPUs, instead of by who
    // lives there.
    let mut busy = places.to_vec();
    for (cpu, (place, row)) in busy.iter_mut().zip(&rows).enumerate() {
        place.vmx = takes_guests(places, cpu) && row + APART <= rows[longest];
        (place.vcpus, place.own) = ((row + LOOKS / 2) / LOOKS, siblings(mover.vm, cpu));
    }
    Some((which, next(&busy, ids)?))
}
