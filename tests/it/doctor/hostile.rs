//! Peers that mean harm or are broken: the doctor comes to an end, soon and in bounded memory, and gives it a name.

use std::time::{Duration, Instant};

use fallgate::doctor::{Path, lines};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Seat, words};
use crate::support::peer::{Peer, read_head};

/// A peer that reads what comes, and sends these bytes again and again.
async fn endless(begin: &'static [u8], more: &'static [u8], times: usize, pause: Duration) -> Peer {
    let more: std::sync::Arc<[u8]> = more.repeat(times).into();
    Peer::start(move |stream: TcpStream| {
        let more = more.clone();
        async move {
            let (mut from, mut to) = stream.into_split();
            let reading = async move {
                let mut bytes = [0; 4096];
                while from.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
            };
            let writing = async move {
                let mut sent = to.write_all(begin).await;
                while sent.is_ok() {
                    tokio::time::sleep(pause).await;
                    sent = to.write_all(&more).await;
                }
            };
            tokio::join!(reading, writing);
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_peer_sends_the_doctor_ends_in_time() {
    let now = Duration::ZERO;
    let peers = [
        (endless(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n", 1000, now).await, "bad_answer"),
        (endless(b"HTTP/1.1 ", b"1", 1, Duration::from_millis(50)).await, "answer_silent"),
        (endless(b"", b"\x00\xff\x16\x03garbage", 1000, now).await, "bad_answer"),
        (endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n", 1000, now).await, "bad_answer"),
    ];
    for (peer, expected) in peers {
        let mut seat = Seat::new().await.http(peer.address).https(peer.address).ssh(peer.address);
        seat.question.proxy = Some(fallgate::doctor::Place { host: "127.0.0.1".to_owned(), port: peer.address.port() });
        seat.question.timeout = Duration::from_millis(300);
        let begin = Instant::now();
        let report = seat.examine().await;
        assert!(begin.elapsed() < Duration::from_secs(15), "{expected}: {:?}", begin.elapsed());
        assert_eq!(words(&report, Path::Http)[0], expected, "{report:?}");
        assert!(report.findings.iter().all(|finding| finding.seen.len() < 1000));
    }
}

/// A terminal is not moved by what a far side says.
#[tokio::test(flavor = "multi_thread")]
async fn no_control_character_of_a_peer_is_shown() {
    let peer = Peer::start(|mut stream: TcpStream| async move {
        let _ = stream.write_all(b"SSH-2.0-\x1b[2Jevil\x07\xe2\x80\xae\r\n").await;
        let _ = read_head(&mut stream).await;
    })
    .await;
    let report = Seat::new().await.ssh(peer.address).examine().await;
    let shown = lines(&report);
    assert!(
        shown.contains("evil") && !shown.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'),
        "{shown:?}"
    );
}
