//! Promises of the airlock where bodies are chunked and where an owner polls it by itself.

use std::{future::poll_fn, task::Poll};

use tokio::{
    io::ReadBuf,
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::*;
use crate::net::{http1::ChunkProblem, tcp::Conn};

const WAITS: Waits = Waits { first_byte: Duration::from_secs(5), head: Duration::from_secs(5) };
const IDLE: Duration = Duration::from_secs(5);
const HEAD: &str = "POST http://h/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
const BODY: &str = "5;x\r\nhello\r\n3\r\nyou\r\n0\r\nA: b\r\n\r\n";
/// Of a body that is as long as `BODY`.
const LONG: &str = "POST http://h/ HTTP/1.1\r\nHost: h\r\nContent-Length: 31\r\n\r\n";
const NEXT: &str = "GET http://h/next HTTP/1.0\r\n\r\n";

async fn pair() -> (TcpStream, Airlock) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.set_nodelay(true).unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    (client, Airlock::for_proxy(Transport::Plain(Conn::new(stream))))
}

/// The body as an owner pumps it, with room for `room` bytes at a time.
async fn body(airlock: &mut Airlock, room: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let mut space = vec![0; room];
        let n = poll_fn(|cx| airlock.poll_body_into(cx, &mut ReadBuf::new(&mut space))).await?;
        if n == 0 {
            return Ok(all);
        }
        all.extend_from_slice(&space[..n]);
    }
}

fn problem(error: &io::Error) -> Option<ChunkProblem> {
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    error.get_ref()?.downcast_ref().copied()
}

/// Has all of it read ahead.
async fn read_all(airlock: &mut Airlock, length: usize) {
    while airlock.ahead.len() < length {
        airlock.read_more().await.unwrap();
    }
}

