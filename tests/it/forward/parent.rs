//! Another proxy in front: what it is asked, what it is told of who asks, and what becomes of a request it does not help.

use std::time::Duration;

use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpStream};

use super::*;
use crate::support::peer::{DeadPort, keep, read_head};

/// A proxy that answers every head it hears with this, then sends back what it hears.
struct Parent {
    peer: Peer,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Parent {
    async fn says(answer: &'static [u8]) -> Parent {
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let all = heads.clone();
        let peer = Peer::start(move |mut stream| {
            let all = all.clone();
            async move {
                let (head, rest) = read_head(&mut stream).await;
                all.lock().unwrap().push(latin1(&head));
                say(&mut stream, answer).await;
                say(&mut stream, &rest).await;
                if !answer.is_empty() {
                    echoing(stream).await;
                }
            }
        });
        Parent { peer: peer.await, heads }
    }

    fn heard(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// An egress that asks this parent.
async fn behind(parent: SocketAddr, more: &str) -> Egress {
    Setup::new(&format!("{OPEN}, parent: 'http://{parent}'{more}")).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_goes_through_the_parent_and_no_name_is_resolved_here() {
    let parent = Parent::says(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let egress = behind(parent.peer.address, "").await;
    let mut wire = egress.wire().await;
    let request = connect_with("Far.Example.:8443", "Proxy-Authorization: Basic YTpi\r\nUser-Agent: x\r\n");
    wire.send(&[request, b"early".to_vec()].concat()).await;
    assert_eq!(wire.raw_head().await, ESTABLISHED, "what the parent says of itself is its own business");
    assert_eq!(wire.body(5).await, b"early");
    echoes(&mut wire).await;
    drop(wire);
    assert_eq!(parent.heard(), ["CONNECT far.example:8443 HTTP/1.1\r\nHost: far.example:8443\r\n\r\n"]);
    assert_eq!(egress.dns.queries(), 0);
    let record = egress.record(1).await;
    let address = parent.peer.address.to_string();
    assert_eq!((&record["parent"], &record["address"]), (&true.into(), &address.into()), "{record}");
    assert_eq!((&record["target"], &record["rule"]), (&"far.example:8443".into(), &"allow[0]".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parent_is_told_the_words_of_the_config_and_nobody_elses() {
    let parent = Parent::says(b"HTTP/1.0 200 \r\nVia: x\r\n\r\n").await;
    let policy = format!("{OPEN}, parent: 'http://anna:o%3Ane@{}'", parent.peer.address);
    let egress = Setup::new(&policy).start().await;
    let lines = "Proxy-Authorization: Basic YTpi\r\n";
    assert_eq!(egress.ask(&connect_with("n1.test:443", lines)).await.status, 200);
    egress.ask(&absolute("GET", "n1.test", "/", lines)).await;
    for head in parent.heard() {
        let told: Vec<_> = head.lines().filter(|l| l.to_ascii_lowercase().starts_with("proxy-authorization")).collect();
        assert_eq!(told, ["Proxy-Authorization: Basic YW5uYTpvOm5l"], "{head}");
    }
    assert_eq!(parent.heard().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_right_behind_the_parents_word_reaches_the_client() {
    let parent = Parent::says(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nSSH-2.0-far\r\n").await;
    let egress = behind(parent.peer.address, "").await;
    let mut wire = egress.tunnel("n1.test:22").await;
    assert_eq!(wire.body(13).await, b"SSH-2.0-far\r\n");
    echoes(&mut wire).await;
    wire.finish().await;
    assert_eq!(wire.rest().await, b"");
    assert_eq!(egress.record(1).await["bytes_downloaded"], 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_request_keeps_its_absolute_form() {
    let parent = Origin::says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let egress = behind(parent.address(), "").await;
    let mut wire = egress.wire().await;
    for (path, n) in ["/a?b=%20", "", "/aspera/http/ab/file/x.ashttp"].into_iter().zip(1..) {
        let reply = wire.ask(&absolute("GET", "Far.Example:81", path, "Proxy-Connection: keep-alive\r\n")).await;
        assert_eq!((reply.status, wire.body(2).await), (200, b"ok".to_vec()));
        assert_eq!(
            parent.last().lines(),
            [&format!("GET http://Far.Example:81{path} HTTP/1.1"), "Host: Far.Example:81"]
        );
        assert_eq!(egress.record(n).await["parent"], true);
    }
    assert_eq!(egress.dns.queries(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn some_hosts_are_connected_to_from_here_all_the_same() {
    let parent = Parent::says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    let origin = Origin::says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let egress = behind(parent.peer.address, ", no_parent: ['*.in.test', n1.test, 127.0.0.0/8]").await;
    let port = origin.address().port();
    for host in ["a.in.test", "n1.test", "N1.TEST.", "127.0.0.1", "[::ffff:127.0.0.1]"] {
        assert_eq!(egress.ask(&connect_to(format!("{host}:{port}"))).await.status, 200, "{host}");
        assert_eq!(egress.ask(&get_of(format!("{host}:{port}"))).await.status, 200, "{host}");
    }
    assert_eq!(parent.heard().len(), 0);
    for host in ["in.test", "n2.test", "a.n1.test"] {
        says(&egress.ask(&connect_to(format!("{host}:{port}"))).await, 502, "parent_failed");
    }
    assert_eq!((parent.heard().len(), origin.heard().len()), (3, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_does_not_help_is_told_as_such() {
    for answer in [
        &b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"p\"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: http://evil.test/\r\n\r\n",
        b"",
        b"HTTP/1.1 20",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 200 OK\nX: y\n\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ] {
        let parent = match answer {
            b"HTTP/1.1 20" => Parent { peer: Peer::start(move |mut stream| async move {
                read_head(&mut stream).await;
                say(&mut stream, answer).await;
            }).await, heads: Arc::default() },
            _ => Parent::says(answer).await,
        };
        let egress = behind(parent.peer.address, "").await;
        let mut wire = egress.wire().await;
        let reply = wire.ask(&connect_to("n1.test:443")).await;
        says(&reply, 502, "parent_failed");
        assert!(reply.field("proxy-authenticate").is_none() && reply.field("location").is_none(), "{reply:?}");
        let record = egress.record(1).await;
        assert_eq!((&record["reason"], &record["outcome"]), (&"parent_failed".into(), &"failed".into()), "{record}");
        says(&wire.ask(&connect_to("n1.test:443")).await, 502, "parent_failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_asks_for_other_words_is_no_business_of_the_clients() {
    let parent = Origin::says(
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"p\"\r\nContent-Length: 3\r\n\r\nwho",
    )
    .await;
    let egress = behind(parent.address(), "").await;
    let reply = egress.refuses(1, &get_of("n1.test"), 502, "parent_failed").await;
    assert!(reply.field("proxy-authenticate").is_none());
    let mut wire = egress.wire().await;
    let body = [absolute("PUT", "n1.test", "/a", "Content-Length: 5\r\n"), b"hello".to_vec()].concat();
    says(&wire.ask(&body).await, 502, "parent_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_is_not_there_is_told_as_such() {
    let dead = DeadPort::new();
    let egress = behind(dead.address, "").await;
    egress.refuses(1, &connect_to("n1.test:443"), 502, "parent_failed").await;
    egress.refuses(2, &get_of("n1.test"), 502, "parent_failed").await;
    let setup = Setup::new(&format!("{OPEN}, parent: 'http://proxy.nowhere:3128'"));
    let egress = setup.start().await;
    egress.refuses(1, &connect_to("n1.test:443"), 502, "parent_failed").await;
    assert_eq!(egress.dns.lookups("proxy.nowhere"), 1);
}

#[tokio::test]
async fn a_silent_parent_is_given_up() {
    let parent = Peer::start(keep).await;
    let egress = behind(parent.address, "").await;
    let mut stream = TcpStream::connect(egress.address).await.unwrap();
    stream.write_all(&connect_to("n1.test:443")).await.unwrap();
    egress.until("tunnels_active", &[], 0.0).await;
    egress.until("connections_active", &[("listener", "egress")], 1.0).await;
    // From here on nothing but time can bring it to an end.
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
    }
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("HTTP/1.1 502 ") && text.contains("x-fallgate-error: parent_failed\r\n"), "{text}");
    assert!(begin.elapsed() >= Duration::from_secs(25), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_asked_before_the_parent() {
    let parent = Parent::says(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let policy = "allow: [{hosts: [n1.test, 127.0.0.0/8, 10.0.0.0/8]}], deny: [{hosts: [old.test]}], allow_private_addresses: [10.0.0.0/8]";
    let egress = Setup::new(&format!("{policy}, parent: 'http://{}'", parent.peer.address)).start().await;
    for (target, word) in [
        ("n2.test:443", "policy_denied"),
        ("old.test:443", "policy_denied"),
        ("127.0.0.1:443", "private_address"),
        ("[::ffff:127.0.0.1]:443", "private_address"),
        ("192.168.0.1:443", "policy_denied"),
    ] {
        says(&egress.ask(&connect_to(target)).await, 403, word);
    }
    assert_eq!(parent.heard().len(), 0);
    for target in ["n1.test:443", "10.0.0.1:443"] {
        assert_eq!(egress.ask(&connect_to(target)).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_in_a_row_carry_tunnels_and_requests() {
    let outer = Setup::new(OPEN).start().await;
    let inner = behind(outer.address, "").await;
    let (server, origin) = (echo().await, Origin::says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await);
    let mut wire = inner.tunnel(format!("n1.test:{}", server.address.port())).await;
    echoes(&mut wire).await;
    wire.finish().await;
    assert_eq!(wire.rest().await, b"");
    let mut wire = inner.wire().await;
    for _ in 0..2 {
        assert_eq!(wire.ask(&get_of(format!("n1.test:{}", origin.address().port()))).await.status, 200);
        assert_eq!(wire.body(2).await, b"ok");
    }
    assert!(origin.last().head.starts_with("GET /a HTTP/1.1\r\n"), "{:?}", origin.last());
    for egress in [&inner, &outer] {
        let records = egress.records(3).await;
        assert!(
            records.iter().all(|r| r["outcome"] == "closed" && r["target"].as_str().unwrap().starts_with("n1.test:"))
        );
    }
    assert_eq!((inner.dns.queries(), outer.dns.lookups("n1.test")), (0, 3));
    says(&inner.ask(&connect_to("n1.nowhere:1")).await, 502, "parent_failed");
    assert_eq!(outer.record(4).await["reason"], "dns_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_found_by_name_is_looked_up_and_its_private_address_is_the_operators_choice() {
    let parent = Parent::says(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let policy = format!("allow: [{{hosts: ['*']}}], parent: 'http://proxy.test:{}'", parent.peer.address.port());
    let egress = Setup::new(&policy).start().await;
    echoes(&mut egress.tunnel("far.example:443").await).await;
    assert_eq!((egress.dns.lookups("proxy.test"), egress.dns.lookups("far.example")), (1, 0));
}
