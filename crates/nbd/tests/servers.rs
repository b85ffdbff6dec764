//! The client against the servers of Debian 12 (nbdkit 1.32, qemu-nbd 7.2, nbd-server 3.24), over TCP on this machine.
//!
//! `scripts/setup` puts them where they are looked for. One that is missing is said, and its tests are left out.
#![allow(missing_docs)]

#[path = "servers/daemon.rs"]
mod daemon;
#[path = "servers/live.rs"]
mod live;

use daemon::{Daemon, Image, KINDS, Kind, free_port};
use live::Live;
use nbd::{Command, ErrorCode, Failure, State};

const SIZE: usize = 4 << 20;

/// Numbers that look like chance, and are the same each time.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Writes what no other does, and what the disk holds then.
fn change(rng: &mut Rng, model: &mut [u8], command: usize) -> Command {
    let block = 4096;
    let first = rng.below((SIZE / block) as u64) as usize;
    let count = 1 + rng.below((SIZE / block - first).min(40) as u64) as usize;
    let range = first * block..(first + count) * block;
    let (offset, len, fua) = (range.start as u64, range.len() as u32, rng.below(4) == 0);
    if command % 8 == 7 {
        model[range].fill(0);
        return Command::WriteZeroes { offset, len, fua, unmap: rng.below(2) == 0 };
    }
    let data: Vec<u8> =
        (0..len / 8).flat_map(|at| ((u64::from(at) << 32) | (command as u64 + 1)).to_be_bytes()).collect();
    model[range].copy_from_slice(&data);
    Command::Write { offset, data, fua }
}

/// Each server that is here, serving a file of zeros.
fn each(test: impl Fn(Kind, Daemon)) {
    for kind in KINDS {
        if kind.is_here() {
            test(kind, Daemon::start(kind, Image::new(SIZE), free_port(), &[]));
        }
    }
}

#[test]
fn every_server_does_what_it_is_asked() {
    each(|kind, daemon| {
        let mut live = Live::open(&daemon.url(""));
        let export = *live.client.export().unwrap();
        assert_eq!(export.size, SIZE as u64, "{kind:?}");
        assert!(
            export.flush() && export.fua() && export.trim() && export.write_zeroes(),
            "{kind:?}: {export:?}"
        );
        let most = if kind == Kind::NbdServer { export.blocks.max } else { 32 << 20 };
        assert_eq!((export.block(), export.blocks.max), (512, most), "{kind:?}");
        let (mut rng, mut model) = (Rng(1), vec![0; SIZE]);
        for number in 0..200 {
            let command = match number % 10 {
                8 => Command::Flush,
                9 => Command::Read { offset: rng.below(1000) * 4096, len: 65536 },
                _ => change(&mut rng, &mut model, number),
            };
            live.submit(command);
        }
        live.finish_all();
        let whole = live.read(0, SIZE as u32);
        assert!(whole == model, "{kind:?}: other bytes are read than written");
        assert_eq!(live.run(Command::Trim { offset: 0, len: 1 << 20 }), Ok(()));
        live.end();
        assert!(daemon.stop()[1 << 20..] == model[1 << 20..], "{kind:?}: other bytes are in the file");
    });
}

/// The bytes in the file are those that were written, however often the server was killed.
fn killed(kind: Kind, options: &[&str]) {
    let mut daemon = Daemon::start(kind, Image::new(SIZE), free_port(), options);
    let mut live = Live::open(&daemon.url(""));
    let (mut rng, mut model, mut kills) = (Rng(2), vec![0; SIZE], 0);
    for number in 0..120 {
        live.submit(change(&mut rng, &mut model, number));
        if number % 30 == 17 {
            // Requests are under way, and some of their bytes are sent.
            while live.connections == kills || live.client.state() != State::Open {
                live.turn();
            }
            live.turn();
            kills += 1;
            daemon = daemon.kill_and_start(options);
        }
    }
    live.finish_all();
    assert_eq!((kills, live.connections), (4, 5), "{kind:?}");
    assert!(live.read(0, SIZE as u32) == model, "{kind:?}: other bytes are read than written");
    live.end();
    assert!(daemon.stop() == model, "{kind:?}: other bytes are in the file");
}

#[test]
fn a_server_that_is_killed_in_the_midst_of_writes_costs_time_alone() {
    KINDS.into_iter().filter(|kind| kind.is_here()).for_each(|kind| killed(kind, &[]));
}

/// This one loses what it has answered: its cache is gone with it.
#[test]
fn nor_does_one_that_forgets_what_was_not_flushed() {
    if Kind::Nbdkit.is_here() {
        killed(Kind::Nbdkit, &["--filter=cache"]);
    }
}

