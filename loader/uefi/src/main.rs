//! `flexvisor.efi`: puts the kernel that it carries, and the modules that its configuration names, into memory, leaves the
//! firmware's boot services and starts the kernel as a Multiboot 2 loader would.
#![no_std]
#![no_main]

extern crate alloc;

mod elf;
mod handover;
mod http;
mod memory;
mod serial;
mod settings;
mod smbios;
mod source;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use cmdline::Console;
use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
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
    for line in ERRORS.lock().lines() {
        serial::print(&CONSOLES.lock(), format_args!("{line}"));
    }
    give_up(format_args!("{error}"))
}

/// Starts the kernel. Returns only with what is in the way.
fn start() -> Result<core::convert::Infallible, String> {
    let line = settings::load_options();
    settings::note_consoles(&line, &[]);
    let image = elf::Image::parse(KERNEL).ok_or("the kernel in flexvisor.efi is damaged")?;
    let place = memory::Place::claim(&image)?;
    // Before the modules, which may be more than there is memory for.
    let stage = handover::Stage::new(&image, place)?;
    let (mut source, whence) = source::open();
    say(&format!("loaded from {whence}"));
    let settings = Settings::read(&line, &mut source);
    let loader = format!(
        "flexvisor.efi from {whence}, {} {:#x}",
        system::firmware_vendor(),
        system::firmware_revision()
    );
    stage.run(&image, &settings, &loader)
}

/// The host's consoles as far as they are known.
static CONSOLES: spin::Mutex<Vec<Console>> = spin::Mutex::new(Vec::new());

/// No kernel will say it: on the firmware's console, and on the host's. Then the firmware goes on.
fn give_up(error: fmt::Arguments<'_>) -> Status {
    println!("flexvisor.efi: error: {error}; back to the firmware");
    let consoles = CONSOLES.try_lock();
    let consoles = consoles.as_ref().map_or(&[][..], |consoles| consoles);
    serial::print(consoles, format_args!("flexvisor.efi: error: {error}; back to the firmware"));
    wait(SHOWN);
    Status::LOAD_ERROR
}

/// There is a firmware to tell: neither has it been left, nor did telling it fail.
static FIRMWARE: AtomicBool = AtomicBool::new(true);

/// A fault of ours, or no memory left: the firmware goes on with its next boot option, as after any other error.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if FIRMWARE.swap(false, Ordering::Relaxed) {
        let status = give_up(format_args!("{info}"));
        // SAFETY: nothing of ours is called by the firmware later on, and there are no data.
        let _ = unsafe { boot::exit(boot::image_handle(), status, 0, core::ptr::null_mut()) };
    }
    loop {
        // SAFETY: halts until an interrupt, and touches nothing.
        unsafe { core::arch::asm!("hlt", options(nomem, nostack)) };
    }
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
