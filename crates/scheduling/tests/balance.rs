//! Rows even out, what is pinned stays, and nothing moves to and fro.
#![allow(missing_docs)]

use scheduling::balance::{APART, LOOKS, RESTS, Seen, judge};
use scheduling::place::{ApicIds, Place};

/// Each CPU is a core.
const IDS: ApicIds = ApicIds { core_shift: 0, package_shift: 8 };

fn cpus(count: u32) -> Vec<Place> {
    (0..count).map(|apic_id| Place { apic_id, vmx: true, ..Place::default() }).collect()
}

/// One that always wants to run.
const fn busy(vm: u64, cpu: usize) -> Seen {
    Seen { vm, cpu, wanted: LOOKS, stays: false }
}

const fn pinned(vcpu: Seen) -> Seen {
    Seen { stays: true, ..vcpu }
}

/// One that does so in so many hundredths of the time.
const fn at_times(vm: u64, cpu: usize, percent: u32) -> Seen {
    Seen { wanted: LOOKS * percent / 100, ..busy(vm, cpu) }
}

/// Moves one after the other until nothing moves any more. How many did.
fn settle(seen: &mut [Seen], places: &[Place]) -> usize {
    for moves in 0..100 {
        let Some((which, to)) = judge(seen, places, IDS) else { return moves };
        assert_ne!((to, seen[which].stays), (seen[which].cpu, true));
        seen[which].cpu = to;
    }
    panic!("it never ends: {seen:?}");
}

fn rows(seen: &[Seen], cpus: usize) -> Vec<u32> {
    (0..cpus).map(|cpu| seen.iter().filter(|vcpu| vcpu.cpu == cpu).map(|vcpu| vcpu.wanted).sum()).collect()
}

#[test]
fn a_row_that_is_longer_by_two_gives_one() {
    let places = cpus(3);
    assert_eq!(judge(&[busy(1, 1), busy(2, 1)], &places, IDS).map(|(_, to)| to), Some(2));
    assert_eq!(
        judge(&[busy(1, 1), busy(2, 1), busy(3, 2)], &places, IDS),
        None,
        "by one: it would be as uneven"
    );
    assert_eq!(judge(&[busy(1, 1)], &places, IDS), None);
    assert_eq!(judge(&[], &places, IDS), None);
    assert_eq!(judge(&[], &[], IDS), None);
}

#[test]
fn rows_of_many_even_out() {
    let places = cpus(5);
    let mut seen: Vec<Seen> = (0..16).map(|vcpu| busy(vcpu / 4, 1)).collect();
    assert_eq!(settle(&mut seen, &places), 12);
    assert_eq!(rows(&seen, 5), [0, 4, 4, 4, 4].map(|row| row * LOOKS), "CPU 0 keeps the consoles");
    for vm in 0..4 {
        let mut on: Vec<usize> = seen.iter().filter(|vcpu| vcpu.vm == vm).map(|vcpu| vcpu.cpu).collect();
        on.sort_unstable();
        on.dedup();
        assert!(on.len() >= 3, "VM {vm} is on {on:?}");
    }
}

#[test]
fn those_of_one_vm_are_parted_first() {
    let seen = [busy(1, 1), busy(2, 1), busy(2, 1), busy(3, 1)];
    let (which, _) = judge(&seen, &cpus(3), IDS).unwrap();
    assert_eq!(seen[which].vm, 2);
}

#[test]
fn who_sleeps_counts_by_what_it_wants_and_stays_for_one_that_wants_more() {
    let places = cpus(3);
    let seen = [at_times(1, 1, 20), busy(2, 1), at_times(3, 1, 50), busy(4, 2)];
    assert_eq!(judge(&seen, &places, IDS), None, "1.7 and 1");
    let seen = [at_times(1, 1, 20), busy(2, 1), busy(3, 1), at_times(4, 2, 30)];
    assert_eq!(judge(&seen, &places, IDS).map(|(which, to)| (seen[which].wanted, to)), Some((LOOKS, 2)));
    let asleep = [at_times(1, 1, 0), at_times(2, 1, 0), at_times(3, 1, 0)];
    assert_eq!(judge(&asleep, &places, IDS), None);
}

