//! `flexctl` as a process beside the emulated hosts.

use crate::process::{Process, run_tool};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// Builds the program, once, and gives back its file.
fn program() -> Result<PathBuf> {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(file) = &*built {
        return Ok(file.clone());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(crate::paths::root());
    command.args(["build", "--quiet", "--package", "flexctl", "--message-format", "json-render-diagnostics"]);
    let output = String::from_utf8(run_tool(&mut command, "cargo")?).context("cargo's messages")?;
    let file = output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .context("cargo names no program")?;
    *built = Some(file.clone());
    Ok(file)
}

/// The program's runs of one case: their output goes to the case's folder.
#[derive(Clone, Debug)]
pub struct Flexctl {
    program: PathBuf,
    dir: PathBuf,
    deadline: Instant,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Exit status.
    pub status: i32,
    /// All that it printed.
    pub text: String,
}

/// A run under way; dropping it kills it.
#[derive(Debug)]
pub struct Run {
    process: Process,
    log: PathBuf,
    what: String,
    deadline: Instant,
}

impl Flexctl {
    /// For a case with the folder `dir` that must be over at `deadline`.
    pub fn new(dir: &Path, deadline: Instant) -> Result<Self> {
        Ok(Self { program: program()?, dir: dir.to_path_buf(), deadline })
    }

    /// Starts a command.
    pub fn start(&self, args: &[&str]) -> Result<Run> {
        let what = args.first().copied().unwrap_or_default().to_string();
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let log = self.dir.join(format!("flexctl-{number}-{what}.log"));
        // Its own key is kept with the case.
        let config = format!("XDG_CONFIG_HOME={}", self.dir.display());
        let program = self.program.display().to_string();
        let all = [&[config.as_str(), program.as_str()], args].concat();
        let process = Process::start("env", "coreutils", all, &log)?;
        Ok(Run { process, log, what, deadline: self.deadline })
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Result<Ended> {
        self.start(args)?.end()
    }
}

impl Run {
    /// All that it has printed so far.
    pub fn text(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| self.log.display().to_string())
    }

    /// Waits for a whole line with this text in it, and gives it back.
    pub fn expect(&mut self, part: &str) -> Result<String> {
        loop {
            let over = self.process.ended().is_some();
            let text = self.text()?;
            let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            if let Some(line) = whole.into_iter().find(|line| line.contains(part)) {
                return Ok(line.to_string());
            }
            ensure!(!over, "flexctl {} ended without {part:?}:\n{text}", self.what);
            self.wait(&format!("does not say {part:?}"))?;
        }
    }

    /// Waits for its end.
    pub fn end(mut self) -> Result<Ended> {
        loop {
            if let Some(status) = self.process.ended() {
                let status = status.code().context("it was killed")?;
                return Ok(Ended { status, text: self.text()? });
            }
            self.wait("does not end")?;
        }
    }

    /// Ctrl-C.
    pub fn interrupt(&self) -> Result<()> {
        self.process.interrupt()
    }

    /// Ends it as a loss of power would.
    pub fn kill(mut self) {
        self.process.kill();
    }

    fn wait(&self, what: &str) -> Result<()> {
        if Instant::now() > self.deadline {
            bail!("flexctl {} {what}:\n{}", self.what, self.text()?);
        }
        thread::park_timeout(Duration::from_millis(20));
        Ok(())
    }
}
