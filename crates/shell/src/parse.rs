//! A line becomes a [`Command`], or says why it does not.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::str::FromStr;

use crate::command::{
    AuditAction, Command, Compression, DEFAULT_PORT, DirtyMethod, ListSort, LogLevel, MAX_DUMP, OnReset,
    OnTimeout, Output, Peer, VM_STATES, Verdict,
};
use crate::error::ParseError;
use crate::nearest::nearest;
use crate::table::{Arg, COMMANDS, Kind, Setting, Spec, Values, key_of};
use crate::term::Term;
use crate::words::{Open, Words, unquoted};
use vm_types::{MAX_VCPUS, Topology};

/// Parses one line. Blank lines and lines that begin with `#` are [`Command::Empty`].
///
/// # Errors
/// [`ParseError`] names the word at fault and what would have been right; nothing is ever guessed.
pub fn parse(line: &str) -> Result<Command<'_>, ParseError<'_>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(Command::Empty);
    }
    if let Some(command) = explained(line) {
        return command;
    }
    let spec = select(line)?;
    let mut rest = Words::new(line).skip(spec.words.len());
    let mut values = Values::NONE;
    let mut positional = spec.args.iter().filter(|a| !a.kind.is_named()).peekable();
    let mut given = 0_u32;
    while let Some(word) = rest.next() {
        let word = word.map_err(|Open(word)| ParseError::Quote { word })?;
        if let Some((place, arg)) = setting_of(spec, word)? {
            if given >> place & 1 == 1 {
                return Err(ParseError::Twice { spec, arg });
            }
            given |= 1 << place;
            let value = match word.split_once('=') {
                Some((_, value)) => value,
                None => match rest.next() {
                    Some(value) => value.map_err(|Open(word)| ParseError::Quote { word })?,
                    None => return Err(ParseError::NoValue { spec, arg }),
                },
            };
            set_setting(spec, arg, unquoted(value), &mut values)?;
            continue;
        }
        if word.starts_with('-') {
            set_flag(spec, word, &mut values)?;
            continue;
        }
        let word = unquoted(word);
        let Some(mut arg) = positional.next() else { return Err(ParseError::Extra { spec, word }) };
        // A number that is left out before a switch.
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        if arg.may_be_passed(positional.peek().copied()) && !is_number {
            arg = positional.next().unwrap_or(arg);
        }
        let bad = |why| ParseError::Value { spec, arg, word, why };
        match arg.kind {
            Kind::Vm => values.vm = Some(vm_name(word).map_err(bad)?),
            Kind::Host => values.host = host(word).map_err(bad)?,
            Kind::Peer => values.peer = peer(word).map_err(bad)?,
            Kind::NewName => values.name = new_name(word).map_err(bad)?,
            Kind::Address => values.host = address(word).map_err(bad)?,
            Kind::Number => {
                let number = quantity(word, arg).map_err(bad)?;
                if let Some(free) = values.numbers.iter_mut().find(|n| n.is_none()) {
                    *free = Some(number);
                }
            }
            Kind::Switch => values.switch = Some(switch(word).map_err(bad)?),
            Kind::Level => values.level = Some(level(word).map_err(bad)?),
            Kind::Method => values.method = Some(method(word).map_err(bad)?),
            Kind::Subject => {
                let subject = subject(word).map_err(bad)?;
                if let Some(free) = values.subjects.iter_mut().find(|s| s.is_none()) {
                    *free = Some(subject);
                }
            }
            Kind::Action => values.action = action(word).map_err(bad)?,
            Kind::Secret => values.secret = secret(word).map_err(|why| bad_secret(spec, arg, why))?,
            Kind::Topic => {
                values.topic = Some(topic(line, word)?);
                return Ok((spec.build)(values));
            }
            Kind::Line => {
                let rest = line.get(offset(line, word)..).unwrap_or_default();
                if !parse(rest)?.only_looks() {
                    return Err(bad("cannot be watched: only what looks and answers at once can"));
                }
                values.line = rest;
                return Ok((spec.build)(values));
            }
            Kind::Verdict => {
                values.verdict = Verdict::ALL
                    .into_iter()
                    .find(|v| v.name() == word)
                    .ok_or_else(|| bad("is neither run-here nor discard"))?;
            }
            Kind::Term => values.term.term = Some(term(word).map_err(bad)?),
            Kind::Flag | Kind::Setting(_) => {}
        }
    }
    // The one setting that is ever required.
    let lacks_kernel = |a: &&Arg| a.kind == Kind::Setting(Setting::Kernel) && values.create.kernel.is_empty();
    match positional.chain(spec.args.iter().filter(lacks_kernel)).find(|a| a.required) {
        Some(arg) => Err(ParseError::Missing { spec, arg }),
        None => Ok((spec.build)(values)),
    }
}

