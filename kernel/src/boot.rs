//! What the boot told: the loader's hand-over, the host's options, the firmware's tables.

use acpi_tables::Acpi;
use alloc::string::String;
use alloc::vec::Vec;
use bootinfo::BootInfo;
use cmdline::{HostOptions, Secrets, Uart};
use spin::Once;

use crate::lock::{self, Mutex};

/// Everything that is known after the first stages. Lives for ever.
#[derive(Debug)]
pub(crate) struct Boot {
    /// Memory map, modules, command line without its secrets.
    pub(crate) info: BootInfo,
    /// Options of the configuration modules, the first first, as one line.
    pub(crate) config: String,
    /// The command line and they, parsed. The secrets are with [`take_secrets`].
    pub(crate) options: HostOptions,
    /// The serial ports of the console, in the order of their numbers.
    pub(crate) consoles: Vec<Uart>,
    /// The firmware's tables; empty where there are none.
    pub(crate) acpi: Acpi,
}

static BOOT: Once<Boot> = Once::new();
static SECRETS: Mutex<Option<Secrets>> = Mutex::new(lock::SECRETS, None);

impl Boot {
    /// Where options come from, the strongest first: what each is called, and its text.
    pub(crate) fn sources(&self) -> [(&'static str, &str); 2] {
        [("boot line", &self.info.command_line), ("config", &self.config)]
    }
}

/// What [`set`] kept.
pub(crate) fn get() -> Option<&'static Boot> {
    BOOT.get()
}

/// Keeps `boot`, its secrets apart: what lives for ever would show them to whoever looks into memory later.
pub(crate) fn set(mut boot: Boot) -> &'static Boot {
    *SECRETS.lock() = Some(boot.options.take_secrets());
    cmdline::erase(&mut boot.info.command_line);
    cmdline::erase(&mut boot.config);
    BOOT.call_once(|| boot)
}

/// Keys and seed, once: who takes them uses them up.
pub(crate) fn take_secrets() -> Secrets {
    SECRETS.lock().take().unwrap_or_default()
}
