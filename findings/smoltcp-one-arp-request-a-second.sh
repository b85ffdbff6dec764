#!/bin/sh
# smoltcp 0.14.0 asks for one unknown neighbour a second, for all sockets of an interface together.
#
# Each socket that has something to send to an unknown address is due again after that same second, and the sockets are
# looked at in the order in which they were added. So a socket that sends to a host that is switched off takes every turn,
# and a host that is there, which a later socket wants, is never asked for.
#
# Seen: of 30 requests in 30 s all are for the absent host, none for the other, whose socket waits all the time.
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
features = ["std", "medium-ethernet", "proto-ipv4", "socket-udp"]
TOML
cat >"$dir/src/main.rs" <<'RUST'
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Address};

/// Keeps what is sent; nobody answers.
#[derive(Default)]
struct Wire(Vec<Vec<u8>>);
struct Tx<'a>(&'a mut Wire);
struct Rx;

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&[])
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        (self.0).0.push(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;
    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        None
    }
    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(self))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

fn main() {
    let mut wire = Wire::default();
    let config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 1]).into());
    let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
    interface.update_ip_addrs(|list| list.push(IpCidr::new(IpAddress::v4(10, 0, 0, 1), 24)).unwrap());
    let mut sockets = SocketSet::new(vec![]);
    // The absent host is wanted first.
    for (port, host) in [(1000, 9), (1001, 2)] {
        let buffer = || PacketBuffer::new(vec![PacketMetadata::EMPTY; 4], vec![0; 64]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.bind(port).unwrap();
        socket.send_slice(b"x", (Ipv4Address::new(10, 0, 0, host), 7)).unwrap();
        sockets.add(socket);
    }
    for ms in (0..30_000).step_by(10) {
        interface.poll(Instant::from_millis(ms), &mut wire, &mut sockets);
    }
    // The target address of an ARP request is its last four bytes.
    let asked = |host| wire.0.iter().filter(|frame| frame[12..14] == [8, 6] && frame[38..42] == [10, 0, 0, host]).count();
    println!("requests for the absent host: {}, for the other: {}", asked(9), asked(2));
    assert_eq!((asked(9), asked(2)), (30, 0));
}
RUST
cd "$dir"
cargo run --quiet --target-dir "$dir/target"