#[test]
fn qemu_nbd_serves_one_client_and_lets_the_next_one_wait() {
    if !Kind::QemuNbd.is_here() {
        return;
    }
    let daemon = Daemon::start(Kind::QemuNbd, Image::new(SIZE), free_port(), &[]);
    let mut first = Live::open(&daemon.url(""));
    let mut second = Live::new(&daemon.url(""));
    for _ in 0..20 {
        assert_eq!(first.run(Command::Read { offset: 0, len: 512 }), Ok(()));
        second.turn();
    }
    assert_eq!((second.connections, second.client.state()), (1, State::Connecting));
    first.end();
    second.until("the export", |client| client.export().is_some());
    assert_eq!(second.connections, 1);
    second.end();
}

#[test]
fn nbdkit_with_a_limit_drops_the_next_client_which_tries_again() {
    if !Kind::Nbdkit.is_here() {
        return;
    }
    let options = ["--filter=limit", "limit=1"];
    let daemon = Daemon::start(Kind::Nbdkit, Image::new(SIZE), free_port(), &options);
    let first = Live::open(&daemon.url(""));
    let mut second = Live::new(&daemon.url(""));
    second.until("three connections", |client| {
        client.standing(0).is_some_and(|standing| standing.attempts > 2)
    });
    let trouble = second.client.standing(0).unwrap().trouble.to_string();
    assert_eq!(trouble, "the connection was closed before the server's greeting");
    first.end();
    second.until("the export", |client| client.export().is_some());
    second.end();
}

#[test]
fn servers_refuse_in_their_own_words() {
    if Kind::Nbdkit.is_here() {
        let daemon = Daemon::start(Kind::Nbdkit, Image::new(SIZE), free_port(), &["-r"]);
        let why = Live::refused(&daemon.url(""));
        assert_eq!(why, "the export is read-only, and the disk is not (add ',ro')");
        let mut live = Live::open(&daemon.url(",ro"));
        assert_eq!(live.read(0, 512), [0; 512]);
        live.end();
    }
    for kind in [Kind::QemuNbd, Kind::NbdServer] {
        if kind.is_here() {
            let daemon = Daemon::start(kind, Image::new(SIZE), free_port(), &[]);
            let why = Live::refused(&daemon.url("-of-another-name"));
            let words = "the server refuses the export: NBD_REP_ERR_UNKNOWN (there is no such export)";
            assert!(why.starts_with(words), "{kind:?}: {why}");
        }
    }
}

#[test]
fn the_errors_of_a_server_reach_the_caller() {
    if !Kind::Nbdkit.is_here() {
        return;
    }
    for (word, code) in [("ENOSPC", ErrorCode::NoSpc), ("EIO", ErrorCode::Io), ("EPERM", ErrorCode::Perm)] {
        let error = format!("error={word}");
        let options = ["--filter=error", &error, "error-pwrite-rate=100%"];
        let daemon = Daemon::start(Kind::Nbdkit, Image::new(SIZE), free_port(), &options);
        let mut live = Live::open(&daemon.url(""));
        let write = Command::Write { offset: 0, data: vec![1; 4096], fua: false };
        assert_eq!(live.run(write), Err(Failure::Server(code)), "{word}");
        assert_eq!(live.run(Command::Read { offset: 0, len: 512 }), Ok(()));
        live.end();
    }
}

#[test]
fn block_sizes_of_a_server_are_kept_to() {
    if !Kind::Nbdkit.is_here() {
        return;
    }
    let options = [
        "--filter=blocksize-policy",
        "blocksize-minimum=4096",
        "blocksize-preferred=4096",
        "blocksize-maximum=16384",
        "blocksize-error-policy=error",
    ];
    let daemon = Daemon::start(Kind::Nbdkit, Image::new(SIZE), free_port(), &options);
    let mut live = Live::open(&daemon.url(""));
    assert_eq!(live.client.export().unwrap().block(), 4096);
    let data: Vec<u8> = (0..40960_u32).map(|at| (at / 512) as u8).collect();
    assert_eq!(live.run(Command::Write { offset: 8192, data: data.clone(), fua: true }), Ok(()));
    assert_eq!(live.run(Command::Trim { offset: 1 << 20, len: 1 << 20 }), Ok(()));
    assert!(live.read(8192, 40960) == data);
    live.end();
}

/// NBD_OPT_INFO and NBD_OPT_GO must say the same (proto.md); nbd-server's NBD_OPT_INFO says size 0. The client asks by
/// NBD_OPT_GO alone.
#[test]
fn nbd_server_tells_no_size_but_to_go() {
    if !Kind::NbdServer.is_here() {
        return;
    }
    let daemon = Daemon::start(Kind::NbdServer, Image::new(SIZE), free_port(), &[]);
    assert_eq!(daemon.info_size(), 0);
    let daemon = daemon.kill_and_start(&[]);
    let live = Live::open(&daemon.url(""));
    assert_eq!(live.client.export().unwrap().size, SIZE as u64);
    live.end();
}
