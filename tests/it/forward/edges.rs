//! Requests that come back, bytes that were meant for another, and ends that are none.

use super::*;

const STARTED: &str = "HTTP/1.1 200 OK\r\nx-persistent-connection: 1\r\nContent-Length: 0\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_back_is_refused_at_once() {
    let egress = Egress::open().await;
    let own = egress.address;
    for request in [absolute("GET", own, "/aspera/http/x", ""), absolute("GET", own, "http://127.0.0.1/", "")] {
        let reply = egress.ask(&request).await;
        assert!([400, 502].contains(&reply.status), "{reply:?}");
    }
    let metrics = egress.metrics().await;
    assert_eq!(metrics.sum("refusals_total", &[("reason", "proxy_loop")]), 1.0, "{}", metrics.0);
    assert!(metrics.sum("connections_total", &[("listener", "egress")]) <= 4.0, "{}", metrics.0);
    egress.is_calm().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_meant_for_a_tunnel_that_is_refused_is_never_taken_for_a_request() {
    let egress = Setup::new(&format!("{OPEN}, deny: [{{hosts: [old.test]}}]")).start().await;
    let origin = Origin::says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let both = [connect_to("old.test:443"), absolute("POST", origin.address(), "/", "Content-Length: 0\r\n")];
    let mut wire = egress.wire().await;
    wire.send(&both.concat()).await;
    says(&wire.head().await, 403, "policy_denied");
    assert!(wire.rest().await.is_empty());
    assert!(origin.heard().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_no_end_for_the_client() {
    let egress = Egress::open().await;
    let origin = Peer::start(|mut stream| async move {
        read_request(&mut stream).await;
        say(&mut stream, b"HTTP/1.1 200 OK\r\n\r\nhalf of it").await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let origin = origin.await;
    let mut stream = TcpStream::connect(egress.address).await.unwrap();
    stream.write_all(&get_of(origin.address)).await.unwrap();
    let mut got = Vec::new();
    let error = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut got).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{}", got.escape_ascii());
    assert_eq!(egress.record(1).await["outcome"], "target_lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_the_clear_keeps_its_connection_through_a_pause() {
    let egress = Setup::new(OPEN).top("timeouts: {keep_alive: 100ms}").start().await;
    let (node, other) =
        (Origin::says(STARTED).await, Origin::says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await);
    let (mut session, mut idle) = (egress.wire().await, egress.wire().await);
    let start = absolute("POST", node.address(), "/aspera/http/a/session_start/OOB/b.ashttp", "Content-Length: 0\r\n");
    assert_eq!(session.ask(&start).await.status, 200);
    assert_eq!(idle.ask(&get_of(other.address())).await.status, 200);
    // An ordinary connection is closed by then.
    assert!(idle.rest().await.is_empty());
    assert_eq!(session.ask(&start).await.status, 200);
    assert!(node.heard().iter().all(|heard| heard.connection == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_a_target_serves_one_client_alone() {
    let egress = Setup::new(OPEN).listener("trusted_proxies: [127.0.0.0/8]").start().await;
    let origin = Origin::says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let mut front = egress.wire().await;
    for client in ["10.1.1.1", "10.1.1.1", "10.2.2.2"] {
        let of = format!("X-Forwarded-For: {client}\r\n");
        assert_eq!(front.ask(&absolute("GET", origin.address(), "/a", &of)).await.status, 200);
    }
    let heard = origin.heard();
    assert_eq!(heard.iter().map(|heard| heard.connection).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(egress.record(3).await["client"], "10.2.2.2");
}
