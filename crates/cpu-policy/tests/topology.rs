//! What a guest finds out about packages, cores and threads, by readers of its own, is what was asked for.

mod common;

use common::*;
use cpu_policy::{Dynamic, GuestPolicy, LEVELS, Level, Row, Shape};
use vm_types::{MAX_VCPUS, Topology};

/// Bits that number so many things.
fn order(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

/// Every way to lay out up to 64 vCPUs, also those that are refused.
fn all() -> impl Iterator<Item = Topology> {
    let most = 1..=MAX_VCPUS;
    let pairs = most.clone().flat_map(move |sockets| most.clone().map(move |cores| (sockets, cores)));
    let threes = pairs.flat_map(|(sockets, cores)| {
        (1..=MAX_VCPUS).map(move |threads| Topology { sockets, cores, threads })
    });
    threes.filter(|topology| topology.vcpus() <= MAX_VCPUS)
}

fn valid() -> Vec<Topology> {
    all().filter(|topology| topology.check(topology.vcpus()).is_ok()).collect()
}

fn render_as(level: &'static Level, topology: Topology) -> GuestPolicy {
    GuestPolicy::render(level, Shape { topology, ..SHAPE }, &big_host()).unwrap()
}

/// CPUID on the vCPU with that APIC id.
fn cpuid(policy: &GuestPolicy, id: u32, leaf: u32, subleaf: u32) -> [u32; 4] {
    policy.cpuid(leaf, subleaf, || Dynamic { apic_id: id, cr4: 0, xcr0: 1 })
}

/// What one vCPU finds: packages are told apart by numbers, the others are counted.
#[derive(PartialEq, Eq, Debug)]
struct Found {
    id: u32,
    package: u32,
    core: u32,
    thread: u32,
    cores: u32,
    threads: u32,
}

/// By leaf B or 1F, as Linux goes through them (`detect_extended_topology`).
fn extended(policy: &GuestPolicy, id: u32, leaf: u32) -> Option<Found> {
    let [max, ..] = cpuid(policy, id, 0, 0);
    let [eax, ebx, ecx, edx] = cpuid(policy, id, leaf, 0);
    if max < leaf || ebx == 0 || ecx >> 8 & 0xff != 1 {
        return None;
    }
    assert_eq!(ecx & 0xff, 0, "the sub-leaf");
    let (threads, thread_shift) = (ebx & 0xffff, eax & 0x1f);
    let (mut siblings, mut shift) = (threads, thread_shift);
    for subleaf in 1.. {
        let [eax, ebx, ecx, again] = cpuid(policy, id, leaf, subleaf);
        assert_eq!((ecx & 0xff, again), (subleaf, edx));
        match ecx >> 8 & 0xff {
            0 => break,
            2 => (siblings, shift) = (ebx & 0xffff, eax & 0x1f),
            other => panic!("level type {other}"),
        }
    }
    Some(Found {
        id: edx,
        package: edx >> shift,
        core: (edx & ((1 << shift) - 1)) >> thread_shift,
        thread: edx & ((1 << thread_shift) - 1),
        cores: siblings / threads,
        threads,
    })
}

/// By leaves 1 and 4, where there is no leaf B (SDM 3A 9.9.3 and 9.9.4): numbers are rounded up to what APIC ids reserve.
fn legacy(policy: &GuestPolicy, vcpu: u32) -> Found {
    let [_, ebx, _, edx] = cpuid(policy, vcpu, 1, 0);
    let (id, logical) = (ebx >> 24, if edx >> 28 & 1 == 1 { ebx >> 16 & 0xff } else { 1 });
    let core_bits = order((cpuid(policy, vcpu, 4, 0)[0] >> 26) + 1);
    let shift = order(logical);
    let thread_shift = shift - core_bits;
    Found {
        id,
        package: id >> shift,
        core: (id & ((1 << shift) - 1)) >> thread_shift,
        thread: id & ((1 << thread_shift) - 1),
        // With one core all are its threads, else a core's threads fill their field.
        cores: if core_bits == 0 { 1 } else { logical >> thread_shift },
        threads: if core_bits == 0 { logical } else { 1 << thread_shift },
    }
}

/// The fields are composed as the SDM says (3A 9.9.1): what is taken is exactly what leaves no gap between APIC ids.
#[test]
fn what_is_taken_has_apic_ids_without_gaps() {
    let mut taken = 0;
    for topology in all() {
        let (threads, cores) = (order(topology.threads), order(topology.cores));
        let mut ids = Vec::new();
        for socket in 0..topology.sockets {
            for core in 0..topology.cores {
                ids.extend((0..topology.threads).map(|t| socket << (cores + threads) | core << threads | t));
            }
        }
        let without_gaps = ids.into_iter().eq(0..topology.vcpus());
        assert_eq!(topology.check(topology.vcpus()).is_ok(), without_gaps, "{topology}");
        assert_eq!((topology.thread_bits(), topology.socket_shift()), (threads, cores + threads));
        taken += u32::from(without_gaps);
    }
    assert!(taken > 200, "{taken}");
}

#[test]
fn every_topology_is_found_by_every_vcpu() {
    // One without leaf B, one without leaf 1F, one with both.
    for name in ["penryn", "haswell", "sapphirerapids"] {
        for topology in valid() {
            let policy = render_as(level(name), topology);
            let Topology { sockets, cores, threads } = topology;
            let mut packages = Vec::new();
            for vcpu in 0..topology.vcpus() {
                let wanted = Found {
                    id: vcpu,
                    package: vcpu / (cores * threads),
                    core: vcpu / threads % cores,
                    thread: vcpu % threads,
                    cores,
                    threads,
                };
                assert_eq!(legacy(&policy, vcpu), wanted, "{name} {topology}");
                let by = [0xb, 0x1f].map(|leaf| extended(&policy, vcpu, leaf));
                assert_eq!(
                    by.iter().flatten().count(),
                    match name {
                        "penryn" => 0,
                        "haswell" => 1,
                        _ => 2,
                    }
                );
                assert!(by.iter().flatten().all(|found| *found == wanted), "{name} {topology}: {by:?}");
                packages.push(wanted.package);
            }
            packages.dedup();
            assert_eq!(packages.len() as u32, sockets, "{name} {topology}");
        }
    }
}

/// Two CPUs share a cache where their ids are the same above the bits that leaf 4 reserves.
#[test]
fn caches_belong_to_a_core_or_to_a_package() {
    for level in LEVELS {
        for topology in valid() {
            let policy = render_as(level, topology);
            let last = level.caches.iter().map(|cache| cache.level).max();
            for (index, cache) in level.caches.iter().enumerate() {
                let [eax, ..] = cpuid(&policy, 0, 4, index as u32);
                let bits = order((eax >> 14 & 0xfff) + 1);
                let share = |a: u32, b: u32| a >> bits == b >> bits;
                let of = if Some(cache.level) == last { topology.per_socket() } else { topology.threads };
                for vcpu in 0..topology.vcpus() {
                    assert_eq!(share(0, vcpu), vcpu < of, "{} {topology} L{}", level.name, cache.level);
                }
            }
        }
    }
}

/// One package of N cores has the leaves that it had before there were others.
#[test]
fn a_flat_one_is_what_it_was() {
    for level in LEVELS {
        for vcpus in 1..=MAX_VCPUS {
            let policy = render_as(level, Topology::flat(vcpus));
            let table = policy.table();
            let cores = vcpus.next_power_of_two() - 1;
            let last = level.caches.iter().map(|cache| cache.level).max();
            assert_eq!(table.lookup(1, 0).regs()[1], 8 << 8 | vcpus << 16);
            assert_eq!(table.lookup(1, 0).regs()[3] >> 28 & 1, u32::from(vcpus > 1));
            for (index, cache) in level.caches.iter().enumerate() {
                let sharing = if Some(cache.level) == last { cores } else { 0 };
                let [eax, ..] = table.lookup(4, index as u32).regs();
                assert_eq!(eax >> 14, sharing | cores << 12);
            }
            for leaf in [0xb, 0x1f] {
                let rows: Vec<&Row> = table.rows().iter().filter(|row| row.leaf == leaf).collect();
                let bits = vcpus.next_power_of_two().trailing_zeros();
                let wanted = [[0, 1, 0x100, 0], [bits, vcpus, 0x200, 0]];
                assert!(rows.is_empty() || rows.iter().map(|row| row.regs).eq(wanted), "{rows:?}");
                assert_eq!(rows.is_empty(), level.max_leaf < leaf);
            }
        }
    }
}

/// The table is what travels, so that a topology needs no field of its own: a host of this version reads it back, and a guest
/// that goes on to another one has the same CPUID.
#[test]
fn it_travels_in_the_table() {
    for name in ["penryn", "haswell", "sapphirerapids"] {
        for topology in valid() {
            let policy = render_as(level(name), topology);
            let back = GuestPolicy::decode(&policy.encode()).unwrap();
            assert_eq!(back.shape().topology, topology, "{name}");
            assert_eq!(back, policy);
            assert_eq!(back.check_vcpus(topology.vcpus()), Ok(()));
        }
    }
}

/// A host of the version before asks leaf 1 to count all vCPUs, and refuses by the name of that leaf. What it takes it serves as it
/// came: cores with threads in one package.
#[test]
fn a_host_of_the_version_before_serves_it_or_refuses_it() {
    for topology in valid() {
        let policy = render_as(level("haswell"), topology);
        let [_, ebx, _, edx] = *policy.table().lookup(1, 0).regs();
        let counts = edx >> 28 & 1 == u32::from(topology.vcpus() > 1) && ebx >> 16 == topology.vcpus();
        assert_eq!(counts, topology.sockets == 1, "{topology}");
        for row in policy.table().rows().iter().filter(|row| matches!(row.leaf, 0xb | 0x1f)) {
            assert!(row.subleaf <= 1 && row.regs[2] & 0xff == 0 && row.regs[3] == 0);
        }
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let render = |sockets, cores, threads| {
        let topology = Topology { sockets, cores, threads };
        GuestPolicy::render(level("haswell"), Shape { topology, ..SHAPE }, &big_host())
            .map_err(|e| e.to_string())
    };
    assert!(
        render(2, 3, 1).unwrap_err().starts_with("topology=2:3:1: threads and cores of topology= are powers")
    );
    assert_eq!(render(2, 64, 1).unwrap_err(), "128 vCPUs: 1 to 64 are possible");
    assert_eq!(render(1, 0, 1).unwrap_err(), "0 vCPUs: 1 to 64 are possible");
}
