//! The established link: a byte stream in frames that are sealed one by one.
//!
//! A frame is a 16-bit little-endian length, then so many bytes of a Noise transport message. Its number is the
//! nonce, so that a frame which was lost, repeated or moved does not open. A frame without content is the end.

use alloc::vec::Vec;

use snow::{HandshakeState, TransportState};

use crate::error::LinkError;
use crate::key::PublicKey;
use crate::noise::TAG;
use crate::preface::Service;
use crate::stream::{ByteStream, Reader, Writer};

/// Most bytes that this end puts into a frame; it takes up to 65,519. Four of them hold the largest record of a
/// migration, its header included; the other end opens the first while the next is on its way.
pub const MAX_PLAIN: usize = 16 * 1024 + 64;

const LENGTH: usize = 2;
/// Content of the answerer's first frame, which proves that it has the pool key.
const CONFIRM: [u8; 1] = [1];
/// Bytes of that frame.
pub(crate) const CONFIRM_BYTES: usize = LENGTH + CONFIRM.len() + TAG;

/// An established link. Every method works on the stream that the handshake ran on.
pub struct Session {
    service: Service,
    peer: Option<PublicKey>,
    /// Absent on an insecure link.
    noise: Option<TransportState>,
    reader: Reader,
    writer: Writer,
    /// Content of the frame that was opened last; `taken` bytes of it have been handed out.
    plain: Vec<u8>,
    plain_len: usize,
    taken: usize,
    /// Frames opened so far.
    opened: u64,
    /// The peer said that nothing follows.
    ended: bool,
    /// This end said so.
    closed: bool,
    fault: Option<LinkError>,
}

impl Session {
    fn new(service: Service, peer: Option<PublicKey>, noise: Option<TransportState>) -> Self {
        Self {
            service,
            peer,
            noise,
            reader: Reader::default(),
            writer: Writer::default(),
            plain: Vec::new(),
            plain_len: 0,
            taken: 0,
            opened: 0,
            ended: false,
            closed: false,
            fault: None,
        }
    }

    pub(crate) fn insecure(service: Service) -> Self {
        Self::new(service, None, None)
    }

    pub(crate) fn keyed(service: Service, noise: HandshakeState) -> Result<Self, LinkError> {
        let peer = noise.get_remote_static().and_then(|key| key.first_chunk()).copied().map(PublicKey);
        let transport = noise.into_transport_mode()?;
        Ok(Self::new(service, peer, Some(transport)))
    }

    pub(crate) fn put_confirm(&mut self, writer: &mut Writer) -> Result<(), LinkError> {
        let noise = self.noise.as_mut().ok_or(LinkError::Cut)?;
        seal(noise, &CONFIRM, writer)
    }

    pub(crate) fn take_confirm(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        let noise = self.noise.as_mut().ok_or(LinkError::Cut)?;
        let mut content = [0; CONFIRM.len()];
        let Some((length, sealed)) = frame.split_first_chunk() else { return Err(LinkError::Cut) };
        if usize::from(u16::from_le_bytes(*length)) != sealed.len() {
            return Err(LinkError::Length(u16::from_le_bytes(*length)));
        }
        match noise.read_message(sealed, &mut content) {
            Ok(_) if content == CONFIRM => {
                self.opened = 1;
                Ok(())
            }
            _ => Err(LinkError::Unproven),
        }
    }

    /// What the link is for.
    #[must_use]
    pub fn service(&self) -> Service {
        self.service
    }

    /// The peer's key, proven together with the pool key; none on an insecure link.
    #[must_use]
    pub fn peer(&self) -> Option<PublicKey> {
        self.peer
    }

