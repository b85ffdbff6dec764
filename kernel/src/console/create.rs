//! `vm create`: a VM of files that a server has.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::task::Poll;

use ::fetch::Url;
use cmdline::VmOptions;
use shell::{Code, CreateOptions, Failure, Hex, Size};

use super::answer::{Done, Job, Task, state_error};
use super::out::Out;
use crate::fetch::Download;
use crate::meter::{self, Part};
use crate::migration::Migrations;
use crate::vm::create;
use crate::vm::making::Making;
use crate::vm::registry::Reserved;
use crate::vm::source::{Source, SourceFile};
use crate::{net, pool};
use hw::arch::tsc;
use hw::mm::frame;
use hw::mm::held::Held;

/// How often the progress is printed, in microseconds: rewritten in place, or as a line of its own.
const LIVE_US: u64 = 500_000;
const PLAIN_US: u64 = 2_000_000;

/// Columns of the line that is rewritten.
const LINE: usize = 79;

/// A file may have so many bytes whatever memory the guest has.
const LARGEST: u64 = 1 << 30;

/// A file that is wanted.
struct Wanted {
    /// What it is to the VM.
    role: &'static str,
    url: Url,
    digest: Option<[u8; 32]>,
}

struct Creating {
    options: VmOptions,
    /// Its name, until it is made.
    reserved: Option<Reserved>,
    /// It, once all files are here.
    making: Option<Making>,
    /// Files that are to come, the last first.
    wanted: Vec<Wanted>,
    /// Files that have come, the kernel first.
    files: Vec<SourceFile>,
    /// The one that comes, what it is, from where, and when that began.
    download: Option<(Download, &'static str, String, u64)>,
    /// When the progress was printed last.
    shown_us: u64,
    interrupted: bool,
}

pub(super) fn begin(asked: &CreateOptions<'_>) -> Result<Done, Failure> {
    let options = options(asked)?;
    let mut wanted = Vec::new();
    for (role, url, digest) in
        [("initrd", asked.initrd, asked.initrd_sha256), ("kernel", Some(asked.kernel), asked.sha256)]
    {
        let Some(url) = url else {
            if digest.is_some() {
                return Err(Failure::new(Code::Usage, format!("--{role}-sha256 without --{role}")));
            }
            continue;
        };
        let url = Url::parse(url).map_err(|error| Failure::new(Code::Usage, format!("{role}: {error}")))?;
        wanted.push(Wanted { role, url, digest });
    }
    let reserved = Reserved::of(&options).map_err(state_error)?;
    create::check(&options).map_err(|why| Failure::new(Code::Unsupported, why))?;
    if options.level.is_none() && pool::is_forming() {
        return Err(state_error(
            "the pool is not formed yet: name a --level, or wait until `pool show` says so".into(),
        ));
    }
    if net::card().is_none() {
        return Err(Failure::new(
            Code::Unsupported,
            "this host has no network: no card that it knows, or ip=off",
        ));
    }
    let creating = Creating {
        options,
        reserved: Some(reserved),
        making: None,
        wanted,
        files: Vec::new(),
        download: None,
        shown_us: 0,
        interrupted: false,
    };
    Ok(Done::Later(Job::Task(Box::new(creating))))
}

/// The same checks as for a module of the boot line.
fn options(asked: &CreateOptions<'_>) -> Result<VmOptions, Failure> {
    let mut line = format!("vm={}", asked.name);
    if let Some(mib) = asked.mem_mib {
        let _ = write!(line, " mem={mib}");
    }
    if let Some(level) = asked.level {
        let _ = write!(line, " level={level}");
    }
    if let Some(bits) = asked.phys_bits {
        let _ = write!(line, " phys-bits={bits}");
    }
    if let Some(vcpus) = asked.vcpus {
        let _ = write!(line, " vcpus={vcpus}");
    }
    if let Some(topology) = asked.topology {
        let _ = write!(line, " topology={topology}");
    }
    let mut options =
        VmOptions::parse(&line).map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
    options.args = asked.cmdline.into();
    options.paused = asked.paused;
    options.debug_exit = asked.debug_exit;
    options.on_reset = asked.on_reset.unwrap_or_default();
    Ok(options)
}

impl Creating {
    /// Begins with the next file. False where all are here.
    fn next(&mut self) -> Result<bool, String> {
        let Some(Wanted { role, url, digest }) = self.wanted.pop() else { return Ok(false) };
        // The guest's own memory has to be there when all files are. What is loaded has to fit into it; a kernel with its
        // debugging information is larger than what is loaded of it.
        let memory = u64::from(self.options.mem_mib) << 20;
        let most = frame::stats().free.saturating_sub(memory).min(memory.max(LARGEST));
        self.shown_us = tsc::micros();
        let from = url.to_string();
        self.download = Some((Download::start(url, most, digest)?, role, from, self.shown_us));
        Ok(true)
    }

