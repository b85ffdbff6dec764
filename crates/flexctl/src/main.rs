//! `flexctl`: what a pool of hosts can give its guests, from dumps of their CPUs, on the operator's workstation; and VMs
//! that migrate to files and back.
//!
//! The same crate computes it as in the hypervisor, so the answers are those of `cpu` and `pool` on its console.
#![forbid(unsafe_code)]

mod ask;
mod baseline;
mod check;
mod diff;
mod disk;
mod explain;
mod inspect;
mod keygen;
mod levels;
mod peer;
mod receive;
mod remote;
mod resolve;
mod send;
mod settle;
mod subject;
mod supplied;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// CPU levels of Flexvisor pools, from dumps of `cpu dump` on the console, or of `cpuid -r` on Linux; VMs in files.
#[derive(Parser)]
#[command(version, after_help = SUBJECTS)]
struct Options {
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Run a command of this host's console there; all that follows is the command: `flexctl --host HOST help`.
    // It stands first, and is taken before these options are looked at: here for whoever asks for help.
    #[arg(long, value_name = "HOST[:PORT]", exclusive = true)]
    host: Option<String>,
    #[command(subcommand)]
    command: Command,
}

const SUBJECTS: &str = "\
SUBJECT is the name of a level (haswell, haswell-v1), a file with a dump of a host, or several such files with
commas between them: the level of a pool of these hosts. FILE:raw, FILE:host, FILE:max and FILE:default name one
of a host's four policies.

Exit status: 0 done, fits, or no difference; 1 does not fit, differs, or the migration did not succeed; 2 wrong usage
or bad input; 3 the dumps do not tell whether it fits.";

#[derive(Subcommand)]
enum Command {
    /// Make a pool key: 256 random bits, as 64 hexadecimal digits.
    Keygen {
        /// Write it to a new file that only its owner can read.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[arg(hide = true, value_name = "PASSPHRASE")]
        words: Vec<String>,
    },
    /// The level of a pool of these hosts, and what each of them costs it.
    Baseline {
        /// Dumps of hosts.
        #[arg(required = true, value_name = "HOST")]
        hosts: Vec<String>,
        #[command(flatten)]
        supplied: supplied::Supplied,
    },
    /// What a feature, a register, a level, a host or a pool is.
    Explain {
        /// A feature (AVX2, sse4_2), a place (CPUID.7.0:EBX, MSR 10A), or a SUBJECT.
        #[arg(value_name = "WHAT")]
        what: String,
        #[command(flatten)]
        supplied: supplied::Supplied,
    },
    /// What differs between two policies.
    Diff {
        /// The one.
        #[arg(value_name = "SUBJECT")]
        left: String,
        /// The other.
        #[arg(value_name = "SUBJECT")]
        right: String,
        #[command(flatten)]
        supplied: supplied::Supplied,
    },
    /// Whether a guest can start on hosts, go to them, and come back.
    Check {
        /// A SUBJECT, for a guest at that level; or a file with a VM, or its policy.
        #[arg(value_name = "GUEST")]
        guest: String,
        /// Dumps of hosts.
        #[arg(required = true, value_name = "HOST")]
        hosts: Vec<String>,
        #[command(flatten)]
        supplied: supplied::Supplied,
    },
    /// The levels there are, and which of them hosts can give.
    Levels {
        /// Dumps of hosts.
        #[arg(value_name = "HOST")]
        hosts: Vec<String>,
        #[command(flatten)]
        supplied: supplied::Supplied,
    },
    /// Wait for a VM that a host migrates here, and keep it in a new file.
    Receive {
        /// The file; it must not exist yet.
        file: PathBuf,
        /// Where to wait.
        #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:4444")]
        listen: std::net::SocketAddr,
        #[command(flatten)]
        keys: Keys,
    },
    /// Migrate the VM in a file to a host, and the file never starts it again; or start a clone of it there.
    Send {
        /// What `receive` wrote.
        file: PathBuf,
        /// The host; its port is 4444 unless given.
        #[arg(value_name = "HOST[:PORT]")]
        host: String,
        /// Start another VM that begins as this one was: with a new uuid, as often as wanted. A checkpoint starts so only.
        #[arg(long)]
        clone: bool,
        /// Name of the clone; `NAME-clone` unless given.
        #[arg(long, requires = "clone", value_name = "NAME")]
        name: Option<String>,
        /// For how long to ask a host that was lost during the hand-over.
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        wait: u64,
        #[command(flatten)]
        keys: Keys,
    },
    /// Ask the other end of a file's last hand-over who owns the VM, and tell it what the file knows.
    Ask {
        /// What `receive` wrote.
        file: PathBuf,
        /// The host that it came from or went to; its port is 4444 unless given.
        #[arg(value_name = "HOST[:PORT]")]
        host: String,
        /// For how long to ask.
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        wait: u64,
        #[command(flatten)]
        keys: Keys,
    },
    /// Decide who owns the VM of a file that is held or given: its hand-over was lost.
    Resolve {
        /// What `receive` wrote.
        file: PathBuf,
        /// What is to be.
        #[arg(value_enum)]
        verdict: resolve::Verdict,
        /// What `discard` printed at the other end.
        receipt: Option<String>,
        /// Without a receipt: the VM does not run at the other end and never will.
        #[arg(long)]
        force: bool,
    },
    /// Check a file of a VM, and say what it holds.
    Inspect {
        /// What `receive` wrote.
        file: PathBuf,
    },
}

