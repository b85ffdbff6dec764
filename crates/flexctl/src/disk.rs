//! A file of this machine as the storage of a VM's file.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use vm_file::Storage;

/// A file that no other process has open as such.
pub(crate) struct Disk(File);

impl Disk {
    /// Makes a new file that only its owner can read.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(path).with_context(|| path.display().to_string())?;
        Self::lock(file, path)
    }

    /// Opens a file that is there.
    pub(crate) fn open(path: &Path, write: bool) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(write).open(path);
        let file = file.with_context(|| path.display().to_string())?;
        if write { Self::lock(file, path) } else { Ok(Self(file)) }
    }

    fn lock(file: File, path: &Path) -> Result<Self> {
        if file.try_lock().is_err() {
            bail!("{}: another process uses it", path.display());
        }
        Ok(Self(file))
    }
}

/// Makes the name of a new file outlive a loss of power.
pub(crate) fn sync_folder(path: &Path) -> Result<(), String> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    File::open(&folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| format!("{}: {error}", folder.display()))
}

impl Storage for Disk {
    fn size(&self) -> Result<u64, String> {
        self.0.metadata().map(|data| data.len()).map_err(|error| error.to_string())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), String> {
        self.0.read_exact_at(buf, offset).map_err(|error| error.to_string())
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), String> {
        self.0.write_all_at(data, offset).map_err(|error| error.to_string())
    }

    fn truncate(&mut self, size: u64) -> Result<(), String> {
        self.0.set_len(size).map_err(|error| error.to_string())
    }

    fn sync(&mut self) -> Result<(), String> {
        self.0.sync_all().map_err(|error| error.to_string())
    }
}
