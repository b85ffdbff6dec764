//! The end that is connected to.

use core::task::Poll;

use entropy::Generator;
use snow::HandshakeState;

use crate::error::{Alert, LinkError};
use crate::handshake::{Limit, Timer, alert_bytes};
use crate::key::{PublicKey, Security};
use crate::noise::{self, MESSAGES};
use crate::preface::{PREFACE_BYTES, Preface, Service};
use crate::session::Session;
use crate::stream::{ByteStream, Reader, Writer};

enum Stage {
    Preface,
    /// Waits for the first message.
    First(HandshakeState),
    /// Waits for the third.
    Third(HandshakeState),
    /// All is said but for what has not left yet.
    Leaving(Session),
    Over,
}

/// The end that is connected to. Poll it until it gives a [`Session`] or an error; then drop it.
pub struct Responder {
    security: Security,
    generator: Option<Generator>,
    service: Service,
    timer: Timer,
    stage: Stage,
    reader: Reader,
    writer: Writer,
}

/// What the host thinks of a peer: of the service it asks for, before anything costs work, and then of its key.
pub trait Gate {
    /// Whether `service` is offered, and a slot for it free.
    ///
    /// # Errors
    /// What the peer is told.
    fn service(&mut self, service: Service) -> Result<(), Alert>;

    /// Whether a peer that has proven the pool key, and to be `key`, may connect.
    ///
    /// # Errors
    /// What the peer is told.
    fn identity(&mut self, service: Service, key: &PublicKey) -> Result<(), Alert>;
}

impl Responder {
    /// Waits for a peer. `generator` makes this link's one-time key.
    #[must_use]
    pub fn new(security: Security, generator: Generator, limit: Limit, now: u64) -> Self {
        Self {
            security,
            generator: Some(generator),
            service: Service::Migrate,
            timer: Timer::start(limit, now),
            stage: Stage::Preface,
            reader: Reader::default(),
            writer: Writer::default(),
        }
    }

    /// The peer has not sent its first message yet: nothing has been done for it, and whoever reaches the port comes so far.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        matches!(self.stage, Stage::Preface | Stage::First(_))
    }

    /// Goes on as far as the stream allows. What the peer is told in case of an error is queued on the stream.
    pub fn poll(
        &mut self,
        now: u64,
        stream: &mut impl ByteStream,
        gate: &mut impl Gate,
    ) -> Poll<Result<Session, LinkError>> {
        let result = self.advance(now, stream, gate);
        match result {
            Ok(None) => Poll::Pending,
            Ok(Some(session)) => Poll::Ready(Ok(session)),
            Err(error) => {
                self.stage = Stage::Over;
                self.writer.flush(stream);
                Poll::Ready(Err(error))
            }
        }
    }

    fn advance(
        &mut self,
        now: u64,
        stream: &mut impl ByteStream,
        gate: &mut impl Gate,
    ) -> Result<Option<Session>, LinkError> {
        self.timer.check(now)?;
        loop {
            let left = self.writer.flush(stream);
            let want = match &self.stage {
                Stage::Preface => PREFACE_BYTES,
                Stage::First(_) => MESSAGES[0],
                Stage::Third(_) => MESSAGES[2],
                Stage::Leaving(_) if !left => {
                    return if stream.is_open() { Ok(None) } else { Err(LinkError::Cut) };
                }
                Stage::Leaving(_) | Stage::Over => 0,
            };
            if !self.reader.fill(want, stream) {
                return self.starved(stream);
            }
            match core::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Preface => self.stage = self.preface(gate)?,
                Stage::First(noise) => self.stage = Stage::Third(self.first(noise)?),
                Stage::Third(noise) => self.stage = Stage::Leaving(self.third(noise, gate)?),
                Stage::Leaving(session) => return Ok(Some(session)),
                Stage::Over => return Err(LinkError::Cut),
            }
            self.reader.clear();
        }
    }

    fn preface(&mut self, gate: &mut impl Gate) -> Result<Stage, LinkError> {
        let bytes = *self.reader.bytes().first_chunk().ok_or(LinkError::Cut)?;
        let preface = match Preface::from_bytes(&bytes) {
            Ok(preface) => preface,
            Err(error) => {
                match error {
                    LinkError::Version(_) => self.say(Some(Alert::Version)),
                    LinkError::Service(_) => self.say(Some(Alert::Service)),
                    _ => {}
                }
                return Err(error);
            }
        };
        self.service = preface.service;
        if preface.alert.is_some() {
            return Err(LinkError::Reserved);
        }
        match (preface.keyed, self.security.is_keyed()) {
            (false, true) => {
                self.say(Some(Alert::NeedsKey));
                return Err(LinkError::PeerInsecure);
            }
            (true, false) => {
                self.say(Some(Alert::NoKey));
                return Err(LinkError::PeerKeyed);
            }
            _ => {}
        }
        if let Err(alert) = gate.service(preface.service) {
            self.say(Some(alert));
            return Err(LinkError::Denied(alert));
        }
        self.say(None);
        let Security::Keyed { pool, host } = &self.security else {
            return Ok(Stage::Leaving(Session::insecure(self.service)));
        };
        let generator = self.generator.take().ok_or(LinkError::Cut)?;
        Ok(Stage::First(noise::start(false, pool, host, &bytes, generator)?))
    }

    fn first(&mut self, mut noise: HandshakeState) -> Result<HandshakeState, LinkError> {
        noise.read_message(self.reader.bytes(), &mut []).map_err(|_| LinkError::Forged(1))?;
        let room = self.writer.room(MESSAGES[1]);
        let len = noise.write_message(&[], room)?;
        self.writer.grow(len);
        Ok(noise)
    }

    fn third(&mut self, mut noise: HandshakeState, gate: &mut impl Gate) -> Result<Session, LinkError> {
        if noise.read_message(self.reader.bytes(), &mut []).is_err() {
            // The peer's static key comes before the pool key goes in: where that much was right, the pool key is not.
            let (error, alert) = match noise.get_remote_static() {
                Some(_) => (LinkError::WrongKey, Alert::WrongKey),
                None => (LinkError::Forged(3), Alert::Forged),
            };
            self.writer.put(&alert_bytes(alert));
            return Err(error);
        }
        let mut session = Session::keyed(self.service, noise)?;
        let denied = session.peer().and_then(|key| gate.identity(self.service, &key).err());
        if let Some(alert) = denied {
            self.writer.put(&alert_bytes(alert));
            return Err(LinkError::Denied(alert));
        }
        session.put_confirm(&mut self.writer)?;
        Ok(session)
    }

    /// This host's preface.
    fn say(&mut self, alert: Option<Alert>) {
        let preface = Preface { service: self.service, keyed: self.security.is_keyed(), alert };
        self.writer.put(&preface.to_bytes());
    }

    fn starved(&self, stream: &impl ByteStream) -> Result<Option<Session>, LinkError> {
        let open = stream.is_open();
        if matches!(self.stage, Stage::Preface)
            && let Some(error) = Preface::not_ours(self.reader.bytes(), open)
        {
            return Err(error);
        }
        if open { Ok(None) } else { Err(LinkError::Cut) }
    }
}
