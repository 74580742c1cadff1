//! The head of an answer that is let through has one reading: that of another parser, and the same written anew.

#![no_main]

use bytes::Bytes;
use fallgate::net::http1::{AnswerHead, BodyFraming, MAX_ANSWER_FIELDS, MAX_ANSWER_HEAD};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The end is the same in whatever pieces the head comes, or a problem is.
    let (mut seen, mut end) = (0, Ok(None));
    for here in 1..=data.len() {
        end = AnswerHead::end(&data[..here], &mut seen);
        if !matches!(end, Ok(None)) {
            break;
        }
    }
    let Ok(head) = AnswerHead::parse(Bytes::copy_from_slice(data)) else { return };
    assert_eq!(end, Ok(Some(data.len())));
    assert_eq!(AnswerHead::end(data, &mut 0), Ok(Some(data.len())));
    assert!(data.len() <= MAX_ANSWER_HEAD);
    assert_eq!(head.raw(), data);
    assert!((100..1000).contains(&head.status()));

    let fields: Vec<_> = head.fields().collect();
    assert!(fields.len() <= MAX_ANSWER_FIELDS);
    let named = |name: &[u8]| fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count();
    assert!(named(b"content-length") + named(b"transfer-encoding") <= 1);
    assert_eq!(head.body(b"HEAD"), BodyFraming::None);
    match head.body(b"GET") {
        BodyFraming::None => assert!(head.is_interim() || [204, 304].contains(&head.status())),
        BodyFraming::Length(n) => assert!(n < 1 << 63 && named(b"content-length") == 1),
        BodyFraming::Chunked => assert!(head.minor() == 1 && named(b"transfer-encoding") == 1),
        BodyFraming::UntilClose => assert_eq!(named(b"content-length") + named(b"transfer-encoding"), 0),
    }

    // Written anew, it is the same head.
    let mut anew = format!("HTTP/1.{} {}\r\n", head.minor(), head.status()).into_bytes();
    for (name, value) in &fields {
        anew.extend([name, b": ".as_slice(), value, b"\r\n"].concat());
    }
    anew.extend(b"\r\n");
    if anew.len() <= MAX_ANSWER_HEAD {
        let again = AnswerHead::parse(anew.into()).expect("a head written anew");
        assert!(again.fields().eq(head.fields()));
        assert_eq!((again.body(b"GET"), again.keeps_alive()), (head.body(b"GET"), head.keeps_alive()));
    }

    // The other parser reads nothing else into it.
    let mut slots = [httparse::EMPTY_HEADER; 256];
    let mut other = httparse::Response::new(&mut slots);
    match other.parse(data) {
        Ok(httparse::Status::Complete(n)) => assert_eq!(n, data.len()),
        other => panic!("{other:?}"),
    }
    assert_eq!((other.version, other.code), (Some(head.minor()), Some(head.status())));
    assert_eq!(other.headers.len(), fields.len());
    for (theirs, (name, value)) in other.headers.iter().zip(&fields) {
        assert_eq!((theirs.name.as_bytes(), theirs.value), (*name, value.trim_ascii_end()));
    }
});
