//! `prepush`: what CI does, in the working tree.

use anyhow::{Context, Result};
use std::process::Command;
use testbench::paths;

#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn main(_: &Args) -> Result<u8> {
    eprintln!("+ .ci/run");
    let status = Command::new(paths::root().join(".ci/run")).status().context("cannot start .ci/run")?;
    Ok(if status.success() { 0 } else { 1 })
}
