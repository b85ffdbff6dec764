//! Child processes that never outlive the test bench, and tools that name their Debian package when absent.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// A program that is not installed; exit status 3 of the scripts.
#[derive(Debug)]
pub struct MissingTool {
    /// The program looked for.
    pub tool: String,
    /// Debian's package that has it.
    pub package: &'static str,
}

impl fmt::Display for MissingTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} not found: apt-get install {}", self.tool, self.package)
    }
}

impl std::error::Error for MissingTool {}

/// Runs a tool to its end; its output appears only when it fails.
pub fn run_tool(command: &mut Command, package: &'static str) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match command.stdin(Stdio::null()).output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => bail!(MissingTool { tool: name, package }),
        other => other.with_context(|| format!("cannot start {name}"))?,
    };
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let tail: Vec<&str> = text.lines().rev().take(12).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("{name} failed ({}):\n{}", output.status, tail.join("\n"));
    }
    Ok(output.stdout)
}

/// A running child. Dropping it kills it; so does the end of the thread that started it, by whatever cause
/// (`setpriv --pdeathsig`), so start it from a thread that lives as long as the child shall.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts `program` with its output going to `log`.
    pub fn start<S: AsRef<OsStr>>(
        program: &str,
        package: &'static str,
        args: impl IntoIterator<Item = S>,
        log: &Path,
    ) -> Result<Self> {
        if !in_path(program) {
            bail!(MissingTool { tool: program.to_string(), package });
        }
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let err = out.try_clone()?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", program])
            .args(args)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        Ok(Self { child, name: program.to_string() })
    }

    /// How the child ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The program's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stops the child where it is, or lets it go on: an emulator's clock is its own count of instructions.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        run_tool(Command::new("kill").arg(signal).arg(self.child.id().to_string()), "procps").map(drop)
    }

    /// Ctrl-C.
    pub fn interrupt(&self) -> Result<()> {
        let id = self.child.id().to_string();
        run_tool(Command::new("kill").args(["-INT", &id]), "procps").map(|_| ())
    }

    /// Kills the child and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
