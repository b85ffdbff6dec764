//! Two ends over an in-memory pipe that can be slow, cut, and changed on the way.
#![allow(dead_code, unreachable_pub)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Poll;

use entropy::Generator;
use secure_link::{
    Alert, ByteStream, Gate, HostKey, Initiator, Limit, LinkError, PoolKey, PublicKey, Responder, Security,
    Service, Session,
};

pub const LIMIT: Limit = Limit { hz: 1000, ms: 10_000 };

/// One direction.
#[derive(Default)]
pub struct Way {
    /// Sent, not received yet.
    pub waiting: VecDeque<u8>,
    /// Everything ever sent.
    pub all: Vec<u8>,
    /// Most bytes that one call moves; 0 for any number.
    pub step: usize,
    /// Most bytes that wait at a time; 0 for any number.
    pub room: usize,
    pub closed: bool,
    /// Flips these bits of the byte with that number.
    pub flip: Option<(usize, u8)>,
}

/// One end of the pipe.
#[derive(Clone)]
pub struct End {
    pub out: Rc<RefCell<Way>>,
    pub into: Rc<RefCell<Way>>,
}

pub fn pipe() -> (End, End) {
    let (a, b) = (Rc::new(RefCell::new(Way::default())), Rc::new(RefCell::new(Way::default())));
    (End { out: Rc::clone(&a), into: Rc::clone(&b) }, End { out: b, into: a })
}

impl End {
    /// Nothing goes either way any more; what is under way arrives.
    pub fn cut(&self) {
        self.out.borrow_mut().closed = true;
        self.into.borrow_mut().closed = true;
    }
}

impl ByteStream for End {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        let mut way = self.into.borrow_mut();
        let step = if way.step == 0 { usize::MAX } else { way.step };
        let n = buf.len().min(way.waiting.len()).min(step);
        buf.iter_mut().zip(way.waiting.drain(..n)).for_each(|(to, from)| *to = from);
        n
    }

    fn send(&mut self, data: &[u8]) -> usize {
        let mut way = self.out.borrow_mut();
        if way.closed {
            return 0;
        }
        let step = if way.step == 0 { usize::MAX } else { way.step };
        let room = if way.room == 0 { usize::MAX } else { way.room - way.waiting.len().min(way.room) };
        let n = data.len().min(step).min(room);
        for byte in &data[..n] {
            let at = way.all.len();
            let byte = way.flip.filter(|(flip, _)| *flip == at).map_or(*byte, |(_, bits)| byte ^ bits);
            way.all.push(byte);
            way.waiting.push_back(byte);
        }
        n
    }

    fn is_open(&self) -> bool {
        !self.out.borrow().closed && !self.into.borrow().closed
    }
}

/// 32 bytes that nobody would take for a mistake.
pub fn bytes(seed: u8) -> [u8; 32] {
    std::array::from_fn(|i| seed.wrapping_mul(7).wrapping_add(i as u8))
}

pub fn keyed(pool: u8, host: u8) -> Security {
    Security::Keyed { pool: PoolKey::new(bytes(pool)).unwrap(), host: HostKey::new(bytes(host)).unwrap() }
}

pub fn public(security: &Security) -> PublicKey {
    match security {
        Security::Keyed { host, .. } => host.public(),
        Security::Insecure => panic!("an insecure host has no key"),
    }
}

/// What the answering host thinks of its peers.
#[derive(Default)]
pub struct Door {
    pub service: Option<Alert>,
    pub identity: Option<Alert>,
    pub seen: Vec<(Service, PublicKey)>,
}

impl Gate for Door {
    fn service(&mut self, _: Service) -> Result<(), Alert> {
        self.service.map_or(Ok(()), Err)
    }

    fn identity(&mut self, service: Service, key: &PublicKey) -> Result<(), Alert> {
        self.seen.push((service, *key));
        self.identity.map_or(Ok(()), Err)
    }
}

pub fn initiator(security: &Security, ephemeral: u8) -> Initiator {
    Initiator::new(Service::Pool, security, Generator::from_secret(bytes(ephemeral)), LIMIT, 0).unwrap()
}

pub fn responder(security: &Security, ephemeral: u8) -> Responder {
    Responder::new(security.clone(), Generator::from_secret(bytes(ephemeral)), LIMIT, 0)
}

pub type Outcome = Result<Session, LinkError>;

/// Lets both ends work until each has its answer, or nothing moves any more. Whoever has an error hangs up.
pub fn shake(
    initiator: &mut Initiator,
    responder: &mut Responder,
    ends: &mut (End, End),
    door: &mut Door,
) -> (Option<Outcome>, Option<Outcome>) {
    let (mut one, mut two) = (None, None);
    for _ in 0..2000 {
        if one.is_none()
            && let Poll::Ready(outcome) = initiator.poll(1, &mut ends.0)
        {
            if outcome.is_err() {
                ends.0.cut();
            }
            one = Some(outcome);
        }
        if two.is_none()
            && let Poll::Ready(outcome) = responder.poll(1, &mut ends.1, door)
        {
            if outcome.is_err() {
                ends.1.cut();
            }
            two = Some(outcome);
        }
        if one.is_some() && two.is_some() {
            break;
        }
    }
    (one, two)
}

/// Two hosts of one pool, connected.
pub fn connected() -> ((Session, End), (Session, End)) {
    let mut ends = pipe();
    let (a, b) = (keyed(1, 2), keyed(1, 3));
    let outcome = shake(&mut initiator(&a, 4), &mut responder(&b, 5), &mut ends, &mut Door::default());
    let (Some(Ok(one)), Some(Ok(two))) = outcome else { panic!("no link") };
    ((one, ends.0), (two, ends.1))
}

/// What the two ends say, or why not.
pub fn errors(outcome: (Option<Outcome>, Option<Outcome>)) -> (Option<LinkError>, Option<LinkError>) {
    (outcome.0.and_then(Result::err), outcome.1.and_then(Result::err))
}

/// Moves all of `data` from one session to the other; what arrived.
pub fn transfer(from: &mut (Session, End), to: &mut (Session, End), data: &[u8]) -> Vec<u8> {
    let (mut sent, mut got, mut idle) = (0, Vec::new(), 0);
    let mut buf = vec![0; 5000];
    while got.len() < data.len() && idle < 3 {
        let before = from.1.out.borrow().all.len();
        sent += from.0.send(&mut from.1, &data[sent..]);
        from.0.flush(&mut from.1);
        let n = to.0.recv(&mut to.1, &mut buf);
        got.extend(&buf[..n]);
        let moved = n != 0 || from.1.out.borrow().all.len() != before;
        idle = if moved { 0 } else { idle + 1 };
    }
    got
}
