//! The end that connects.

use core::task::Poll;

use entropy::Generator;
use snow::HandshakeState;

use crate::error::{Alert, LinkError};
use crate::key::Security;
use crate::noise::{self, MESSAGES};
use crate::preface::{PREFACE_BYTES, Preface, Service};
use crate::session::{CONFIRM_BYTES, Session};
use crate::stream::{ByteStream, Reader, Writer};

/// How long a handshake may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Ticks a second of the clock that polls are given.
    pub hz: u64,
    /// Milliseconds.
    pub ms: u64,
}

/// A [`Limit`] under way.
#[derive(Clone, Copy)]
pub(crate) struct Timer {
    limit: Limit,
    since: u64,
}

impl Timer {
    pub(crate) fn start(limit: Limit, now: u64) -> Self {
        Self { limit, since: now }
    }

    pub(crate) fn check(&self, now: u64) -> Result<(), LinkError> {
        let passed = u128::from(now.saturating_sub(self.since)) * 1000;
        let over = passed >= u128::from(self.limit.ms) * u128::from(self.limit.hz.max(1));
        if over { Err(LinkError::Late(self.limit.ms)) } else { Ok(()) }
    }
}

enum Stage {
    /// Insecure: waits for the answerer's preface.
    Insecure,
    /// Waits for the answerer's preface.
    Preface(HandshakeState),
    /// Waits for its message.
    Message(HandshakeState),
    /// Waits for its proof of the pool key.
    Confirm(Session),
    /// Gave its answer.
    Over,
}

/// The end that connects. Poll it until it gives a [`Session`] or an error; then drop it.
pub struct Initiator {
    service: Service,
    timer: Timer,
    stage: Stage,
    reader: Reader,
    writer: Writer,
}

impl Initiator {
    /// Begins; nothing is sent before the first poll. `generator` makes this link's one-time key.
    ///
    /// # Errors
    /// A fault of the cryptography.
    pub fn new(
        service: Service,
        security: &Security,
        generator: Generator,
        limit: Limit,
        now: u64,
    ) -> Result<Self, LinkError> {
        let preface = Preface { service, keyed: security.is_keyed(), alert: None }.to_bytes();
        let mut writer = Writer::default();
        writer.put(&preface);
        let stage = match security {
            Security::Insecure => Stage::Insecure,
            Security::Keyed { pool, host } => {
                let mut noise = noise::start(true, pool, host, &preface, generator)?;
                let [first, ..] = MESSAGES;
                let len = noise.write_message(&[], writer.room(first))?;
                writer.grow(len);
                Stage::Preface(noise)
            }
        };
        let timer = Timer::start(limit, now);
        Ok(Self { service, timer, stage, reader: Reader::default(), writer })
    }

    /// Goes on as far as the stream allows.
    pub fn poll(&mut self, now: u64, stream: &mut impl ByteStream) -> Poll<Result<Session, LinkError>> {
        let result = self.advance(now, stream);
        match result {
            Ok(None) => Poll::Pending,
            Ok(Some(session)) => Poll::Ready(Ok(session)),
            Err(error) => {
                self.stage = Stage::Over;
                Poll::Ready(Err(error))
            }
        }
    }

    fn advance(&mut self, now: u64, stream: &mut impl ByteStream) -> Result<Option<Session>, LinkError> {
        self.timer.check(now)?;
        loop {
            self.writer.flush(stream);
            let want = match &self.stage {
                Stage::Insecure | Stage::Preface(_) => PREFACE_BYTES,
                Stage::Message(_) => MESSAGES[1],
                Stage::Confirm(_) => CONFIRM_BYTES,
                Stage::Over => return Err(LinkError::Cut),
            };
            if !self.reader.fill(want, stream) {
                return self.starved(stream);
            }
            let stage = core::mem::replace(&mut self.stage, Stage::Over);
            match stage {
                Stage::Insecure => {
                    self.answer(false)?;
                    return Ok(Some(Session::insecure(self.service)));
                }
                Stage::Preface(noise) => {
                    self.answer(true)?;
                    self.stage = Stage::Message(noise);
                }
                Stage::Message(mut noise) => {
                    noise.read_message(self.reader.bytes(), &mut []).map_err(|_| LinkError::Forged(2))?;
                    let room = self.writer.room(MESSAGES[2]);
                    let len = noise.write_message(&[], room)?;
                    self.writer.grow(len);
                    self.stage = Stage::Confirm(Session::keyed(self.service, noise)?);
                }
                Stage::Confirm(mut session) => {
                    session.take_confirm(self.reader.bytes())?;
                    return Ok(Some(session));
                }
                Stage::Over => return Err(LinkError::Cut),
            }
            self.reader.clear();
        }
    }

    /// Checks the answerer's preface.
    fn answer(&self, keyed: bool) -> Result<(), LinkError> {
        let bytes = self.reader.bytes().first_chunk().ok_or(LinkError::Cut)?;
        let preface = Preface::from_bytes(bytes)?;
        match (preface.keyed, keyed) {
            (false, true) => return Err(LinkError::PeerInsecure),
            (true, false) => return Err(LinkError::PeerKeyed),
            _ => {}
        }
        match preface.alert {
            Some(alert) => Err(LinkError::Refused(alert)),
            None if preface.service != self.service => Err(LinkError::OtherService),
            None => Ok(()),
        }
    }

    /// Too few bytes are there: is that all there will ever be?
    fn starved(&mut self, stream: &impl ByteStream) -> Result<Option<Session>, LinkError> {
        let (bytes, open) = (self.reader.bytes(), stream.is_open());
        match &self.stage {
            Stage::Insecure | Stage::Preface(_) => {
                if let Some(error) = Preface::not_ours(bytes, open) {
                    return Err(error);
                }
            }
            Stage::Confirm(_) => {
                if let Some(alert) = alert_frame(bytes) {
                    return Err(LinkError::Refused(alert));
                }
            }
            _ => {}
        }
        if open { Ok(None) } else { Err(LinkError::Cut) }
    }
}

/// In place of its proof the answerer may say why not: a length that no frame has, then a code.
pub(crate) fn alert_bytes(alert: Alert) -> [u8; 3] {
    [1, 0, alert as u8]
}

fn alert_frame(bytes: &[u8]) -> Option<Alert> {
    match bytes {
        [1, 0, code, ..] => Alert::from_code(*code),
        _ => None,
    }
}
