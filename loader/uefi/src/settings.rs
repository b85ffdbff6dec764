//! The boot line and the modules: from the load options, and from configuration files where the application came from.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use cmdline::{ConfigError, ConfigFile, HostOptions, ModuleRole, ModuleRow};
use uefi::boot;
use uefi::proto::loaded_image::LoadedImage;

use crate::memory::Pages;
use crate::source::Source;
use crate::{CONSOLES, ERRORS, complain, say};

/// The file for every host.
const SHARED: &str = "flexvisor.cfg";

/// A file in memory.
pub(crate) struct Module {
    pub(crate) pages: Pages,
    pub(crate) line: String,
}

/// Everything that was asked for.
pub(crate) struct Settings {
    pub(crate) line: String,
    pub(crate) modules: Vec<Module>,
}

impl Settings {
    /// Reads configuration and modules. What cannot be read is said and left out.
    pub(crate) fn read(load_options: &str, source: &mut Source) -> Self {
        let (line, rows) = cmdline::modules_of_line(load_options);
        let mut settings = Self { line, modules: Vec::new() };
        let mut files = Vec::new();
        for name in source.host_names().into_iter().map(|id| format!("host.cfg/{id}")).chain([SHARED.into()])
        {
            files.extend(config(source, &name));
        }
        note_consoles(&settings.line, &files);
        let mut refused = Vec::new();
        let mut take = |settings: &mut Self, whence: &str, row: Result<ModuleRow, ConfigError>| match row {
            Ok(row) => {
                if let Err(vm) = settings.take_module(source, whence, row) {
                    refused.extend(vm);
                }
            }
            Err(error) => complain(&format!("{whence}: {error}")),
        };
        for row in rows {
            take(&mut settings, "load options", row);
        }
        for file in &files {
            settings.take_config(file);
            for row in file.modules() {
                take(&mut settings, &file.name, row);
            }
        }
        settings.modules.retain(|module| vm_of(&module.line).is_none_or(|vm| !refused.contains(&vm)));
        refused.sort();
        refused.dedup();
        for vm in refused {
            complain(&format!("vm {vm} is left out: a file of it is missing"));
        }
        settings.hand_over_errors();
        settings
    }

    /// The last module is what was wrong with all before.
    fn hand_over_errors(&mut self) {
        let text = ERRORS.lock();
        if text.is_empty() {
            return;
        }
        match Pages::new(text.len()) {
            Ok(mut pages) => {
                pages.bytes().copy_from_slice(text.as_bytes());
                self.modules.push(Module { pages, line: "loader-errors".to_string() });
            }
            Err(error) => say(&format!("error: the list of errors: {error}")),
        }
    }

    /// The kernel reads the options itself, and names faults by file and line.
    fn take_config(&mut self, file: &ConfigFile) {
        let text = file.without_modules();
        match Pages::new(text.len()) {
            Ok(mut pages) => {
                pages.bytes().copy_from_slice(text.as_bytes());
                self.modules.push(Module { pages, line: format!("config={}", file.name) });
            }
            Err(error) => complain(&format!("{}: {error}", file.name)),
        }
    }

    /// Fails with the VM that lacks this file, where it is of one.
    fn take_module(
        &mut self,
        source: &mut Source,
        whence: &str,
        row: ModuleRow,
    ) -> Result<(), Option<String>> {
        let ModuleRow { number, file: name, line } = row;
        let from = format!("{whence} line {number}");
        match source.read(&name) {
            Ok(Some(pages)) => {
                say(&format!("{name}, {} KiB", pages.len().div_ceil(1024)));
                self.modules.push(Module { pages, line });
                return Ok(());
            }
            Ok(None) => complain(&format!("{from}: module {name} is not there")),
            Err(error) => complain(&format!("{from}: module {name}: {error}")),
        }
        Err(vm_of(&line))
    }
}

/// The VM that a module's line is about.
fn vm_of(line: &str) -> Option<String> {
    match ModuleRole::parse(line) {
        Ok(ModuleRole::Vm(vm)) => Some(vm.name),
        Ok(ModuleRole::For { name, .. }) => Some(name),
        Ok(_) => None,
        Err(refused) => Some(refused.vm),
    }
}

fn config(source: &mut Source, name: &str) -> Option<ConfigFile> {
    let parsed = match source.read(name) {
        Ok(found) => ConfigFile::parse(name, found?.bytes()).map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    match parsed {
        Ok(file) => {
            say(&format!("settings from {name}"));
            Some(file)
        }
        Err(error) => {
            complain(&format!("{name}: {error}"));
            None
        }
    }
}

/// Where the host's consoles are, for errors that no kernel will tell.
pub(crate) fn note_consoles(line: &str, files: &[ConfigFile]) {
    *CONSOLES.lock() = HostOptions::with_config(line, files).0.consoles;
}

/// The load options without the application's own name, which shells and iPXE put first.
pub(crate) fn load_options() -> String {
    let Ok(image) = boot::open_protocol_exclusive::<LoadedImage>(boot::image_handle()) else {
        return String::new();
    };
    let bytes = image.load_options_as_bytes().unwrap_or_default();
    let words: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|&word| word != 0)
        .collect();
    let Ok(text) = String::from_utf16(&words) else {
        complain("the load options are no text: ignored");
        return String::new();
    };
    // Boot entries that firmware made itself carry its own binary data.
    if text.chars().any(char::is_control) {
        return String::new();
    }
    let text = text.trim();
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    if first.to_ascii_lowercase().trim_matches('"').ends_with(".efi") {
        rest.trim().to_string()
    } else {
        text.to_string()
    }
}
