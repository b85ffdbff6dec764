//! `--host`: commands of a host's console, over the link.

use std::io::{BufRead, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use manage::{Client, MAX_LINE, Said};
use migrate::Link as _;
use secure_link::{Security, Service};

use crate::peer::{Bar, Clock, Link, config_folder, keyed, pause, resolve};

/// Nothing was answered: the host was not reached, or was lost.
const NOT_REACHED: u8 = 3;

/// Runs commands of a host's console there.
#[derive(Parser)]
#[command(
    name = "flexctl",
    after_help = "The host takes commands where its boot line has manage=on. Without a command, lines of the standard \
                  input are run one after the other, until one fails. Ctrl-C ends what runs.\n\n\
                  Exit status: 0 ok; 1 the command ended in an error, which is on the standard error; 2 wrong usage, \
                  here or of the command; 3 the host was not reached, or was lost."
)]
struct Options {
    /// The host; its port is 4444 unless given.
    #[arg(long, value_name = "HOST[:PORT]")]
    host: String,
    /// The pool key: 64 hexadecimal digits, or a file that `keygen -o` wrote [default: the file pool-key in
    /// ~/.config/flexctl].
    #[arg(long, value_name = "HEX|FILE", conflicts_with = "insecure")]
    key: Option<String>,
    /// No key: neither authentication nor encryption.
    #[arg(long)]
    insecure: bool,
    /// The command, as at the host's console.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    words: Vec<String>,
}

/// Whether the first argument, or the first behind a key, is `--host`.
pub(crate) fn is_meant() -> bool {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut rest = args.as_slice();
    while let [first, behind @ ..] = rest {
        match first.as_str() {
            "--insecure" => rest = behind,
            "--key" => rest = behind.get(1..).unwrap_or_default(),
            other if other.starts_with("--key=") => rest = behind,
            other => return other == "--host" || other.starts_with("--host="),
        }
    }
    false
}

pub(crate) fn main() -> ExitCode {
    let options = Options::parse();
    let fault = |status: u8| {
        move |error: anyhow::Error| {
            eprintln!("flexctl: {error:#}");
            status
        }
    };
    let status = line_of(&options.words)
        .and_then(|line| Ok((line, options.security()?)))
        .map_err(fault(2))
        .and_then(|(line, security)| run(&options.host, &security, &line).map_err(fault(NOT_REACHED)));
    ExitCode::from(status.unwrap_or_else(|status| status))
}

impl Options {
    fn security(&self) -> Result<Security> {
        if self.insecure {
            return Ok(Security::Insecure);
        }
        if let Some(key) = &self.key {
            return keyed(key);
        }
        let file = config_folder()?.join("pool-key");
        let file = file.display().to_string();
        ensure!(std::path::Path::new(&file).is_file(), "no --key, and there is no file {file}");
        keyed(&file)
    }
}

/// The line that the host shall see: words with blanks are quoted.
fn line_of(words: &[String]) -> Result<String> {
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        let blank = word.is_empty() || word.contains(char::is_whitespace) || word.starts_with(['"', '\'']);
        // `--cmdline=a b` is quoted behind its `=`.
        let (key, value) = match word.split_once('=') {
            Some((key, value)) if word.starts_with("--") && blank => (format!("{key}="), value),
            _ => (String::new(), word.as_str()),
        };
        let quote = match (value.contains('"'), value.contains('\'')) {
            _ if !blank => "",
            (false, _) => "\"",
            (true, false) => "'",
            (true, true) => bail!("{word} has both kinds of quotes, which no line can hold"),
        };
        line += &format!("{key}{quote}{value}{quote}");
    }
    ensure!(line.len() <= MAX_LINE, "a command of {} bytes, at most {MAX_LINE} are taken", line.len());
    Ok(line)
}

/// How often Ctrl-C was said to the command that runs. Where none does, once is enough.
static INTERRUPTS: AtomicU32 = AtomicU32::new(IDLE);
const IDLE: u32 = 1;

