//! Both ends of the keyed link against a peer that says anything.

use std::collections::VecDeque;
use std::task::Poll;

use entropy::Generator;
use secure_link::{
    Alert, ByteStream, Gate, HostKey, Initiator, Limit, LinkError, PoolKey, PublicKey, Responder, Security,
    Service, Session,
};

const LIMIT: Limit = Limit { hz: 1000, ms: 1000 };
/// What a genuine peer says once the link stands.
const TEXT: &[u8] = b"genuine bytes, and no others";

/// A byte of flags (bit 0: this end is insecure), then what the initiator says.
pub fn responder(data: &[u8]) {
    run_responder(data);
}

/// As [`responder`]; whether the genuine peer was heard to its end.
pub fn run_responder(data: &[u8]) -> bool {
    let (mut stream, security) = script(data);
    let mut end = Responder::new(security.clone(), generator(5), LIMIT, 0);
    for now in 0..LIMIT.ms + 2 {
        match end.poll(now, &mut stream, &mut Open) {
            Poll::Pending => {}
            Poll::Ready(outcome) => return judge(outcome, &mut stream, &security),
        }
    }
    panic!("the time limit does not hold");
}

/// The same of what the responder says.
pub fn initiator(data: &[u8]) {
    run_initiator(data);
}

/// As [`initiator`]; whether the genuine peer was heard to its end.
pub fn run_initiator(data: &[u8]) -> bool {
    let (mut stream, security) = script(data);
    let mut end = Initiator::new(Service::Migrate, &security, generator(4), LIMIT, 0).unwrap();
    for now in 0..LIMIT.ms + 2 {
        match end.poll(now, &mut stream) {
            Poll::Pending => {}
            Poll::Ready(outcome) => return judge(outcome, &mut stream, &security),
        }
    }
    panic!("the time limit does not hold");
}

/// Whoever gets through with a key has said exactly what the genuine peer said; all of it, if it ended in order.
fn judge(outcome: Result<Session, LinkError>, stream: &mut Script, security: &Security) -> bool {
    let mut session = match outcome {
        Ok(session) => session,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    let (mut got, mut buf) = (Vec::new(), [0; 100]);
    for _ in 0..10_000 {
        let n = session.recv(stream, &mut buf);
        got.extend(&buf[..n]);
        session.send(stream, &buf[..n]);
        if n == 0 && stream.0.is_empty() {
            break;
        }
    }
    if matches!(security, Security::Keyed { .. }) {
        assert!(TEXT.starts_with(&got), "{:?} came through", String::from_utf8_lossy(&got));
        assert!(!session.is_ended() || got == TEXT, "an early end was taken");
        assert!(session.peer().is_some());
    }
    assert!(session.fault().is_none() || !session.is_open(stream));
    session.close(stream);
    session.is_ended()
}

/// What a genuine initiator and a genuine responder say to those above.
pub fn record() -> [Vec<u8>; 2] {
    let (a, b) = (keyed(2), keyed(3));
    let mut one = Initiator::new(Service::Migrate, &a, generator(4), LIMIT, 0).unwrap();
    let mut two = Responder::new(b, generator(5), LIMIT, 0);
    let (mut to_two, mut to_one) = (Script::default(), Script::default());
    let (mut client, mut server) = (None, None);
    while client.is_none() || server.is_none() {
        let mut end = Pipe { out: &mut to_two, into: &mut to_one };
        if client.is_none()
            && let Poll::Ready(outcome) = one.poll(1, &mut end)
        {
            client = Some(outcome.unwrap());
        }
        let mut end = Pipe { out: &mut to_one, into: &mut to_two };
        if server.is_none()
            && let Poll::Ready(outcome) = two.poll(1, &mut end, &mut Open)
        {
            server = Some(outcome.unwrap());
        }
    }
    let say = |session: Option<Session>, mut end: Pipe<'_>| {
        let (mut session, (head, tail)) = (session.unwrap(), TEXT.split_at(10));
        session.send(&mut end, head);
        session.send(&mut end, tail);
        session.close(&mut end);
    };
    say(client, Pipe { out: &mut to_two, into: &mut to_one });
    say(server, Pipe { out: &mut to_one, into: &mut to_two });
    [to_two, to_one].map(|script| [vec![0], script.1].concat())
}

fn bytes(seed: u8) -> [u8; 32] {
    std::array::from_fn(|i| seed.wrapping_mul(7).wrapping_add(i as u8))
}

fn generator(seed: u8) -> Generator {
    Generator::from_secret(bytes(seed))
}

fn keyed(host: u8) -> Security {
    Security::Keyed { pool: PoolKey::new(bytes(1)).unwrap(), host: HostKey::new(bytes(host)).unwrap() }
}

fn script(data: &[u8]) -> (Script, Security) {
    let (flags, said) = data.split_first().map_or((0, data), |(flags, said)| (*flags, said));
    // Either end may be the one with host key 2 or 3: the recorded peers have proven theirs.
    let security =
        if flags & 1 != 0 { Security::Insecure } else { keyed(if flags & 2 != 0 { 2 } else { 3 }) };
    (Script(said.to_vec().into(), Vec::new()), security)
}

struct Open;

impl Gate for Open {
    fn service(&mut self, _: Service) -> Result<(), Alert> {
        Ok(())
    }

    fn identity(&mut self, _: Service, _: &PublicKey) -> Result<(), Alert> {
        Ok(())
    }
}

/// A peer that says its piece whatever it hears, and hangs up: what waits, and all that was ever sent into it.
#[derive(Default)]
struct Script(VecDeque<u8>, Vec<u8>);

impl ByteStream for Script {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.0.len());
        buf.iter_mut().zip(self.0.drain(..n)).for_each(|(to, from)| *to = from);
        n
    }

    fn send(&mut self, data: &[u8]) -> usize {
        data.len()
    }

    fn is_open(&self) -> bool {
        !self.0.is_empty()
    }
}

struct Pipe<'a> {
    out: &'a mut Script,
    into: &'a mut Script,
}

impl ByteStream for Pipe<'_> {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        self.into.recv(buf)
    }

    fn send(&mut self, data: &[u8]) -> usize {
        self.out.0.extend(data);
        self.out.1.extend(data);
        data.len()
    }

    fn is_open(&self) -> bool {
        true
    }
}
