//! URLs.

use fetch::{Scheme, Url};
use proptest::prelude::*;

#[test]
fn takes_what_names_a_file_on_a_machine() {
    let url = Url::parse("http://10.0.0.2/guests/vmlinuz?v=1").unwrap();
    assert_eq!((url.scheme, url.port, url.path.as_str()), (Scheme::Http, 80, "/guests/vmlinuz?v=1"));
    assert_eq!(url.to_string(), "http://10.0.0.2/guests/vmlinuz?v=1");
    let url = Url::parse("tftp://192.168.1.9:6969/k").unwrap();
    assert_eq!((url.scheme, url.port), (Scheme::Tftp, 6969));
    assert_eq!(url.to_string(), "tftp://192.168.1.9:6969/k");
}

#[test]
fn names_the_part_that_is_wrong() {
    let refused = |text: &str| Url::parse(text).unwrap_err().to_string();
    assert_eq!(refused("https://10.0.0.2/k"), "'https://10.0.0.2/k' begins with neither http:// nor tftp://");
    assert_eq!(
        refused("http://server/k"),
        "host 'server' is no IPv4 address like 10.0.0.2 (there is no DNS here)"
    );
    assert_eq!(refused("http://255.255.255.255/k"), "host 255.255.255.255 is not the address of one machine");
    for port in ["", "0", "65536", "+80", "x"] {
        let text = refused(&format!("http://10.0.0.2:{port}/k"));
        assert_eq!(text, format!("port '{port}' is no number from 1 to 65535"));
    }
    let path = "is not / and printable characters without blanks";
    assert_eq!(refused("tftp://10.0.0.2"), format!("path '' {path}"));
    assert_eq!(refused("tftp://10.0.0.2/"), format!("path '/' {path}"));
    assert_eq!(refused("http://10.0.0.2/a\r\nb"), format!("path '/a??b' {path}"));
    assert_eq!(
        refused(&format!("http://10.0.0.2/{}", "a".repeat(1020))),
        "the URL has 1036 bytes, at most 1024 are taken"
    );
}

proptest! {
    #[test]
    fn any_text_is_a_url_that_reads_the_same_again_or_is_refused(text in "(http://|tftp://)?[ -~]{0,40}") {
        if let Ok(url) = Url::parse(&text) {
            prop_assert_eq!(Url::parse(&url.to_string()), Ok(url));
        }
    }
}
