//! From the greeting to the export: fixed newstyle, `NBD_OPT_GO` with block sizes.

use alloc::vec::Vec;

use crate::export::{Blocks, Export};
use crate::trouble::{During, Trouble, said};
use crate::wire;
use crate::wire::{MAX_OPTION_DATA, u16_at, u32_at, u64_at};

/// Most replies to one option.
const MAX_REPLIES: u32 = 64;
const GREETING_LEN: usize = 18;
const REPLY_LEN: usize = 20;

#[derive(Debug)]
pub(crate) struct Handshake {
    name: Vec<u8>,
    during: During,
    /// A message that is not whole: at most a header and [`MAX_OPTION_DATA`].
    inbox: Vec<u8>,
    out: Vec<u8>,
    replies: u32,
    export: Option<(u64, u16)>,
    blocks: Option<Blocks>,
}

impl Handshake {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            during: During::Greeting,
            inbox: Vec::new(),
            out: Vec::new(),
            replies: 0,
            export: None,
            blocks: None,
        }
    }

    pub(crate) fn during(&self) -> During {
        self.during
    }

    pub(crate) fn outgoing(&self) -> &[u8] {
        &self.out
    }

    pub(crate) fn sent(&mut self, count: usize) {
        self.out.drain(..count.min(self.out.len()));
    }

    /// Takes bytes up to the end of the handshake; then there is an export.
    pub(crate) fn receive(&mut self, bytes: &mut &[u8]) -> Result<Option<Export>, Trouble> {
        while !bytes.is_empty() {
            let wanted = self.wanted()?;
            let take = (wanted - self.inbox.len()).min(bytes.len());
            let (now, rest) = bytes.split_at(take);
            self.inbox.extend_from_slice(now);
            *bytes = rest;
            // A header that is whole can want more than itself.
            if self.inbox.len() < self.wanted()? {
                continue;
            }
            let message = core::mem::take(&mut self.inbox);
            if self.during == During::Greeting {
                self.greeting(&message)?;
            } else if self.reply(&message)? {
                let (size, flags) = self.export.ok_or(Trouble::NoInfo)?;
                return Export::new(size, flags, self.blocks).map(Some);
            }
        }
        Ok(None)
    }

    /// Bytes of the message that begins with what is here. A lie is found as soon as its bytes are there.
    fn wanted(&self) -> Result<usize, Trouble> {
        let here = self.inbox.len();
        if self.during == During::Greeting {
            if here >= 8 && u64_at(&self.inbox, 0) != wire::NBD_MAGIC {
                return Err(Trouble::Greeting(u64_at(&self.inbox, 0)));
            }
            if here >= 16 {
                match u64_at(&self.inbox, 8) {
                    wire::I_HAVE_OPT => {}
                    wire::OLD_STYLE => return Err(Trouble::OldStyle),
                    other => return Err(Trouble::Style(other)),
                }
            }
            return Ok(GREETING_LEN);
        }
        if here >= 8 && u64_at(&self.inbox, 0) != wire::OPTION_REPLY {
            return Err(Trouble::OptionMagic(u64_at(&self.inbox, 0)));
        }
        if here < REPLY_LEN {
            return Ok(REPLY_LEN);
        }
        match u32_at(&self.inbox, 16) {
            len if len > MAX_OPTION_DATA => Err(Trouble::OptionLength(len)),
            len => Ok(REPLY_LEN + len as usize),
        }
    }

    fn greeting(&mut self, message: &[u8]) -> Result<(), Trouble> {
        let flags = u16_at(message, 16);
        if flags & wire::FIXED_NEWSTYLE == 0 {
            return Err(Trouble::NotFixed(flags));
        }
        let ours = flags & (wire::FIXED_NEWSTYLE | wire::NO_ZEROES);
        self.out.extend_from_slice(&u32::from(ours).to_be_bytes());
        // The name behind its length, and one thing to be told beside size and flags.
        let asks = [1, wire::INFO_BLOCK_SIZE].map(u16::to_be_bytes);
        let len = 4 + self.name.len() + asks.as_flattened().len();
        self.out.extend_from_slice(&wire::I_HAVE_OPT.to_be_bytes());
        self.out.extend_from_slice(&wire::OPT_GO.to_be_bytes());
        self.out.extend_from_slice(&(len as u32).to_be_bytes());
        self.out.extend_from_slice(&(self.name.len() as u32).to_be_bytes());
        self.out.extend_from_slice(&self.name);
        self.out.extend_from_slice(asks.as_flattened());
        self.during = During::Go;
        Ok(())
    }

    /// Whether it was the last.
    fn reply(&mut self, message: &[u8]) -> Result<bool, Trouble> {
        let (option, kind) = (u32_at(message, 8), u32_at(message, 12));
        let data = message.get(REPLY_LEN..).unwrap_or_default();
        if option != wire::OPT_GO {
            return Err(Trouble::OtherOption(option));
        }
        if !self.out.is_empty() {
            return Err(Trouble::OptionEarly);
        }
        self.replies += 1;
        if self.replies > MAX_REPLIES {
            return Err(Trouble::OptionCount(MAX_REPLIES));
        }
        match kind {
            wire::REP_ACK if data.is_empty() => Ok(true),
            wire::REP_INFO => self.info(data).map(|()| false),
            wire::REP_UNSUPPORTED => Err(Trouble::NoGo),
            kind if kind & wire::REP_ERROR != 0 => {
                Err(Trouble::Refused { code: kind & !wire::REP_ERROR, text: said(data) })
            }
            kind => Err(Trouble::OptionType(kind)),
        }
    }

    fn info(&mut self, data: &[u8]) -> Result<(), Trouble> {
        let wrong = |name| Err(Trouble::InfoLength { name, len: data.len() });
        if data.len() < 2 {
            return wrong("NBD_REP_INFO");
        }
        match (u16_at(data, 0), data.len()) {
            (wire::INFO_EXPORT, 12) => {
                once(&mut self.export, (u64_at(data, 2), u16_at(data, 10)), "NBD_INFO_EXPORT")
            }
            (wire::INFO_EXPORT, _) => wrong("NBD_INFO_EXPORT"),
            (wire::INFO_BLOCK_SIZE, 14) => {
                let [min, preferred, max] = [2, 6, 10].map(|at| u32_at(data, at));
                once(&mut self.blocks, Blocks { min, preferred, max }, "NBD_INFO_BLOCK_SIZE")
            }
            (wire::INFO_BLOCK_SIZE, _) => wrong("NBD_INFO_BLOCK_SIZE"),
            // Names, descriptions, and what is still to be invented.
            _ => Ok(()),
        }
    }
}

fn once<T: PartialEq + Copy>(to: &mut Option<T>, said: T, name: &'static str) -> Result<(), Trouble> {
    if to.replace(said).is_none_or(|before| before == said) { Ok(()) } else { Err(Trouble::InfoTwice(name)) }
}
