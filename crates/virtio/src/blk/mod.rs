//! The block device (5.2), without what is behind it: it hands out [`Order`]s and takes their outcome.

mod request;

pub use request::What;

use crate::broken::Broken;
use crate::chain::Chain;
use crate::device::{CONFIG_MOST, Device, Host};
use crate::registers::Virtio;
use crate::ring::Ring;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use minicbor::{Decode, Encode};
use request::{Request, SECTOR};
use virtio_spec::blk::{F, S};
use vm_types::{GuestMemory, decode_strict};

const SEG_MAX: u64 = F::SEG_MAX.bits().to_ne() as u64;
const BLK_SIZE: u64 = F::BLK_SIZE.bits().to_ne() as u64;
const TOPOLOGY: u64 = F::TOPOLOGY.bits().to_ne() as u64;
const RO: u64 = F::RO.bits().to_ne() as u64;
pub(crate) const FLUSH: u64 = F::FLUSH.bits().to_ne() as u64;
pub(crate) const DISCARD: u64 = F::DISCARD.bits().to_ne() as u64;
pub(crate) const WRITE_ZEROES: u64 = F::WRITE_ZEROES.bits().to_ne() as u64;

/// Buffers of data in one request: with its head and its end they fill half of a ring.
const SEGMENTS: u32 = 126;
/// The block that a disk writes at once is 2^3 sectors.
const PHYSICAL: u8 = 3;
/// Bytes of an identity (5.2.6).
const ID: usize = 20;

/// What a disk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disk {
    /// Sectors of 512 bytes.
    pub sectors: u64,
    /// It cannot be written.
    pub read_only: bool,
    /// It has a cache that can be flushed; else what is written is there to stay.
    pub flush: bool,
    /// It can be told what is no longer used.
    pub discard: bool,
    /// It can write zeroes by itself.
    pub zeroes: bool,
    /// Its name, behind which there are zeroes.
    pub serial: [u8; ID],
}

/// A request for whatever is behind the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// Names it; none of the device's has had it before.
    pub id: u64,
    /// What is to be done.
    pub what: What,
}

/// How an order ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done.
    Done,
    /// The disk could not.
    Failed,
    /// The disk has no such thing.
    Unsupported,
}

/// A block device.
pub struct Blk {
    disk: Disk,
    next_id: u64,
    /// Ordered and not ended, oldest first.
    flights: Vec<Flight>,
    orders: VecDeque<Order>,
    /// Came from another host in flight: to be read and ordered again.
    came: Vec<u16>,
    /// Ended, to be put back.
    ended: Vec<(Chain, u32, S)>,
}

struct Flight {
    order: Order,
    chain: Chain,
}

#[derive(Encode, Decode)]
struct State {
    /// The heads of chains that are in flight, oldest first.
    #[n(0)]
    in_flight: Vec<u16>,
}

impl Blk {
    /// The device of a disk.
    #[must_use]
    pub fn new(disk: Disk) -> Self {
        let (flights, came, ended) = (Vec::new(), Vec::new(), Vec::new());
        Self { disk, next_id: 0, flights, orders: VecDeque::new(), came, ended }
    }

    /// The next order that was not handed out.
    pub fn take_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// Copies bytes that are to be written, from byte `from` of the order on. False where the driver has given it up, or
    /// its memory is no RAM any more.
    pub fn fetch(&self, memory: &dyn GuestMemory, id: u64, from: u32, out: &mut [u8]) -> bool {
        let (want, from) = (out.len(), request::HEAD.saturating_add(from));
        self.chain(id).is_some_and(|chain| chain.read(memory, from, out) == Ok(want))
    }

    /// Copies bytes that were read to byte `from` of the order on. False likewise.
    pub fn store(&self, memory: &dyn GuestMemory, id: u64, from: u32, data: &[u8]) -> bool {
        // The last byte is the status.
        let fits = |chain: &Chain| u64::from(from) + (data.len() as u64) < chain.writable_len().into();
        self.chain(id).is_some_and(|chain| fits(chain) && chain.write(memory, from, data) == Ok(data.len()))
    }

    /// An order has ended. One that the driver has given up by a reset is forgotten. It is put back at the next look.
    fn end(&mut self, id: u64, outcome: Outcome) {
        let Some(index) = self.flights.iter().position(|flight| flight.order.id == id) else { return };
        let Flight { order, chain } = self.flights.remove(index);
        let written = if let What::Read { len, .. } = order.what { len } else { 0 };
        let answer = match outcome {
            Outcome::Done => (chain, written, S::Ok),
            Outcome::Failed => (chain, 0, S::Ioerr),
            Outcome::Unsupported => (chain, 0, S::Unsupp),
        };
        self.ended.push(answer);
    }