    /// Takes bytes that have arrived into `buf`; 0 where none are there now, or none will ever be.
    pub fn recv(&mut self, stream: &mut impl ByteStream, buf: &mut [u8]) -> usize {
        if self.noise.is_none() {
            return stream.recv(buf);
        }
        while self.taken == self.plain_len {
            match self.next_frame(stream) {
                Ok(true) => {}
                Ok(false) => return 0,
                Err(error) => {
                    self.fault.get_or_insert(error);
                    return 0;
                }
            }
        }
        let waiting = self.plain.get(self.taken..self.plain_len).unwrap_or_default();
        let n = waiting.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), waiting.get(..n)) {
            to.copy_from_slice(from);
        }
        self.taken += n;
        n
    }

    /// Opens the next frame; false where it is not whole yet.
    fn next_frame(&mut self, stream: &mut impl ByteStream) -> Result<bool, LinkError> {
        if self.fault.is_some() {
            return Ok(false);
        }
        if !self.reader.fill(LENGTH, stream) {
            return self.starved(stream);
        }
        if self.ended {
            return Err(LinkError::AfterEnd);
        }
        let &[low, high, ..] = self.reader.bytes() else { return Ok(false) };
        let length = u16::from_le_bytes([low, high]);
        if usize::from(length) < TAG {
            return Err(LinkError::Length(length));
        }
        if !self.reader.fill(LENGTH + usize::from(length), stream) {
            return self.starved(stream);
        }
        let plain_len = usize::from(length) - TAG;
        if self.plain.len() < plain_len {
            self.plain.resize(plain_len, 0);
        }
        let sealed = self.reader.bytes().get(LENGTH..).unwrap_or_default();
        let to = self.plain.get_mut(..plain_len).unwrap_or_default();
        let noise = self.noise.as_mut().ok_or(LinkError::Cut)?;
        noise.read_message(sealed, to).map_err(|_| LinkError::Frame(self.opened))?;
        self.reader.clear();
        self.opened = self.opened.saturating_add(1);
        (self.plain_len, self.taken) = (plain_len, 0);
        self.ended = plain_len == 0;
        Ok(true)
    }

    fn starved(&self, stream: &impl ByteStream) -> Result<bool, LinkError> {
        // What has been ended in order may be torn down as the other end likes.
        let whole = self.ended && self.reader.bytes().is_empty();
        if stream.is_open() || whole { Ok(false) } else { Err(LinkError::Cut) }
    }

    /// Queues as many bytes of `data` as there is room for and says how many; 0 where there is none.
    pub fn send(&mut self, stream: &mut impl ByteStream, data: &[u8]) -> usize {
        let Some(noise) = &mut self.noise else {
            return if self.closed { 0 } else { stream.send(data) };
        };
        let mut taken = 0;
        while self.writer.flush(stream) && self.fault.is_none() && !self.closed {
            let rest = data.get(taken..).unwrap_or_default();
            let part = rest.get(..rest.len().min(MAX_PLAIN)).unwrap_or_default();
            if part.is_empty() {
                break;
            }
            match seal(noise, part, &mut self.writer) {
                Ok(()) => taken += part.len(),
                Err(error) => self.fault = Some(error),
            }
        }
        taken
    }

    /// Says that nothing follows. What is sent afterwards is not taken; what the peer still says can be read.
    pub fn close(&mut self, stream: &mut impl ByteStream) {
        if !core::mem::replace(&mut self.closed, true)
            && let Some(noise) = &mut self.noise
            && let Err(error) = seal(noise, &[], &mut self.writer)
        {
            self.fault.get_or_insert(error);
        }
        self.writer.flush(stream);
    }

    /// Hands on what waits. True once the stream has taken all.
    pub fn flush(&mut self, stream: &mut impl ByteStream) -> bool {
        self.writer.flush(stream)
    }

    /// Whether the link stands. `false`: apart from what [`Session::recv`] still gives nothing more will arrive, and
    /// what is sent gets lost.
    pub fn is_open(&self, stream: &impl ByteStream) -> bool {
        stream.is_open() && self.fault.is_none() && !self.ended && !self.closed
    }

    /// The peer said that nothing follows: all it ever sent has arrived. Never true on an insecure link.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// What ended the link before its time.
    #[must_use]
    pub fn fault(&self) -> Option<&LinkError> {
        self.fault.as_ref()
    }
}

/// Queues a frame.
fn seal(noise: &mut TransportState, content: &[u8], writer: &mut Writer) -> Result<(), LinkError> {
    let sealed = content.len() + TAG;
    let Some((length, body)) = writer.room(LENGTH + sealed).split_first_chunk_mut() else {
        return Err(LinkError::Cut);
    };
    // No content is longer than `MAX_PLAIN`.
    *length = (sealed as u16).to_le_bytes();
    noise.write_message(content, body)?;
    writer.grow(LENGTH + sealed);
    Ok(())
}