/// What asks for help in another way: `?`, and a command that ends with `-h` or `--help`.
fn explained(line: &str) -> Option<Result<Command<'_>, ParseError<'_>>> {
    let about = match line.strip_prefix('?') {
        Some(rest) if rest.is_empty() || rest.starts_with(char::is_whitespace) => rest.trim(),
        _ => {
            let before = ["--help", "-h"].iter().find_map(|asked| line.strip_suffix(asked))?;
            if !(before.is_empty() || before.ends_with(char::is_whitespace)) {
                return None;
            }
            before.trim()
        }
    };
    Some(if about.is_empty() {
        Ok(Command::Help(None))
    } else {
        named(about).map(|about| Command::Help(Some(about)))
    })
}

/// The command with the most words that the line begins with.
fn select(line: &str) -> Result<&'static Spec, ParseError<'_>> {
    let begins = |spec: &&Spec| {
        let mut words = line.split_whitespace();
        spec.words.iter().all(|w| words.next() == Some(*w))
    };
    if let Some(spec) = COMMANDS.iter().filter(begins).max_by_key(|s| s.words.len()) {
        return Ok(spec);
    }
    // No command: find the longest beginning that some commands share, and the word behind it.
    let after = shared(line);
    let Some(word) = line.split_whitespace().nth(after.len()) else {
        return Err(ParseError::Incomplete { words: after });
    };
    let next = COMMANDS
        .iter()
        .filter(|s| s.words.starts_with(after))
        .filter_map(|s| s.words.get(after.len()).copied());
    let inside = COMMANDS.iter().find(|s| after.is_empty() && s.words.iter().skip(1).any(|w| *w == word));
    Err(ParseError::Unknown { after, word, near: nearest(word, next), inside })
}

/// The longest beginning of a command's words with which the line begins; empty where its first word fits none.
fn shared(line: &str) -> &'static [&'static str] {
    let begun = COMMANDS.iter().map(|spec| {
        let same = spec.words.iter().zip(line.split_whitespace()).take_while(|(w, l)| *w == l).count();
        spec.words.get(..same).unwrap_or_default()
    });
    begun.max_by_key(|words| words.len()).unwrap_or_default()
}

/// Checks that the rest of the line names a command or a group of them.
fn topic<'a>(line: &'a str, first: &'a str) -> Result<&'a str, ParseError<'a>> {
    // `first` is the first word behind `help`, so this cuts exactly there.
    named(line.trim_start().split_once(char::is_whitespace).map_or(first, |(_, rest)| rest.trim()))
}

/// The words of the command, or of the group of them, that `rest` begins with.
fn named(rest: &str) -> Result<&str, ParseError<'_>> {
    let words = || rest.split_whitespace();
    let known = COMMANDS
        .iter()
        .any(|s| words().count() <= s.words.len() && s.words.iter().zip(words()).all(|(a, b)| *a == b));
    if known {
        return Ok(rest);
    }
    // Arguments behind a whole command are forgiven: `help vm show demo`.
    let spec = select(rest)?;
    let end = words().nth(spec.words.len() - 1).map_or(0, |last| offset(rest, last) + last.len());
    Ok(rest.get(..end).unwrap_or(rest))
}

/// Where `part`, a piece of `whole`, begins in it.
fn offset(whole: &str, part: &str) -> usize {
    part.as_ptr().addr().saturating_sub(whole.as_ptr().addr())
}

