//! A head that is let through is what the engine's parser will see: same parts, same framing. And so for a proxy.

#![no_main]

use bytes::Bytes;
use fallgate::net::http1::{Grammar, Head, MAX_FIELDS, MAX_HEAD};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let head = Head::parse(Bytes::copy_from_slice(data));
    let proxied = Head::parse_as(Bytes::copy_from_slice(data), Grammar::Proxy);
    if let Ok(head) = &head {
        let proxied = proxied.as_ref().expect("a proxy takes what a server takes");
        assert!(head.fields().eq(proxied.fields()));
        assert_eq!((head.minor(), head.is_chunked()), (1, false));
        assert_eq!(head.content_length(), proxied.content_length());
    }
    if let Ok(proxied) = proxied {
        assert!(head.is_ok() || proxied.minor() == 0 || proxied.is_chunked());
        check(data, &proxied);
    }
});

fn check(data: &[u8], head: &Head) {
    assert!(data.len() <= MAX_HEAD && data.ends_with(b"\r\n\r\n"));
    assert_eq!(head.raw(), data);
    assert_eq!(data.windows(4).filter(|w| *w == b"\r\n\r\n").count(), 1, "more than one head");

    let fields: Vec<_> = head.fields().collect();
    assert!(fields.len() <= MAX_FIELDS);
    let named = |name: &[u8]| fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count();
    let hosts = named(b"host");
    assert!(hosts == 1 || hosts == 0 && head.minor() == 0);
    assert_eq!(named(b"transfer-encoding"), usize::from(head.is_chunked()));
    assert!(!head.is_chunked() || head.minor() == 1 && head.content_length().is_none());
    assert_eq!(named(b"content-length"), usize::from(head.content_length().is_some()));
    assert!(head.content_length().is_none_or(|n| n < 1 << 63));
    let has_control = |v: &[u8]| v.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f);
    assert_eq!(head.has_control(), fields.iter().any(|(_, v)| has_control(v)));

    // Written anew, it is the same head.
    let version = format!(" HTTP/1.{}\r\n", head.minor());
    let mut anew = [head.method(), b" ", head.target(), version.as_bytes()].concat();
    for (name, value) in &fields {
        anew.extend([name, b": ".as_slice(), value, b"\r\n"].concat());
        assert!(!value.contains(&b'\r') && !value.contains(&b'\n') && !value.starts_with(b" "));
    }
    anew.extend(b"\r\n");
    if anew.len() <= MAX_HEAD {
        let again = Head::parse_as(anew.into(), Grammar::Proxy).expect("a head written anew");
        assert!(again.fields().eq(head.fields()));
        assert_eq!((again.method(), again.target()), (head.method(), head.target()));
        assert_eq!((again.content_length(), again.is_chunked()), (head.content_length(), head.is_chunked()));
    }

    // The engine reads nothing else into it. Heads with controls are refused before they get there.
    if head.has_control() {
        return;
    }
    let mut slots = [httparse::EMPTY_HEADER; 256];
    let mut engine = httparse::Request::new(&mut slots);
    match engine.parse(data) {
        Ok(httparse::Status::Complete(n)) => assert_eq!(n, data.len()),
        Ok(httparse::Status::Partial) => panic!("the engine waits for more"),
        // A target that it cannot read goes no further than the grammar.
        Err(_) => return assert!(!head.target().is_ascii(), "the engine refuses it"),
    }
    assert_eq!(engine.version, Some(head.minor()));
    assert_eq!(engine.method.map(str::as_bytes), Some(head.method()));
    assert_eq!(engine.path.map(str::as_bytes), Some(head.target()));
    assert_eq!(engine.headers.len(), fields.len());
    for (theirs, (name, value)) in engine.headers.iter().zip(&fields) {
        assert_eq!((theirs.name.as_bytes(), theirs.value), (*name, value.trim_ascii_end()));
    }
}
