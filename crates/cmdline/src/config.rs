//! A text file of host options: what a server hands to each of its hosts.
//!
//! Options as on the boot line, one or more a line; `#` at the start of a word begins a comment. Rows `module FILE LINE`
//! name boot modules for a loader that reads the file itself (`flexvisor.efi`).

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::wipe::wipe;
use crate::words::Words;

/// Largest file that is read, in bytes.
pub const MAX_CONFIG: usize = 64 << 10;

/// What is wrong with a configuration file; [`ConfigFile::name`] says which.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// Longer than [`MAX_CONFIG`].
    #[error("{0} bytes, more than {MAX_CONFIG}: ignored")]
    TooLong(usize),
    /// Bytes that are no text, in the line of that number.
    #[error("line {0}: not UTF-8 text: the file is ignored")]
    NotText(usize),
    /// A `module` row of that line number that names no file.
    #[error("line {0}: module names no file: expected module FILE LINE")]
    NoFile(usize),
    /// A `module=` of that number on a boot line whose quotes do not end.
    #[error("module {0}: a quote does not end: expected module=\"FILE LINE\"")]
    OpenQuote(usize),
}

/// A boot module that a configuration file names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModuleRow {
    /// Number of the line, from 1.
    pub number: usize,
    /// Where the file is, as written: beside the configuration file unless it says otherwise.
    pub file: String,
    /// The module's line.
    pub line: String,
}

/// A configuration file, cut into its lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigFile {
    /// What warnings call it.
    pub name: String,
    /// Lines with options and their numbers, from 1, without comments.
    pub(crate) options: Vec<(usize, String)>,
    /// `module` rows: number and what follows the word.
    rows: Vec<(usize, String)>,
}

/// Any line may hold a key.
impl Drop for ConfigFile {
    fn drop(&mut self) {
        self.options.drain(..).for_each(|(_, line)| wipe(line));
    }
}

impl ConfigFile {
    /// Cuts `bytes` into lines. Options are not judged here: [`HostOptions::with_config`](crate::HostOptions) does that.
    ///
    /// # Errors
    /// [`ConfigError`] where it is no text or too long.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() > MAX_CONFIG {
            return Err(ConfigError::TooLong(bytes.len()));
        }
        let mut file = Self { name: name.to_string(), options: Vec::new(), rows: Vec::new() };
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        for (at, line) in bytes.split(|&b| b == b'\n').enumerate() {
            let number = at + 1;
            let line = core::str::from_utf8(line).map_err(|_| ConfigError::NotText(number))?;
            // A file from a server may have been written anywhere.
            if line.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\r')) {
                return Err(ConfigError::NotText(number));
            }
            let line = line.trim();
            match line.strip_prefix("module").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
            {
                Some(rest) => file.rows.push((number, rest.trim().to_string())),
                None => {
                    let options = without_comment(line).trim_end();
                    if !options.is_empty() {
                        file.options.push((number, options.to_string()));
                    }
                }
            }
        }
        Ok(file)
    }

    /// The `module` rows in their order. What follows the file's name is verbatim, `#` and quotes too.
    pub fn modules(&self) -> impl Iterator<Item = Result<ModuleRow, ConfigError>> {
        self.rows.iter().map(|(number, row)| module_row(*number, row))
    }

    /// Rows that no loader has taken out.
    pub(crate) fn rows(&self) -> &[(usize, String)] {
        &self.rows
    }

    /// All options as one line.
    #[must_use]
    pub fn line(&self) -> String {
        let lines: Vec<&str> = self.options.iter().map(|(_, line)| line.as_str()).collect();
        lines.join(" ")
    }

    /// The file as the kernel is to see it once a loader has read the `module` rows: these are empty lines, so that the
    /// numbers of the others stay.
    #[must_use]
    pub fn without_modules(&self) -> String {
        let mut text = String::new();
        let mut at = 1;
        for (number, line) in &self.options {
            while at < *number {
                text.push('\n');
                at += 1;
            }
            text.push_str(line);
        }
        text.push('\n');
        text
    }
}

/// The `module` rows of a boot line, `module="FILE LINE"` each, numbered from 1, and the line without them.
#[must_use]
pub fn modules_of_line(line: &str) -> (String, Vec<Result<ModuleRow, ConfigError>>) {
    let (mut options, mut rows) = (String::new(), Vec::new());
    let mut words = Words::whole(line);
    for (raw, word) in words.by_ref() {
        let Some(row) = word.text.strip_prefix("module=") else {
            options.push_str(raw);
            continue;
        };
        let number = rows.len() + 1;
        let closed = Words::from_first(raw).next().is_some_and(|word| !word.open);
        rows.push(if closed { module_row(number, row.trim()) } else { Err(ConfigError::OpenQuote(number)) });
    }
    options.push_str(words.left());
    (options.trim_start().to_string(), rows)
}

fn module_row(number: usize, row: &str) -> Result<ModuleRow, ConfigError> {
    let (file, line) = row.split_once([' ', '\t']).unwrap_or((row, ""));
    if file.is_empty() {
        return Err(ConfigError::NoFile(number));
    }
    Ok(ModuleRow { number, file: file.to_string(), line: line.trim_start().to_string() })
}

/// `line` up to a `#` that starts a word and stands in no quotes.
fn without_comment(line: &str) -> &str {
    let (mut quoted, mut escaped, mut word) = (false, false, false);
    for (at, c) in line.char_indices() {
        match c {
            '#' if !quoted && !word => return line.get(..at).unwrap_or(line),
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        word = quoted || !matches!(c, ' ' | '\t' | '\r');
    }
    line
}
