//! Files that did not come along with a VM, from where they came from in the first place. What has another digest by now is
//! not taken.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::task::Poll;

use ::fetch::Url;

use crate::fetch::Download;
use crate::vm::Vm;
use crate::vm::source::{Content, Source, role};
use hw::mm::frame;

/// The files of a VM that are missing here, one after the other.
#[derive(Default)]
pub(super) struct Refetch {
    download: Option<Download>,
}

impl Refetch {
    /// Goes on for a bounded time, until all of `source` is here.
    pub(super) fn poll(&mut self, vm: &Vm, source: &mut Source) -> Poll<Result<(), String>> {
        let Some(download) = &mut self.download else { return self.next(vm, source) };
        match download.poll() {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(why)) => Poll::Ready(Err(why)),
            Poll::Ready(Ok((held, digest))) => {
                self.download = None;
                held.set_sha256(digest);
                source.put(&Arc::new(held));
                self.next(vm, source)
            }
        }
    }

    /// Begins with the next file.
    fn next(&mut self, vm: &Vm, source: &Source) -> Poll<Result<(), String>> {
        let Some(lacks) = source.lacks() else { return Poll::Ready(Ok(())) };
        match begin(vm, source) {
            Ok(download) => {
                self.download = Some(download);
                Poll::Pending
            }
            Err(why) => Poll::Ready(Err(format!("{lacks}; {why}"))),
        }
    }
}

/// The download of the first that is missing.
fn begin(vm: &Vm, source: &Source) -> Result<Download, String> {
    let missing = source.files.iter().enumerate().find(|(_, file)| file.held().is_none());
    let (number, file) = missing.ok_or("nothing is missing")?;
    let Content::Elsewhere { sha256: Some(sha256), len } = file.content else {
        return Err("its digest is not known".into());
    };
    let url = file.url.as_deref().ok_or("nobody knows its URL")?;
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    log::info!(target: "vm", "vm {}: its {} comes from {url} again", vm.name, role(number));
    Download::start(url, frame::stats().free.min(len), Some(sha256))
}
