//! CONNECT: what the client is told, what passes through a tunnel, how it ends, and how many there may be.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::support::{loopback, noise, peer::Full, tls};

/// Longer than the proxy needs for anything, and shorter than anybody's patience.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_told_of_by_a_status_line_and_nothing_else() {
    let (egress, origin) = (Egress::open().await, echo().await);
    let mut wire = egress.wire().await;
    wire.send(&connect_to(origin.address)).await;
    assert_eq!(wire.raw_head().await, ESTABLISHED);
    assert!(wire.is_quiet(Duration::from_millis(100)).await, "there is no body");
    echoes(&mut wire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_host_leads_to_the_same_place() {
    let (egress, origin) = (Egress::open().await, echo().await);
    let port = origin.address.port();
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "n1.test", "N1.Test", "n1.test.", "localhost"] {
        let mut wire = egress.tunnel(format!("{host}:{port}")).await;
        echoes(&mut wire).await;
    }
    assert_eq!(egress.dns.lookups("n1.test"), 3, "an address is asked of nobody");
    assert_eq!(egress.dns.lookups("127.0.0.1") + egress.dns.lookups("localhost"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn name_servers_that_fall_silent_cost_a_refusal_and_no_tunnel_and_are_asked_again() {
    let (answers, origin) = (Arc::new(AtomicBool::new(true)), echo().await);
    let asked = answers.clone();
    let dns = Dns::serve(move |_, _| asked.load(Ordering::Relaxed).then(|| vec![here()])).await;
    let egress = Setup::new(OPEN).dns(dns).start().await;
    let target = format!("n1.test:{}", origin.address.port());
    let mut standing = egress.tunnel(&target).await;
    answers.store(false, Ordering::Relaxed);
    says(&egress.ask(&connect_to(&target)).await, 502, "dns_failed");
    echoes(&mut standing).await;
    answers.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    while egress.ask(&connect_to(&target)).await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is never found again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_address_in_brackets_is_connected_to() {
    let egress = Egress::open().await;
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let origin = Peer::of(listener, echoing);
    let mut wire = egress.tunnel(origin.address).await;
    echoes(&mut wire).await;
    drop(wire);
    let record = egress.record(1).await;
    assert_eq!((&record["target"], &record["address"]), (&record["address"], &origin.address.to_string().into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_pass_both_ways_at_once_and_are_counted_to_the_byte() {
    let (egress, origin) = (Egress::open().await, echo().await);
    let sent = noise(3_000_000, 7);
    let mut stream = TcpStream::connect(egress.address).await.unwrap();
    stream.write_all(&connect_to(origin.address)).await.unwrap();
    let mut head = vec![0; ESTABLISHED.len()];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head, ESTABLISHED);
    let (mut read, mut write) = stream.into_split();
    let bytes = sent.clone();
    let sending = tokio::spawn(async move {
        write.write_all(&bytes).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    read.read_to_end(&mut got).await.unwrap();
    sending.await.unwrap();
    assert!(got == sent);
    let record = egress.record(1).await;
    for key in ["bytes_uploaded", "bytes_downloaded"] {
        assert_eq!(record[key], 3_000_000, "{record}");
    }
    let metrics = egress.metrics().await;
    for direction in ["upload", "download"] {
        let labels = [("listener", "egress"), ("direction", direction)];
        assert_eq!(metrics.sum("bytes_total", &labels), 3_000_000.0, "{direction}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_with_the_head_goes_through_the_tunnel_first() {
    let (egress, origin) = (Egress::open().await, echo().await);
    let mut wire = egress.wire().await;
    wire.send(&[&connect_to(origin.address), &b"GET / HTTP/1.1\r\n\r\nearly "[..]].concat()).await;
    assert_eq!(wire.raw_head().await, ESTABLISHED);
    wire.send(b"late").await;
    assert_eq!(wire.body(28).await, b"GET / HTTP/1.1\r\n\r\nearly late");
    wire.finish().await;
    assert_eq!(wire.rest().await, b"");
    assert_eq!(egress.record(1).await["bytes_uploaded"], 28);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_first_is_heard() {
    let egress = Egress::open().await;
    let origin = Peer::start(|mut stream| async move {
        say(&mut stream, b"SSH-2.0-x\r\n").await;
        echoing(stream).await;
    })
    .await;
    let mut wire = egress.tunnel(origin.address).await;
    assert_eq!(wire.body(11).await, b"SSH-2.0-x\r\n");
    echoes(&mut wire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ends_his_half_hears_the_other_out() {
    let egress = Egress::open().await;
    let patient = Peer::start(|mut stream| async move {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        say(&mut stream, &[b"heard ", heard.as_slice()].concat()).await;
    })
    .await;
    let mut wire = egress.tunnel(patient.address).await;
    wire.send(b"all").await;
    wire.finish().await;
    assert_eq!(wire.rest().await, b"heard all");
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let hasty = Peer::start(move |mut stream| {
        let told = told.clone();
        async move {
            say(&mut stream, b"bye").await;
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            told.send(rest).unwrap();
        }
    })
    .await;
    let mut wire = egress.tunnel(hasty.address).await;
    assert_eq!(wire.rest().await, b"bye", "the end of the origin's half is passed on");
    wire.send(b"still more").await;
    wire.finish().await;
    assert_eq!(heard.recv().await.unwrap(), b"still more");
    for record in egress.records(2).await {
        assert_eq!((&record["kind"], &record["outcome"]), (&"tunnel".into(), &"closed".into()), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_none_is_refused_in_words() {
    let egress = Egress::open().await;
    let targets = [
        "::1:8443",
        "[::1]",
        "[::1",
        "[::g]:80",
        "n1.test",
        "n1.test:",
        "n1.test:0",
        "n1.test:65536",
        "n1.test:-1",
        ":80",
        "http://n1.test:80",
        "/",
        "*",
        "a@n1.test:80",
        "n1..test:80",
        "n1.test:80/",
        "b\u{fc}cher.test:80",
        "127.1:80",
        "0x7f.0.0.1:80",
        "0177.0.0.1:80",
        "2130706433:80",
        "0x7f000001:80",
        "127.0.0.1.:80",
    ];
    for (target, n) in targets.into_iter().zip(1..) {
        let reply = egress.refuses(n, &connect_to(target), 400, "bad_target").await;
        assert_eq!(reply.field("connection"), Some("close"), "{target}: what comes next was meant for a tunnel");
        assert!(egress.record(n).await["target"].is_null());
    }
    assert_eq!(egress.dns.queries(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_gets_its_tunnel_without_a_host() {
    let (egress, origin) = (Egress::open().await, echo().await);
    let mut wire = egress.wire().await;
    wire.send(format!("CONNECT {} HTTP/1.0\r\n\r\n", origin.address).as_bytes()).await;
    assert_eq!(wire.raw_head().await, ESTABLISHED);
    echoes(&mut wire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_with_a_body_is_refused_and_its_connection_closed() {
    let (egress, origin) = (Egress::open().await, echo().await);
    for (body, n) in ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"].iter().zip(1..) {
        let request = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n{body}", origin.address);
        let mut wire = egress.wire().await;
        let reply = wire.ask(request.as_bytes()).await;
        says(&reply, 400, "bad_request");
        assert_eq!((reply.field("connection"), wire.rest().await.len()), (Some("close"), 0));
        assert_eq!(egress.record(n).await["reason"], "bad_request");
    }
    let mut wire = egress.wire().await;
    wire.send(&connect_with(origin.address, "Content-Length: 0\r\n")).await;
    assert_eq!(wire.raw_head().await, ESTABLISHED, "no body is no harm");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_in_which_nothing_moves_is_ended_and_recorded_as_idle() {
    let egress = Setup::new(OPEN).top("timeouts: {tunnel_idle: 300ms}").start().await;
    let origin = echo().await;
    let begin = Instant::now();
    let mut wire = egress.tunnel(origin.address).await;
    echoes(&mut wire).await;
    assert_eq!(wire.rest().await, b"");
    assert!((300..5_000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    let record = egress.record(1).await;
    assert_eq!((&record["outcome"], &record["status"]), (&"idle".into(), &200.into()), "{record}");
    egress.until("tunnels_total", &[("listener", "egress"), ("outcome", "idle")], 1.0).await;
    egress.is_calm().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_are_counted_while_they_live_and_by_how_they_ended() {
    let (egress, origin) = (Egress::open().await, echo().await);
    let mut wires = Vec::new();
    for n in 1..=3 {
        wires.push(egress.tunnel(origin.address).await);
        egress.until("tunnels_active", &[("listener", "egress")], f64::from(n)).await;
    }
    for mut wire in wires {
        wire.finish().await;
        assert_eq!(wire.rest().await, b"");
    }
    egress.is_calm().await;
    let metrics = egress.metrics().await;
    assert_eq!(metrics.sum("tunnels_total", &[("outcome", "closed")]), 3.0);
    assert_eq!(metrics.sum("tunnels_total", &[]), 3.0);
    assert_eq!(metrics.sum("requests_total", &[("operation", "connect")]), 3.0);
    let record = egress.record(3).await;
    let target = origin.address.to_string();
    for (key, value) in [("kind", "tunnel"), ("listener", "egress"), ("client", "127.0.0.1"), ("policy", "p")] {
        assert_eq!(record[key], value, "{record}");
    }
    for (key, value) in [("target", target.as_str()), ("address", &target), ("rule", "allow[0]"), ("outcome", "closed")]
    {
        assert_eq!(record[key], value, "{record}");
    }
    assert!(record["user"].is_null() && record["reason"].is_null() && record["reported"] == false, "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_tunnels_than_allowed_are_refused_until_one_ends() {
    let egress = Setup::new(OPEN).top("limits: {max_tunnels: 2}").start().await;
    let origin = echo().await;
    let first = egress.tunnel(origin.address).await;
    let mut second = egress.tunnel(origin.address).await;
    let reply = egress.ask(&connect_to(origin.address)).await;
    says(&reply, 503, "too_many_tunnels");
    assert_eq!(reply.field("retry-after"), Some("5"));
    drop(first);
    egress.until("tunnels_active", &[], 1.0).await;
    echoes(&mut egress.tunnel(origin.address).await).await;
    echoes(&mut second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_cannot_take_all_tunnels() {
    let egress = Setup::new(OPEN).top("limits: {max_tunnels_per_client: 1}").start().await;
    let origin = echo().await;
    let mut greedy = egress.tunnel(origin.address).await;
    says(&egress.ask(&connect_to(origin.address)).await, 503, "too_many_tunnels");
    let mut other = Wire::from([127, 0, 0, 2], egress.address).await;
    establish(&mut other, origin.address).await;
    echoes(&mut other).await;
    greedy.finish().await;
    assert_eq!(greedy.rest().await, b"");
    egress.until("tunnels_active", &[], 1.0).await;
    echoes(&mut egress.tunnel(origin.address).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_does_not_answer_is_given_up_in_time() {
    let egress = Setup::new(OPEN).top("timeouts: {connect: 400ms}").start().await;
    let full = Full::new();
    let begin = Instant::now();
    egress.refuses(1, &connect_to(full.address), 504, "connect_timeout").await;
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_eq!(egress.record(1).await["outcome"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_a_tunnel_works_as_well() {
    let setup = Setup::new(OPEN).listener("tls: {cert_file: tls.crt, key_file: tls.key}");
    let (egress, origin) = (setup.start().await, echo().await);
    let mut wire = Wire::tls(egress.address, tls()).await;
    wire.send(&[&connect_to(origin.address), &b"early"[..]].concat()).await;
    assert_eq!(wire.raw_head().await, ESTABLISHED);
    assert_eq!(wire.body(5).await, b"early");
    let bytes = noise(200_000, 3);
    wire.send(&bytes).await;
    assert!(wire.body(bytes.len()).await == bytes);
    wire.finish().await;
    assert_eq!(wire.rest().await, b"");
    let record = egress.record(1).await;
    assert_eq!((&record["outcome"], &record["bytes_uploaded"]), (&"closed".into(), &200_005.into()), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_within_a_tunnel_of_the_same_gateway_leads_nowhere() {
    let egress = Egress::open().await;
    let origin = echo().await;
    let mut wire = egress.tunnel(egress.address).await;
    says(&wire.ask(&connect_to(origin.address)).await, 502, "proxy_loop");
    let closed = Setup::new("allow: [{hosts: ['*']}]").start().await;
    closed.refuses(1, &connect_to(loopback(closed.address.port())), 403, "private_address").await;
    assert_eq!(closed.record(1).await["rule"], "own");
}