/// The link to a host: exactly one of the two, as on the host itself.
#[derive(clap::Args)]
struct Keys {
    /// The pool key: 64 hexadecimal digits, or a file that `keygen -o` wrote.
    #[arg(long, value_name = "HEX|FILE", required_unless_present = "insecure", conflicts_with = "insecure")]
    key: Option<String>,
    /// No key: neither authentication nor encryption.
    #[arg(long)]
    insecure: bool,
}

/// What a command prints, and whether its answer is yes.
struct Answer {
    text: String,
    /// None: what is known does not tell.
    yes: Option<bool>,
}

impl Answer {
    fn yes(text: String) -> Self {
        Self { text, yes: Some(true) }
    }
}

fn main() -> ExitCode {
    // What stands behind `--host` is the host's language, not this program's.
    if remote::is_meant() {
        return remote::main();
    }
    let options = Options::parse();
    let json = options.json;
    let answer = match &options.command {
        Command::Keygen { output, words } => keygen::run(output.as_deref(), words, json),
        Command::Baseline { hosts, supplied } => baseline::run(hosts, supplied, json),
        Command::Explain { what, supplied } => explain::run(what, supplied, json),
        Command::Diff { left, right, supplied } => diff::run(left, right, supplied, json),
        Command::Check { guest, hosts, supplied } => check::run(guest, hosts, supplied, json),
        Command::Levels { hosts, supplied } => levels::run(hosts, supplied, json),
        Command::Receive { file, listen, keys } => receive::run(file, *listen, keys, json),
        Command::Send { file, host, clone, name, wait, keys } => {
            let what = if *clone { send::What::Clone(name.as_deref()) } else { send::What::Vm };
            send::run(file, host, what, *wait, keys, json)
        }
        Command::Ask { file, host, wait, keys } => ask::run(file, host, *wait, keys, json),
        Command::Resolve { file, verdict, receipt, force } => {
            resolve::run(file, *verdict, receipt.as_deref(), *force, json)
        }
        Command::Inspect { file } => inspect::run(file, json),
    };
    match answer {
        Ok(Answer { mut text, yes }) => {
            if json {
                text.push('\n');
            }
            // A reader that has seen enough, as `head`, is no failure.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
            ExitCode::from(match yes {
                Some(true) => 0,
                Some(false) => 1,
                None => 3,
            })
        }
        Err(error) => {
            eprintln!("flexctl: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The text of a JSON object.
fn object(fill: impl FnOnce(&mut json::Object<'_>) -> std::fmt::Result) -> String {
    let mut text = String::new();
    // A String takes everything.
    let _ = json::object(&mut text, fill);
    text
}

/// The text of a JSON array.
fn array(fill: impl FnOnce(&mut json::Array<'_>) -> std::fmt::Result) -> String {
    let mut text = String::new();
    let _ = json::array(&mut text, fill);
    text
}
