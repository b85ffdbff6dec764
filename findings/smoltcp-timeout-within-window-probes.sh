#!/bin/sh
# smoltcp 0.14.0 cuts a live peer that keeps its window closed, where the user timeout is 60 s or less.
#
# A socket with set_timeout(T) ends once nothing has come from the peer for T. Probes of a closed window double their
# distance up to 60 s. A peer that answers each probe at once, and has no keep-alive of its own, is heard of every 60 s and
# a round trip: with T = 60 s it is given up as soon as one answer takes longer than the one before.
#
# Seen: with 60 s the connection ends within 3 minutes although every probe was answered; with 75 s it is there after an hour.
# The script builds a program with that version from crates.io in a folder of its own, and fails if this has changed.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/src"
cat >"$dir/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[workspace]

[dependencies.smoltcp]
version = "=0.14.0"
default-features = false
features = ["std", "medium-ip", "proto-ipv4", "socket-tcp"]
TOML
cat >"$dir/src/main.rs" <<'RUST'
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::collections::VecDeque;

/// One end of a wire.
#[derive(Default)]
struct End {
    came: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}
struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for End {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;
    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.came.pop_front()?), Tx(&mut self.sent)))
    }
    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.sent))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

struct Host {
    end: End,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
}

impl Host {
    fn new(number: u8, timeout: Option<Duration>) -> Self {
        let mut end = End::default();
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut end, Instant::ZERO);
        interface.update_ip_addrs(|list| list.push(IpCidr::new(IpAddress::v4(10, 0, 0, number), 24)).unwrap());
        let mut socket = Socket::new(SocketBuffer::new(vec![0; 1024]), SocketBuffer::new(vec![0; 4096]));
        socket.set_timeout(timeout);
        let mut sockets = SocketSet::new(vec![]);
        let socket = sockets.add(socket);
        Self { end, interface, sockets, socket }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    fn poll(&mut self, now: Instant) {
        self.interface.poll(now, &mut self.end, &mut self.sockets);
    }
}

/// When the connection of a sender with this timeout ended, in seconds, and how many answers had come by then.
fn ended(timeout: u64) -> (Option<i64>, usize) {
    let mut sender = Host::new(1, Some(Duration::from_secs(timeout)));
    let mut reader = Host::new(2, None); // no timers of its own, as a socket of Linux
    reader.socket().listen(80).unwrap();
    let context = sender.interface.context();
    sender.sockets.get_mut::<Socket>(sender.socket).connect(context, (IpAddress::v4(10, 0, 0, 2), 80), 50_000).unwrap();
    let (mut late, mut answers): (VecDeque<(i64, Vec<u8>)>, _) = (VecDeque::new(), 0);
    for ms in (0..3_600_000).step_by(10) {
        let now = Instant::from_millis(ms);
        // More than the reader takes, who never reads.
        if sender.socket().can_send() {
            sender.socket().send_slice(&[7; 4096]).unwrap();
        }
        sender.poll(now);
        reader.end.came.extend(sender.end.sent.drain(..));
        reader.poll(now);
        // The way back grows by 20 ms each minute.
        for packet in reader.end.sent.drain(..) {
            late.push_back((ms + ms / 60_000 * 20, packet));
        }
        while late.front().is_some_and(|(at, _)| *at <= ms) {
            answers += 1;
            sender.end.came.extend(late.pop_front().map(|(_, packet)| packet));
        }
        if ms > 1000 && sender.socket().state() != State::Established {
            return (Some(ms / 1000), answers);
        }
    }
    (None, answers)
}

fn main() {
    let (short, answers) = ended(60);
    println!("timeout 60 s: ended after {short:?} s, {answers} answers had come");
    let (long, answers) = ended(75);
    println!("timeout 75 s: ended after {long:?} s, {answers} answers had come in an hour");
    assert!(short.is_some_and(|seconds| seconds < 180) && long.is_none() && answers > 50);
}
RUST
cd "$dir"
cargo run --quiet --release --target-dir "$dir/target"