#[tokio::test]
async fn a_chunked_body_comes_verbatim_and_the_next_request_stays() {
    for room in [1, 3, 4096] {
        for pieces in [1, 7, 1000] {
            let (mut client, mut airlock) = pair().await;
            let sender = tokio::spawn(async move {
                for piece in format!("{HEAD}{BODY}{NEXT}").as_bytes().chunks(pieces) {
                    client.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                client
            });
            assert!(airlock.next_head(WAITS).await.unwrap().is_chunked());
            assert_eq!(airlock.body_left(), u64::MAX);
            assert_eq!(body(&mut airlock, room).await.unwrap(), BODY.as_bytes());
            assert_eq!(airlock.body_left(), 0);
            assert_eq!(airlock.next_head(WAITS).await.unwrap().target(), b"http://h/next");
            drop(sender.await.unwrap());
            assert!(matches!(airlock.next_head(WAITS).await, Err(HeadError::Done)));
        }
    }
}

#[tokio::test]
async fn a_borrower_gets_a_chunked_body_and_nothing_behind_it() {
    let (mut client, mut airlock) = pair().await;
    client.write_all(format!("{HEAD}{BODY}{NEXT}").as_bytes()).await.unwrap();
    let head = airlock.next_head(WAITS).await.unwrap();
    let (mut lent, loan) = airlock.lend(head.raw().clone());
    let mut all = vec![0; HEAD.len() + BODY.len()];
    lent.read_exact(&mut all).await.unwrap();
    assert_eq!(all, format!("{HEAD}{BODY}").as_bytes());
    assert!(timeout(Duration::from_millis(50), lent.read_u8()).await.is_err());
    let mut airlock = loan.take_back().unwrap();
    assert_eq!(airlock.next_head(WAITS).await.unwrap().minor(), 0);
}

#[tokio::test]
async fn malformed_chunks_are_told_and_not_given() {
    let (mut client, mut airlock) = pair().await;
    client.write_all(format!("{HEAD}5\r\nhello!\r\n").as_bytes()).await.unwrap();
    airlock.next_head(WAITS).await.unwrap();
    read_all(&mut airlock, 11).await;
    assert_eq!(airlock.taken_in(), b"");
    assert_eq!(problem(&airlock.take_in(20, IDLE).await.unwrap_err()), Some(ChunkProblem::DataEnd));
    assert_eq!(airlock.body.clone().pass(b"5\r\nhello\n").unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(problem(&body(&mut airlock, 64).await.unwrap_err()), Some(ChunkProblem::DataEnd));
    assert_eq!(problem(&body(&mut airlock, 64).await.unwrap_err()), Some(ChunkProblem::DataEnd));
    assert_eq!(airlock.drain(1000, IDLE, IDLE).await, Drained::Given);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_unexpected_end() {
    for text in [
        "HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.0\r\nContent-Length: 9\r\n\r\nhel",
    ] {
        let (mut client, mut airlock) = pair().await;
        client.write_all(format!("POST http://h/ {text}").as_bytes()).await.unwrap();
        drop(client);
        airlock.next_head(WAITS).await.unwrap();
        assert_eq!(body(&mut airlock, 2).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(airlock.has_ended());
    }
}

#[tokio::test]
async fn the_beginning_of_a_chunked_body_is_looked_at_and_still_given() {
    let (mut client, mut airlock) = pair().await;
    client.write_all(format!("{HEAD}{BODY}{NEXT}").as_bytes()).await.unwrap();
    airlock.next_head(WAITS).await.unwrap();
    airlock.take_in(4, IDLE).await.unwrap();
    assert!(airlock.taken_in().starts_with(b"5;x\r"));
    airlock.take_in(1000, IDLE).await.unwrap();
    assert_eq!(airlock.taken_in(), BODY.as_bytes());
    assert_eq!(airlock.body_left(), u64::MAX);
    assert_eq!(body(&mut airlock, 1000).await.unwrap(), BODY.as_bytes());
    assert_eq!(airlock.taken_in(), b"");
}

#[tokio::test]
async fn a_chunked_body_is_drained_within_the_limit() {
    for (limit, drained) in [(1000, Drained::Whole), (4, Drained::Given)] {
        let (mut client, mut airlock) = pair().await;
        client.write_all(format!("{HEAD}5;x\r\nhel").as_bytes()).await.unwrap();
        airlock.next_head(WAITS).await.unwrap();
        read_all(&mut airlock, 8).await;
        client.write_all(format!("{}{NEXT}", &BODY[8..]).as_bytes()).await.unwrap();
        assert_eq!(airlock.drain(limit, IDLE, IDLE).await, drained);
        if drained == Drained::Whole {
            assert_eq!(airlock.next_head(WAITS).await.unwrap().minor(), 0);
        }
    }
}

#[tokio::test]
async fn an_owner_hears_when_the_client_leaves_after_its_body() {
    let (mut client, mut airlock) = pair().await;
    client.write_all(format!("{HEAD}{BODY}").as_bytes()).await.unwrap();
    airlock.next_head(WAITS).await.unwrap();
    assert!(poll_fn(|cx| Poll::Ready(airlock.poll_left(cx))).await.is_pending());
    body(&mut airlock, 100).await.unwrap();
    assert!(timeout(Duration::from_millis(30), poll_fn(|cx| airlock.poll_left(cx))).await.is_err());
    let leaving = async {
        sleep(Duration::from_millis(30)).await;
        drop(client);
    };
    tokio::join!(leaving, poll_fn(|cx| airlock.poll_left(cx)));
    assert!(airlock.has_ended());
}

#[tokio::test]
async fn an_owner_that_took_the_body_in_hears_when_the_client_leaves_and_has_the_body_still() {
    let (mut client, mut airlock) = pair().await;
    client.write_all(format!("{LONG}{}", &BODY[..8]).as_bytes()).await.unwrap();
    airlock.next_head(WAITS).await.unwrap();
    assert!(poll_fn(|cx| Poll::Ready(airlock.poll_left_behind_body(cx))).await.is_pending(), "it still sends");
    client.write_all(&BODY.as_bytes()[8..]).await.unwrap();
    airlock.take_in(BODY.len(), IDLE).await.unwrap();
    assert!(timeout(Duration::from_millis(30), poll_fn(|cx| airlock.poll_left_behind_body(cx))).await.is_err());
    client.write_all(b"PO").await.unwrap();
    assert!(timeout(Duration::from_millis(30), poll_fn(|cx| airlock.poll_left_behind_body(cx))).await.is_err());
    assert_eq!((airlock.taken_in(), airlock.has_ended()), (BODY.as_bytes(), false));

    let (mut client, mut airlock) = pair().await;
    client.write_all(format!("{LONG}{BODY}").as_bytes()).await.unwrap();
    airlock.next_head(WAITS).await.unwrap();
    airlock.take_in(BODY.len(), IDLE).await.unwrap();
    let leaving = async {
        sleep(Duration::from_millis(30)).await;
        drop(client);
    };
    tokio::join!(leaving, poll_fn(|cx| airlock.poll_left_behind_body(cx)));
    assert_eq!((airlock.taken_in(), airlock.has_ended()), (BODY.as_bytes(), true));
}

#[tokio::test]
async fn bytes_of_a_next_request_are_no_leaving() {
    let (mut client, mut airlock) = pair().await;
    client.write_all(NEXT.as_bytes()).await.unwrap();
    airlock.next_head(WAITS).await.unwrap();
    client.write_all(NEXT.as_bytes()).await.unwrap();
    let mut polls = 0;
    let left = poll_fn(|cx| {
        polls += 1;
        airlock.poll_left(cx)
    });
    assert!(timeout(Duration::from_millis(50), left).await.is_err());
    assert!(polls < 5, "it is polled without need");
    assert_eq!(airlock.next_head(WAITS).await.unwrap().target(), b"http://h/next");
}

#[tokio::test]
async fn an_owner_writes_while_it_reads() {
    let (mut client, mut airlock) = pair().await;
    client.write_all(HEAD.as_bytes()).await.unwrap();
    airlock.next_head(WAITS).await.unwrap();
    assert_eq!(poll_fn(|cx| airlock.poll_write(cx, b"HTTP/1.1 100\r\n\r\n")).await.unwrap(), 16);
    poll_fn(|cx| airlock.poll_flush(cx)).await.unwrap();
    let mut heard = [0; 16];
    client.read_exact(&mut heard).await.unwrap();
    client.write_all(BODY.as_bytes()).await.unwrap();
    assert_eq!(body(&mut airlock, 100).await.unwrap(), BODY.as_bytes());
}

#[tokio::test]
async fn what_was_read_ahead_goes_with_the_connection() {
    let (mut client, mut airlock) = pair().await;
    client.write_all(b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\nhello").await.unwrap();
    assert_eq!(airlock.next_head(WAITS).await.unwrap().method(), b"CONNECT");
    read_all(&mut airlock, 5).await;
    let (io, ahead) = airlock.into_parts();
    assert_eq!(ahead, b"hello".as_slice());
    let Transport::Plain(conn) = io else { panic!("TLS of its own accord") };
    let (mut stream, held) = conn.into_parts();
    assert!(held.is_empty());
    client.write_all(b"more").await.unwrap();
    let mut more = [0; 4];
    stream.read_exact(&mut more).await.unwrap();
    assert_eq!(&more, b"more");
}

#[tokio::test]
async fn what_a_connection_holds_goes_with_its_stream() {
    const SENT: usize = 300_000;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut conn = Conn::new(listener.accept().await.unwrap().0);
    let sender = tokio::spawn(async move { client.write_all(&[7; SENT]).await });
    let mut small = [0; 1000];
    for _ in 0..3 {
        conn.read_exact(&mut small).await.unwrap();
    }
    let (mut stream, held) = conn.into_parts();
    assert!(!held.is_empty());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    sender.await.unwrap().unwrap();
    assert_eq!(3000 + held.len() + rest.len(), SENT);
}

#[tokio::test]
async fn the_door_of_the_fallback_takes_no_chunks() {
    let (mut client, airlock) = pair().await;
    let mut airlock = Airlock::new(airlock.into_parts().0);
    client.write_all(HEAD.as_bytes()).await.unwrap();
    let error = airlock.next_head(WAITS).await.unwrap_err();
    assert!(matches!(error, HeadError::Problem(HeadProblem::TransferEncoding)));
}
