//! Heads, targets, names and dates.

use proptest::prelude::*;

use super::super::date::http_date;
use super::super::head::{Head, Target, element, elements};
use super::super::listing::zero_size;
use super::super::percent::{decode, encode_into};
use super::super::store::{partial_of, relative};

fn encode(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(name, &mut out);
    out
}

proptest! {
    #[test]
    fn encoding_is_reversible_and_plain(name in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = encode(&name);
        prop_assert_eq!(decode(&text).into_owned(), name);
        prop_assert!(text.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.~/%".contains(b)));
        prop_assert!(!text.iter().any(u8::is_ascii_uppercase) || decode(&text).iter().any(u8::is_ascii_uppercase));
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,40}") {
        let _ = decode(&bytes);
        let _ = Target::parse(&bytes);
        let head = Head::new(bytes.clone());
        let _ = (head.line(), head.fields().count(), head.number("a"));
        let _ = element(&bytes, "token");
        if let Some(path) = relative(&bytes) {
            prop_assert!(path.is_relative());
            let plain = path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
            prop_assert!(plain);
        }
        let _ = text.parse::<super::super::Fault>();
    }

    #[test]
    fn any_name_survives_the_target(name in prop::collection::vec(any::<u8>(), 1..200)) {
        let mut target = b"http://h:1/aspera/http/id/file/".to_vec();
        target.extend(encode(&name));
        target.extend(b"/u.ashttp");
        prop_assert_eq!(Target::parse(&target).unwrap().name, name);
    }
}

#[test]
fn encoding_of_some_names() {
    assert_eq!(encode("é 漢%~-_.".as_bytes()), b"%c3%a9%20%e6%bc%a2%25~-_.");
    assert_eq!(encode(b"a/b\t"), b"a/b%09");
    assert_eq!(&*decode(b"%4a%zz%"), b"J%zz%");
}

#[test]
fn targets() {
    let target = Target::parse(b"https://H:443/aspera/https/id/mgmt_msg//u.ashttp").unwrap();
    assert_eq!((target.operation.as_str(), target.name.len()), ("mgmt_msg", 0));
    let target = Target::parse(b"/aspera/http/id/file/d/f%201/u.ashttp").unwrap();
    assert_eq!(target.name, b"d/f 1");
    for bad in
        ["", "/", "http://", "/aspera/ftp/i/file/a/u.ashttp", "/aspera/http/i/file/a", "h:1", "/aspera/http/i/file/a/u"]
    {
        assert_eq!(Target::parse(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn field_values_keep_trailing_blanks() {
    let head = Head::new(b"GET / HTTP/1.1\r\nA:  x y  \r\nb:1\r\nB: 22 \r\n\r\n".to_vec());
    assert_eq!(head.line(), b"GET / HTTP/1.1");
    assert_eq!(head.field("a"), Some(&b"x y  "[..]));
    assert_eq!(head.number("b"), Some(22));
    assert_eq!(head.fields().count(), 3);
}

#[test]
fn elements_are_scanned_not_parsed() {
    let body = b"<token>a<b>&</token><source>1</source>\n<source></source><source>x";
    assert_eq!(element(body, "token"), Some(&b"a<b>&"[..]));
    assert_eq!(elements(body, "source").collect::<Vec<_>>(), [&b"1"[..], b""]);
}

#[test]
fn dates_and_sizes() {
    assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    assert_eq!(http_date(951_782_399), "Mon, 28 Feb 2000 23:59:59 GMT");
    assert_eq!(http_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
    assert_eq!(http_date(1_795_334_359), "Sun, 22 Nov 2026 07:59:19 GMT");
    assert_eq!(zero_size(b"x.12b"), Some(12));
    assert_eq!((zero_size(b"x.b"), zero_size(b"12b"), zero_size(b"x.+1b")), (None, None, None));
}

#[test]
fn partial_names_fit() {
    let long = "n".repeat(255);
    let partial = partial_of(std::path::Path::new(&long));
    assert!(partial.as_os_str().len() <= 255);
    assert_eq!(partial_of("d/f".as_ref()), std::path::Path::new("d/f.partial"));
}
