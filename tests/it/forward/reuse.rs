//! One connection for many requests: with the client, with the origin, and what becomes of one that was closed meanwhile.

use std::time::Duration;

use tokio::sync::Notify;

use super::*;
use crate::support::peer::read_head;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const CREATED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";

fn put_to(at: SocketAddr) -> Vec<u8> {
    [absolute("PUT", at, "/a", "Content-Length: 5\r\n"), b"hello".to_vec()].concat()
}

/// An origin whose first connection closes after one answer, once it is told to; the second one stays.
async fn fickle(close: Arc<Notify>, closed: Arc<Notify>) -> (Peer, Arc<Mutex<Vec<(usize, String)>>>) {
    let (heard, count) = (Arc::<Mutex<Vec<(usize, String)>>>::default(), Arc::<AtomicUsize>::default());
    let all = heard.clone();
    let peer = Peer::start(move |mut stream| {
        let (all, close, closed) = (all.clone(), close.clone(), closed.clone());
        let n = count.fetch_add(1, Ordering::SeqCst);
        async move {
            while let Some((head, _)) = read_request(&mut stream).await {
                all.lock().unwrap().push((n, latin1(&head).split(' ').next().unwrap().to_owned()));
                say(&mut stream, OK.as_bytes()).await;
                if n == 0 {
                    close.notified().await;
                    drop(stream);
                    closed.notify_one();
                    return;
                }
            }
        }
    });
    (peer.await, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_to_one_target_share_a_connection_and_another_target_gets_its_own() {
    let egress = Egress::open().await;
    let (one, other) = (Origin::says(OK).await, Origin::says(OK).await);
    let mut wire = egress.wire().await;
    for origin in [&one, &one, &other, &other, &one] {
        assert_eq!(wire.ask(&get_of(origin.address())).await.status, 200);
    }
    let by = |origin: &Origin| origin.heard().iter().map(|heard| heard.connection).collect::<Vec<_>>();
    assert_eq!((by(&one), by(&other)), (vec![0, 0, 1], vec![0, 0]));
    assert_eq!(egress.metrics().await.sum("connections_total", &[("listener", "egress")]), 1.0);
    for (n, origin) in [&one, &one, &other, &other, &one].into_iter().enumerate() {
        assert_eq!(egress.record(n + 1).await["address"], origin.address().to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_all_at_once_are_answered_in_turn() {
    let egress = Egress::open().await;
    let origin = Origin::start(|heard| {
        let path = heard.lines()[0].split(' ').nth(1).unwrap().to_owned();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len()).into()
    })
    .await;
    let mut wire = egress.wire().await;
    let all: Vec<_> = (0..20).map(|n| absolute("GET", origin.address(), &format!("/{n}"), "")).collect();
    wire.send(&all.concat()).await;
    for n in 0..20 {
        let path = format!("/{n}");
        assert_eq!(wire.head().await.status, 200);
        assert_eq!(wire.body(path.len()).await, path.as_bytes());
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_share_no_connection_to_an_origin() {
    let (egress, origin) = (Egress::open().await, Origin::says(OK).await);
    let mut wires = [egress.wire().await, egress.wire().await];
    for _ in 0..2 {
        for wire in &mut wires {
            assert_eq!(wire.ask(&get_of(origin.address())).await.status, 200);
        }
    }
    let by: Vec<_> = origin.heard().iter().map(|heard| heard.connection).collect();
    assert_eq!(by, [0, 1, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_to_close_is_closed_after_the_answer() {
    let (egress, origin) = (Egress::open().await, Origin::says(OK).await);
    let at = origin.address();
    for request in [
        absolute("GET", at, "/", "Connection: close\r\n"),
        absolute("GET", at, "/", "Connection: x, Close\r\n"),
        absolute("GET", at, "/", "Proxy-Connection: close\r\n"),
        format!("GET http://{at}/ HTTP/1.0\r\n\r\n").into_bytes(),
    ] {
        let mut wire = egress.wire().await;
        let reply = wire.ask(&request).await;
        assert_eq!((reply.status, reply.field("connection")), (200, Some("close")), "{}", request.escape_ascii());
        assert_eq!(wire.rest().await, b"");
    }
    let mut wire = egress.wire().await;
    let stays = format!("GET http://{at}/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    for _ in 0..2 {
        assert_eq!(wire.ask(stays.as_bytes()).await.field("connection"), Some("keep-alive"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_closes_takes_nothing_from_the_clients_connection() {
    let egress = Egress::open().await;
    let origin = Origin::says("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    let mut wire = egress.wire().await;
    for n in 1..=3 {
        let reply = wire.ask(&get_of(origin.address())).await;
        assert_eq!((reply.status, reply.field("connection")), (200, Some("keep-alive")));
        assert_eq!(origin.connections(), n);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_on_a_connection_that_was_closed_meanwhile_goes_on_a_fresh_one() {
    let (close, closed) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let (egress, (origin, heard)) = (Egress::open().await, fickle(close.clone(), closed.clone()).await);
    let mut wire = egress.wire().await;
    assert_eq!(wire.ask(&get_of(origin.address)).await.status, 200);
    close.notify_one();
    closed.notified().await;
    assert_eq!(wire.ask(&get_of(origin.address)).await.status, 200);
    let expected = [(0, "GET".to_owned()), (1, "GET".to_owned())];
    assert_eq!(*heard.lock().unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_an_idle_connection_swallows_is_said_again_and_once_only() {
    // Each connection answers its first request, and ends without a word when it hears a second one.
    let all = Arc::<Mutex<Vec<(usize, String)>>>::default();
    let (heard, count) = (all.clone(), Arc::<AtomicUsize>::default());
    let script = move |mut stream: TcpStream| {
        let (heard, n) = (heard.clone(), count.fetch_add(1, Ordering::SeqCst));
        async move {
            for turn in 0..2 {
                let Some((head, _)) = read_request(&mut stream).await else { return };
                heard.lock().unwrap().push((n, latin1(&head).split(' ').nth(1).unwrap().to_owned()));
                if turn == 0 && n < 2 {
                    say(&mut stream, OK.as_bytes()).await;
                } else {
                    return;
                }
            }
        }
    };
    let (egress, origin) = (Egress::open().await, Peer::start(script).await);
    let mut wire = egress.wire().await;
    for path in ["/1", "/2"] {
        assert_eq!(wire.ask(&absolute("GET", origin.address, path, "")).await.status, 200);
    }
    says(&wire.ask(&absolute("GET", origin.address, "/3", "")).await, 502, "node_lost");
    let heard: Vec<_> = all.lock().unwrap().iter().map(|(n, path)| format!("{n}{path}")).collect();
    assert_eq!(heard, ["0/1", "0/2", "1/2", "1/3", "2/3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_said_once_only_goes_on_a_fresh_connection_at_once() {
    let (egress, origin) = (Egress::open().await, Origin::says(CREATED).await);
    let at = origin.address();
    let mut wire = egress.wire().await;
    for request in [
        get_of(at),
        put_to(at),
        absolute("POST", at, "/a", ""),
        absolute("DELETE", at, "/a", ""),
        get_of(at),
        get_of(at),
    ] {
        assert_eq!(wire.ask(&request).await.status, 201);
    }
    let by: Vec<_> = origin.heard().iter().map(|heard| heard.connection).collect();
    assert_eq!(by, [0, 1, 2, 3, 3, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_an_origin_swallows_is_never_said_again() {
    let count = Arc::<AtomicUsize>::default();
    let heard = count.clone();
    let origin = Peer::start(move |mut stream| {
        let heard = heard.clone();
        async move {
            if read_request(&mut stream).await.is_some() {
                heard.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let egress = Egress::open().await;
    egress.refuses(1, &put_to(origin.address), 502, "node_lost").await;
    egress.refuses(2, &get_of(origin.address), 502, "node_lost").await;
    assert_eq!(count.load(Ordering::SeqCst), 2, "nor is a request on a fresh connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_asks_for_one_connection_gets_the_whole_session_on_it() {
    for (field, connections) in [("1", 1), ("x 1", 4), ("0", 4), ("00", 4), ("300", 1), ("-1", 1)] {
        let answer: &'static str =
            format!("HTTP/1.1 200 OK\r\nx-persistent-connection: {field}\r\nContent-Length: 0\r\n\r\n").leak();
        let (egress, origin) = (Egress::open().await, Origin::says(answer).await);
        let mut wire = egress.wire().await;
        for _ in 0..4 {
            assert_eq!(wire.ask(&put_to(origin.address())).await.status, 200);
        }
        assert_eq!(origin.connections(), connections, "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_in_a_session_whose_connection_was_lost_is_not_said_twice() {
    let heard = Arc::<AtomicUsize>::default();
    let count = heard.clone();
    let origin = Peer::start(move |mut stream| {
        let count = count.clone();
        async move {
            while read_request(&mut stream).await.is_some() {
                if count.fetch_add(1, Ordering::SeqCst) == 1 {
                    return;
                }
                say(&mut stream, b"HTTP/1.1 200 OK\r\nx-persistent-connection: 1\r\nContent-Length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    let egress = Egress::open().await;
    let mut wire = egress.wire().await;
    assert_eq!(wire.ask(&put_to(origin.address)).await.status, 200);
    says(&wire.ask(&put_to(origin.address)).await, 502, "node_lost");
    assert_eq!(heard.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_origin_says_unasked_is_nobodys_answer() {
    let origin = Peer::start(|mut stream| async move {
        while !read_head(&mut stream).await.0.is_empty() {
            say(
                &mut stream,
                &[OK, "HTTP/1.1 200 OK\r\nX-Poison: 1\r\nContent-Length: 0\r\n\r\n"].concat().into_bytes(),
            )
            .await;
        }
    })
    .await;
    let egress = Egress::open().await;
    let mut wire = egress.wire().await;
    for _ in 0..3 {
        let reply = wire.ask(&get_of(origin.address)).await;
        assert!(reply.status == 200 && reply.field("x-poison").is_none(), "{reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_client_is_closed_and_so_is_the_origin_behind_it() {
    let egress = Setup::new(OPEN).top("timeouts: {keep_alive: 300ms}").start().await;
    let (left, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let origin = Peer::start(move |mut stream| {
        let left = left.clone();
        async move {
            while read_request(&mut stream).await.is_some() {
                say(&mut stream, OK.as_bytes()).await;
            }
            left.send(()).unwrap();
        }
    })
    .await;
    let mut wire = egress.wire().await;
    assert_eq!(wire.ask(&get_of(origin.address)).await.status, 200);
    assert_eq!(wire.rest().await, b"", "no answer to what was not asked");
    tokio::time::timeout(Duration::from_secs(10), heard.recv()).await.expect("the origin is left").unwrap();
    assert_eq!(egress.metrics().await.sum("refusals_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_after_a_request_is_a_tunnel() {
    let (egress, origin, server) = (Egress::open().await, Origin::says(OK).await, echo().await);
    let mut wire = egress.wire().await;
    assert_eq!(wire.ask(&get_of(origin.address())).await.status, 200);
    establish(&mut wire, server.address).await;
    echoes(&mut wire).await;
}
