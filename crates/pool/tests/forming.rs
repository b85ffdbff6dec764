//! Hosts that find each other, leave, crash and come back.
#![allow(missing_docs)]

mod common;

use common::dumps::{BROADWELL, HASWELL, ICE_LAKE, SANDY_BRIDGE, SKYLAKE_X};
use common::*;
use cpu_policy::Baseline;
use pool::{Change, Event, Pool, Presence, Timing};

const DUMPS: [(&str, &dumps::Dump); 5] = [
    ("haswell-a", &HASWELL),
    ("skylake-b", &SKYLAKE_X),
    ("sandy-c", &SANDY_BRIDGE),
    ("broadwell-d", &BROADWELL),
    ("icelake-e", &ICE_LAKE),
];

/// `count` hosts; each dials the one before it, but for the first.
fn chain(world: &mut World, count: usize) {
    for (at, (name, dump)) in DUMPS.iter().take(count).enumerate() {
        let number = at as u8 + 1;
        let mut pool = alone(number, name, dump);
        let peers: Vec<_> = (at > 0).then(|| address(at as u8)).into_iter().collect();
        pool.enter("lab", &peers, world.now);
        world.add(pool, address(number));
    }
}

fn expected(count: usize) -> Baseline {
    let hosts: Vec<_> = DUMPS.iter().take(count).map(|(_, dump)| policy(dump)).collect();
    Baseline::meet(&hosts).unwrap()
}

#[test]
fn any_number_in_any_order_over_bad_links_comes_to_one_fingerprint() {
    for seed in 1..=12 {
        let count = 2 + seed as usize % 4;
        let mut world = World::new(seed * 0x9e37_79b9);
        world.breaks = 400;
        chain(&mut world, count);
        world.run_for(30);
        world.breaks = 0;
        world.until(120, &format!("seed {seed}: agreement of {count}"), |w| w.agree(count));
        for host in &world.hosts {
            assert_eq!(*host.pool.level(), expected(count), "seed {seed}");
            assert!(
                host.pool
                    .members()
                    .iter()
                    .all(|m| matches!(host.pool.presence(m.id), Presence::Here | Presence::Up))
            );
        }
    }
}

#[test]
fn all_know_all_peers_and_themselves_as_well() {
    let mut world = World::new(7);
    let peers: Vec<_> = (1..=4).map(address).collect();
    for number in 1..=4_u8 {
        let (name, dump) = DUMPS[usize::from(number) - 1];
        let mut pool = alone(number, name, dump);
        pool.enter("lab", &peers, 0);
        world.add(pool, address(number));
    }
    world.until(60, "agreement", |w| w.agree(4));
    world.run_for(60);
    assert!(world.agree(4));
    let refused = |e: &Event| matches!(e, Event::Refused { .. } | Event::Lost(_) | Event::Back(_));
    for host in &world.hosts {
        assert!(!host.events.iter().any(refused), "{:?}", host.events);
        let joined =
            host.events.iter().filter(|e| matches!(e, Event::Members { change: Change::Joined, .. }));
        assert_eq!(joined.count(), 3);
    }
}

#[test]
fn a_member_that_leaves_gives_the_level_back_and_may_return() {
    let mut world = World::new(3);
    chain(&mut world, 3);
    world.until(60, "agreement", |w| w.agree(3));
    assert!(world.hosts[2].pool.leave(world.now));
    assert!(!world.hosts[2].pool.leave(world.now));
    world.until(30, "the others agree", |w| w.agree(2));
    assert_eq!(*world.hosts[0].pool.level(), expected(2));
    assert_eq!(*world.hosts[2].pool.level(), Baseline::of(&policy(&SANDY_BRIDGE)));
    let left =
        |e: &Event| matches!(e, Event::Members { host, change: Change::Left, .. } if host == "sandy-c");
    assert!(world.hosts[0].events.iter().any(left));
    // It takes part again, by the same boot.
    let now = world.now;
    world.hosts[2].pool.enter("lab", &[address(1)], now);
    world.until(60, "all three agree again", |w| w.agree(3));
    assert_eq!(*world.hosts[1].pool.level(), expected(3));
}

