//! Scan, encode and seal on this machine: `xtask/native`, built as the tests are and as the kernel is.

use super::step;
use super::tables::Figure;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use testbench::paths;
use testbench::process::run_tool;

/// RAM that each time is of.
const BYTES: f64 = (1 << 20) as f64;
/// The kernel's code generation for a program of Linux.
const SOFT_FLOAT: &str = "xtask/x86_64-softfloat-linux.json";

const SOFT_CIPHERS: &str =
    "--cfg chacha20_force_soft --cfg poly1305_force_soft --cfg curve25519_dalek_backend=\"serial\"";

pub(super) fn measure() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (build, target) in [("host", None), ("softfloat", Some(SOFT_FLOAT))] {
        step(&format!("native: the {build} build"));
        let program = build_program(target)?;
        for (cipher, argument) in [("", "plain"), ("+simd", "simd")] {
            step(&format!("native: {build}{cipher}"));
            let output = run_tool(Command::new(&program).arg(argument), "cargo-web")?;
            let said: Value = serde_json::from_slice(&output).context("the program's answer")?;
            if said["vectors"].as_bool() != Some(!cipher.is_empty()) {
                step("native: this CPU has no AVX2 or no BMI2 to lend");
                continue;
            }
            figures.extend(of_one(&format!("{build}{cipher}"), &said)?);
        }
    }
    Ok(figures)
}

fn of_one(build: &str, said: &Value) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for kind in ["zero", "text", "random"] {
        let ns = |stage: &str| {
            said[kind][stage].as_f64().filter(|ns| *ns > 0.0).with_context(|| format!("no {stage} in {said}"))
        };
        let mut add = |what: &str, value| {
            figures.push(Figure::native(&format!("{build} {kind} {what}"), value, "this machine"));
        };
        for stage in ["memcpy", "scan", "encode", "encode_hash", "aead", "all"] {
            add(&format!("{stage}_gbs"), BYTES / ns(stage)?);
        }
        add("encode/memcpy", ns("memcpy")? / ns("encode")?);
        add("encode_hash/memcpy", ns("memcpy")? / ns("encode_hash")?);
        add("all/aead", ns("aead")? / ns("all")?);
    }
    Ok(figures)
}

fn build_program(target: Option<&str>) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(paths::root());
    command.args(["build", "--quiet", "--release", "--package", "native"]);
    let mut folder = paths::target();
    if let Some(target) = target {
        command.args(["--target", target, "-Zjson-target-spec", "-Zbuild-std=std,panic_abort"]);
        // As for the kernel (.cargo/config.toml): what there is for vector registers in the ciphers' crates does not compile.
        command.env("CARGO_TARGET_X86_64_SOFTFLOAT_LINUX_RUSTFLAGS", SOFT_CIPHERS);
        folder.push("x86_64-softfloat-linux");
    }
    run_tool(&mut command, "cargo-web")?;
    Ok(folder.join("release/native"))
}
