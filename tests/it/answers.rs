//! What a client reads when a node answers early, with a body, in between, in nonsense, or not to the end.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    streaming::{OK, begin, behind, one_node},
    support::{
        TOKEN, Wire, noise,
        peer::{Peer, pause, read_request, say},
        uuid,
        wire::{end, get, head, put, start, start_body},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_refuses_a_file_before_its_end_is_heard_and_the_next_file_goes() {
    for fault in ["put:1=drain:403", "put:1=early:403", "put:1=403"] {
        for size in [10, 100_000, 20 << 20] {
            let (sandbox, host, mut wire) = one_node(b"x", "").await;
            sandbox.nodes[0].set_faults(vec![fault.parse().unwrap()]);
            let id = begin(&mut wire, host, "put").await;
            let reply = wire.ask(&put(host, &id, "a", &noise(size, 1))).await;
            // A node that closes early may take its answer with it; then the gateway has a word.
            let right = reply.status == 403 || fault.contains("early") && reply.status == 502;
            assert!(right, "{fault} {size}: {reply:?}");
            assert_eq!(reply.field("content-length"), Some("0"));
            assert_eq!(wire.ask(&put(host, &id, "b", b"x")).await.status, 201, "{fault} {size}");
            assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_in_answers_to_put_and_post_never_reach_the_client() {
    let answers: [&[u8]; 4] = [
        b"HTTP/1.1 20S X\r\nContent-Length: 9\r\n\r\nnine byte",
        b"HTTP/1.1 20S X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        b"HTTP/1.1 20S X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 20S X\r\nConnection: close\r\n\r\nuntil the end",
    ];
    for answer in answers {
        let peer = Peer::start(move |mut stream| async move {
            while let Some((head, _)) = read_request(&mut stream).await {
                let digit = if head.starts_with(b"PUT") { b'1' } else { b'0' };
                let text: Vec<_> = answer.iter().map(|b| if *b == b'S' { digit } else { *b }).collect();
                say(&mut stream, &text).await;
                if text.windows(5).any(|w| w == b"close") {
                    return;
                }
            }
        })
        .await;
        let (_sandbox, host, mut wire) = behind(&peer, "").await;
        let id = begin(&mut wire, host, "put").await;
        for request in [put(host, &id, "a", b"x"), put(host, &id, "b", &noise(300_000, 1)), end(host, &id, "DONE")] {
            let reply = wire.ask(&request).await;
            assert!(matches!(reply.status, 200 | 201), "{reply:?}");
            assert_eq!(reply.field("content-length"), Some("0"), "{reply:?}");
            assert_eq!(reply.field("transfer-encoding"), None, "{reply:?}");
        }
        assert!(wire.is_quiet(Duration::from_millis(100)).await, "nothing after the answers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_pass_as_100_or_102_and_never_as_103() {
    let peer = Peer::start(|mut stream| async move {
        while let Some((head, _)) = read_request(&mut stream).await {
            for interim in ["102 Processing", "103 Early Hints", "100 Continue", "102 Processing"] {
                say(&mut stream, format!("HTTP/1.1 {interim}\r\nX: y\r\n\r\n").as_bytes()).await;
                pause(Duration::from_millis(20)).await;
            }
            let put = head.starts_with(b"PUT");
            say(&mut stream, if put { b"HTTP/1.1 201 X\r\nContent-Length: 0\r\n\r\n" } else { OK }).await;
        }
    })
    .await;
    let (_sandbox, host, mut wire) = behind(&peer, "").await;
    let id = uuid();
    let requests = [
        (start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[])), 200),
        (put(host, &id, "a", &noise(100_000, 1)), 201),
        (end(host, &id, "DONE"), 200),
    ];
    for (request, last) in requests {
        wire.send(&request).await;
        let mut interim = 0;
        let reply = loop {
            let reply = wire.head().await;
            if reply.status >= 200 {
                break reply;
            }
            assert!(matches!(reply.status, 100 | 102), "{reply:?}");
            interim += 1;
        };
        assert_eq!(reply.status, last);
        assert!(interim >= 3, "{interim}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_from_a_node_is_a_502_on_a_connection_in_step() {
    for raw in [
        r"hello\r\n\r\n",
        r"HTTP/2 200 OK\r\nA: b\r\n\r\n",
        r"HTTP/1.1 20 OK\r\nA: b\r\n\r\n",
        r"HTTP/1.1 201 OK\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
        r"HTTP/1.1 201 OK\r\nContent-Length: banana\r\n\r\n",
        r"HTTP/1.1 201 OK\r\nbroken\r\n\r\n",
        r"\x00\x01\x02\x03",
        r"",
    ] {
        let (sandbox, host, mut wire) = one_node(b"x", "").await;
        sandbox.nodes[0].set_faults(vec![format!("put:1=raw:{raw}").parse().unwrap()]);
        let id = begin(&mut wire, host, "put").await;
        let reply = wire.ask(&put(host, &id, "a", &noise(50_000, 1))).await;
        let words = ["node_bad_answer", "node_lost"];
        assert!(reply.status == 502 && words.contains(&reply.word()), "{raw}: {reply:?}");
        assert_eq!(wire.ask(&put(host, &id, "b", b"x")).await.status, 201, "{raw}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_in_answer_to_a_start_refuses_the_session_in_words_of_the_client() {
    let (sandbox, host, mut wire) = one_node(b"x", "").await;
    sandbox.nodes[0].set_faults(vec![r"start=raw:hello\r\n\r\n".parse().unwrap()]);
    let id = uuid();
    let reply = wire.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await;
    assert_eq!((reply.status, reply.field("x-real-mgmt-error")), (502, Some("39")));
    assert_eq!(wire.ask(&end(host, &id, "ERROR")).await.status, 200);
    assert_eq!(sandbox.records(1).await[0]["reason"], "node_bad_answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_its_node_breaks_off_is_a_cut_for_the_client() {
    for fault in ["get=rst@1000", "get=fin@1000"] {
        for tls in [false, true] {
            let (sandbox, mut host, mut wire) = one_node(&noise(500_000, 1), "").await;
            if tls {
                host = sandbox.address("tls").await;
                wire = Wire::tls(host, crate::support::tls()).await;
            }
            sandbox.nodes[0].set_faults(vec![fault.parse().unwrap()]);
            let id = begin(&mut wire, host, "get").await;
            let reply = wire.ask(&get(host, &id, "f", "")).await;
            assert_eq!((reply.status, reply.field("content-length")), (200, Some("500000")), "{fault}");
            let rest = timeout(Duration::from_secs(5), wire.rest()).await.expect("a cut");
            assert!(rest.len() <= 1000, "{fault}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_without_a_length_ends_for_the_client_and_the_connection_is_in_step_or_closed() {
    let answers: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nhello",
    ];
    for answer in answers {
        let peer = Peer::start(move |mut stream| async move {
            while let Some((head, _)) = read_request(&mut stream).await {
                let get = head.starts_with(b"GET");
                say(&mut stream, if get { answer } else { OK }).await;
                if get {
                    return;
                }
            }
        })
        .await;
        let (_sandbox, host, mut wire) = behind(&peer, "").await;
        let id = begin(&mut wire, host, "get").await;
        let reply = wire.ask(&get(host, &id, "f", "")).await;
        assert_eq!((reply.status, reply.field("content-length")), (200, None));
        if reply.field("transfer-encoding") == Some("chunked") {
            assert_eq!(wire.body(15).await, b"5\r\nhello\r\n0\r\n\r\n");
            assert_eq!(wire.ask(&end(host, &id, "ERROR")).await.status, 200);
        } else {
            let rest = timeout(Duration::from_secs(5), wire.rest()).await.expect("closed after the body");
            assert_eq!(rest, b"hello");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skipped_file_has_no_body_whatever_the_node_sends() {
    let peer = Peer::start(|mut stream| async move {
        while let Some((head, _)) = read_request(&mut stream).await {
            let get = head.starts_with(b"GET");
            say(
                &mut stream,
                if get { b"HTTP/1.1 200 OK\r\nx-next-wire-file: n\r\nContent-Length: 5\r\n\r\nhello" } else { OK },
            )
            .await;
        }
    })
    .await;
    let (_sandbox, host, mut wire) = behind(&peer, "").await;
    let id = begin(&mut wire, host, "get").await;
    let reply = wire.ask(&get(host, &id, "f", "x-Content-range: bytes 0-0/*\r\nx-skip-file: 1\r\n")).await;
    assert_eq!((reply.field("content-length"), reply.field("x-next-wire-file")), (Some("0"), Some("n")));
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_a_node_reach_the_client_in_their_case_and_bytes_and_number() {
    let peer = Peer::start(|mut stream| async move {
        while read_request(&mut stream).await.is_some() {
            let head = b"HTTP/1.1 200 OK\r\nx-Odd-CASE: 1\r\nx-next-wire-file: caf\xe9 \xc3\xa9\r\nX-Two: a\r\nX-Two: b\r\nx-next-file-start: -1\r\nServer: s\r\nContent-Length: 0\r\n\r\n";
            say(&mut stream, head).await;
        }
    })
    .await;
    let (_sandbox, host, mut wire) = behind(&peer, "").await;
    let id = uuid();
    for request in [start(host, &id, &start_body(&id, "get", TOKEN.as_bytes(), &[])), get(host, &id, "f", "")] {
        wire.send(&request).await;
        let head = wire.raw_head().await.escape_ascii().to_string();
        for line in [
            r"\r\nx-Odd-CASE: 1\r\n",
            r"\r\nx-next-wire-file: caf\xe9 \xc3\xa9\r\n",
            r"\r\nX-Two: a\r\nX-Two: b\r\n",
            r"\r\nx-next-file-start: -1\r\n",
            r"\r\nServer: s\r\n",
        ] {
            assert!(head.contains(line), "{line} in {head}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_would_harm_the_client_is_refused() {
    let put_lines = "Content-Length: 1\r\nx-next-wire-file: b\r\nx-next-wire-file-size: 10\r\n";
    for (field, passes) in [
        ("x-next-wire-file: a/../b", false),
        ("x-next-wire-file: ..", false),
        ("x-next-wire-file: a/..", false),
        ("x-next-wire-file: a..b/..c", true),
        ("x-next-file-start: 11", false),
        ("x-next-file-start: 18446744073709551615", false),
        ("x-next-file-start: 10", true),
        ("x-next-file-start: -1", true),
        ("x-next-file-start: word", true),
    ] {
        let (sandbox, host, mut wire) = one_node(b"x", "").await;
        let id = begin(&mut wire, host, "put").await;
        sandbox.nodes[0].set_faults(vec![format!("put=201,{field}").parse().unwrap()]);
        wire.send(&[&head("PUT", host, &id, "file/a", put_lines), &b"x"[..]].concat()).await;
        let reply = wire.head().await;
        let word = if field.starts_with("x-next-wire-file") { "node_bad_name" } else { "node_bad_start" };
        let wanted = if passes { (201, "") } else { (502, word) };
        assert_eq!((reply.status, reply.word()), wanted, "{field}");
        sandbox.nodes[0].set_faults(Vec::new());
        assert_eq!(wire.ask(&put(host, &id, "b", b"x")).await.status, 201, "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_next_file_keeps_its_trailing_blanks() {
    const NAMES: [&str; 4] = ["one ", "two \t ", "first \r\nX-Next-wire-FILE: last  ", "caf\u{e9} "];
    let peer = Peer::start(|mut stream| async move {
        while let Some((head, _)) = read_request(&mut stream).await {
            let asked = String::from_utf8_lossy(&head).split("/file/").nth(1).and_then(|t| t.get(..1)?.parse().ok());
            let name = NAMES[asked.unwrap_or(0usize)];
            // An interim head before it, and the head itself in two pieces.
            let text = format!("HTTP/1.1 102 X\r\nx-next-wire-file: no \r\n\r\nHTTP/1.1 200 X\r\nx-Next-wire-file: {name}\r\nContent-Length: 0\r\n\r\n");
            let (one, two) = text.as_bytes().split_at(text.len() - 30);
            say(&mut stream, one).await;
            pause(Duration::from_millis(20)).await;
            say(&mut stream, two).await;
        }
    })
    .await;
    let (_sandbox, host, mut wire) = behind(&peer, "").await;
    let id = uuid();
    wire.send(&start(host, &id, &start_body(&id, "get", TOKEN.as_bytes(), &[]))).await;
    for asked in 0..NAMES.len() {
        let mut head = wire.raw_head().await;
        while head.starts_with(b"HTTP/1.1 102") {
            head = wire.raw_head().await;
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let name = NAMES[asked.saturating_sub(1)].to_ascii_lowercase();
        let line = format!("\r\nx-next-wire-file: {name}\r\n");
        assert!(head.contains(&line), "{line:?} in {head:?}");
        wire.send(&get(host, &id, &asked.to_string(), "")).await;
    }
}
