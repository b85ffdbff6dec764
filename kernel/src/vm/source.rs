//! What a VM was made from: its options, and the files. A host that took the VM from another one may lack some of them.

#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use cmdline::VmOptions;
use migrate::origin::Sha256;
use migrate::{Origin, OriginFile};
use shell::Hex;

use super::Vm;
use hw::mm::held::Held;

/// Where the bytes of a file are.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// On this host.
    Here(Arc<Held>),
    /// On a host that the VM has left.
    Elsewhere {
        /// Their digest, where somebody computed it.
        sha256: Option<Sha256>,
        /// How many.
        len: u64,
    },
}

/// A file that a VM was made from.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    /// Its bytes.
    pub(crate) content: Content,
    /// A module's string.
    pub(crate) text: String,
    /// Where it came from.
    pub(crate) url: Option<String>,
}

impl SourceFile {
    /// One that is here.
    pub(crate) const fn here(held: Arc<Held>, text: String, url: Option<String>) -> Self {
        Self { content: Content::Here(held), text, url }
    }

    /// Bytes in it.
    pub(crate) fn len(&self) -> u64 {
        match &self.content {
            Content::Here(held) => held.len(),
            Content::Elsewhere { len, .. } => *len,
        }
    }

    /// Its digest, where it is known by now.
    pub(crate) fn sha256(&self) -> Option<Sha256> {
        match &self.content {
            Content::Here(held) => held.sha256(),
            Content::Elsewhere { sha256, .. } => *sha256,
        }
    }

    /// Its bytes, where they are here.
    pub(crate) const fn held(&self) -> Option<&Arc<Held>> {
        match &self.content {
            Content::Here(held) => Some(held),
            Content::Elsewhere { .. } => None,
        }
    }
}

/// Options, kernel and modules of a VM. They stay in memory for as long as the VM is here.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The options of its module line.
    pub(crate) options: VmOptions,
    /// The kernel, then its modules, the initrd first.
    pub(crate) files: Vec<SourceFile>,
}

/// What a file is to its VM.
pub(crate) fn role(number: usize) -> String {
    match number {
        0 => "kernel".into(),
        1 => "initrd".into(),
        more => format!("module {more}"),
    }
}

impl Source {
    /// Kernel and modules, where all of them are here.
    ///
    /// # Errors
    /// The first that is not, in words.
    pub(crate) fn held(&self) -> Result<Vec<Arc<Held>>, String> {
        let held = self.files.iter().map(|file| file.held().map(Arc::clone));
        held.collect::<Option<Vec<_>>>().ok_or_else(|| self.lacks().unwrap_or_default())
    }

    /// What is missing here, in words.
    pub(crate) fn lacks(&self) -> Option<String> {
        let (number, file) = self.files.iter().enumerate().find(|(_, file)| file.held().is_none())?;
        let digest = file.sha256().map_or_else(String::new, |digest| format!(", sha256 {}", Hex(&digest)));
        Some(format!(
            "its {} of {} bytes{digest} did not come along: the hosts' max-file= or free memory did not allow it",
            role(number),
            file.len()
        ))
    }

    /// What cannot be fetched again of what is missing here, in words.
    pub(crate) fn lacks_for_good(&self) -> Option<String> {
        let gone =
            |file: &SourceFile| file.held().is_none() && (file.url.is_none() || file.sha256().is_none());
        if self.files.iter().any(gone) { self.lacks() } else { None }
    }

    /// As a migration tells it. What is longer than `max_file` stays.
    pub(crate) fn origin(&self, max_file: u64) -> Origin {
        let file = |file: &SourceFile| OriginFile {
            sha256: file.sha256(),
            len: file.len(),
            text: file.text.clone(),
            url: file.url.clone(),
            stays: (file.held().is_none() || file.len() > max_file).then_some(true),
        };
        Origin {
            options: self.options.words(),
            args: self.options.args.clone(),
            files: self.files.iter().map(file).collect(),
        }
    }

    /// What a migration told of a VM of that name; none of its files is here yet.
    ///
    /// # Errors
    /// An option that this host does not know.
    pub(crate) fn told(origin: &Origin, name: &str) -> Result<Self, String> {
        let line = format!("vm={name} {}", origin.options);
        let mut options = VmOptions::parse(&line).map_err(|error| error.to_string())?;
        options.args.clone_from(&origin.args);
        let file = |file: &OriginFile| SourceFile {
            content: Content::Elsewhere { sha256: file.sha256, len: file.len },
            text: file.text.clone(),
            url: file.url.clone(),
        };
        Ok(Self { options, files: origin.files.iter().map(file).collect() })
    }

    /// Puts bytes in place wherever a file has their digest.
    pub(crate) fn put(&mut self, held: &Arc<Held>) {
        let Some(sha256) = held.sha256() else { return };
        for file in self.files.iter_mut().filter(|file| file.sha256() == Some(sha256)) {
            file.content = Content::Here(Arc::clone(held));
        }
    }
}

impl Vm {
    /// What is to be said of one without [`Source`].
    pub(crate) fn has_no_kernel(&self) -> String {
        let name = self.name.get();
        format!(
            "vm {name} came from a host that gave no kernel along: `vm destroy {name} --force` and `vm create` make it anew"
        )
    }
}
