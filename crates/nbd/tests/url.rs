//! Disks as they are named.
#![allow(missing_docs)]

use nbd::{Disk, OnError};
use proptest::prelude::*;

#[test]
fn takes_what_names_an_export_on_a_machine() {
    let disk = Disk::parse("nbd://10.0.0.2/vm1").unwrap();
    assert_eq!(disk.server.to_string(), "10.0.0.2:10809");
    assert_eq!((disk.export.as_str(), disk.read_only, disk.serial.as_str()), ("vm1", false, ""));
    assert_eq!((disk.on_error, disk.to_string().as_str()), (OnError::Wait, "nbd://10.0.0.2/vm1"));
    let text = "nbd://10.0.0.2:9/a/b%2Cc,ro,serial=disk 1,on-error=report";
    let disk = Disk::parse(text).unwrap();
    assert_eq!((disk.server.port(), disk.export.as_str()), (9, "a/b,c"));
    assert_eq!((disk.read_only, disk.serial.as_str(), disk.on_error), (true, "disk 1", OnError::Report));
    assert_eq!(disk.to_string(), text);
    // The server's default export, and one that is not ASCII.
    assert_eq!(Disk::parse("nbd://10.0.0.2/").unwrap().export, "");
    assert_eq!(Disk::parse("nbd://10.0.0.2/%c3%a9").unwrap().export, "é");
    assert_eq!(Disk::parse("nbd://10.0.0.2/,on-error=wait").unwrap().on_error, OnError::Wait);
}

#[test]
fn names_the_part_that_is_wrong() {
    let refused = |text: &str| Disk::parse(text).unwrap_err().to_string();
    assert_eq!(refused("http://10.0.0.2/k"), "'http://10.0.0.2/k' does not begin with nbd://");
    assert_eq!(refused("nbd://box/k"), "host 'box' is no IPv4 address like 10.0.0.2 (there is no DNS here)");
    for host in ["0.1.2.3", "224.0.0.1", "255.255.255.255"] {
        let text = refused(&format!("nbd://{host}/k"));
        assert_eq!(text, format!("host {host} is not the address of one machine"));
    }
    for port in ["", "0", "65536", "+80"] {
        let text = refused(&format!("nbd://10.0.0.2:{port}/k"));
        assert_eq!(text, format!("port '{port}' is no number from 1 to 65535"));
    }
    assert_eq!(refused("nbd://10.0.0.2,ro"), "'nbd://10.0.0.2,ro' names no export: nbd://HOST[:PORT]/EXPORT");
    for (name, shown) in
        [("%", "%"), ("%f", "%f"), ("%zz", "%zz"), ("%+1", "%+1"), ("%ff", "%ff"), ("a\nb", "a\\nb")]
    {
        let text = refused(&format!("nbd://10.0.0.2/{name}"));
        assert!(text.starts_with(&format!("export '{shown}' is not printable")), "{text}");
    }
    assert!(refused("nbd://10.0.0.2/k,rw").starts_with("'rw' is none of ro, serial=TEXT"));
    assert!(refused("nbd://10.0.0.2/k,ro=1").starts_with("'ro=1' is none of ro"));
    assert!(refused("nbd://10.0.0.2/k,on-error=stop").starts_with("'on-error=stop' is none of ro"));
    assert!(refused("nbd://10.0.0.2/k,").starts_with("'' is none of ro"));
    assert_eq!(refused("nbd://10.0.0.2/k,ro,ro"), "'ro' is said twice");
    assert_eq!(refused("nbd://10.0.0.2/k,on-error=wait,on-error=report"), "'on-error=report' is said twice");
    for serial in ["", "123456789012345678901", "é"] {
        let text = refused(&format!("nbd://10.0.0.2/k,serial={serial}"));
        assert_eq!(text, format!("serial '{serial}' is not 1 to 20 printable ASCII characters"));
    }
    let long = format!("nbd://10.0.0.2/{}", "a".repeat(1010));
    assert_eq!(refused(&long), "the disk's URL has 1025 bytes, at most 1024 are taken");
}

proptest! {
    #[test]
    fn any_text_is_a_disk_that_reads_the_same_again_or_is_refused(
        text in "(nbd://10.0.0.2(:9)?/)?[ -~é]{0,20}(,ro|,serial=[ -~]{0,22}|,on-error=report){0,3}"
    ) {
        match Disk::parse(&text) {
            Ok(disk) => prop_assert_eq!(Disk::parse(&disk.to_string()), Ok(disk)),
            Err(error) => prop_assert!(error.to_string().len() < 1000),
        }
    }
}
