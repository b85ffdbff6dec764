//! `flexvisor.efi`: puts the kernel that it carries, and the modules that its configuration names, into memory, leaves the
//! firmware's boot services and starts the kernel as a Multiboot 2 loader would.
#![no_std]
#![no_main]

extern crate alloc;

mod elf;
mod handover;
mod memory;
mod settings;
mod smbios;
mod source;

use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;
use uefi::prelude::*;
use uefi::proto::console::text::Key;
use uefi::{boot, println, system};

use settings::Settings;

/// The kernel, as `scripts/build` makes it.
static KERNEL: &[u8] = include_bytes!(env!("FLEXVISOR_KERNEL"));

/// How long an error stays on the screen before the firmware goes on with its next boot option.
const SHOWN: Duration = Duration::from_secs(10);

#[entry]
fn main() -> Status {
    if uefi::helpers::init().is_err() {
        return Status::LOAD_ERROR;
    }
    // Files from a slow network may take longer than the five minutes that firmware gives an application.
    let _ = boot::set_watchdog_timer(0, 0x1_0000, None);
    let Err(error) = start();
    say(&format!("{error}; back to the firmware"));
    wait(SHOWN);
    Status::LOAD_ERROR
}

/// Starts the kernel. Returns only with what is in the way.
fn start() -> Result<core::convert::Infallible, String> {
    let image = elf::Image::parse(KERNEL).ok_or("the kernel in flexvisor.efi is damaged")?;
    let place = memory::Place::claim(&image)?;
    let (mut source, whence) = source::open();
    say(&format!("loaded from {whence}"));
    let settings = Settings::read(&mut source);
    let loader = format!(
        "flexvisor.efi from {whence}, {} {:#x}",
        system::firmware_vendor(),
        system::firmware_revision()
    );
    handover::run(&image, &place, &settings, &loader)
}

/// One line for the operator, on the firmware's console.
fn say(text: &str) {
    println!("flexvisor.efi: {text}");
}

/// What was wrong so far, a line each.
static ERRORS: spin::Mutex<String> = spin::Mutex::new(String::new());

/// Something is wrong, and the host comes up all the same. The firmware's console may be a screen that nobody sees: the
/// kernel says it again on its own.
fn complain(text: &str) {
    say(&format!("error: {text}"));
    let mut errors = ERRORS.lock();
    errors.push_str("flexvisor.efi: ");
    errors.push_str(text);
    errors.push('\n');
}

fn wait(time: Duration) {
    let steps = time.as_millis() / 50;
    for _ in 0..steps {
        let key: Option<Key> = system::with_stdin(|stdin| stdin.read_key().ok().flatten());
        if key.is_some() {
            return;
        }
        boot::stall(Duration::from_millis(50));
    }
}

/// What firmware says is wrong, with the thing it is about.
fn because(what: &str, error: &uefi::Error<impl core::fmt::Debug>) -> String {
    [what, ": ", &error.status().to_string()].concat()
}
