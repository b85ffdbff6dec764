//! The demo as a screen that changes: the logs of the consoles are read as they grow.

use super::picture::{Picture, Place, drawn, mib, pane_columns};
use super::record::Recording;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use testbench::migration::Round;
use testbench::scenario::{Observer, Report, VM};
use testbench::terminal::{self, Terminal};

/// Between two looks at the logs.
const PAUSE: Duration = Duration::from_millis(250);
/// Columns and rows of a recording, and of a terminal that does not say.
const SIZE: (usize, usize) = (132, 36);

/// The observer of a run; a thread draws.
pub(super) struct Live {
    step: Arc<Mutex<String>>,
    /// Dropped to end the thread.
    over: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Live {
    /// Draws what the logs in `dir` say, on the terminal if there is one, and into the recording.
    pub(super) fn start(
        dir: &Path,
        models: [&str; 2],
        started: Instant,
        terminal: bool,
        recording: Option<Recording>,
    ) -> Self {
        let step = Arc::new(Mutex::new(String::new()));
        let (over, ended) = mpsc::channel();
        let size = if recording.is_some() { SIZE } else { terminal_size().unwrap_or(SIZE) };
        let mut screen = Screen::new(dir, models.map(str::to_string), size, Arc::clone(&step), started);
        let thread = thread::spawn(move || screen.run(&ended, terminal, recording));
        Self { step, over: Some(over), thread: Some(thread) }
    }

    /// The run is over: the last picture, and the terminal as it was.
    ///
    /// # Errors
    /// The recording could not be written.
    pub(super) fn end(mut self, outcome: &Result<Report>) -> Result<()> {
        let held = outcome.as_ref().is_ok_and(Report::held);
        self.step(if held { "every proof held" } else { "failed" });
        self.over = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Ok(()),
        }
    }
}

impl Observer for Live {
    fn step(&mut self, text: &str) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = text.to_string();
    }

    fn round(&mut self, _: Round) {} // the source's console says so
}

/// Rows and columns, as `stty` knows them.
fn terminal_size() -> Option<(usize, usize)> {
    let output = Command::new("stty").arg("size").stdin(Stdio::inherit()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (rows, columns) = text.trim().split_once(' ')?;
    let (rows, columns): (usize, usize) = (rows.parse().ok()?, columns.parse().ok()?);
    (rows >= 12 && columns >= 40).then_some((columns, rows))
}

/// A log that is read as it grows.
struct Console {
    path: PathBuf,
    read: u64,
    terminal: Terminal,
}

impl Console {
    fn new(path: PathBuf, columns: usize) -> Self {
        Self { path, read: 0, terminal: Terminal::new(terminal::Kind::Ansi, columns) }
    }

    fn rows(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        let grown = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_end(&mut bytes)
        });
        // It is not there yet.
        self.read += grown.unwrap_or(0) as u64;
        self.terminal.feed(&bytes);
        self.terminal.rows()
    }
}

struct Screen {
    hosts: [Console; 2],
    guests: [Console; 2],
    /// The source's log without a narrow pane's line breaks.
    wide: Console,
    models: [String; 2],
    step: Arc<Mutex<String>>,
    started: Instant,
    size: (usize, usize),
    all_mib: Option<f64>,
}

impl Screen {
    fn new(
        dir: &Path,
        models: [String; 2],
        size: (usize, usize),
        step: Arc<Mutex<String>>,
        started: Instant,
    ) -> Self {
        let log = |host: &str, port: u8, columns| {
            let file = dir.join(format!("{host}-com{port}.log"));
            // What an earlier run left there is not this one's.
            let _ = std::fs::remove_file(&file);
            Console::new(file, columns)
        };
        let pane = pane_columns(size.0);
        let consoles = |port| ["source", "target"].map(|host| log(host, port, pane));
        let (hosts, guests) = (consoles(1), consoles(2));
        Self { hosts, guests, wide: log("source", 1, 1000), models, step, started, size, all_mib: None }
    }

    fn run(
        &mut self,
        ended: &mpsc::Receiver<()>,
        terminal: bool,
        mut recording: Option<Recording>,
    ) -> Result<()> {
        let mut out = std::io::stdout();
        if terminal {
            out.write_all(b"\x1b[?1049h\x1b[?25l\x1b[2J").context("the terminal")?; // another screen, no cursor
        }
        let mut result = Ok(());
        loop {
            let last = ended.recv_timeout(PAUSE) == Err(mpsc::RecvTimeoutError::Disconnected);
            let rows = self.look().rows(self.size.0, self.size.1);
            if terminal {
                result =
                    out.write_all(drawn(&rows).as_bytes()).and_then(|()| out.flush()).context("the terminal");
            }
            if let Some(recording) = &mut recording {
                recording.frame(self.started.elapsed(), &rows);
            }
            if last || result.is_err() {
                break;
            }
        }
        if terminal {
            out.write_all(b"\x1b[?25h\x1b[?1049l").context("the terminal")?;
        }
        match recording {
            Some(recording) => result.and(recording.write(self.size)),
            None => result,
        }
    }

    fn look(&mut self) -> Picture {
        let source = self.wide.rows();
        let said = |text: &str| source.iter().any(|row| row.contains(text));
        let place = if said(&format!("migrate {VM}: done:")) || said(&format!("vm {VM}: given")) {
            Place::Target
        } else if said(&format!("migrate {VM}: to ")) {
            Place::Moving
        } else if said(&format!("vm {VM}: running")) {
            Place::Source
        } else {
            Place::Nowhere
        };
        let about = format!("migrate {VM}: ");
        let progress = source.iter().rev().find_map(|row| {
            let (_, text) = row.split_once(&about)?;
            (text.contains(" MiB left") || text.starts_with("done: ")).then(|| text.to_string())
        });
        let progress = progress.map(|text| {
            let left = mib(&text, " MiB left");
            self.all_mib = self.all_mib.or(left);
            match (left, self.all_mib) {
                (Some(_), Some(all)) => format!("{text} (of {all} MiB in all)"),
                _ => text,
            }
        });
        Picture {
            models: self.models.clone(),
            hosts: self.hosts.each_mut().map(Console::rows),
            guests: self.guests.each_mut().map(Console::rows),
            place,
            progress,
            step: self.step.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            elapsed: self.started.elapsed(),
        }
    }
}
