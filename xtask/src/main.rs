//! Task runner behind `scripts/`. Exit status: 0 done, 1 failed, 2 usage, 3 a tool is missing; `run` has more.

mod bench;
mod demo;
mod image;
mod prepush;
mod pxe_lab;
mod run;
mod test;
mod tools;
mod tree;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use testbench::process::MissingTool;

#[derive(Parser)]
#[command(about = "Tasks of the project; each is also a script in scripts/")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build a bootable image (CD or USB stick, BIOS and UEFI) with the hypervisor and its VMs.
    #[command(override_usage = "scripts/image [OPTIONS]")]
    Image(image::Args),
    /// Boot one host with one guest; the guest's serial console is this terminal.
    #[command(override_usage = "scripts/run [OPTIONS] --kernel <FILE>")]
    Run(run::Args),
    /// Migrate a Linux guest between two emulated Xeons and prove that it was not harmed.
    #[command(override_usage = "scripts/demo [OPTIONS]")]
    Demo(demo::Args),
    /// Run all tests.
    #[command(override_usage = "scripts/test [OPTIONS] [TEXT]")]
    Test(test::Args),
    /// Take the project's figures.
    #[command(override_usage = "scripts/bench [OPTIONS]")]
    Bench(bench::Args),
    /// Boot the host from a network that is all inside QEMU.
    #[command(override_usage = "scripts/pxe-lab [OPTIONS] <WAY>")]
    PxeLab(pxe_lab::Args),
    /// Everything that has to pass before a push.
    #[command(override_usage = "scripts/prepush")]
    Prepush(prepush::Args),
    /// Check the repository as a whole: conflict markers, links, layers, help texts, commits.
    #[command(override_usage = "scripts/lint-tree [OPTIONS]")]
    Tree(tree::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Image(args) => image::main(&args),
        Task::Run(args) => run::main(&args),
        Task::Demo(args) => demo::main(&args),
        Task::Test(args) => test::main(&args),
        Task::Bench(args) => bench::main(&args),
        Task::PxeLab(args) => pxe_lab::main(&args),
        Task::Prepush(args) => prepush::main(&args),
        Task::Tree(args) => tree::main(&args),
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(if e.downcast_ref::<MissingTool>().is_some() { 3 } else { 1 })
        }
    }
}
