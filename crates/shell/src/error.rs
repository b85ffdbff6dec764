//! How a command ends when it does not end with `ok`.

use alloc::string::{String, ToString};
use core::fmt::{self, Write};

use crate::complete::words_of;
use crate::nearest::nearest;
use crate::table::{Arg, COMMANDS, OptionName, Spec, key_of};

/// The word behind `error:`; scripts match on it, so a code never changes its meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// The line is not a command; nothing was done.
    Usage,
    /// No VM of that name.
    NotFound,
    /// The VM's state does not allow it.
    State,
    /// It would lose a guest's work: `--force` is wanted.
    Force,
    /// Another operation on the same thing is under way.
    Busy,
    /// This host cannot do it.
    Unsupported,
    /// The other host refused.
    Refused,
    /// It was tried and failed; the text says in which state that left things.
    Failed,
}

impl Code {
    /// All codes with what they mean, for the docs.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Usage, "The line is not a command. Nothing was done."),
        (Self::NotFound, "There is no VM of that name. Nothing was done."),
        (Self::State, "The VM's state does not allow it. Nothing was done."),
        (Self::Force, "It would lose a guest's work: say `--force`. Nothing was done."),
        (Self::Busy, "Another operation on the same VM is under way. Nothing was done."),
        (Self::Unsupported, "This host cannot do it; the text names what is missing."),
        (Self::Refused, "The other host refused; the text holds its reason."),
        (Self::Failed, "It was tried and failed; the text says in which state that left things."),
    ];

    /// The word as printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::NotFound => "not-found",
            Self::State => "state",
            Self::Force => "force",
            Self::Busy => "busy",
            Self::Unsupported => "unsupported",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A command that failed. Displayed as the line that ends it: `error: CODE: text`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What kind of failure.
    pub code: Code,
    /// What failed, with the value at fault, on one line.
    pub text: String,
}

impl Failure {
    /// A failure of that code.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}: {}", self.code, self.text)
    }
}

impl core::error::Error for Failure {}

impl From<ParseError<'_>> for Failure {
    fn from(error: ParseError<'_>) -> Self {
        Self::new(Code::Usage, error.to_string())
    }
}

/// Why a line is not a command. Its code is always [`Code::Usage`].
#[derive(Clone, Copy, Debug)]
pub enum ParseError<'a> {
    /// The first word that fits no command.
    Unknown {
        /// The words before it that did fit.
        after: &'static [&'static str],
        /// The word.
        word: &'a str,
        /// A command word that is spelt nearly so.
        near: Option<&'static str>,
        /// A whole command that has this word further back.
        inside: Option<&'static Spec>,
    },
    /// The line ends where another word of a command must come.
    Incomplete {
        /// The words so far.
        words: &'static [&'static str],
    },
    /// A required argument is not there.
    Missing {
        /// The command.
        spec: &'static Spec,
        /// The argument.
        arg: &'static Arg,
    },
    /// More arguments than the command takes.
    Extra {
        /// The command.
        spec: &'static Spec,
        /// The first one too many.
        word: &'a str,
    },
    /// A word with leading `-` that is no option of the command.
    Option {
        /// The command.
        spec: &'static Spec,
        /// The word.
        word: &'a str,
        /// An option that is spelt nearly so.
        near: Option<OptionName>,
    },
    /// An option whose value does not follow.
    NoValue {
        /// The command.
        spec: &'static Spec,
        /// The option.
        arg: &'static Arg,
    },
    /// An option that has its value already.
    Twice {
        /// The command.
        spec: &'static Spec,
        /// The option.
        arg: &'static Arg,
    },
    /// A quote that is not closed.
    Quote {
        /// The word that it begins in, and all that follows.
        word: &'a str,
    },
    /// An argument that is not of its kind.
    Value {
        /// The command.
        spec: &'static Spec,
        /// The argument.
        arg: &'static Arg,
        /// What was typed.
        word: &'a str,
        /// What it ought to be.
        why: &'static str,
    },
}

