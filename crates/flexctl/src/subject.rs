//! What arguments name: levels, dumps of hosts, pools of them, policies of VMs.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use cpu_policy::{
    ARCH_CAPABILITIES, Baseline, Dump, Feature, GuestPolicy, HostPolicy, LEVELS, Level, MAX_DUMP, Sense,
    Subject,
};

use vm_file::Image;

use crate::disk::Disk;
use crate::supplied::Supplied;

/// What a host calls itself on its own console while it has no other name.
const HERE: &str = "here";

/// A host not yet in a pool.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) policy: HostPolicy,
    /// What should be known of the dump.
    pub(crate) notes: Vec<String>,
}

/// What an argument names.
pub(crate) enum Named {
    Level(&'static Level),
    Host(Box<Host>, Option<Sense>),
    Pool(Vec<Host>, Box<Baseline>),
    Guest(String, Box<GuestPolicy>),
}

fn read(path: &str) -> Result<Vec<u8>> {
    let size = fs::metadata(path).context(path.to_string())?.len();
    if size > MAX_DUMP as u64 {
        bail!("{path}: {size} bytes, a dump has at most {MAX_DUMP}");
    }
    fs::read(path).context(path.to_string())
}

/// Name and policy of the VM in a file that `receive` wrote, if it is one.
fn stored(path: &str) -> Result<Option<(String, GuestPolicy)>> {
    let mut magic = [0; vm_file::MAGIC.len()];
    let is_one = fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    if is_one.is_err() || magic != vm_file::MAGIC {
        return Ok(None);
    }
    let image = Image::open(Disk::open(Path::new(path), false)?).context(path.to_string())?;
    let meta = image.meta();
    let policy = GuestPolicy::decode(&meta.policy).context(path.to_string())?;
    Ok(Some((meta.name.clone(), policy)))
}

/// The host of a dump.
pub(crate) fn host(path: &str, supplied: &Supplied) -> Result<Host> {
    host_of(path, &read(path)?, supplied)
}

fn host_of(path: &str, bytes: &[u8], supplied: &Supplied) -> Result<Host> {
    let text = String::from_utf8_lossy(bytes);
    let mut dump = Dump::parse(&text).context(path.to_string())?;
    supplied.to(&mut dump).context(path.to_string())?;
    let name = if dump.host.is_empty() || dump.host == HERE { stem(path) } else { dump.host.clone() };
    let policy = dump.policy();
    if policy.vendor != *b"GenuineIntel" {
        bail!("{path}: CPU vendor {}, a pool takes GenuineIntel only", policy.vendor.escape_ascii());
    }
    Ok(Host { notes: notes(&dump, &policy), name, policy })
}

/// The name of a file without folder and extension.
fn stem(path: &str) -> String {
    Path::new(path).file_stem().map_or(path.into(), |stem| stem.to_string_lossy().into_owned())
}

fn numbers(cpus: &[u32]) -> String {
    cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

fn notes(dump: &Dump, policy: &HostPolicy) -> Vec<String> {
    let mut notes = Vec::new();
    if policy.controls().is_none() && policy.raw.contains(Feature::Vmx) {
        notes.push("the VMX MSRs are not known: VMX is taken to enforce all that CPUID shows".into());
    }
    if policy.raw.contains(Feature::ArchCapabilities) && policy.cpu().msr(ARCH_CAPABILITIES).is_none() {
        notes.push(
            "IA32_ARCH_CAPABILITIES is not known: give it by --arch-capabilities, or take the dump by `cpu dump` of \
             Flexvisor"
                .into(),
        );
    }
    if policy.cpu().is_limited() {
        notes.push(format!(
            "the firmware hides the CPUID leaves above {} (limit of CPUID leaves): what they would tell is not known",
            policy.max_leaf
        ));
    }
    if !policy.has_ept() {
        notes.push("VMX without EPT: no VM runs there yet".into());
    }
    if !dump.cut.is_empty() {
        notes.push(format!("the text of these CPUs is cut short: {}", numbers(&dump.cut)));
    }
    if !dump.odd.is_empty() {
        let odd = numbers(&dump.odd);
        notes.push(format!("the first of {} CPUs is taken; these differ from it: {odd}", dump.cpus));
    }
    if policy.raw.contains(Feature::Hypervisor) {
        notes.push("taken inside a VM: it shows what that VM is given, not what the host has".into());
    } else if !policy.raw.contains(Feature::Vmx) {
        notes.push("without VMX: Flexvisor does not run there, or the firmware has turned it off".into());
    }
    notes
}

/// Several hosts: those that call themselves the same go by their files.
pub(crate) fn hosts(paths: &[String], supplied: &Supplied) -> Result<Vec<Host>> {
    let mut hosts = paths.iter().map(|path| host(path, supplied)).collect::<Result<Vec<Host>>>()?;
    for name in [stem, str::to_string] {
        let names: Vec<String> = hosts.iter().map(|host| host.name.clone()).collect();
        for (host, path) in hosts.iter_mut().zip(paths) {
            if names.iter().filter(|other| **other == host.name).count() > 1 {
                host.name = name(path);
            }
        }
    }
    Ok(hosts)
}

/// Prints what should be known of dumps, where it does not disturb the answer.
pub(crate) fn warn(hosts: &[Host]) {
    for host in hosts {
        host.notes.iter().for_each(|note| eprintln!("note: {}: {note}", host.name));
    }
}

/// What `text` names: a level, files with commas between them, a file with or without a sense, a VM's policy.
pub(crate) fn named(text: &str, supplied: &Supplied) -> Result<Named> {
    if let Some(level) = Level::by_name(text) {
        return Ok(Named::Level(level));
    }
    if Path::new(text).exists() {
        if let Some((name, guest)) = stored(text)? {
            return Ok(Named::Guest(name, Box::new(guest)));
        }
        let bytes = read(text)?;
        if let Ok(guest) = GuestPolicy::decode(&bytes) {
            return Ok(Named::Guest(text.into(), Box::new(guest)));
        }
        return Ok(Named::Host(Box::new(host_of(text, &bytes, supplied)?), None));
    }
    if text.contains(',') {
        let paths: Vec<String> = text.split(',').map(Into::into).collect();
        let hosts = hosts(&paths, supplied)?;
        let pool = Baseline::meet(hosts.iter().map(|host| &host.policy)).context("a pool without hosts")?;
        return Ok(Named::Pool(hosts, Box::new(pool)));
    }
    if let Some((path, sense)) = text.rsplit_once(':')
        && Path::new(path).exists()
    {
        let senses = || Sense::ALL.map(Sense::name).join(", ");
        let sense =
            Sense::by_name(sense).with_context(|| format!("{text}: {sense} is none of {}", senses()))?;
        return Ok(Named::Host(Box::new(host(path, supplied)?), Some(sense)));
    }
    let levels: Vec<&str> = LEVELS.iter().map(|level| level.name).collect();
    bail!("{text} is no file and no level; the levels are {}", levels.join(" "))
}

impl Named {
    /// As something to show and to compare; a host's features are those that the hypervisor can virtualise.
    pub(crate) fn subject(&self) -> Subject {
        match self {
            Self::Level(level) => Subject::level(level),
            Self::Host(host, sense) => Subject::host(&host.name, &host.policy, sense.unwrap_or(Sense::Host)),
            Self::Pool(_, pool) => Subject::baseline(pool),
            Self::Guest(name, guest) => Subject::guest(name, guest),
        }
    }

    pub(crate) fn warn(&self) {
        match self {
            Self::Host(host, _) => warn(std::slice::from_ref(host)),
            Self::Pool(hosts, _) => warn(hosts),
            Self::Level(_) | Self::Guest(..) => {}
        }
    }
}
