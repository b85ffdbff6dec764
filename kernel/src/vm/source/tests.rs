//! What a VM was made from, as it is told from host to host.

use cmdline::VmOptions;
use vm_types::Topology;

use super::{Content, Source, SourceFile};
use crate::testing::{file, host, source};

fn options() -> VmOptions {
    VmOptions {
        name: "a".into(),
        mem_mib: 12,
        pci: true,
        rng: true,
        vcpus: 4,
        topology: Some(Topology { sockets: 2, cores: 2, threads: 1 }),
        args: "root=/dev/sda  x".into(),
        ..VmOptions::default()
    }
}

#[test]
fn what_is_told_is_what_is_understood() {
    let _host = host();
    let here = source(&options());
    let there = Source::told(&here.origin(u64::MAX), "a").unwrap();
    assert_eq!(there.options, options());
    assert_eq!(there.files.len(), 1);
    assert_eq!((there.files[0].len(), there.files[0].held().is_none()), (here.files[0].len(), true));
    let mut origin = here.origin(u64::MAX);
    origin.options.push_str(" no-such-option=1");
    assert!(Source::told(&origin, "a").is_err());
}

#[test]
fn the_first_file_that_is_missing_is_named() {
    let _host = host();
    let mut source = source(&options());
    assert_eq!(source.lacks(), None);
    let elsewhere = Content::Elsewhere { sha256: Some([0xab; 32]), len: 5 };
    source.files.push(SourceFile { content: elsewhere, text: "initrd".into(), url: None });
    let lacks = source.lacks().unwrap();
    assert!(lacks.starts_with("its initrd of 5 bytes, sha256 abab"), "{lacks}");
    assert_eq!(source.held().unwrap_err(), lacks);
    assert_eq!(source.lacks_for_good(), Some(lacks), "nobody says where it came from");
    source.files[1].url = Some("http://10.0.0.1/initrd".into());
    assert_eq!(source.lacks_for_good(), None, "it can be fetched");
    assert_eq!(source.origin(u64::MAX).files[1].stays, Some(true), "who lacks it cannot be asked for it");
}

#[test]
fn bytes_are_put_in_place_by_their_digest() {
    let _host = host();
    let mut source = source(&options());
    for (digest, len) in [([1; 32], 4), ([2; 32], 4)] {
        let content = Content::Elsewhere { sha256: Some(digest), len };
        source.files.push(SourceFile { content, text: "".into(), url: None });
    }
    let held = file(b"data");
    source.put(&held);
    assert!(source.held().is_err(), "nobody knows yet what these bytes are");
    held.set_sha256([2; 32]);
    source.put(&held);
    assert!(source.files[1].held().is_none() && source.files[2].held().is_some());
}
