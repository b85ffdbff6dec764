//! Peers that are refused, and why; nothing is changed by them.
#![allow(missing_docs)]

mod common;

use common::dumps::{Dump, HASWELL, LYNNFIELD, SANDY_BRIDGE, SKYLAKE_X};
use common::*;
use cpu_policy::{Baseline, Feature};
use pool::limits::MAX_MEMBERS;
use pool::{Event, Own, Pool, Refusal, Status, Timing};

fn refusals(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Refused { why, .. } | Event::ErrandFailed { why, .. } => Some(why.clone()),
            _ => None,
        })
        .collect()
}

/// Two hosts, the second of which dials the first; gives what both say.
fn meet(first: Pool, second: Pool) -> (World, [Vec<String>; 2]) {
    let mut world = World::new(11);
    world.add(first, address(1));
    world.add(second, address(2));
    world.run_for(40);
    let said = [0, 1].map(|host: usize| refusals(&world.hosts[host].events));
    (world, said)
}

fn in_pool(mut pool: Pool, name: &str, peers: &[u8]) -> Pool {
    let peers: Vec<_> = peers.iter().map(|peer| address(*peer)).collect();
    pool.enter(name, &peers, 0);
    pool
}

fn unchanged(world: &World) {
    for (host, dump) in world.hosts.iter().zip([&HASWELL, &SKYLAKE_X]) {
        assert_eq!(host.pool.members().len(), 1);
        assert_eq!(*host.pool.level(), Baseline::of(&policy(dump)));
    }
}

#[test]
fn another_pool() {
    let first = in_pool(alone(1, "haswell-a", &HASWELL), "lab", &[]);
    let second = in_pool(alone(2, "skylake-b", &SKYLAKE_X), "prod", &[1]);
    let (world, said) = meet(first, second);
    // Once, however often it is tried.
    for said in &said {
        assert_eq!(said.len(), 1, "{said:?}");
    }
    assert!(said[0][0].contains("pool prod: this host is in pool lab"), "{said:?}");
    unchanged(&world);
}

#[test]
fn no_pool_at_all() {
    let first = alone(1, "haswell-a", &HASWELL);
    let second = in_pool(alone(2, "skylake-b", &SKYLAKE_X), "lab", &[1]);
    let (world, said) = meet(first, second);
    assert!(said[1][0].contains("host haswell-a is in no pool"), "{said:?}");
    unchanged(&world);
}

#[test]
fn a_name_that_is_taken() {
    let first = in_pool(alone(1, "haswell-a", &HASWELL), "lab", &[]);
    let second = in_pool(alone(2, "haswell-a", &SKYLAKE_X), "lab", &[1]);
    let (world, said) = meet(first, second);
    assert!(said[0][0].contains("host name haswell-a is taken"), "{said:?}");
    unchanged(&world);
}

#[test]
fn an_id_that_is_taken() {
    let first = in_pool(alone(1, "haswell-a", &HASWELL), "lab", &[]);
    let twin = Pool::new(own(1, "skylake-b", &SKYLAKE_X, 77), status(2), Timing::default()).unwrap();
    let (world, said) = meet(first, in_pool(twin, "lab", &[1]));
    assert!(said[0][0].contains("host id 01010101"), "{said:?}");
    unchanged(&world);
}

/// A third machine with the id of a member is refused by the first as long as that member is there.
#[test]
fn an_id_of_a_member_that_is_there() {
    let mut world = World::new(12);
    world.add(in_pool(alone(1, "haswell-a", &HASWELL), "lab", &[]), address(1));
    world.add(in_pool(alone(2, "skylake-b", &SKYLAKE_X), "lab", &[1]), address(2));
    world.until(60, "agreement", |w| w.agree(2));
    let clone = Pool::new(own(2, "skylake-b", &SANDY_BRIDGE, 5), status(3), Timing::default()).unwrap();
    world.add(in_pool(clone, "lab", &[1]), address(3));
    world.run_for(30);
    let said = refusals(&world.hosts[0].events);
    assert!(said.iter().any(|why| why.contains("is taken in this pool by skylake-b")), "{said:?}");
    assert_eq!(world.hosts[0].pool.members().len(), 2);
    let level = Baseline::meet(&[policy(&HASWELL), policy(&SKYLAKE_X)]).unwrap();
    assert_eq!(*world.hosts[0].pool.level(), level);
}

#[test]
fn one_member_too_many() {
    let mut world = World::new(13);
    world.add(in_pool(alone(1, "host-1", &HASWELL), "lab", &[]), address(1));
    for number in 2..=MAX_MEMBERS as u8 + 1 {
        let pool = alone(number, &format!("host-{number}"), &HASWELL);
        world.add(in_pool(pool, "lab", &[1]), address(number));
        if usize::from(number) == MAX_MEMBERS {
            world.until(60, "a full pool", |w| w.agree(MAX_MEMBERS));
        }
    }
    world.run_for(20);
    assert_eq!(world.hosts[0].pool.members().len(), MAX_MEMBERS);
    let said = refusals(&world.hosts[MAX_MEMBERS].events);
    assert!(said.iter().any(|why| why.contains("16 members already")), "{said:?}");
}