    fn show_download(&mut self, out: &mut Out<'_>) {
        let Some((download, role, ..)) = &self.download else { return };
        let (received, total) = download.progress();
        let mut line = format!("{role}: {}", Size(received));
        if let Some(total) = total {
            let _ = write!(line, " of {}", Size(total));
        }
        self.show_line(&line, out);
    }

    /// Shows it, unless one was shown just now.
    fn show_line(&mut self, line: &str, out: &mut Out<'_>) {
        let now = tsc::micros();
        let pause = if out.is_ansi() { LIVE_US } else { PLAIN_US };
        if now - self.shown_us < pause {
            return;
        }
        self.shown_us = now;
        let _ = if out.is_ansi() { write!(out, "{line:LINE$}\r") } else { writeln!(out, "{line}") };
    }

    fn came(&mut self, held: Held, digest: &[u8; 32], out: &mut Out<'_>) {
        let Some((_, role, from, began)) = self.download.take() else { return };
        let ms = (tsc::micros() - began) / 1000;
        held.set_sha256(*digest);
        let digest = Hex(digest);
        let line = format!("{role}: {} in {}.{:03} s", Size(held.len()), ms / 1000, ms % 1000);
        // What is left of the live line is written over.
        let width = if out.is_ansi() { LINE } else { 0 };
        let _ = writeln!(out, "{line:width$}\n{role}: sha256 {digest}");
        self.files.push(SourceFile::here(Arc::new(held), String::new(), Some(from)));
    }

    /// Begins to make it.
    fn make(&mut self) -> Result<Making, String> {
        let files = core::mem::take(&mut self.files);
        let reserved = self.reserved.take().ok_or("no name")?;
        Making::of(reserved, Source { options: self.options.clone(), files })
    }

    fn step(&mut self, out: &mut Out<'_>) -> Result<bool, String> {
        if self.interrupted {
            return Err("interrupted".into());
        }
        if let Some(making) = &mut self.making {
            let Poll::Ready(made) = making.poll() else {
                let to_clear = making.to_clear();
                if to_clear > 0 {
                    self.show_line(&format!("memory: {} to clear", Size(to_clear)), out);
                }
                return Ok(false);
            };
            return create::begin(&*made?).map(|()| true);
        }
        if self.reserved.as_ref().is_some_and(Reserved::is_ended) {
            return Err("ended by `vm destroy`".into());
        }
        if let Some((download, ..)) = &mut self.download {
            match download.poll() {
                Poll::Pending => self.show_download(out),
                Poll::Ready(Ok((held, digest))) => self.came(held, &digest, out),
                Poll::Ready(Err(why)) => return Err(why),
            }
            return Ok(false);
        }
        if !self.next()? {
            self.making = Some(self.make()?);
        }
        Ok(false)
    }
}

impl Task for Creating {
    fn poll(&mut self, _: &mut Migrations, out: &mut Out<'_>) -> Poll<Result<(), Failure>> {
        meter::doing(Part::Create);
        match self.step(out) {
            Ok(false) => Poll::Pending,
            Ok(true) => Poll::Ready(Ok(())),
            Err(why) => {
                let text = format!("vm {}: not made: {why}", self.options.name);
                Poll::Ready(Err(Failure::new(Code::Failed, text)))
            }
        }
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
    }
}