fn set_flag<'a>(spec: &'static Spec, word: &'a str, values: &mut Values<'_>) -> Result<(), ParseError<'a>> {
    if spec.args.iter().any(|a| a.kind == Kind::Flag && a.name == word) {
        match word {
            "--json" => values.output = Output::Json,
            "--copy" => values.migrate.copy = true,
            "--detach" => values.migrate.detach = true,
            "--live" => values.migrate.live = true,
            "--virtual" => values.linear = true,
            "--previous" => values.previous = true,
            "-f" => values.follow = true,
            "--utc" => values.utc = true,
            "--boot" => values.boot = true,
            "--once" => values.once = true,
            "--anew" => values.anew = true,
            "--read-only" => values.read_only = true,
            "--paused" => values.create.paused = true,
            "--debug-exit" => values.create.debug_exit = true,
            _ => values.force = true,
        }
        return Ok(());
    }
    Err(ParseError::Option { spec, word, near: spec.option_near(word) })
}

/// The setting that `KEY=VALUE`, or `--KEY` before its value, gives, and its place; none where the word has another form.
fn setting_of<'a>(
    spec: &'static Spec,
    word: &'a str,
) -> Result<Option<(usize, &'static Arg)>, ParseError<'a>> {
    let mut settings =
        spec.args.iter().enumerate().filter(|(_, a)| matches!(a.kind, Kind::Setting(_))).peekable();
    let (key, assigned) = word.split_once('=').map_or((word, false), |(key, _)| (key, true));
    if settings.peek().is_none() || !(assigned || word.starts_with('-')) {
        return Ok(None);
    }
    match settings.find(|(_, arg)| key_of(arg) == key) {
        None if assigned => Err(ParseError::Option { spec, word, near: spec.option_near(key) }),
        found => Ok(found),
    }
}

fn set_setting<'a>(
    spec: &'static Spec,
    arg: &'static Arg,
    value: &'a str,
    values: &mut Values<'a>,
) -> Result<(), ParseError<'a>> {
    let bad = |why| ParseError::Value { spec, arg, word: value, why };
    let Kind::Setting(setting) = arg.kind else { return Ok(()) };
    let create = &mut values.create;
    let options = &mut values.migrate;
    match setting {
        Setting::Downtime => {
            options.downtime_ms = Some(
                number(value, 86_400_000).ok_or_else(|| bad("is no number of milliseconds up to a day"))?,
            );
        }
        Setting::Timeout => {
            let seconds = number(value, 86_400).filter(|&s| s > 0);
            options.timeout_s = Some(seconds.ok_or_else(|| bad("is no number of seconds from 1 to a day"))?);
        }
        Setting::OnTimeout => {
            options.on_timeout = OnTimeout::ALL
                .into_iter()
                .find(|o| o.name() == value)
                .ok_or_else(|| bad("is none of cancel, throttle, force"))?;
        }
        Setting::Verify => {
            options.verify = match value {
                "full" => true,
                "seals" => false,
                _ => return Err(bad("is neither full nor seals")),
            };
        }
        Setting::Compress => {
            let found = Compression::ALL.into_iter().find(|c| c.name() == value);
            options.compress = Some(found.ok_or_else(|| bad("is none of none, lz4, delta, auto"))?);
        }
        Setting::Columns => {
            let columns = number(value, 1000).and_then(|n| u16::try_from(n).ok()).filter(|n| *n >= 40);
            values.term.columns = Some(columns.ok_or_else(|| bad("is no number from 40 to 1000"))?);
        }
        Setting::Rows => {
            let rows = number(value, 1000).and_then(|n| u16::try_from(n).ok()).filter(|n| *n == 0 || *n >= 4);
            values.term.rows = Some(rows.ok_or_else(|| bad("is no number from 4 to 1000, nor 0"))?);
        }
        Setting::Receipt => values.receipt = Some(receipt(value).map_err(bad)?),
        Setting::Kernel => create.kernel = url(value).map_err(bad)?,
        Setting::Initrd => create.initrd = Some(url(value).map_err(bad)?),
        Setting::Mem => {
            let mib = number(value, MAX_MEM_MIB).and_then(|n| u32::try_from(n).ok()).filter(|n| *n != 0);
            create.mem_mib = Some(mib.ok_or_else(|| bad("is no number of MiB from 1 to 1048576"))?);
        }
        Setting::GuestLine => create.cmdline = value,
        Setting::CpuLevel => create.level = Some(subject(value).map_err(bad)?),
        Setting::PhysBits => {
            let bits = number(value, 52).and_then(|n| u8::try_from(n).ok()).filter(|n| *n >= 32);
            create.phys_bits = Some(bits.ok_or_else(|| bad("is no number of bits from 32 to 52"))?);
        }
        Setting::Vcpus => {
            let most = u64::from(MAX_VCPUS);
            let count = number(value, most).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
            create.vcpus = Some(count.ok_or_else(|| bad("is no number of vCPUs from 1 to 64"))?);
        }
        Setting::Topology => {
            let topology = Topology::parse(value);
            create.topology =
                Some(topology.ok_or_else(|| bad("is not three numbers, SOCKETS:CORES:THREADS"))?);
        }
        Setting::OnReset => {
            let found = OnReset::ALL.into_iter().find(|on| on.name() == value);
            create.on_reset = Some(found.ok_or_else(|| bad("is neither restart nor stop"))?);
        }
        Setting::Sha256 => create.sha256 = Some(digest(value).map_err(bad)?),
        Setting::State => {
            let found = VM_STATES.into_iter().find(|state| *state == value);
            values.list.state = Some(found.ok_or_else(|| bad("is no state of a VM"))?);
        }
        Setting::Sort => {
            let found = ListSort::ALL.into_iter().find(|sort| sort.name() == value);
            values.list.sort = found.ok_or_else(|| bad("is none of arrival, name, cpu, mem, uptime"))?;
        }
        Setting::Every => {
            let seconds = number(value, 86_400).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
            values.seconds = seconds.ok_or_else(|| bad("is no number of seconds from 1 to a day"))?;
        }
        Setting::InitrdSha256 => create.initrd_sha256 = Some(digest(value).map_err(bad)?),
    }
    Ok(())
}

