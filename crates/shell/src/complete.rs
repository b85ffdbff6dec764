//! What may stand where the cursor is, from the table of commands and from the names that the host knows.

use alloc::string::String;
use alloc::vec::Vec;

use crate::command::{AuditAction, DirtyMethod, LogLevel, Verdict};
use crate::table::{Arg, COMMANDS, Kind, Setting, Spec, key_of};
use crate::term::Term;
use crate::words::Words;

/// Names that only the host knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Named {
    /// VMs on this host.
    Vms,
    /// Addresses of other hosts that this one has met.
    Addresses,
    /// Members of the pool.
    Members,
    /// CPU levels.
    CpuLevels,
}

/// Where completion gets names from.
pub trait Names {
    /// Calls `found` with each name of that kind. What is no word is passed over.
    fn each(&self, kind: Named, found: &mut dyn FnMut(&str));
}

/// A host without names.
impl Names for () {
    fn each(&self, _kind: Named, _found: &mut dyn FnMut(&str)) {}
}

/// What may stand at the end of a line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Completion {
    /// Where the word begins that the candidates replace, in bytes.
    pub start: usize,
    /// Words, or `KEY=`, that begin with what has been typed of it; sorted, each once.
    pub candidates: Vec<String>,
}

/// Candidates for the last word of `line`, the beginning of a line up to the cursor.
#[must_use]
pub fn complete(line: &str, names: &dyn Names) -> Completion {
    if let Some((before, command)) = nested(line) {
        let inside = complete(command, names);
        return Completion { start: before.len() + inside.start, ..inside };
    }
    let start =
        line.char_indices().rev().find(|(_, c)| c.is_whitespace()).map_or(0, |(at, c)| at + c.len_utf8());
    let (before, typed) = line.split_at(start);
    let words: Result<Vec<&str>, _> = Words::new(before).collect();
    // Nothing is known of what stands in quotes or behind a comment sign.
    let Some(words) = words.ok().filter(|w| !w.first().is_some_and(|word| word.starts_with('#'))) else {
        return Completion { start, candidates: Vec::new() };
    };
    let mut found = Found { typed, candidates: Vec::new() };
    next_words(&words, &mut found);
    if let Some(spec) = chosen(&words) {
        arguments(spec, words.get(spec.words.len()..).unwrap_or_default(), names, &mut found);
    }
    let mut candidates = found.candidates;
    candidates.sort_unstable();
    candidates.dedup();
    Completion { start, candidates }
}

/// A line that holds another command: what stands before that, and it.
fn nested(line: &str) -> Option<(&str, &str)> {
    let takes = |spec: &&Spec| spec.args.iter().any(|arg| arg.kind == Kind::Line);
    COMMANDS.iter().filter(takes).find_map(|spec| {
        let mut rest = line.trim_start().strip_prefix(spec.words.first()?)?;
        loop {
            // A word has ended.
            let command = rest.trim_start();
            if command.len() == rest.len() {
                return None;
            }
            let word = command.split(char::is_whitespace).next().unwrap_or_default();
            rest = command.get(word.len()..).unwrap_or_default();
            if !word.starts_with('-') {
                return Some(line.split_at(line.len() - command.len()));
            }
            if spec.args.iter().any(|arg| key_of(arg) == word) {
                let value = rest.trim_start();
                rest = value.split_once(char::is_whitespace).map_or("", |(word, _)| &value[word.len()..]);
            }
        }
    })
}

struct Found<'a> {
    typed: &'a str,
    candidates: Vec<String>,
}

impl Found<'_> {
    fn offer(&mut self, word: &str) {
        let is_word = !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c.is_control());
        if is_word && word.starts_with(self.typed) {
            self.candidates.push(word.into());
        }
    }
}

/// The words of commands that begin with `words`.
fn next_words(words: &[&str], found: &mut Found<'_>) {
    for spec in COMMANDS.iter().filter(|spec| spec.words.starts_with(words)) {
        if let Some(word) = spec.words.get(words.len()) {
            found.offer(word);
        }
    }
}

/// The command with the most words that a line begins with.
fn chosen(words: &[&str]) -> Option<&'static Spec> {
    COMMANDS.iter().filter(|spec| words.starts_with(spec.words)).max_by_key(|spec| spec.words.len())
}