    fn chain(&self, id: u64) -> Option<&Chain> {
        self.flights.iter().find(|flight| flight.order.id == id).map(|flight| &flight.chain)
    }

    /// Reads what the driver asks for, and orders or answers it.
    fn begin(&mut self, chain: Chain, features: u64, ring: &mut Ring<'_>) -> Result<(), Broken> {
        match request::read(&chain, ring.memory(), &self.disk, features)? {
            Request::Order(what) => {
                let order = Order { id: self.next_id, what };
                self.next_id += 1;
                self.orders.push_back(order);
                self.flights.push(Flight { order, chain });
                Ok(())
            }
            Request::Id => {
                let room = (chain.writable_len() - 1).min(ID as u32);
                chain.write(ring.memory(), 0, &self.disk.serial[..room as usize])?;
                answer(ring, &chain, room, S::Ok)
            }
            Request::Refused(status) => answer(ring, &chain, 0, status),
        }
    }
}

/// Writes the status, which is the last byte that can be written, and puts the chain back. Bytes between the data and the
/// status do not count as written.
fn answer(ring: &mut Ring<'_>, chain: &Chain, data: u32, status: S) -> Result<(), Broken> {
    let last = chain.writable_len() - 1;
    chain.write(ring.memory(), last, &[status.into()])?;
    ring.put(chain.head(), if data == last { data + 1 } else { data })
}

impl Device for Blk {
    const KIND: &'static str = "virtio-blk";
    const TYPE: u16 = 2;
    const QUEUES: &'static [u16] = &[256];
    const CONFIG: u32 = 60;

    fn features(&self) -> u64 {
        let has = |is: bool, feature: u64| if is { feature } else { 0 };
        SEG_MAX
            | BLK_SIZE
            | TOPOLOGY
            | has(self.disk.read_only, RO)
            | has(self.disk.flush, FLUSH)
            | has(self.disk.discard, DISCARD)
            | has(self.disk.zeroes, WRITE_ZEROES)
    }

    fn config(&self, out: &mut [u8; CONFIG_MOST]) {
        let mut put = |at: usize, number: &[u8]| out[at..at + number.len()].copy_from_slice(number);
        let most = u32::MAX / SECTOR as u32;
        put(0, &self.disk.sectors.to_le_bytes());
        put(12, &SEGMENTS.to_le_bytes());
        put(20, &(SECTOR as u32).to_le_bytes());
        put(24, &[PHYSICAL]);
        // Discard and zeroes: sectors, ranges in a request, alignment of what is discarded.
        put(36, &most.to_le_bytes());
        put(40, &1_u32.to_le_bytes());
        put(44, &(1_u32 << PHYSICAL).to_le_bytes());
        put(48, &most.to_le_bytes());
        put(52, &1_u32.to_le_bytes());
        put(56, &[1]);
    }

    fn reset(&mut self) {
        let next_id = self.next_id;
        *self = Self { next_id, ..Self::new(self.disk) };
    }

    fn look(&mut self, _: u16, features: u64, ring: &mut Ring<'_>, _: &mut dyn Host) -> Result<(), Broken> {
        for head in core::mem::take(&mut self.came) {
            let chain = ring.walk(head)?;
            self.begin(chain, features, ring)?;
        }
        for (chain, data, status) in core::mem::take(&mut self.ended) {
            answer(ring, &chain, data, status)?;
        }
        while let Some(chain) = ring.take()? {
            self.begin(chain, features, ring)?;
        }
        Ok(())
    }

    fn in_flight(&self, _: u16) -> u16 {
        (self.came.len() + self.flights.len() + self.ended.len()) as u16
    }

    /// What has ended and was not put back is in flight too: it is asked for again.
    fn export(&self) -> Vec<u8> {
        let ended = self.ended.iter().map(|(chain, ..)| chain.head());
        let flights = self.flights.iter().map(|flight| flight.chain.head());
        let in_flight = self.came.iter().copied().chain(ended).chain(flights).collect();
        // Writing into a Vec cannot fail.
        minicbor::to_vec(State { in_flight }).unwrap_or_default()
    }

    fn import(&mut self, state: &[u8]) -> Result<(), String> {
        let State { in_flight } = decode_strict(state)?;
        let most = usize::from(Self::QUEUES[0]);
        if in_flight.len() > most {
            return Err(format!("{} requests in flight, of {most} at most", in_flight.len()));
        }
        self.came = in_flight;
        Ok(())
    }
}

impl Virtio<Blk> {
    /// An order has ended. [`Virtio::service`] is wanted then; any number of orders can end before it.
    pub fn end(&mut self, id: u64, outcome: Outcome) {
        self.device.end(id, outcome);
        self.looks |= 1;
    }
}
