//! Promises of the grammar of answers.

use proptest::prelude::*;

use super::*;

fn parse(text: &[u8]) -> Result<AnswerHead, AnswerProblem> {
    AnswerHead::parse(Bytes::copy_from_slice(text))
}

fn answer(text: &str) -> AnswerHead {
    parse(format!("{text}\r\n\r\n").as_bytes()).unwrap()
}

#[test]
fn an_answer_is_kept_byte_for_byte() {
    let text = b"HTTP/1.1 404 N\xf6t  found\r\nServer:  a \xff\tb \r\nserver:c\r\nContent-Length: 12 \r\n\r\n";
    let head = parse(text).unwrap();
    assert_eq!((head.status(), head.minor()), (404, 1));
    assert_eq!(head.raw(), &text[..]);
    assert_eq!(head.field("SERVER"), Some(&b"c"[..]));
    assert_eq!(head.fields().next(), Some((&b"Server"[..], &b"a \xff\tb "[..])));
    assert_eq!(head.fields().count(), 3);
    assert_eq!(head.body(b"GET"), BodyFraming::Length(12));
}

#[test]
fn a_status_line_needs_no_phrase() {
    for line in ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.0 200 OK"] {
        assert_eq!(answer(line).status(), 200);
    }
}

#[test]
fn every_body_ends_as_the_rfc_says() {
    use BodyFraming::{Chunked, Length, None, UntilClose};
    for (text, method, body) in [
        ("HTTP/1.1 200", "GET", UntilClose),
        ("HTTP/1.1 200\r\nContent-Length: 0", "GET", Length(0)),
        ("HTTP/1.1 200\r\nContent-Length: 5", "HEAD", None),
        ("HTTP/1.1 200\r\nContent-Length: 5", "head", Length(5)),
        ("HTTP/1.1 200\r\nTransfer-Encoding: CHUNKED ", "POST", Chunked),
        ("HTTP/1.1 200\r\nTransfer-Encoding: chunked", "HEAD", None),
        ("HTTP/1.0 200", "GET", UntilClose),
        ("HTTP/1.0 200\r\nContent-Length: 9223372036854775807", "GET", Length((1 << 63) - 1)),
        ("HTTP/1.1 100", "PUT", None),
        ("HTTP/1.1 101\r\nUpgrade: x", "GET", None),
        ("HTTP/1.1 204\r\nContent-Length: 0", "GET", None),
        ("HTTP/1.1 304\r\nContent-Length: 5", "GET", None),
        ("HTTP/1.1 304\r\nTransfer-Encoding: chunked", "GET", None),
        ("HTTP/1.1 407", "CONNECT", UntilClose),
    ] {
        assert_eq!(answer(text).body(method.as_bytes()), body, "{text}");
    }
}

#[test]
fn an_interim_answer_is_told_from_a_final_one() {
    for (status, interim) in [(100, true), (103, true), (199, true), (200, false), (204, false), (599, false)] {
        assert_eq!(answer(&format!("HTTP/1.1 {status} x")).is_interim(), interim);
    }
}

#[test]
fn a_connection_is_kept_as_the_version_and_the_origin_say() {
    for (text, kept) in [
        ("HTTP/1.1 200", true),
        ("HTTP/1.1 200\r\nConnection: keep-alive", true),
        ("HTTP/1.1 200\r\nConnection: x, Close", false),
        ("HTTP/1.1 200\r\nConnection: keep-alive\r\nconnection: close", false),
        ("HTTP/1.0 200", false),
        ("HTTP/1.0 200\r\nConnection: Keep-Alive", true),
        ("HTTP/1.0 200\r\nConnection: keep-alive, close", false),
    ] {
        assert_eq!(answer(text).keeps_alive(), kept, "{text}");
    }
}

#[test]
fn an_answer_that_a_client_could_read_otherwise_is_refused() {
    use AnswerProblem::*;
    let cases: &[(&[u8], AnswerProblem)] = &[
        (b"HTTP/1.1 200 OK\nA: b\r\n\r\n", LineEnd),
        (b"HTTP/1.1 200 OK\r\nA: b\n\r\n", LineEnd),
        (b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", LineEnd),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n", LineEnd),
        (b"HTTP/1.1 200 OK\r\n\r\nbody", LineEnd),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Folded),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", FieldName),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", FieldName),
        (b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n", Control),
        (b"HTTP/1.1 200 OK\r\nA: \x7f\r\n\r\n", Control),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", ContentLength),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 6\r\n\r\n", ContentLength),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", ContentLength),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", ContentLength),
        (b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", ContentLength),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n", ContentLength),
        (b"HTTP/1.1 204 OK\r\nContent-Length: 5\r\n\r\n", ContentLength),
        (b"HTTP/1.1 100 OK\r\nContent-Length: 5\r\n\r\n", ContentLength),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncoding),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", TransferEncoding),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncoding),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", TransferEncoding),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncoding),
        (b"HTTP/1.1 204 OK\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncoding),
        (b"\r\n", StatusLine),
        (b"HTTP/1.1\r\n\r\n", StatusLine),
        (b"HTTP/1.1 20\r\n\r\n", StatusLine),
        (b"HTTP/1.1 2000\r\n\r\n", StatusLine),
        (b"HTTP/1.1 099\r\n\r\n", StatusLine),
        (b"HTTP/1.1  200\r\n\r\n", StatusLine),
        (b"HTTP/1.1 200\tOK\r\n\r\n", StatusLine),
        (b"HTTP/1.1 200 O\x00K\r\n\r\n", StatusLine),
        (b"HTTP/1.2 200 OK\r\n\r\n", StatusLine),
        (b"HTTP/2 200 OK\r\n\r\n", StatusLine),
        (b"http/1.1 200 OK\r\n\r\n", StatusLine),
        (b" HTTP/1.1 200 OK\r\n\r\n", StatusLine),
        (b"ICY 200 OK\r\n\r\n", StatusLine),
    ];
    for (text, problem) in cases {
        assert_eq!(parse(text).unwrap_err(), *problem, "{}", text.escape_ascii());
    }
}

