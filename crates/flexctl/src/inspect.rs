//! `inspect`: what the file of a VM holds.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use cpu_policy::{Dump, GuestPolicy, Subject};
use vm_file::Image;

use crate::disk::Disk;
use crate::{Answer, object};

pub(crate) fn run(path: &Path, json: bool) -> Result<Answer> {
    let file = path.display().to_string();
    let image = Image::open(Disk::open(path, false)?).map_err(|error| match dump_of(path) {
        Some(host) => anyhow!("a CPU dump{host}, not a VM: `flexctl explain {file}` says what it holds"),
        None => anyhow!(error),
    });
    let image = image.with_context(|| file.clone())?;
    image.verify().with_context(|| file.clone())?;
    let meta = image.meta();
    let policy = GuestPolicy::decode(&meta.policy);
    let level = match &policy {
        Ok(policy) => format!("{}-v{}", policy.level_name(), policy.level_version()),
        Err(error) => format!("unknown ({error})"),
    };
    let policy = policy.ok().map(|policy| Subject::guest(&meta.name, &policy));
    let (counts, shape) = (image.counts(), &meta.shape);
    let uuid = hex(&meta.uuid);
    let migration = hex(&meta.migration);
    let digest = format!("{:016x}", image.digest());
    let bytes = shape.pages().saturating_mul(4096);
    if json {
        return Ok(Answer::yes(object(|o| {
            o.field("file", file.as_str())?;
            o.field("state", image.state().name())?;
            o.field("name", meta.name.as_str())?;
            o.field("uuid", uuid.as_str())?;
            o.field("migration", migration.as_str())?;
            o.field("level", level.as_str())?;
            o.field("policy_bytes", meta.policy.len() as u64)?;
            if let Some(policy) = &policy {
                o.object("policy", |o| policy.json(o))?;
            }
            o.field("vcpus", u64::from(shape.vcpus))?;
            o.field("tsc_hz", shape.tsc_hz)?;
            o.field("ram", bytes)?;
            o.array("ranges", |a| {
                shape.ranges.iter().try_for_each(|range| {
                    a.object(|o| {
                        o.field("first_page", range.first)?;
                        o.field("pages", range.pages)
                    })
                })
            })?;
            o.array("devices", |a| a.items(shape.devices.iter().map(String::as_str)))?;
            o.object("pages", |o| {
                o.field("zero", counts.zero)?;
                o.field("fill", counts.fill)?;
                o.field("data", counts.data)
            })?;
            o.array("records", |a| {
                image.records().iter().try_for_each(|record| {
                    a.object(|o| {
                        o.field("kind", record.kind.as_str())?;
                        o.field("instance", u64::from(record.instance))?;
                        o.field("version", u64::from(record.version))?;
                        o.field("bytes", record.body.len() as u64)
                    })
                })
            })?;
            o.field("bytes", image.bytes())?;
            o.field("digest", digest.as_str())?;
            let Some(origin) = &meta.origin else { return Ok(()) };
            o.object("origin", |o| {
                o.field("options", origin.options.as_str())?;
                o.field("args", origin.args.as_str())?;
                o.array("files", |a| {
                    origin.files.iter().try_for_each(|file| {
                        a.object(|o| {
                            o.field("bytes", file.len)?;
                            o.field("sha256", file.sha256.as_ref().map(|digest| hex(digest)).as_deref())?;
                            o.field("text", file.text.as_str())?;
                            o.field("url", file.url.as_deref())?;
                            o.field("here", file.can_come() || file.len == 0)
                        })
                    })
                })
            })
        })));
    }
    let mut text = format!("vm         {} ({uuid})\n", meta.name);
    let _ = writeln!(text, "state      {}", image.state());
    let _ = writeln!(text, "migration  {migration}");
    let _ = writeln!(text, "level      {level}, policy of {} bytes", meta.policy.len());
    let _ = writeln!(text, "vcpus      {}, TSC {}", shape.vcpus, vm_types::Megahertz(shape.tsc_hz));
    let _ = writeln!(text, "ram        {} KiB in {} ranges", bytes / 1024, shape.ranges.len());
    for range in &shape.ranges {
        let _ = writeln!(text, "  from     {:#x}: {} pages", range.first.saturating_mul(4096), range.pages);
    }
    let _ = writeln!(text, "devices    {}", shape.devices.join(" "));
    let _ = writeln!(text, "pages      {} zero, {} fill, {} data", counts.zero, counts.fill, counts.data);
    for r in image.records() {
        let _ = writeln!(text, "record     {} {} v{}: {} bytes", r.kind, r.instance, r.version, r.body.len());
    }
    if let Some(origin) = &meta.origin {
        let _ = writeln!(text, "made from  {}", origin.options);
        let _ = writeln!(text, "  line     {}", origin.args.escape_debug());
        for (number, file) in origin.files.iter().enumerate() {
            let what = if number == 0 { "kernel" } else { "module" };
            let digest =
                file.sha256.as_ref().map_or_else(String::new, |digest| format!(", sha256 {}", hex(digest)));
            let here = if file.can_come() || file.len == 0 { "" } else { ", not here" };
            let url = file.url.as_ref().map_or_else(String::new, |url| format!(", from {url}"));
            let _ = writeln!(text, "  {what}   {} bytes{here}{digest}{url}", file.len);
        }
    }
    let _ = writeln!(text, "file       {} bytes, digest {digest}", image.bytes());
    if let Some(policy) = policy {
        // What it is the policy of has been said.
        let lines = policy.to_string();
        let _ = writeln!(text, "policy\n{}", lines.split_once('\n').map_or("", |(_, rest)| rest.trim_end()));
    }
    Ok(Answer::yes(text))
}

/// ` of HOST` where a file is a CPU dump, and nothing more where that does not say of which.
fn dump_of(path: &Path) -> Option<String> {
    let host = Dump::parse(&std::fs::read_to_string(path).ok()?).ok()?.host;
    Some(if host.is_empty() { host } else { format!(" of {host}") })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