/// The lines of the standard input as they come: whoever waits for them goes on saying that he is there.
fn typed() -> Receiver<std::io::Result<String>> {
    let (sender, lines) = sync_channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn run(host: &str, security: &Security, line: &str) -> Result<u8> {
    ctrlc::set_handler(|| {
        // Who says it twice wants to be gone.
        if INTERRUPTS.fetch_add(1, Ordering::Relaxed) > 0 {
            std::process::exit(130);
        }
    })?;
    let link = Link::dial(Service::Manage, resolve(host)?, security, Bar::default());
    let link = link.map_err(anyhow::Error::msg).with_context(|| host.to_string())?;
    let clock = Clock::start();
    let client = Client::new(clock.now() / 1000);
    let mut talk = Talk { link, client, clock, heard: true };
    let status = if line.is_empty() { talk.lines() } else { talk.command(line) };
    let status = status.with_context(|| host.to_string())?;
    talk.link.close();
    Ok(status)
}

struct Talk {
    link: Link,
    client: Client,
    clock: Clock,
    /// Somebody reads the standard output.
    heard: bool,
}

impl Talk {
    fn lines(&mut self) -> Result<u8> {
        let lines = typed();
        loop {
            match lines.try_recv() {
                Ok(line) => {
                    let line = line.context("standard input")?;
                    if line.len() > MAX_LINE {
                        eprintln!("flexctl: a line of {} bytes, at most {MAX_LINE} are taken", line.len());
                        return Ok(2);
                    }
                    // Those of the host's console end with the link, which is closed here.
                    if line.trim() == "exit" {
                        return Ok(0);
                    }
                    let status = self.command(&line)?;
                    if status != 0 {
                        return Ok(status);
                    }
                }
                Err(TryRecvError::Disconnected) => return Ok(0),
                Err(TryRecvError::Empty) => {
                    self.turn()?;
                    if let Some(said) = self.client.take()? {
                        ensure!(matches!(said, Said::Hello(_)), "{said:?} to no command");
                    }
                    pause();
                }
            }
        }
    }

    /// Moves what there is to move; how much came.
    fn turn(&mut self) -> Result<usize> {
        let mut bytes = [0; 4096];
        let count = self.link.recv(&mut bytes);
        let now_us = self.clock.now() / 1000;
        self.client.feed(bytes.get(..count).unwrap_or_default(), now_us);
        self.client.poll(now_us)?;
        let sent = self.link.send(self.client.outgoing());
        self.client.sent(sent);
        // What came with the end of the link is still read.
        ensure!(count > 0 || self.link.is_open(), "the link ended{}", self.link.fault());
        Ok(count)
    }

    /// What the command printed. A reader that has seen enough, as `head`, ends the command as Ctrl-C does.
    fn print(&mut self, text: &str) -> Result<()> {
        if !self.heard {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.heard = false;
                self.client.interrupt();
                Ok(())
            }
            other => other.context("standard output"),
        }
    }

    /// Runs one command; its output goes to the standard output, its error to the standard error.
    fn command(&mut self, line: &str) -> Result<u8> {
        INTERRUPTS.store(0, Ordering::Relaxed);
        let status = self.watch(line);
        INTERRUPTS.store(IDLE, Ordering::Relaxed);
        status
    }

    fn watch(&mut self, line: &str) -> Result<u8> {
        let mut told = 0;
        self.client.run(line)?;
        loop {
            let count = self.turn()?;
            while let Some(said) = self.client.take()? {
                match said {
                    Said::Hello(_) => {}
                    Said::Output(text) => self.print(&text)?,
                    Said::End(Ok(())) => return Ok(0),
                    Said::End(Err(text)) => {
                        let (code, why) = text.split_once(' ').unwrap_or((&text, ""));
                        eprintln!("error: {code}: {why}");
                        return Ok(if text.starts_with("usage ") { 2 } else { 1 });
                    }
                }
            }
            let interrupts = INTERRUPTS.load(Ordering::Relaxed);
            if interrupts != told {
                told = interrupts;
                self.client.interrupt();
            }
            if count == 0 {
                pause();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_blanks_are_quoted() {
        let line = |words: &[&str]| line_of(&words.iter().map(|w| (*w).to_string()).collect::<Vec<_>>());
        assert_eq!(line(&["vm", "list", "--json"]).unwrap(), "vm list --json");
        assert_eq!(line(&["--cmdline", "a b"]).unwrap(), "--cmdline \"a b\"");
        assert_eq!(line(&["--cmdline=a \"b\" c"]).unwrap(), "--cmdline='a \"b\" c'");
        assert_eq!(line(&["--cmdline", ""]).unwrap(), "--cmdline \"\"");
        assert!(line(&["a 'b' \"c\""]).is_err());
        assert_eq!(line(&["downtime=10"]).unwrap(), "downtime=10");
    }
}