#[test]
fn a_host_whose_cpu_is_no_member_s() {
    let amd = Dump { vendor: b"AuthenticAMD", ..HASWELL };
    let refused = |own: Own| match Pool::new(own, status(1), Timing::default()) {
        Err(Refusal::Record { why, .. }) => why.to_string(),
        other => panic!("{:?}", other.map(|_| ())),
    };
    let why = refused(own(1, "amd-a", &amd, 1));
    assert!(why.contains("AuthenticAMD"), "{why}");
    let why = refused(own(1, "Upper Case", &HASWELL, 1));
    assert!(why.contains("Upper Case"), "{why}");
    let mut other_rate = own(1, "haswell-a", &HASWELL, 1);
    other_rate.tsc.hz += 1;
    let why = refused(other_rate);
    assert!(why.contains("20.000001 MHz") && why.contains("20.000000 MHz"), "{why}");
    // AVX2 without AVX.
    let mut contradiction = own(1, "haswell-a", &HASWELL, 1);
    contradiction.policy.features.remove(Feature::Avx);
    let why = refused(contradiction);
    assert!(why.contains("AVX"), "{why}");
    let mut slow = own(1, "haswell-a", &HASWELL, 1);
    slow.tsc.hz = 1;
    assert!(refused(slow).contains("TSC rate 1"));
}

#[test]
fn preview_changes_nothing_and_join_says_before_and_after() {
    let mut world = World::new(14);
    let mut status: Status = status(1);
    status.vms = vec![("demo".into(), guest("haswell"))];
    let first = Pool::new(own(1, "haswell-a", &HASWELL, 1), status, Timing::default()).unwrap();
    world.add(in_pool(first, "lab", &[]), address(1));
    world.add(alone(2, "lynnfield-b", &LYNNFIELD), address(2));
    // Either may ask the other.
    for (from, to) in [(0, 2_u8), (1, 1)] {
        let now = world.now;
        world.hosts[from].pool.preview(address(to), now).unwrap();
        assert!(world.hosts[from].pool.preview(address(to), now).is_err(), "one at a time");
        world.until(20, "an answer", |w| w.hosts[from].events.contains(&Event::ErrandDone));
        let preview = world.hosts[from].events.iter().find_map(|event| match event {
            Event::Preview(preview) => Some(preview.clone()),
            _ => None,
        });
        let preview = preview.unwrap();
        let both = Baseline::meet(&[policy(&HASWELL), policy(&LYNNFIELD)]).unwrap();
        assert_eq!(preview.after.fingerprint, both.fingerprint());
        assert_eq!(preview.pinned.len(), 1);
        assert_eq!(preview.pinned[0].pinned_to(), "haswell-a");
        let mut text = String::new();
        preview.write_text(&mut text).unwrap();
        assert!(text.contains("pinned       vm demo to haswell-a until restarted"), "{text}");
        assert!(text.contains("not lynnfield-b: ") && text.contains("AVX2"), "{text}");
        let mut json = String::new();
        preview.write_json(&mut json).unwrap();
        assert!(json.starts_with("{\"pool\":") && json.ends_with("]}"), "{json}");
        assert_eq!(world.hosts[from].pool.members().len(), 1);
        world.hosts[from].events.clear();
    }
    assert!(world.hosts[1].pool.name().is_none());

    let now = world.now;
    world.hosts[1].pool.join(address(1), now).unwrap();
    world.until(30, "the join", |w| w.hosts[1].events.contains(&Event::ErrandDone));
    assert!(world.agree(2));
    assert_eq!(world.hosts[1].pool.name(), Some("lab"));
    let told = |event: &Event| match event {
        Event::Members { pinned, .. } => pinned == &[("demo".to_string(), "haswell-a".to_string())],
        _ => false,
    };
    assert!(world.hosts[0].events.iter().any(told), "{:?}", world.hosts[0].events);
    let line = world.hosts[0].events.iter().find(|event| told(event)).unwrap().to_string();
    assert!(line.starts_with("lynnfield-b joined: level ") && line.contains("(was "), "{line}");
    assert!(line.ends_with(", vm demo pinned to haswell-a"), "{line}");
}

#[test]
fn errands_that_come_to_nothing() {
    let mut world = World::new(15);
    world.add(in_pool(alone(1, "haswell-a", &HASWELL), "lab", &[]), address(1));
    world.add(in_pool(alone(2, "skylake-b", &SKYLAKE_X), "prod", &[]), address(2));
    world.add(alone(3, "sandy-c", &SANDY_BRIDGE), address(3));
    for (to, why, refused) in [
        (2, "pool prod: this host is in pool lab", true),
        (3, "host sandy-c is in no pool", true),
        (9, "no route", false),
    ] {
        let now = world.now;
        world.hosts[0].pool.join(address(to), now).unwrap();
        let failed = |e: &Event| matches!(e, Event::ErrandFailed { .. });
        world.until(60, why, |w| w.hosts[0].events.iter().any(failed));
        let Some(Event::ErrandFailed { why: said, refused: by, .. }) =
            world.hosts[0].events.iter().find(|event| failed(event))
        else {
            panic!("{why}");
        };
        assert!(said.contains(why), "{said}");
        assert_eq!(*by, refused, "{said}");
        world.hosts[0].events.clear();
        world.run_for(10);
        assert_eq!(world.hosts[0].pool.members().len(), 1);
    }
    let now = world.now;
    assert!(world.hosts[0].pool.join(address(1), now).unwrap_err().contains("is this host"));
    // It is asked once, and goes away meanwhile.
    world.crash(2);
    world.hosts[1].pool.preview(address(3), now).unwrap();
    world.run_for(40);
    assert!(world.hosts[1].events.iter().any(|e| matches!(e, Event::ErrandFailed { refused: false, .. })));
}