/// Most memory of a VM, in MiB.
const MAX_MEM_MIB: u64 = 1 << 20;

/// Its parts are for the one who fetches it to judge.
fn url(word: &str) -> Result<&str, &'static str> {
    let scheme = ["http://", "tftp://"].iter().any(|scheme| word.starts_with(scheme));
    if scheme { Ok(word) } else { Err("begins with neither http:// nor tftp://") }
}

fn digest(word: &str) -> Result<[u8; 32], &'static str> {
    const FORM: &str = "is no SHA-256 digest of 64 hexadecimal digits";
    let mut bytes = [0; 32];
    if word.len() != 64 {
        return Err(FORM);
    }
    for (byte, pair) in bytes.iter_mut().zip(word.as_bytes().chunks_exact(2)) {
        for digit in pair {
            *byte = *byte << 4 | char::from(*digit).to_digit(16).ok_or(FORM)? as u8;
        }
    }
    Ok(bytes)
}

/// Decimal digits, at most `most`.
fn number(word: &str, most: u64) -> Option<u64> {
    let digits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    u64::from_str(word).ok().filter(|&n| digits && n <= most)
}

/// Longest receipt in characters.
const MAX_RECEIPT: usize = 256;

fn receipt(word: &str) -> Result<&str, &'static str> {
    let fits = word.len() <= MAX_RECEIPT && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fits { Ok(word) } else { Err("is no receipt: copy what `migrate resolve VM discard` printed") }
}

/// Longest name of a VM in bytes.
const MAX_NAME: usize = 32;

fn vm_name(word: &str) -> Result<&str, &'static str> {
    let fits = word.len() <= MAX_NAME && word.bytes().all(in_name);
    if fits { Ok(word) } else { Err("is no VM name (at most 32 of A-Z a-z 0-9 - _ .)") }
}

/// Longest name that a VM can be given, as for the VMs of the boot line.
const MAX_NEW_NAME: usize = 31;

