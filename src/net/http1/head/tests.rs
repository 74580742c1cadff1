//! Promises of the grammar of request heads.

use proptest::prelude::*;

use super::*;

fn parse(text: &[u8]) -> Result<Head, HeadProblem> {
    Head::parse(Bytes::copy_from_slice(text))
}

fn parse_as_proxy(text: &[u8]) -> Result<Head, HeadProblem> {
    Head::parse_as(Bytes::copy_from_slice(text), Grammar::Proxy)
}

#[test]
fn a_head_of_the_client_is_kept_byte_for_byte() {
    let head = parse(
        b"PUT http://h:1/a//b%c3 HTTP/1.1\r\nHost: h:1\r\nx-next-wire-file: a \xff b  \r\nContent-Length: 12\r\n\r\n",
    )
    .unwrap();
    assert_eq!(head.method(), b"PUT");
    assert_eq!(head.target(), b"http://h:1/a//b%c3");
    assert_eq!(head.field("X-Next-Wire-File"), Some(&b"a \xff b  "[..]));
    assert_eq!(head.content_length(), Some(12));
    assert!(!head.has_control());
}

#[test]
fn the_last_of_two_equal_fields_counts() {
    let head = parse(b"GET / HTTP/1.1\r\nHost: h\r\na: 1\r\nA:2\r\n\r\n").unwrap();
    assert_eq!(head.field("a"), Some(&b"2"[..]));
}

#[test]
fn a_control_in_a_value_is_told_but_leaves_the_framing_sound() {
    for value in ["a\x07b", "a\x00b", "a\x7fb"] {
        assert!(parse(format!("GET / HTTP/1.1\r\nHost: h\r\nn: {value}\r\n\r\n").as_bytes()).unwrap().has_control());
    }
    assert!(!parse(b"GET / HTTP/1.1\r\nHost: h\r\nn: a\tb\r\n\r\n").unwrap().has_control());
}