#[test]
fn fields_and_size_have_their_limits() {
    let many = |n: usize| format!("HTTP/1.1 200\r\n{}\r\n", "a: b\r\n".repeat(n));
    assert!(parse(many(MAX_ANSWER_FIELDS).as_bytes()).is_ok());
    assert_eq!(parse(many(MAX_ANSWER_FIELDS + 1).as_bytes()).unwrap_err(), AnswerProblem::TooManyFields);
    let large = |n: usize| format!("HTTP/1.1 200\r\na:{}\r\n\r\n", "b".repeat(n - 20)).into_bytes();
    for (n, fits) in [(MAX_ANSWER_HEAD, true), (MAX_ANSWER_HEAD + 1, false)] {
        assert_eq!(large(n).len(), n);
        assert_eq!(parse(&large(n)).is_ok(), fits);
        assert_eq!(AnswerHead::end(&large(n), &mut 0), if fits { Ok(Some(n)) } else { Err(AnswerProblem::TooLarge) });
    }
    assert_eq!(AnswerHead::end(&large(MAX_ANSWER_HEAD + 4)[..MAX_ANSWER_HEAD], &mut 0), Err(AnswerProblem::TooLarge));
}

#[test]
fn a_head_that_broke_a_rule_is_not_waited_for() {
    for (text, problem) in [
        ("HTTQ", AnswerProblem::StatusLine),
        ("SSH-2.0-x\r\n", AnswerProblem::StatusLine),
        ("HTTP/1.1 200 OK\n", AnswerProblem::LineEnd),
        ("HTTP/1.1 200 OK\r\nA: b\n\n", AnswerProblem::LineEnd),
        ("HTTP/1.1 200 OK\rA", AnswerProblem::LineEnd),
    ] {
        assert_eq!(AnswerHead::end(text.as_bytes(), &mut 0), Err(problem));
        let mut seen = 0;
        let byte_by_byte = (0..=text.len()).find_map(|n| AnswerHead::end(&text.as_bytes()[..n], &mut seen).err());
        assert_eq!(byte_by_byte, Some(problem));
    }
    assert_eq!(AnswerHead::end(b"HTTP/1.1 200 OK\r", &mut 0), Ok(None));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
        let _ = parse(&[b"HTTP/1.1 200 OK\r\n", bytes.as_slice()].concat());
        let _ = AnswerHead::end(&bytes, &mut 0);
    }

    #[test]
    fn what_is_parsed_comes_out_as_it_went_in(
        minor in 0u8..2,
        status in 200u16..1000,
        phrase in "( [ -~]{0,20})?",
        fields in proptest::collection::vec(("x-[a-zA-Z-]{0,12}", "([!-~][ -~]{0,30})?"), 0..8),
        behind in proptest::collection::vec(any::<u8>(), 0..20),
        pieces in proptest::collection::vec(1usize..20, 1..6),
    ) {
        let lines: String = fields.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        let text = format!("HTTP/1.{minor} {status}{phrase}\r\n{lines}\r\n");
        let head = parse(text.as_bytes()).unwrap();
        prop_assert_eq!((head.minor(), head.status()), (minor, status));
        prop_assert!(head.fields().eq(fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()))));

        let bytes = [text.as_bytes(), &behind].concat();
        let (mut seen, mut here, mut pieces) = (0, 0, pieces.iter().cycle());
        let end = loop {
            here = (here + pieces.next().unwrap()).min(bytes.len());
            if let Some(end) = AnswerHead::end(&bytes[..here], &mut seen).unwrap() {
                break end;
            }
        };
        prop_assert_eq!(end, text.len());
    }

    #[test]
    fn the_framing_of_what_is_taken_has_one_reading(
        status in "(100|200|204|304)", minor in 0u8..2,
        fields in proptest::collection::vec(
            "(content-length|Content-Length|Transfer-Encoding):( |\t)?(0|5|chunked|Chunked|gzip|)( |,|)", 0..3),
    ) {
        let text = format!("HTTP/1.{minor} {status}\r\n{}\r\n", fields.iter().map(|f| format!("{f}\r\n")).collect::<String>());
        if let Ok(head) = parse(text.as_bytes()) {
            prop_assert!(fields.len() <= 1);
            let body = head.body(b"GET");
            let value = fields.first().map(|f| f.split_once(':').unwrap().1.trim().to_ascii_lowercase());
            match value.as_deref() {
                _ if status != "200" => prop_assert_eq!(body, BodyFraming::None),
                None => prop_assert_eq!(body, BodyFraming::UntilClose),
                Some("chunked") => prop_assert!(body == BodyFraming::Chunked && minor == 1),
                Some(n) => prop_assert_eq!(body, BodyFraming::Length(n.parse().unwrap())),
            }
        }
    }
}