fn new_name(word: &str) -> Result<&str, &'static str> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = (1..=MAX_NEW_NAME).contains(&word.len()) && word.bytes().all(fits);
    if fits { Ok(word) } else { Err("is no name for a VM (1 to 31 of a-z 0-9 -)") }
}

const fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// A level, a VM, or a host by name or address.
fn subject(word: &str) -> Result<&str, &'static str> {
    let fits = word.len() <= MAX_NAME && word.bytes().all(|b| in_name(b) || b == b':');
    if fits { Ok(word) } else { Err("is no name of a level, VM or host (at most 32 of A-Z a-z 0-9 - _ . :)") }
}

fn action(word: &str) -> Result<AuditAction, &'static str> {
    AuditAction::ALL.into_iter().find(|a| a.name() == word).ok_or("is none of start, report, stop")
}

/// 256 bits in hexadecimal.
fn secret(word: &str) -> Result<&str, &'static str> {
    let hex = word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    if hex {
        Ok(word)
    } else {
        Err("is not 64 hexadecimal digits; passphrases are not taken, make one with flexctl keygen")
    }
}

/// A message that does not show what was typed.
const fn bad_secret(spec: &'static Spec, arg: &'static Arg, why: &'static str) -> ParseError<'static> {
    ParseError::Value { spec, arg, word: "(not shown)", why }
}

fn host(word: &str) -> Result<SocketAddrV4, &'static str> {
    const FORM: &str = "is no IPv4 address with optional port, like 10.0.0.2 or 10.0.0.2:4444";
    let (ip, port) = match word.split_once(':') {
        Some((ip, port)) => (ip, u16::from_str(port).map_err(|_| FORM)?),
        None => (word, DEFAULT_PORT),
    };
    let ip = Ipv4Addr::from_str(ip).map_err(|_| FORM)?;
    if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || port == 0 {
        return Err("is not the address of one host");
    }
    Ok(SocketAddrV4::new(ip, port))
}

/// What begins with digits and dots alone is meant as an address.
fn peer(word: &str) -> Result<Peer<'_>, &'static str> {
    let is_address =
        word.split(':').next().is_some_and(|ip| ip.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    let is_name = word.len() <= MAX_NAME && word.bytes().all(in_name);
    if is_name && !is_address { Ok(Peer::Member(word)) } else { host(word).map(Peer::At) }
}

fn address(word: &str) -> Result<SocketAddrV4, &'static str> {
    if word.contains(':') {
        return Err("is no IPv4 address like 10.0.0.2");
    }
    host(word).map_err(|why| if why.contains("port") { "is no IPv4 address like 10.0.0.2" } else { why })
}

/// A number within what its argument can be.
fn quantity(word: &str, arg: &Arg) -> Result<u64, &'static str> {
    let (most, why) = match arg.name {
        "LENGTH" => (MAX_DUMP, "is no number of bytes from 1 to 4096"),
        "VCPU" => (u64::from(u32::MAX), "is no number of a vCPU, from 0 on"),
        "CPU" => (u64::from(u32::MAX), "is no number of a CPU, from 0 on"),
        "MSR" => (u64::from(u32::MAX), "is no MSR: decimal, or 0x and up to 8 hexadecimal digits"),
        _ => (u64::MAX, "is no number: decimal, or 0x and up to 16 hexadecimal digits"),
    };
    let least = u64::from(arg.name == "LENGTH");
    let found = match word.strip_prefix("0x") {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None => number(word, u64::MAX),
    };
    found.filter(|n| (least..=most).contains(n)).ok_or(why)
}

fn switch(word: &str) -> Result<bool, &'static str> {
    match word {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("is neither on nor off"),
    }
}

fn level(word: &str) -> Result<LogLevel, &'static str> {
    LogLevel::ALL.into_iter().find(|l| l.name() == word).ok_or("is none of error, warn, info, debug, trace")
}

fn method(word: &str) -> Result<DirtyMethod, &'static str> {
    DirtyMethod::ALL.into_iter().find(|m| m.name() == word).ok_or("is none of pml, ad, wp")
}

fn term(word: &str) -> Result<Term, &'static str> {
    Term::ALL.into_iter().find(|t| t.name() == word).ok_or("is none of auto, dumb, ansi")
}