#[test]
fn every_smuggling_form_is_refused() {
    use HeadProblem::*;
    let cases: &[(&[u8], HeadProblem)] = &[
        (b"GET / HTTP/1.1\nHost: h\r\n\r\n", LineEnd),
        (b"GET / HTTP/1.1\r\nHost: h\na: b\r\n\r\n", LineEnd),
        (b"GET / HTTP/1.1\r\nHost: h\r\na: b\rc\r\n\r\n", LineEnd),
        (b"GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", Folded),
        (b"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", FieldName),
        (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", FieldName),
        (b"GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", FieldName),
        (b"GET / HTTP/1.1\r\n\r\n", Host),
        (b"GET / HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n", Host),
        (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", ContentLength),
        (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n", ContentLength),
        (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n", ContentLength),
        (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: \r\n\r\n", ContentLength),
        (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709451616\r\n\r\n", ContentLength),
        (b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncoding),
        (b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine),
        (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine),
        (b"GET / HTTP/1.0\r\nHost: h\r\n\r\n", RequestLine),
        (b"GET / HTTP/2\r\nHost: h\r\n\r\n", RequestLine),
        (b"GET /\x07 HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine),
        (b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine),
    ];
    for (text, problem) in cases {
        assert_eq!(parse(text).unwrap_err(), *problem, "{}", text.escape_ascii());
    }
}

#[test]
fn the_hundred_and_first_field_is_refused() {
    let head = |n: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(n - 1));
    assert!(parse(head(MAX_FIELDS).as_bytes()).is_ok());
    assert_eq!(parse(head(MAX_FIELDS + 1).as_bytes()).unwrap_err(), HeadProblem::TooManyFields);
}

#[test]
fn a_proxy_takes_chunked_bodies_and_http_1_0() {
    let head = parse_as_proxy(b"POST http://h/ HTTP/1.1\r\nHost: h\r\ntransfer-encoding:  ChunKed \r\n\r\n").unwrap();
    assert!(head.is_chunked());
    assert_eq!((head.minor(), head.content_length()), (1, None));
    let head = parse_as_proxy(b"GET http://h/ HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((head.minor(), head.is_chunked()), (0, false));
    let head = parse_as_proxy(b"POST http://h/ HTTP/1.0\r\nHost: h\r\nContent-Length: 3\r\n\r\n").unwrap();
    assert_eq!((head.minor(), head.content_length()), (0, Some(3)));
}

#[test]
fn a_proxy_refuses_what_an_origin_could_read_otherwise() {
    use HeadProblem::*;
    let cases: &[(&str, HeadProblem)] = &[
        ("HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n", TransferEncoding),
        ("HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n", TransferEncoding),
        ("HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", TransferEncoding),
        ("HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n", TransferEncoding),
        ("HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n", TransferEncoding),
        ("HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n", TransferEncoding),
        ("HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n", TransferEncoding),
        ("HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked;a=b\r\n", TransferEncoding),
        ("HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: ,chunked\r\n", TransferEncoding),
        ("HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n", TransferEncoding),
        ("HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n", TransferEncoding),
        ("HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n", FieldName),
        ("HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n chunked\r\n", Folded),
        ("HTTP/1.1\r\nHost: h\r\nContent-Length: 3\x0c\r\n", ContentLength),
        ("HTTP/1.0\r\nContent-Length: 3\r\nContent-Length: 4\r\n", ContentLength),
        ("HTTP/1.1\r\n", Host),
        ("HTTP/1.0\r\nHost: h\r\nHost: h\r\n", Host),
        ("HTTP/1.2\r\nHost: h\r\n", RequestLine),
        ("HTTP/0.9\r\nHost: h\r\n", RequestLine),
        ("http/1.1\r\nHost: h\r\n", RequestLine),
        ("HTTP/1.0\nHost: h\r\n", LineEnd),
    ];
    for (text, problem) in cases {
        let text = format!("POST http://h/ {text}\r\n");
        assert_eq!(parse_as_proxy(text.as_bytes()).unwrap_err(), *problem, "{}", text.escape_debug());
    }
}

#[test]
fn a_list_is_read_over_all_fields_of_its_name() {
    let head = parse(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: a,,\tB \r\nconnection: Close\r\nx: keep-alive\r\n\r\n")
        .unwrap();
    assert_eq!(head.tokens("connection").collect::<Vec<_>>(), [b"a".as_slice(), b"B", b"Close"]);
    assert!(head.has_token("CONNECTION", "close") && head.has_token("connection", "b"));
    assert!(!head.has_token("connection", "keep-alive") && !head.has_token("connection", "clos"));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = (parse(&bytes), parse_as_proxy(&bytes));
    }

    #[test]
    fn what_a_server_takes_a_proxy_takes_alike(
        line in "(GET|PUT|p|) ?(/|x|\\*| )[ /a]? HTTP/1.[01]",
        fields in proptest::collection::vec(
            "(Host|host|content-length|Content-Length|Transfer-Encoding|a|)[ ]?:( |\t|)(h|1|chunked|9{19}|,|\x00)?[ ]?(\r\n|\r\n|\r\n|\n)", 0..5),
    ) {
        let text = format!("{line}\r\n{}\r\n", fields.concat());
        let (server, proxy) = (parse(text.as_bytes()), parse_as_proxy(text.as_bytes()));
        if let Ok(head) = server {
            let proxy = proxy.unwrap();
            prop_assert!(head.fields().eq(proxy.fields()));
            prop_assert_eq!((head.minor(), head.is_chunked()), (1, false));
            prop_assert_eq!(head.content_length(), proxy.content_length());
        } else if let Ok(head) = proxy {
            prop_assert!(head.minor() == 0 || head.is_chunked());
            prop_assert!(!head.is_chunked() || head.minor() == 1 && head.content_length().is_none());
        }
    }

    #[test]
    fn what_is_parsed_comes_out_as_it_went_in(
        names in proptest::collection::vec("[a-zA-Z][a-zA-Z-]{0,12}", 0..8),
        values in proptest::collection::vec(proptest::collection::vec(0x21u8..=0x7e, 0..40), 8),
    ) {
        let mut text = b"GET /x HTTP/1.1\r\nHost: h\r\n".to_vec();
        let named: Vec<_> = names.iter().filter(|n| !["host", "content-length", "transfer-encoding"].contains(&n.to_ascii_lowercase().as_str())).zip(&values).collect();
        for (name, value) in &named {
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
        let head = parse(&text).unwrap();
        let got: Vec<_> = head.fields().skip(1).collect();
        prop_assert_eq!(got.len(), named.len());
        for ((name, value), (n, v)) in named.iter().zip(got) {
            prop_assert_eq!(name.as_bytes(), n);
            prop_assert_eq!(value.as_slice(), v);
        }
    }
}
