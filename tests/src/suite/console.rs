//! The console as a person uses it: at the pace of fingers and of 115200 baud, with typos, a paste of many lines,
//! history, completion, two guests attached in turn, beside a guest that spins. What the screen shows is compared.

use super::{Case, Context, start};
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use crate::terminal::{Kind, Terminal};
use anyhow::{Result, bail, ensure};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
const LIMIT: u64 = 400;
/// Between two keys.
const FINGERS: Duration = Duration::from_millis(15);
const ROWS: &str = "flexvisor> ";
const DETACH: &[u8] = b"\x1c.";

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("console/operator_at_work", LIMIT, operator_at_work)]
}

/// A person before a terminal.
struct Person {
    host: Host,
    kind: Kind,
    /// Bytes that an earlier terminal has shown.
    from: usize,
    deadline: Instant,
}

impl Person {
    /// Presses keys one by one.
    fn press(&mut self, keys: &[u8]) -> Result<()> {
        for key in keys {
            self.host.console()?.send(&[*key])?;
            thread::sleep(FINGERS);
        }
        Ok(())
    }

    /// All at once; the emulated line takes 87 us for each byte.
    fn paste(&mut self, text: &str) -> Result<()> {
        self.host.console()?.send(text.as_bytes())
    }

    fn screen(&mut self) -> Result<Terminal> {
        let bytes = std::fs::read(self.host.console()?.log())?;
        let mut terminal = Terminal::new(self.kind, 80);
        terminal.feed(bytes.get(self.from..).unwrap_or_default());
        Ok(terminal)
    }