#[test]
fn a_lost_member_counts_until_it_is_forgotten() {
    let mut world = World::new(4);
    chain(&mut world, 3);
    world.until(60, "agreement", |w| w.agree(3));
    world.crash(2);
    world.run_for(60);
    assert_eq!(*world.hosts[0].pool.level(), expected(3), "the level does not rise by itself");
    let lost = world.hosts[0].pool.member("sandy-c").unwrap().id;
    assert_eq!(world.hosts[0].pool.presence(lost), Presence::Lost);
    assert!(world.hosts[0].events.contains(&Event::Lost("sandy-c".into())));
    assert!(world.hosts[0].pool.forget("skylake-b").unwrap_err().contains("is not lost"));
    assert!(world.hosts[0].pool.forget("haswell-a").unwrap_err().contains("pool leave"));
    assert!(world.hosts[0].pool.forget("nobody").unwrap_err().contains("no member named nobody"));
    world.hosts[0].pool.forget("sandy-c").unwrap();
    world.until(30, "the others agree", |w| w.agree(2));
    assert_eq!(*world.hosts[1].pool.level(), expected(2));
}

#[test]
fn a_new_member_learns_of_a_lost_one() {
    let mut world = World::new(5);
    chain(&mut world, 3);
    world.until(60, "agreement", |w| w.agree(3));
    world.crash(2);
    world.run_for(40);
    let mut late = alone(4, "broadwell-d", &BROADWELL);
    late.enter("lab", &[address(1)], world.now);
    let late = world.add(late, address(4));
    world.until(60, "it knows all", |w| w.hosts[late].pool.members().len() == 4);
    world.run_for(5);
    let want = expected(4).fingerprint();
    for host in [0, 1, late] {
        assert_eq!(world.hosts[host].pool.level().fingerprint(), want);
    }
}

#[test]
fn a_crash_and_a_new_boot_are_noticed() {
    for forgotten in [false, true] {
        let mut world = World::new(6);
        chain(&mut world, 3);
        world.until(60, "agreement", |w| w.agree(3));
        world.crash(1);
        world.run_for(if forgotten { 60 } else { 3 });
        if forgotten {
            world.hosts[0].pool.forget("skylake-b").unwrap();
            world.run_for(5);
        }
        // It starts anew, with another boot id and a CPU that shows less.
        let status = status(2);
        let mut pool = Pool::new(own(2, "skylake-b", &HASWELL, 99), status, Timing::default()).unwrap();
        pool.enter("lab", &[address(1)], world.now);
        world.restart(1, pool);
        world.until(90, "all agree again", |w| w.agree(3));
        let member = world.hosts[2].pool.member("skylake-b").unwrap();
        assert_eq!(member.boot, [99; 16]);
        let changed = |e: &Event| matches!(e, Event::Members { host, change: Change::Changed | Change::Joined, .. } if host == "skylake-b");
        assert!(world.hosts[0].events.iter().any(changed));
        let hosts = [policy(&HASWELL), policy(&HASWELL), policy(&SANDY_BRIDGE)];
        assert_eq!(*world.hosts[2].pool.level(), Baseline::meet(&hosts).unwrap());
    }
}

#[test]
fn a_pool_that_was_cut_in_two_heals() {
    let mut world = World::new(8);
    chain(&mut world, 4);
    world.until(60, "agreement", |w| w.agree(4));
    world.cut = vec![(0, 2), (0, 3), (1, 2), (1, 3)];
    world.run_for(90);
    let level = expected(4).fingerprint();
    assert!(world.hosts.iter().all(|host| host.pool.level().fingerprint() == level));
    // Both halves learn of a change meanwhile.
    let now = world.now;
    assert!(world.hosts[3].pool.leave(now));
    world.run_for(5);
    world.cut.clear();
    world.until(120, "three agree", |w| w.agree(3));
    assert!(world.hosts[0].events.contains(&Event::Back("sandy-c".into())));
    assert_eq!(*world.hosts[0].pool.level(), expected(3));
}

