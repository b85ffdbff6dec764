//! A client against a server that dies, forgets what was not flushed, takes its time and answers in any order, over a network
//! that is cut at any byte. After each step the disk must hold what was promised.
#![allow(missing_docs)]

mod common;
#[path = "model/server.rs"]
mod server;
#[path = "model/world.rs"]
mod world;

use world::{Setting, run};

/// Each seed is a history of its own.
fn all(seeds: std::ops::Range<u64>, setting: Setting) {
    let (mut answers, mut connections) = (0, 0);
    for seed in seeds {
        match run(seed, setting) {
            Ok(counts) => {
                answers += counts.answers;
                connections += counts.connections;
            }
            Err(why) => panic!("seed {seed}, {setting:?}: {why}"),
        }
    }
    println!("{answers} answers by {connections} connections");
    assert!(answers > 50_000 && connections > 3_000);
}

#[test]
fn nothing_that_was_promised_is_lost() {
    all(0..4000, Setting::default());
}

#[test]
fn nor_where_the_server_has_no_fua() {
    all(0..2000, Setting { fua: false, ..Setting::default() });
}

#[test]
fn nor_where_the_server_refuses_some_requests() {
    all(0..2000, Setting { refuses: true, ..Setting::default() });
}

#[test]
fn nor_where_the_caller_is_told_that_the_server_is_gone() {
    all(0..2000, Setting { reports: true, ..Setting::default() });
}

/// The model finds what is wrong: servers that break their word are caught.
#[test]
fn servers_that_lie_are_caught() {
    let settings = [
        Setting { flush_lies: true, ..Setting::default() },
        Setting { fua_lies: true, ..Setting::default() },
        Setting { swaps_reads: true, ..Setting::default() },
    ];
    for setting in settings {
        let caught = (0..200).filter(|&seed| run(seed, setting).is_err()).count();
        assert!(caught > 20, "{setting:?}: {caught} of 200");
    }
}