impl ParseError<'_> {
    /// The code printed with it.
    #[must_use]
    pub const fn code(&self) -> Code {
        Code::Usage
    }
}

impl core::error::Error for ParseError<'_> {}

impl fmt::Display for ParseError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unknown { after, word, near, inside } => {
                match after {
                    [] => write!(f, "unknown command '{}': ", Quoted(word))?,
                    words => write!(f, "unknown '{}' command '{}': ", Words(words), Quoted(word))?,
                }
                match (near, inside) {
                    (Some(near), _) => write!(f, "did you mean '{near}'?"),
                    (None, Some(spec)) => write!(f, "did you mean '{spec}'?"),
                    (None, None) if after.is_empty() => f.write_str("'help' lists the commands"),
                    (None, None) => next_words(f, after),
                }
            }
            Self::Incomplete { words } => {
                write!(f, "'{}' is not a whole command: ", Words(words))?;
                next_words(f, words)
            }
            Self::Missing { spec, arg } => write!(f, "{} is missing: usage: {}", arg.name, Short(spec)),
            Self::NoValue { spec, arg } => {
                write!(f, "{} is followed by no value: usage: {}", key_of(arg), Short(spec))
            }
            Self::Twice { spec, arg } => {
                write!(f, "{} is there twice: usage: {}", key_of(arg), Short(spec))
            }
            Self::Quote { word } => write!(f, "the quote of '{}' is not closed", Quoted(word)),
            Self::Extra { spec, word } => {
                write!(f, "unexpected '{}': ", Quoted(word))?;
                if let Some(option) = spec.option_near(word) {
                    return write!(f, "did you mean '{option}'?");
                }
                f.write_str("usage: ")?;
                let same = || COMMANDS.iter().filter(|s| s.words.starts_with(spec.words));
                if same().count() == 1 {
                    return write!(f, "{}", Short(spec));
                }
                for (i, spec) in same().enumerate() {
                    write!(f, "{}{}", if i == 0 { "" } else { ", or " }, spec.brief())?;
                }
                Ok(())
            }
            Self::Option { spec, word, near: Some(near) } => {
                write!(f, "unknown option '{}' of '{spec}': did you mean '{near}'?", Quoted(word))
            }
            Self::Option { spec, word, near: None } => {
                write!(f, "unknown option '{}': usage: {}", Quoted(word), Short(spec))
            }
            Self::Value { spec, arg, word, why } => {
                write!(f, "{} '{}' {why}: ", arg.name, Quoted(word))?;
                match nearest(word, words_of(arg)) {
                    Some(near) => write!(f, "did you mean '{near}'?"),
                    None => write!(f, "usage: {}", Short(spec)),
                }
            }
        }
    }
}

/// The usage line where it is short, else what is required, and where the rest is.
struct Short(&'static Spec);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Of a row of 80 columns the reason is to have a part.
        const LONGEST: usize = 60;
        let Self(spec) = self;
        let whole = spec.usage().to_string();
        if whole.len() <= LONGEST {
            f.write_str(&whole)
        } else {
            write!(f, "{} ..., see `help {spec}`", spec.brief())
        }
    }
}

/// Lists what may follow `words`.
fn next_words(f: &mut fmt::Formatter<'_>, words: &[&str]) -> fmt::Result {
    f.write_str("one of ")?;
    let next =
        COMMANDS.iter().filter(|s| s.words.starts_with(words)).filter_map(|s| s.words.get(words.len()));
    let mut last = None;
    // Commands of one group stand together in the table.
    for word in next {
        if last != Some(word) {
            write!(f, "{}{word}", if last.is_none() { "" } else { ", " })?;
            last = Some(word);
        }
    }
    Ok(())
}

struct Words<'a>(&'a [&'a str]);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.0.iter().enumerate() {
            write!(f, "{}{word}", if i == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// A word from outside, short and without control characters.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 40;
        for c in self.0.chars().take(SHOWN) {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
        }
        if self.0.chars().nth(SHOWN).is_some() { f.write_str("...") } else { Ok(()) }
    }
}
