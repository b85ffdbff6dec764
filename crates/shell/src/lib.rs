//! The console's commands: one table for parser, help and docs; line editing for dumb terminals.
//!
//! - [`COMMANDS`] is the table; [`parse`] turns a line into a [`Command`], [`write_help`] and [`write_markdown`]
//!   print what the table says.
//! - [`LineEditor`] takes bytes from a serial line and gives lines, [`complete`] says what Tab may add;
//!   [`TypeAhead`] keeps what is typed while a command runs; [`Attach`] stands in its place while a
//!   guest's console is shown.
//! - [`GuestOutput`] keeps what a guest has printed and paces it by those who show it; [`GuestPort`] is a serial line
//!   that does: each byte goes out once, on the line of one host, wherever the guest goes.
//! - [`EventLog`] keeps what happened on the host, [`Pager`] shows what is longer than the screen.
//! - [`Table`] and [`Size`] format the answers, [`Folded`] breaks their lines, [`Failure`] is the `error: CODE: text` that ends one.
//!
//! Nothing here does I/O: bytes come in as arguments, text goes out through [`core::fmt::Write`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod ahead;
mod attach;
mod command;
mod complete;
mod edit;
mod error;
mod events;
mod help;
mod key;
mod markdown;
mod nearest;
mod output;
mod pager;
mod parse;
mod port;
mod ring;
mod table;
mod term;
mod words;

pub use ahead::{TypeAhead, Typed};
pub use attach::{Attach, AttachEvent, ESCAPE};
pub use command::{
    AuditAction, Command, Compression, CpuAbout, CreateOptions, DEFAULT_DUMP, DEFAULT_PORT, DEFAULT_STOP_S,
    DirtyMethod, HostCommand, ListOptions, ListSort, LogLevel, LogSink, MAX_DUMP, MemoryAt, MigrateCommand,
    MigrateOptions, OnReset, OnTimeout, Output, Peer, PoolCommand, TermSettings, VM_STATES, Verdict,
    VmCommand,
};
pub use complete::{Completion, Named, Names, complete, secret_at};
pub use edit::{Event, LineEditor, MAX_LINE};
pub use error::{Code, Failure, ParseError};
pub use events::{EventKind, EventLog, HostEvent};
pub use help::write_help;
pub use key::{Key, KeyDecoder};
pub use markdown::write_markdown;
pub use nearest::nearest;
pub use output::{GuestOutput, Next, Pace, ReaderId};
pub use pager::{Paged, Pager};
pub use parse::parse;
pub use port::{GuestConsole, GuestPort};
pub use ring::ConsoleRing;
pub use table::{Arg, COMMANDS, JSON_KEYS, JsonKeys, Kind, OptionName, Setting, Spec};
pub use term::Term;
pub use text::{Align, COLUMNS, Folded, Hex, Millis, Size, Span, Stamp, Table, Utc, UtcMicros};
pub use vm_types::Megahertz;

/// What the console prints when it waits for a command.
pub const PROMPT: &str = "flexvisor> ";