/// What may follow the words of a command and the arguments `given`.
fn arguments(spec: &Spec, given: &[&str], names: &dyn Names, found: &mut Found<'_>) {
    let settings = || spec.args.iter().filter(|arg| matches!(arg.kind, Kind::Setting(_)));
    if let Some((key, _)) = found.typed.split_once('=')
        && let Some(arg) = settings().find(|arg| key_of(arg) == key)
    {
        return words_of(arg).for_each(|value| found.offer(&alloc::format!("{key}={value}")));
    }
    let is_named = |word: &&&str| {
        word.starts_with('-') || settings().any(|arg| word.split('=').next() == Some(key_of(arg)))
    };
    // `--KEY VALUE` takes two words.
    let is_spaced = |word: &&str| settings().any(|arg| key_of(arg) == *word);
    if let Some(last) = given.last()
        && let Some(arg) = settings().find(|arg| key_of(arg) == *last)
    {
        if arg.kind == Kind::Setting(Setting::CpuLevel) {
            names.each(Named::CpuLevels, &mut |name| found.offer(name));
        }
        return words_of(arg).for_each(|word| found.offer(word));
    }
    let values = given.iter().zip(given.iter().skip(1)).filter(|(key, _)| is_spaced(key)).count();
    let placed = given.iter().filter(|word| !is_named(word)).count().saturating_sub(values);
    let mut positional = spec.args.iter().filter(|arg| !arg.kind.is_named()).peekable();
    let wanted = match positional.nth(placed) {
        None => spec.args.iter().rfind(|arg| arg.kind == Kind::Topic),
        found => found,
    };
    if let Some(arg) = wanted {
        if let Some(next) = positional.peek().filter(|next| arg.may_be_passed(Some(next))) {
            words_of(next).for_each(|word| found.offer(word));
        }
        match arg.kind {
            Kind::Topic => next_words(given, found),
            Kind::Vm => names.each(Named::Vms, &mut |name| found.offer(name)),
            Kind::Host | Kind::Address => names.each(Named::Addresses, &mut |name| found.offer(name)),
            Kind::Peer => {
                for kind in [Named::Members, Named::Addresses] {
                    names.each(kind, &mut |name| found.offer(name));
                }
            }
            Kind::Subject => {
                for kind in [Named::CpuLevels, Named::Vms, Named::Members] {
                    names.each(kind, &mut |name| found.offer(name));
                }
            }
            _ => words_of(arg).for_each(|word| found.offer(word)),
        }
    }
    // Options come once what is required is there, or when they are asked for.
    let lacking = wanted.is_some_and(|arg| arg.required);
    for arg in spec.args.iter().filter(|arg| arg.kind.is_named()) {
        let key = key_of(arg);
        let is_flag = arg.kind == Kind::Flag;
        let there = given.iter().any(|word| word.split('=').next() == Some(key));
        if there || (lacking && found.typed.is_empty()) {
            continue;
        }
        if is_flag || key.starts_with('-') {
            found.offer(key);
        } else {
            found.offer(&alloc::format!("{key}="));
        }
    }
}

/// The names of a kind's words.
macro_rules! names {
    ($kind:ty) => {{
        let mut names = [""; <$kind>::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = <$kind>::ALL[at].name();
            at += 1;
        }
        names
    }};
}

const LEVELS: [&str; LogLevel::ALL.len()] = names!(LogLevel);
const METHODS: [&str; DirtyMethod::ALL.len()] = names!(DirtyMethod);
const ACTIONS: [&str; AuditAction::ALL.len()] = names!(AuditAction);
const VERDICTS: [&str; Verdict::ALL.len()] = names!(Verdict);
const TERMS: [&str; Term::ALL.len()] = names!(Term);

/// The words that an argument may be, where there are only some; for a setting, its values.
pub(crate) fn words_of(arg: &Arg) -> impl Iterator<Item = &'static str> + Clone + use<> {
    let listed: &[&'static str] = match arg.kind {
        Kind::Level => &LEVELS,
        Kind::Method => &METHODS,
        Kind::Action => &ACTIONS,
        Kind::Verdict => &VERDICTS,
        Kind::Term => &TERMS,
        Kind::Switch => &["on", "off"],
        _ => &[],
    };
    let values = match arg.kind {
        Kind::Setting(_) => arg.name.split_once(['=', ' ']).map_or("", |(_, values)| values),
        _ => "",
    };
    // `KEY=WHAT` names no value but says what it is.
    let values = if values.contains('|') { values } else { "" };
    listed.iter().copied().chain(values.split('|').filter(|value| !value.is_empty()))
}

/// Whether the digest of a file, which is no secret, comes behind this.
fn is_digest(before: &str) -> bool {
    before.trim_end_matches([' ', '=']).ends_with("sha256")
}

/// Digits in a row from which on a hexadecimal number may be a key.
const KEY_DIGITS: usize = 48;

/// Where in a line something begins that nobody may see: the argument of a command that takes a secret, or what looks
/// like one elsewhere, should the command be mistyped.
#[must_use]
pub fn secret_at(line: &str) -> Option<usize> {
    let takes_secret = |spec: &&Spec| spec.args.iter().any(|arg| arg.kind == Kind::Secret);
    for spec in COMMANDS.iter().filter(takes_secret) {
        let mut rest = line;
        let all = spec.words.iter().all(|word| {
            let Some(behind) = rest.trim_start().strip_prefix(word) else { return false };
            rest = behind;
            behind.starts_with(char::is_whitespace)
        });
        if all {
            return Some(line.len() - rest.trim_start().len());
        }
    }
    let mut start = 0;
    for (at, byte) in line.bytes().enumerate() {
        if !byte.is_ascii_hexdigit() {
            start = at + 1;
        } else if at + 1 - start >= KEY_DIGITS && !is_digest(line.get(..start).unwrap_or_default()) {
            return Some(start);
        }
    }
    None
}
