//! vCPUs are spread over packages, cores and threads. Fault 2.22: a CPU on which VMX could not be switched on was given VMs,
//! which never ran.
#![allow(missing_docs)]

use scheduling::place::{ApicIds, Place, next, takes_guests};

/// A host with so many packages, cores in each and threads in each core, all in VMX operation, in the order in which firmware lists
/// them: the first thread of each core, then the second.
fn host(packages: u32, cores: u32, threads: u32) -> (Vec<Place>, ApicIds) {
    let bits = |count: u32| count.next_power_of_two().trailing_zeros();
    let ids = ApicIds { core_shift: bits(threads), package_shift: bits(threads) + bits(cores) };
    let mut places = Vec::new();
    for thread in 0..threads {
        for (package, core) in (0..packages).flat_map(|package| (0..cores).map(move |core| (package, core))) {
            let apic_id = package << ids.package_shift | core << ids.core_shift | thread;
            places.push(Place { apic_id, vmx: true, ..Place::default() });
        }
    }
    (places, ids)
}

/// Makes a VM with so many vCPUs. Their CPUs.
fn make(places: &mut [Place], ids: ApicIds, vcpus: usize) -> Vec<usize> {
    places.iter_mut().for_each(|place| place.own = 0);
    let mut homes = Vec::new();
    for _ in 0..vcpus {
        let at = next(places, ids).unwrap();
        places[at].vcpus += 1;
        places[at].own += 1;
        homes.push(at);
    }
    homes
}

#[test]
fn cores_come_before_threads_and_the_sibling_of_cpu_0_comes_last() {
    // CPUs 0 to 3 are the first threads, 4 to 7 the second.
    let (mut places, ids) = host(1, 4, 2);
    assert_eq!(make(&mut places, ids, 7), [1, 2, 3, 5, 6, 7, 4]);
    assert_eq!(make(&mut places, ids, 7), [1, 2, 3, 5, 6, 7, 4], "a second on each");
    assert_eq!(places[0].vcpus, 0, "CPU 0 keeps the consoles");
    // The same by VMs of one vCPU.
    let (mut places, ids) = host(1, 4, 2);
    let homes: Vec<usize> = (0..7).flat_map(|_| make(&mut places, ids, 1)).collect();
    assert_eq!(homes, [1, 2, 3, 5, 6, 7, 4]);
}

#[test]
fn cores_of_two_packages_are_not_taken_for_one() {
    // Cores 0 and 1 of package 0, then of package 1; CPUs 4 to 7 are their second threads.
    let (mut places, ids) = host(2, 2, 2);
    assert_eq!(make(&mut places, ids, 7), [1, 2, 3, 5, 6, 7, 4]);
}

#[test]
fn a_vm_stays_in_one_package_while_that_has_cores_that_are_free() {
    let (mut places, ids) = host(2, 4, 1);
    assert_eq!(make(&mut places, ids, 1), [1]);
    assert_eq!(make(&mut places, ids, 3), [2, 3, 4], "the rest of the first, then on");
    assert_eq!(make(&mut places, ids, 2), [5, 6]);
}

#[test]
fn where_fewest_live_comes_first() {
    let (mut places, ids) = host(1, 4, 1);
    places[1].vcpus = 3;
    places[2].vcpus = 1;
    assert_eq!(make(&mut places, ids, 4), [3, 2, 3, 2], "one that went has left room");
}

#[test]
fn two_of_one_vm_are_kept_apart_where_others_are_as_many() {
    let (mut places, ids) = host(1, 3, 1);
    places[1].vcpus = 1;
    assert_eq!(make(&mut places, ids, 2), [2, 1]);
    let (mut places, ids) = host(1, 4, 1);
    (places[1].vcpus, places[2].vcpus, places[3].vcpus) = (1, 0, 0);
    assert_eq!(make(&mut places, ids, 3), [2, 3, 1]);
}

#[test]
fn more_vcpus_than_cpus_are_as_many_on_each() {
    let (mut places, ids) = host(2, 2, 2);
    make(&mut places, ids, 64);
    let counts: Vec<u32> = places.iter().map(|place| place.vcpus).collect();
    assert_eq!((counts[0], counts.iter().sum::<u32>()), (0, 64));
    assert!(counts[1..].iter().all(|count| (9..=10).contains(count)), "{counts:?}");
}

