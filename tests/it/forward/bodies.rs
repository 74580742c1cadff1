//! Bodies of requests and answers: each framing passes byte for byte, and ends where the other side says.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::support::{
    noise,
    peer::{keep, read_head},
};

/// A server that has heard a head and this many bytes more says this, and keeps what it heard.
async fn hears(bytes: usize, answer: &'static [u8]) -> (Peer, Arc<Mutex<Vec<u8>>>) {
    let heard = Arc::<Mutex<Vec<u8>>>::default();
    let into = heard.clone();
    let peer = Peer::start(move |mut stream| {
        let into = into.clone();
        async move {
            let (_, mut body) = read_head(&mut stream).await;
            while body.len() < bytes && stream.read_buf(&mut body).await.unwrap_or(0) > 0 {}
            *into.lock().unwrap() = body;
            say(&mut stream, answer).await;
            let _ = stream.shutdown().await;
            // What still comes is read, so that nothing is reset.
            while stream.read(&mut [0; 4096]).await.unwrap_or(0) > 0 {}
        }
    });
    (peer.await, heard)
}

const CREATED: &[u8] = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_a_length_passes_both_ways() {
    let egress = Egress::open().await;
    let body = noise(2_000_000, 5);
    let sent = body.clone();
    let origin = Origin::start(move |heard| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", heard.body.len());
        [head.as_bytes(), &heard.body].concat()
    })
    .await;
    let mut wire = egress.wire().await;
    for method in ["PUT", "POST", "DELETE"] {
        let head = absolute(method, origin.address(), "/", &format!("Content-Length: {}\r\n", sent.len()));
        assert_eq!(wire.ask(&[head, sent.clone()].concat()).await.status, 200);
        assert!(wire.body(sent.len()).await == body, "{method}");
    }
    let record = egress.record(3).await;
    assert_eq!((&record["bytes_uploaded"], &record["bytes_downloaded"]), (&2_000_000.into(), &2_000_000.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_extensions_and_trailers_pass_as_they_are() {
    let egress = Egress::open().await;
    let chunks =
        b"5;name=\"v;\"\r\nhello\r\n0003\r\nyou\r\nA\r\n0123456789\r\n0;last\r\nX-Trailer: 1 \r\nX-More: \xff\r\n\r\n";
    let (origin, heard) = hears(chunks.len(), CREATED).await;
    let mut wire = egress.wire().await;
    let head = absolute("PUT", origin.address, "/", "Transfer-Encoding: chunked\r\nTrailer: X-Trailer\r\n");
    assert_eq!(wire.ask(&[&head, &chunks[..]].concat()).await.status, 201);
    assert_eq!(wire.body(2).await, b"ok");
    assert_eq!(*heard.lock().unwrap(), chunks);
    let answering = Origin::start(move |_| {
        [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Trailer\r\n\r\n"[..], chunks].concat()
    })
    .await;
    for _ in 0..2 {
        let reply = wire.ask(&get_of(answering.address())).await;
        assert_eq!(
            (reply.field("transfer-encoding"), reply.field("connection")),
            (Some("chunked"), Some("keep-alive"))
        );
        assert_eq!(wire.body(chunks.len()).await, chunks);
    }
    assert_eq!(answering.connections(), 1, "the end of the chunks was seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_byte_by_byte_goes_on_as_it_comes() {
    let egress = Egress::open().await;
    let chunks = b"3\r\nabc\r\n0\r\n\r\n";
    let peer = Peer::start(|mut stream| async move {
        let (_, mut body) = read_head(&mut stream).await;
        say(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n").await;
        let mut told = 0;
        while told < 13 {
            while told < body.len() {
                say(&mut stream, &body[told..=told]).await;
                told += 1;
            }
            stream.read_buf(&mut body).await.unwrap();
        }
    })
    .await;
    let mut wire = egress.wire().await;
    wire.send(&absolute("POST", peer.address, "/", "Transfer-Encoding: chunked\r\n")).await;
    assert_eq!(wire.head().await.status, 200, "the answer may begin before the request is whole");
    for byte in chunks.chunks(1) {
        wire.send(byte).await;
        assert_eq!(wire.body(1).await, byte, "nothing is held back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_with_its_connection_ends_the_clients_too() {
    let egress = Egress::open().await;
    for answer in [&b"HTTP/1.1 200 OK\r\n\r\nall there is"[..], b"HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\nall there is"] {
        let (origin, _) = hears(0, answer).await;
        let mut wire = egress.wire().await;
        let reply = wire.ask(&get_of(origin.address)).await;
        assert_eq!((reply.status, reply.field("connection")), (200, Some("close")));
        assert!(reply.text.starts_with("HTTP/1.1 ") && reply.field("content-length").is_none(), "{reply:?}");
        assert_eq!(wire.rest().await, b"all there is");
    }
    assert!(egress.records(2).await.iter().all(|record| record["outcome"] == "closed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_end_with_their_head() {
    let egress = Egress::open().await;
    let origin = Origin::start(|heard| {
        let answer = match heard.lines()[0].split(' ').nth(1).unwrap() {
            "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
            "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        };
        answer.into()
    })
    .await;
    let mut wire = egress.wire().await;
    for (method, path, status, length) in [
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, Some("5")),
        ("HEAD", "/head", 200, Some("1000")),
        ("HEAD", "/chunked", 200, None),
        ("GET", "/", 200, Some("0")),
    ] {
        let reply = wire.ask(&absolute(method, origin.address(), path, "")).await;
        assert_eq!((reply.status, reply.field("content-length")), (status, length), "{method} {path}");
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_is_heard_while_the_upload_goes_on() {
    let egress = Egress::open().await;
    let origin = Peer::start(|mut stream| async move {
        let (_, body) = read_head(&mut stream).await;
        say(&mut stream, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
        stream.read_exact(&mut vec![0; 1_000_000 - body.len()]).await.unwrap();
        let (head, _) = read_head(&mut stream).await;
        if !head.is_empty() {
            say(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let mut wire = egress.wire().await;
    let head = absolute("PUT", origin.address, "/", "Content-Length: 1000000\r\n");
    wire.send(&[head, noise(1000, 1)].concat()).await;
    assert_eq!((wire.head().await.status, wire.body(2).await), (403, b"no".to_vec()));
    wire.send(&noise(999_000, 2)).await;
    let reply = wire.ask(&get_of(origin.address)).await;
    assert_eq!(reply.status, 200, "the rest of the upload was no request");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_of_an_origin_that_closes_is_heard_whole() {
    let egress = Egress::open().await;
    let origin = Peer::start(|mut stream| async move {
        read_head(&mut stream).await;
        say(&mut stream, b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno").await;
        let _ = stream.shutdown().await;
    })
    .await;
    for _ in 0..10 {
        let mut wire = egress.wire().await;
        let head = absolute("PUT", origin.address, "/", "Content-Length: 300000\r\n");
        wire.send(&[head, noise(100_000, 1)].concat()).await;
        assert_eq!((wire.head().await.status, wire.body(2).await), (413, b"no".to_vec()));
        // Now or later, but not for ever, the rest is not wanted.
        wire.try_send(&noise(200_000, 2)).await;
    }
    egress.is_calm().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_broken_off_at_the_origin_too() {
    let egress = Egress::open().await;
    for (lines, body) in [("Content-Length: 100\r\n", &b"half"[..]), ("Transfer-Encoding: chunked\r\n", b"A\r\nhalf")] {
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let origin = Peer::start(move |mut stream| {
            let told = told.clone();
            async move {
                let (_, mut body) = read_head(&mut stream).await;
                while stream.read_buf(&mut body).await.unwrap_or(0) > 0 {}
                told.send(body).unwrap();
            }
        })
        .await;
        let mut wire = egress.wire().await;
        wire.send(&[absolute("PUT", origin.address, "/", lines), body.to_vec()].concat()).await;
        wire.finish().await;
        assert_eq!(wire.rest().await, b"", "nobody waits for an answer");
        assert_eq!(heard.recv().await.unwrap(), body);
    }
    for record in egress.records(2).await {
        assert_eq!((&record["outcome"], &record["reason"]), (&"client_lost".into(), &"client_lost".into()), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_broken_off_for_the_client_too() {
    let egress = Egress::open().await;
    for (answer, n) in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ]
    .into_iter()
    .zip(1..)
    {
        let (origin, _) = hears(0, answer).await;
        let mut wire = egress.wire().await;
        assert_eq!(wire.ask(&get_of(origin.address)).await.status, 200);
        let rest = wire.rest().await;
        assert!(rest == b"half" || rest == b"4\r\nhalf\r\n", "{}", rest.escape_ascii());
        let record = egress.record(n).await;
        assert_eq!((&record["outcome"], &record["reason"]), (&"target_lost".into(), &"node_lost".into()), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_the_connection_to_the_origin_with_it() {
    let egress = Egress::open().await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let origin = Peer::start(move |mut stream| {
        let told = told.clone();
        async move {
            read_head(&mut stream).await;
            told.send("asked").unwrap();
            while stream.read(&mut [0; 64]).await.unwrap_or(0) > 0 {}
            told.send("left").unwrap();
        }
    })
    .await;
    let mut wire = egress.wire().await;
    wire.send(&get_of(origin.address)).await;
    assert_eq!(heard.recv().await, Some("asked"));
    drop(wire);
    assert_eq!(heard.recv().await, Some("left"));
    assert_eq!(egress.record(1).await["outcome"], "client_lost");
    egress.is_calm().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_stops_the_origin() {
    let egress = Egress::open().await;
    let sent = Arc::<AtomicUsize>::default();
    let count = sent.clone();
    let origin = Peer::start(move |mut stream| {
        let count = count.clone();
        async move {
            read_head(&mut stream).await;
            say(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
            let piece = vec![b'x'; 65536];
            while stream.write_all(&piece).await.is_ok() {
                count.fetch_add(piece.len(), Ordering::SeqCst);
            }
        }
    })
    .await;
    let mut wire = egress.wire().await;
    assert_eq!(wire.ask(&get_of(origin.address)).await.status, 200);
    let (mut before, mut still) = (usize::MAX, 0);
    eventually("the origin stops", || {
        let now = sent.load(Ordering::SeqCst);
        still = if now == before { still + 1 } else { 0 };
        before = now;
        (still > 60).then_some(())
    })
    .await;
    assert!(before < 100_000_000, "{before} bytes for a client that reads none");
    assert_eq!(wire.body(1_000_000).await, vec![b'x'; 1_000_000]);
    drop(wire);
    egress.is_calm().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_in_which_nothing_moves_is_ended() {
    let egress = Setup::new(OPEN).top("timeouts: {tunnel_idle: 300ms}").start().await;
    let silent = Peer::start(keep).await;
    egress.refuses(1, &get_of(silent.address), 504, "stalled").await;
    let half = Peer::start(|mut stream| async move {
        read_head(&mut stream).await;
        say(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
        keep(stream).await;
    })
    .await;
    let mut wire = egress.wire().await;
    assert_eq!(wire.ask(&get_of(half.address)).await.status, 200);
    assert_eq!(wire.rest().await, b"half");
    let record = egress.record(2).await;
    assert_eq!((&record["outcome"], &record["reason"]), (&"idle".into(), &"stalled".into()), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_fails_before_its_answer_is_a_502_with_a_word() {
    let egress = Egress::open().await;
    let many = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "v".repeat(70_000)).into_bytes();
    let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: v\r\n".repeat(300)).into_bytes();
    let answers: Vec<(&[u8], &str)> = vec![
        (b"", "node_lost"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "node_lost"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "node_bad_answer"),
        (b"<html>\r\n\r\n", "node_bad_answer"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "node_bad_answer"),
        (b"HTTP/1.1 20x OK\r\n\r\n", "node_bad_answer"),
        (b"HTTP/1.1 200 OK\nX: y\n\n", "node_bad_answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "node_bad_answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "node_bad_answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na", "node_bad_answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na", "node_bad_answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na", "node_bad_answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "node_bad_answer"),
        (b"HTTP/1.1 200 OK\r\nX-A: 1\r\n folded\r\n\r\n", "node_bad_answer"),
        (b"HTTP/1.1 200 OK\r\nX-A : 1\r\n\r\n", "node_bad_answer"),
        (b"HTTP/1.1 200 OK\r\nX-A: \0\r\n\r\n", "node_bad_answer"),
        (&many, "node_bad_answer"),
        (&fields, "node_bad_answer"),
    ];
    for ((answer, word), n) in answers.into_iter().zip(1..) {
        let answer: &'static [u8] = answer.to_vec().leak();
        let (origin, _) = hears(0, answer).await;
        let reply = egress.refuses(n, &get_of(origin.address), 502, word).await;
        assert_eq!(reply.field("connection"), Some("keep-alive"), "the client's connection is sound");
        let record = egress.record(n).await;
        assert_eq!(record["outcome"], "failed", "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_leaves_after_an_interim_answer_is_a_502_all_the_same() {
    let egress = Egress::open().await;
    let (origin, _) = hears(0, b"HTTP/1.1 100 Continue\r\n\r\n").await;
    let mut wire = egress.wire().await;
    assert_eq!(wire.ask(&get_of(origin.address)).await.status, 100);
    says(&wire.head().await, 502, "node_lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_none_from_the_beginning_are_a_502() {
    let egress = Egress::open().await;
    let (origin, _) = hears(0, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nGET").await;
    egress.refuses(1, &get_of(origin.address), 502, "node_bad_answer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_none_end_the_exchange_in_the_middle() {
    let egress = Egress::open().await;
    let more = Arc::<tokio::sync::Notify>::default();
    let go = more.clone();
    let origin = Peer::start(move |mut stream| {
        let go = go.clone();
        async move {
            read_head(&mut stream).await;
            say(&mut stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
            go.notified().await;
            say(&mut stream, b"xyz\r\nGET").await;
            keep(stream).await;
        }
    })
    .await;
    let mut wire = egress.wire().await;
    assert_eq!(wire.ask(&get_of(origin.address)).await.status, 200);
    assert_eq!(wire.body(8).await, b"3\r\nabc\r\n");
    more.notify_one();
    assert_eq!(wire.rest().await, b"");
    let record = egress.record(1).await;
    assert_eq!((&record["outcome"], &record["reason"]), (&"failed".into(), &"node_bad_answer".into()), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_gets_no_chunks() {
    let egress = Egress::open().await;
    let (origin, _) = hears(0, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    let mut wire = egress.wire().await;
    let reply = wire.ask(format!("GET http://{}/ HTTP/1.0\r\n\r\n", origin.address).as_bytes()).await;
    says(&reply, 502, "node_bad_answer");
    assert_eq!(wire.rest().await, b"");
}