#[test]
fn running_vms_are_pinned_and_never_changed() {
    let mut world = World::new(9);
    chain(&mut world, 2);
    let mut vms = status(2);
    vms.vms = vec![("new".into(), guest("skylake-server")), ("old".into(), guest("haswell"))];
    vms.free_mib = 100;
    world.hosts[1].pool.update(vms).unwrap();
    world.until(60, "agreement", |w| w.agree(2));
    let mut text = String::new();
    world.hosts[0].pool.write_text(&mut text).unwrap();
    assert!(text.contains("vm new is pinned to skylake-b until restarted"), "{text}");
    assert!(text.contains("removes") && text.contains("AVX512*"), "{text}");
    assert!(text.contains("haswell-a (tsc offset)"), "{text}");
    assert!(!text.contains("vm old is pinned"), "{text}");
    // The one that has it is told when the pool forms.
    let pins = |e: &Event| match e {
        Event::Members { pinned, .. } => pinned.clone(),
        _ => Vec::new(),
    };
    let told: Vec<_> = world.hosts[1].events.iter().flat_map(pins).collect();
    assert_eq!(told, [("new".to_string(), "skylake-b".to_string())]);
    let mut json = String::new();
    world.hosts[0].pool.write_json(&mut json).unwrap();
    assert!(
        json.contains(r#""name":"new","on":"skylake-b","level":"skylake-server","pinned":true"#),
        "{json}"
    );
}

/// Fault 1.3: a VM in doubt on one host must not be forced there while another member has it, whatever its name is there.
#[test]
fn members_know_who_has_a_vm_by_its_uuid_until_that_one_is_forgotten() {
    const VM: [u8; 16] = [7; 16];
    let mut world = World::new(21);
    chain(&mut world, 3);
    let has = |pool: &Pool| {
        let known: Vec<_> = pool.members().into_iter().filter(|member| member.has(&VM)).collect();
        known.iter().map(|member| member.name.clone()).collect::<Vec<_>>()
    };
    world.until(60, "agreement", |w| w.agree(3));
    assert!(has(&world.hosts[0].pool).is_empty());
    let mut takes = status(3);
    takes.uuids = (0..200_u8).map(|number| [number; 16]).collect();
    world.hosts[2].pool.update(takes).unwrap();
    world.until(60, "the news of the third", |w| has(&w.hosts[0].pool) == ["sandy-c"]);
    // It falls silent: its last word holds.
    world.hosts.remove(2);
    let lost = |w: &World| w.hosts[0].events.iter().any(|event| matches!(event, Event::Lost(_)));
    world.until(120, "its loss", lost);
    assert_eq!(has(&world.hosts[0].pool), ["sandy-c"]);
    world.hosts[0].pool.forget("sandy-c").unwrap();
    assert!(has(&world.hosts[0].pool).is_empty());
}

#[test]
fn a_guest_of_another_rate_goes_where_it_is_scaled() {
    let shape = cpu_policy::Shape { tsc_hz: HZ * 2, ..dumps::SHAPE };
    let guest = cpu_policy::GuestPolicy::render(dumps::level("haswell"), shape, &policy(&HASWELL)).unwrap();
    let host = alone(1, "haswell-a", &HASWELL);
    let mut member = host.members()[0].clone();
    let why = pool::can_take(&member, &guest).unwrap_err();
    assert!(why.contains("40.000000 MHz") && why.contains("cannot scale"), "{why}");
    member.tsc.scaling = true;
    assert_eq!(pool::can_take(&member, &guest), Ok(pool::TscMeans::Scaling));
    member.accepts = false;
    assert!(pool::can_take(&member, &guest).is_err());
}

/// A configured peer that never answers is named, in the text and in the JSON, for as long as it does not.
#[test]
fn a_peer_that_has_not_answered_is_named() {
    let shown = |world: &World| {
        let (mut text, mut json) = (String::new(), String::new());
        world.hosts[0].pool.write_text(&mut text).unwrap();
        world.hosts[0].pool.write_json(&mut json).unwrap();
        (text.lines().next().unwrap().to_string(), json)
    };
    let mut world = World::new(11);
    let mut pool = alone(1, DUMPS[0].0, DUMPS[0].1);
    pool.enter("lab", &[address(1), address(2)], world.now);
    world.add(pool, address(1));
    world.run_for(30);
    let (text, json) = shown(&world);
    assert_eq!(text, format!("pool         lab, 1 member, forming: waits for {}", address(2)));
    assert!(json.contains(&format!("\"state\":\"forming\",\"waits_for\":[\"{}\"]", address(2))), "{json}");
    let mut other = alone(2, DUMPS[1].0, DUMPS[1].1);
    other.enter("lab", &[], world.now);
    world.add(other, address(2));
    world.until(120, "agreement of 2", |w| w.agree(2));
    let (text, json) = shown(&world);
    assert_eq!(text, "pool         lab, 2 members, agreed");
    assert!(json.contains("\"waits_for\":[]"), "{json}");
}