#[test]
fn cpus_without_vmx_get_none_and_cpu_0_gets_them_where_nobody_else_can() {
    let homes = |vmx: &[usize], vcpus: usize| {
        let (mut places, ids) = host(1, 4, 1);
        for (index, place) in places.iter_mut().enumerate() {
            place.vmx = vmx.contains(&index);
        }
        let takes: Vec<usize> = (0..5).filter(|&index| takes_guests(&places, index)).collect();
        (make(&mut places, ids, vcpus), takes)
    };
    assert_eq!(homes(&[0, 1, 2, 3], 4), (vec![1, 2, 3, 1], vec![1, 2, 3]));
    assert_eq!(homes(&[0, 2], 3), (vec![2, 2, 2], vec![2]));
    assert_eq!(homes(&[1, 3], 3), (vec![1, 3, 1], vec![1, 3]));
    assert_eq!(homes(&[0], 2), (vec![0, 0], vec![0]));
    let (mut places, ids) = host(1, 1, 1);
    assert_eq!(make(&mut places, ids, 2), [0, 0]);
    // Nobody else than CPU 0's sibling.
    let (mut places, ids) = host(1, 1, 2);
    assert_eq!(make(&mut places, ids, 2), [1, 1]);
}

#[test]
fn none_where_no_cpu_can() {
    let (mut places, ids) = host(1, 2, 1);
    places.iter_mut().for_each(|place| place.vmx = false);
    assert_eq!((next(&places, ids), next(&[], ids)), (None, None));
}

/// CPUID of these leaves, all others 0.
fn cpuid(rows: &'static [(u32, u32, [u32; 4])]) -> impl Fn(u32, u32) -> [u32; 4] {
    move |leaf, subleaf| rows.iter().find(|row| (row.0, row.1) == (leaf, subleaf)).map_or([0; 4], |row| row.2)
}

fn fields(rows: &'static [(u32, u32, [u32; 4])]) -> (u32, u32) {
    let ids = ApicIds::of(cpuid(rows));
    (ids.core_shift, ids.package_shift)
}

#[test]
fn cpuid_says_where_cores_and_packages_begin() {
    const THREADS: u32 = 0x100;
    const CORES: u32 = 0x201;
    const DIES: u32 = 0x502;
    // Leaf 0BH: two threads, up to 16 CPUs; as a CPU with one thread in each core has it.
    assert_eq!(
        fields(&[(0, 0, [0xb, 0, 0, 0]), (0xb, 0, [1, 2, THREADS, 0]), (0xb, 1, [4, 12, CORES, 0])]),
        (1, 4)
    );
    assert_eq!(
        fields(&[(0, 0, [0xb, 0, 0, 0]), (0xb, 0, [0, 1, THREADS, 0]), (0xb, 1, [3, 6, CORES, 0])]),
        (0, 3)
    );
    // Leaf 1FH has levels that 0BH leaves out.
    let both = &[
        (0, 0, [0x1f, 0, 0, 0]),
        (0xb, 0, [1, 2, THREADS, 0]),
        (0xb, 1, [6, 64, CORES, 0]),
        (0x1f, 0, [1, 2, THREADS, 0]),
        (0x1f, 1, [5, 32, CORES, 0]),
        (0x1f, 2, [6, 64, DIES, 0]),
    ];
    assert_eq!(fields(both), (1, 6));
    // Leaf 1FH is there, and says nothing.
    assert_eq!(
        fields(&[(0, 0, [0x20, 0, 0, 0]), (0xb, 0, [1, 2, THREADS, 0]), (0xb, 1, [4, 16, CORES, 0])]),
        (1, 4)
    );
    // Bochs leaves the level of threads out where a core has one, and has a level of no kind where a package has one core.
    assert_eq!(fields(&[(0, 0, [0xb, 0, 0, 0]), (0xb, 0, [2, 4, 0x200, 0])]), (0, 2));
    assert_eq!(fields(&[(0, 0, [0xb, 0, 0, 0]), (0xb, 0, [1, 2, 0, 0])]), (0, 0));
}

#[test]
fn before_leaf_0bh_cpus_and_cores_of_a_package_are_counted() {
    const HTT: u32 = 1 << 28;
    // Four cores of two threads; two cores of one; one of two; one alone, whatever EBX holds.
    assert_eq!(
        fields(&[(0, 0, [0xa, 0, 0, 0]), (1, 0, [0, 8 << 16, 0, HTT]), (4, 0, [3 << 26, 0, 0, 0])]),
        (1, 3)
    );
    assert_eq!(
        fields(&[(0, 0, [0xa, 0, 0, 0]), (1, 0, [0, 2 << 16, 0, HTT]), (4, 0, [1 << 26, 0, 0, 0])]),
        (0, 1)
    );
    assert_eq!(fields(&[(0, 0, [2, 0, 0, 0]), (1, 0, [0, 2 << 16, 0, HTT])]), (1, 1));
    assert_eq!(fields(&[(0, 0, [2, 0, 0, 0]), (1, 0, [0, 9 << 16, 0, 0])]), (0, 0));
    // What contradicts itself is no more than wrong.
    assert_eq!(
        fields(&[(0, 0, [0xa, 0, 0, 0]), (1, 0, [0, 0, 0, HTT]), (4, 0, [u32::MAX, 0, 0, 0])]),
        (0, 0)
    );
}