#[test]
fn what_an_operator_pinned_stays() {
    let places = cpus(3);
    let seen = [pinned(busy(1, 1)), pinned(busy(2, 1)), pinned(busy(3, 1))];
    assert_eq!(judge(&seen, &places, IDS), None);
    let seen = [pinned(busy(1, 1)), pinned(busy(1, 1)), busy(3, 1)];
    assert_eq!(judge(&seen, &places, IDS), Some((2, 2)));
    // The longest row cannot give; the next one can.
    let mut seen = [pinned(busy(1, 1)), pinned(busy(1, 1)), pinned(busy(1, 1)), busy(2, 2), busy(3, 2)];
    assert_eq!(settle(&mut seen, &cpus(4)), 1);
    assert_eq!(rows(&seen, 4), [0, 3, 1, 1].map(|row| row * LOOKS));
}

#[test]
fn cpus_that_take_no_guests_get_none() {
    let mut places = cpus(4);
    places[2].vmx = false;
    assert_eq!(judge(&[busy(1, 1), busy(2, 1)], &places, IDS).map(|(_, to)| to), Some(3));
    places[3].vmx = false;
    assert_eq!(judge(&[busy(1, 1), busy(2, 1), busy(3, 1)], &places, IDS), None);
    assert_eq!(judge(&[busy(1, 0), busy(2, 0)], &cpus(1), IDS), None);
}

#[test]
fn a_thread_beside_cpu_0_is_the_last_choice() {
    // CPUs 0 to 2 are first threads, 3 to 5 the second.
    let ids = ApicIds { core_shift: 1, package_shift: 4 };
    let places: Vec<Place> =
        [0, 2, 4, 1, 3, 5].map(|apic_id| Place { apic_id, vmx: true, ..Place::default() }).into();
    let seen = [busy(1, 1), busy(2, 1), busy(3, 1)];
    assert_eq!(judge(&seen, &places, ids).map(|(_, to)| to), Some(2), "a core of its own");
    let seen = [busy(1, 1), busy(2, 1), busy(3, 1), at_times(4, 2, 10)];
    assert_eq!(judge(&seen, &places, ids).map(|(_, to)| to), Some(2), "which hardly has anything to do");
    let seen = [busy(1, 1), busy(2, 1), busy(3, 2)];
    assert_eq!(judge(&seen, &places, ids).map(|(_, to)| to), Some(5), "beside the one that has least to do");
}

/// Any number of vCPUs that want any part of a CPU, anywhere: it is even after as many moves at most, and then stays so.
#[test]
fn it_comes_to_rest_from_anywhere() {
    let mut random = 1_u32;
    let mut draw = |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % below
    };
    for _ in 0..2000 {
        let count = 2 + draw(6);
        let places = cpus(count);
        let mut seen: Vec<Seen> = (0..draw(24))
            .map(|_| Seen {
                vm: draw(4).into(),
                cpu: 1 + draw(count - 1) as usize,
                wanted: draw(LOOKS + 1),
                stays: false,
            })
            .collect();
        assert!(settle(&mut seen, &places) <= seen.len(), "each moves once at most: {seen:?}");
        let rows = rows(&seen, count as usize);
        let (least, most) = (rows[1..].iter().min().unwrap(), rows.iter().max().unwrap());
        assert!(most - least < APART, "{rows:?}");
    }
}

/// What guests do changes all the time, always to the worst: a vCPU that has come stays for a while.
#[test]
fn one_that_has_moved_rests() {
    let places = cpus(3);
    let mut seen = [busy(1, 1), busy(2, 1), busy(3, 1)];
    let (mut rests, mut moves) = ([0; 3], [0; 3]);
    let judgements = 20 * (RESTS + 1);
    for _ in 0..judgements {
        // Those that share a CPU begin to work, the other one sleeps.
        let crowded = if seen.iter().filter(|vcpu| vcpu.cpu == 1).count() > 1 { 1 } else { 2 };
        for (vcpu, rest) in seen.iter_mut().zip(&rests) {
            vcpu.wanted = if vcpu.cpu == crowded { LOOKS } else { 0 };
            vcpu.stays = *rest > 0;
        }
        rests.iter_mut().for_each(|rest: &mut u32| *rest = rest.saturating_sub(1));
        if let Some((which, to)) = judge(&seen, &places, IDS) {
            seen[which].cpu = to;
            (rests[which], moves[which]) = (RESTS, moves[which] + 1);
        }
    }
    assert!(moves.iter().sum::<u32>() > 0 && moves.iter().all(|&moves| moves <= 20), "{moves:?}");
}