    /// Waits until the screen is as wanted.
    fn look(&mut self, what: &str, wanted: impl Fn(&Terminal) -> bool) -> Result<Terminal> {
        let limit = self.deadline.min(Instant::now() + PATIENCE);
        loop {
            let screen = self.screen()?;
            ensure!(screen.garbage.is_empty(), "{what}: the terminal got {:?}", screen.garbage);
            if wanted(&screen) {
                return Ok(screen);
            }
            if Instant::now() > limit {
                let rows = screen.rows();
                bail!("{what}: the screen shows\n{}", rows[rows.len().saturating_sub(30)..].join("\n"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the last rows are exactly these, lines of the log aside.
    fn shows(&mut self, rows: &[&str]) -> Result<()> {
        self.look(&format!("waiting for {rows:#?}"), |screen| tail(screen, rows.len()) == rows).map(drop)
    }

    /// A new terminal, of which nothing is known yet.
    fn take_terminal(&mut self, kind: Kind) -> Result<()> {
        self.from = std::fs::metadata(self.host.console()?.log())?.len() as usize;
        self.kind = kind;
        Ok(())
    }
}

/// The last rows that are no lines of the log.
fn tail(screen: &Terminal, count: usize) -> Vec<String> {
    let mut rows: Vec<String> = screen.rows().into_iter().filter(|row| !row.starts_with('[')).collect();
    rows.split_off(rows.len().saturating_sub(count))
}

fn operator_at_work(context: &Context) -> Result<()> {
    guest::build_payloads()?;
    let mut spec = HostSpec::new("host", "corei7_skylake_x");
    for (name, payload) in [("demo", "echo"), ("web", "echo"), ("spin", "spin-cli")] {
        let mut vm = VmSpec::new(name, &guest::payload(payload));
        vm.mem_mib = 8;
        vm.cmdline = name.to_string();
        spec.vms.push(vm);
    }
    let mut host = start(context, &spec)?;
    host.wait_ready(PATIENCE)?;
    let mut person = Person { host, kind: Kind::Dumb, from: 0, deadline: context.deadline };
    person.look("the first prompt", |screen| screen.line() == ROWS.trim_end())?;
    typos(&mut person)?;
    history(&mut person)?;
    guests(&mut person)?;
    pastes(&mut person)?;
    on_a_terminal_with_arrows(&mut person)
}

fn typos(person: &mut Person) -> Result<()> {
    person.press(b"vm lsit\r")?;
    person.shows(&[
        "flexvisor> vm lsit",
        "error: usage: unknown 'vm' command 'lsit': did you mean 'list'?",
        "flexvisor>",
    ])?;
    person.press(b"vm shwo\x7f\x7fow dmeo\r")?;
    person.shows(&[
        "flexvisor> vm show dmeo",
        "error: not-found: no VM named dmeo: did you mean 'demo'?",
        "flexvisor>",
    ])?;
    person.press(b"cpu show haswel\x17hasswell\r")?;
    person.shows(&[
        "flexvisor> cpu show hasswell",
        "error: not-found: level, VM or host 'hasswell' is not known: did you mean 'haswe",
        "ll'?",
        "flexvisor>",
    ])
}

fn history(person: &mut Person) -> Result<()> {
    person.press(b"vm pau\tde\t\r")?;
    person.shows(&["flexvisor> vm pause demo", "ok", "flexvisor>"])?;
    // The last line again, with another verb: to its start, over `vm `, and the word anew.
    person.press(b"\x10\x01\x06\x06\x06\x1bdresume\r")?;
    person.shows(&["flexvisor> vm resume demo", "ok", "flexvisor>"])?;
    person.press(b"\x12pau")?;
    person.shows(&["(search 'pau') vm pause demo"])?;
    person.press(b"\x03")?;
    person.shows(&["flexvisor> vm pause demo ^C", "flexvisor>"])?;
    person.press(b"vm st\t\t")?;
    person.shows(&["flexvisor> vm st", "stack  start  stop", "flexvisor> vm st"])?;
    person.press(b"\x15")?;
    person.shows(&["flexvisor>"])
}

fn guests(person: &mut Person) -> Result<()> {
    person.press(b"cons\tw\t\r")?;
    person.shows(&[
        "flexvisor> console web",
        "console web: Ctrl-\\ then . detaches, Ctrl-\\ twice sends it",
        "web: type a line",
        "",
    ])?;
    person.press(b"hello\r")?;
    person.shows(&["web: type a line", "web 1: hello", ""])?;
    person.press(DETACH)?;
    person.shows(&["ok", "flexvisor>"])?;
    person.press(b"console demo --read-only\r")?;
    person.shows(&["console demo, read-only: Ctrl-\\ then . detaches", "demo: type a line", ""])?;
    person.press(b"lost\r")?;
    person.press(DETACH)?;
    person.shows(&["demo: type a line", "", "ok", "flexvisor>"])?;
    person.press(b"console demo\r")?;
    person.shows(&["demo: type a line", ""])?;
    let lines: Vec<String> = (1..=60).map(|n| format!("line number {n} of a paste")).collect();
    person.paste(&lines.iter().map(|line| format!("{line}\r")).collect::<String>())?;
    let wanted: Vec<String> = (1..=60).map(|n| format!("demo {n}: {}", lines[n - 1])).collect();
    let end = &wanted[wanted.len() - 1];
    let screen = person.look("the end of the paste", |screen| screen.text().contains(end.as_str()))?;
    let said: Vec<String> = screen.rows().into_iter().filter(|row| row.starts_with("demo ")).collect();
    ensure!(said == wanted, "the guest said {said:#?}");
    person.press(DETACH)?;
    person.press(b"console web\r")?;
    person.shows(&["web: type a line", "web 1: hello", ""])?;
    person.press(DETACH)?;
    person.shows(&["ok", "flexvisor>"])
}

/// Lines faster than they are run, one that is too long, and noise.
fn pastes(person: &mut Person) -> Result<()> {
    let mut text = String::new();
    let mut wanted = Vec::new();
    for n in 0..200 {
        let line = if n % 4 == 3 { format!("help vm show {n}") } else { format!("# line {n} of many") };
        text.push_str(&format!("{line}\r\n"));
        wanted.push(format!("flexvisor> {line}"));
    }
    let before = person.screen()?.rows().len();
    person.paste(&text)?;
    let last = wanted[199].clone();
    let screen = person.look("the end of the paste", |screen| {
        screen.rows().contains(&last) && screen.line() == ROWS.trim_end()
    })?;
    let rows = screen.rows().split_off(before.saturating_sub(1));
    let typed: Vec<&String> = rows.iter().filter(|row| row.starts_with("flexvisor> ")).collect();
    ensure!(typed.iter().copied().eq(wanted.iter()), "the paste shows as {typed:#?}");
    ensure!(rows.iter().filter(|row| *row == "ok").count() == 50, "not each command said ok");

    person.paste(&("x".repeat(16 << 10) + "\r"))?;
    person.look("the 16 KiB line", |screen| {
        tail(screen, 2)
            == [
                "error: usage: the line is 15360 bytes too long: at most 1024, nothing was done",
                "flexvisor>",
            ]
    })?;
    let noise: Vec<u8> = (0..2000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    // Without Tab, which lists what there is.
    let noise: Vec<u8> = noise.into_iter().filter(|byte| *byte != b'\t').collect();
    person.host.console()?.send(&noise)?;
    person.press(b"\x03\x03term dumb\r")?;
    person
        .look("after the noise", |screen| tail(screen, 3) == ["flexvisor> term dumb", "ok", "flexvisor>"])
        .map(drop)
}

fn on_a_terminal_with_arrows(person: &mut Person) -> Result<()> {
    person.press(b"term auto\r")?;
    person.shows(&["flexvisor> term auto", "ok", "flexvisor>"])?;
    person.take_terminal(Kind::Ansi)?;
    person.press(
        b"vm list\x1b[D\x1b[D\x1b[D\x1b[D\x1b[3~\x1b[3~\x1b[3~\x1b[3~\x1b[H# \x1b[F with arrows\r\x1b[A",
    )?;
    person.shows(&["# vm  with arrows", "flexvisor> # vm  with arrows"])?;
    person.press(b"\x15term\r")?;
    person.shows(&["terminal auto, gets ESC sequences, 80 columns, rows not known", "ok", "flexvisor>"])
}
