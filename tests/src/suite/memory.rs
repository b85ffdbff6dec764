//! What memory a host has, as `mem --json` tells.

use crate::scenario::Pair;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);

/// In bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// What VMs to come can have.
    pub(super) free: u64,
    /// What the host's own heap holds.
    pub(super) heap_used: u64,
}

pub(super) fn memory(pair: &mut Pair, host: usize) -> Result<Memory> {
    let answer = pair.hosts[host].command("mem --json", PATIENCE)?;
    let line = answer.lines.last().context("no answer to mem")?;
    let value: Value = serde_json::from_str(line).with_context(|| line.clone())?;
    let bytes = |key: &str| value[key].as_u64().with_context(|| format!("no {key} in {line}"));
    Ok(Memory { free: bytes("free")?, heap_used: bytes("heap_used")? })
}

pub(super) fn free_memory(pair: &mut Pair, host: usize) -> Result<u64> {
    Ok(memory(pair, host)?.free)
}

/// Another CPU may hold on to a VM that is gone for a moment.
pub(super) fn memory_is_free_again(pair: &mut Pair, host: usize, before: u64) -> Result<()> {
    let mut now = 0;
    for _ in 0..50 {
        now = free_memory(pair, host)?;
        if now == before {
            return Ok(());
        }
    }
    bail!("host {host}: {before} bytes free before, {now} now")
}

/// Buffers of connections that are over, 127 KiB each, go after a minute of the host's time. Returns what the heap holds
/// then.
pub(super) fn heap_settles(pair: &mut Pair, host: usize, before: u64) -> Result<u64> {
    const SLACK: u64 = 48 << 10;
    let mut now = 0;
    for _ in 0..240 {
        now = memory(pair, host)?.heap_used;
        if now <= before + SLACK {
            return Ok(now);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    bail!("host {host}: {now} bytes of heap in use, {before} before")
}
