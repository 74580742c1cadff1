//! Clients that mean harm, or are broken: none of them gets a word to an origin, and none leaves anything behind.

use std::time::{Duration, Instant};

use super::*;
use crate::support::{
    noise,
    peer::{Full, pause, read_head},
    tls,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A request that is refused, and its connection closed behind the answer.
async fn is_closed(egress: &Egress, request: &[u8], status: u16, word: &str) {
    let mut wire = egress.wire().await;
    wire.try_send(request).await;
    let reply = wire.head().await;
    says(&reply, status, word);
    let shown = request[..request.len().min(60)].escape_ascii();
    assert_eq!((reply.field("connection"), wire.rest().await.len()), (Some("close"), 0), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_without_measure_are_a_431_that_is_heard() {
    let (egress, origin) = (Egress::open().await, Origin::says(OK).await);
    let at = origin.address();
    let fields: String = (0..200).map(|i| format!("X-{i}: v\r\n")).collect();
    for request in [
        absolute("GET", at, &format!("/{}", "a".repeat(64 * 1024)), ""),
        connect_to(format!("{}:80", "a".repeat(64 * 1024))),
        absolute("GET", at, "/", &format!("X-Long: {}\r\n", "v".repeat(1 << 20))),
        absolute("GET", at, "/", &fields),
        vec![b'G'; 1 << 20],
    ] {
        is_closed(&egress, &request, 431, "head_too_large").await;
    }
    egress.until("refusals_total", &[("reason", "head_too_large")], 5.0).await;
    egress.is_calm().await;
    assert_eq!(origin.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_in_single_bytes_has_request_head_and_no_more() {
    let egress = Setup::new(OPEN).top("timeouts: {request_head: 500ms}").start().await;
    let origin = Origin::says(OK).await;
    for request in [get_of(origin.address()), connect_to(origin.address())] {
        let (mut wire, begin) = (egress.wire().await, Instant::now());
        for byte in &request {
            if begin.elapsed() > Duration::from_millis(600) || !wire.try_send(&[*byte]).await {
                break;
            }
            pause(Duration::from_millis(25)).await;
        }
        says(&wire.head().await, 408, "head_timeout");
        assert_eq!(wire.rest().await, b"");
        assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    }
    let mut mute = egress.wire().await;
    says(&mute.head().await, 408, "head_timeout");
    egress.is_calm().await;
    assert_eq!(origin.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_refused_at_its_first_bytes() {
    let egress = Egress::open().await;
    for junk in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n\r\n",
        b"\x05\x01\x00",
        b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n\r\nGET http://n1.test/ HTTP/1.1\r\n\r\n",
        b"GET http://n1.test/\r\n\r\n",
        b"GET  http://n1.test/ HTTP/1.1\r\nHost: n1.test\r\n\r\n",
        b"GET http://n1.test/ a HTTP/1.1\r\nHost: n1.test\r\n\r\n",
        b"GET http://n1.test/ HTTP/1.2\r\nHost: n1.test\r\n\r\n",
    ] {
        is_closed(&egress, junk, 400, "bad_head").await;
    }
    assert_eq!(egress.dns.queries(), 0);
    for seed in 1..20 {
        let mut wire = egress.wire().await;
        wire.try_send(&noise(3000, seed)).await;
        wire.finish().await;
        wire.rest().await;
    }
    egress.is_calm().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_port_with_tls_the_clear_is_refused_and_others_are_served() {
    let setup = Setup::new(OPEN).listener("tls: {cert_file: tls.crt, key_file: tls.key}");
    let (egress, origin) = (setup.start().await, echo().await);
    let mut wire = egress.wire().await;
    wire.try_send(&connect_to(origin.address)).await;
    let heard = wire.rest().await;
    assert!(!latin1(&heard).contains("HTTP"), "{}", heard.escape_ascii());
    egress.until("refusals_total", &[("reason", "tls_handshake")], 1.0).await;
    let mut wire = Wire::tls(egress.address, tls()).await;
    establish(&mut wire, origin.address).await;
    echoes(&mut wire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_head_that_can_be_read_in_two_ways_reaches_an_origin() {
    let (egress, origin) = (Egress::open().await, Origin::says(OK).await);
    let at = origin.address();
    let smuggled = "GET http://n1.test/smuggled HTTP/1.1\r\nHost: n1.test\r\n\r\n";
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "X-A: 1\nTransfer-Encoding: chunked\r\n",
        "X-A: 1\rTransfer-Encoding: chunked\r\n",
        " X-A: 1\r\n",
        "X-A\r\n",
        "X A: 1\r\n",
        ": 1\r\n",
        "Host: other.test\r\n",
    ] {
        for method in ["POST", "GET"] {
            let request = [absolute(method, at, "/", lines), format!("0\r\n\r\n{smuggled}").into_bytes()].concat();
            is_closed(&egress, &request, 400, "bad_head").await;
        }
        is_closed(&egress, &[connect_with(at, lines), smuggled.into()].concat(), 400, "bad_head").await;
    }
    let old = format!("POST http://{at}/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}");
    is_closed(&egress, old.as_bytes(), 400, "bad_head").await;
    let hostless = format!("GET http://{at}/ HTTP/1.1\r\n\r\n");
    is_closed(&egress, hostless.as_bytes(), 400, "bad_head").await;
    let bare = latin1(&absolute("GET", at, "/", "")).replace("\r\n", "\n");
    let mut wire = egress.wire().await;
    wire.send(bare.as_bytes()).await;
    wire.finish().await;
    wire.rest().await;
    assert_eq!((origin.connections(), egress.dns.queries()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_can_be_read_in_two_ways_end_the_request() {
    let egress = Egress::open().await;
    for (chunks, n) in [
        &b"5\nhello\r\n0\r\n\r\n"[..],
        b"5\r\nhello0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"-1\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nhello",
        b"\r\nhello",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"0\r\nX-A: 1\n\r\n\r\n",
    ]
    .into_iter()
    .zip(1..)
    {
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let origin = Peer::start(move |mut stream| {
            let told = told.clone();
            async move {
                let (_, mut body) = read_head(&mut stream).await;
                while tokio::io::AsyncReadExt::read_buf(&mut stream, &mut body).await.unwrap_or(0) > 0 {}
                told.send(body).unwrap();
            }
        })
        .await;
        let head = absolute("POST", origin.address, "/", "Transfer-Encoding: chunked\r\n");
        let mut wire = egress.wire().await;
        wire.send(&[&head, chunks, b"GET http://n1.test/smuggled HTTP/1.1\r\nHost: n1.test\r\n\r\n"].concat()).await;
        let reply = wire.head().await;
        let shown = chunks.escape_ascii();
        assert_eq!(
            (reply.status, reply.word(), reply.field("connection")),
            (400, "bad_request", Some("close")),
            "{shown}"
        );
        assert_eq!(wire.rest().await, b"", "{shown}");
        let body = heard.recv().await.unwrap();
        assert!(!latin1(&body).contains("smuggled"), "{shown}: {}", body.escape_ascii());
        assert_eq!(egress.record(n).await["reason"], "bad_request", "{shown}");
    }
    assert_eq!(egress.dns.queries(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_without_end_is_not_listened_to_for_ever() {
    let egress = Setup::new("allow: [{hosts: [n1.test]}]").top("timeouts: {body_idle: 400ms}").start().await;
    let begin = Instant::now();
    for lines in ["Content-Length: 1000000000000\r\n", "Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut wire = egress.wire().await;
        wire.send(&[absolute("PUT", "old.test", "/", lines), b"5\r\n".to_vec()].concat()).await;
        let reply = wire.head().await;
        says(&reply, 403, "policy_denied");
        assert_eq!((reply.field("connection"), wire.rest().await.len()), (Some("close"), 0), "{lines}");
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

/// What a process holds: descriptors, and tasks of its runtime.
fn held() -> (usize, usize) {
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    (std::fs::read_dir("/proc/self/fd").unwrap().count(), tasks)
}

/// Clients vanish at every stage of a request to each of these targets, with and without a reset; then all of them have
/// been met, and nothing goes on.
async fn vanish(egress: &Egress, targets: &[String]) {
    let mut met = egress.metrics().await.sum("connections_total", &[]);
    for target in targets {
        for request in [connect_to(target), get_of(target), absolute("PUT", target, "/", "Content-Length: 100\r\n")] {
            for cut in [0, 1, request.len() / 2, request.len()] {
                for reset in [false, true] {
                    let mut stream = TcpStream::connect(egress.address).await.unwrap();
                    stream.write_all(&request[..cut]).await.unwrap();
                    if reset {
                        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    }
                    drop(stream);
                    met += 1.0;
                }
            }
        }
    }
    egress.until("connections_total", &[], met).await;
    egress.is_calm().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_vanish_leave_nothing_behind() {
    // Descriptors are counted for the whole process, so this runs in one of its own.
    if std::env::var_os("FALLGATE_TEST_ALONE").is_none() {
        let name = "forward::hostile::clients_that_vanish_leave_nothing_behind";
        let mut alone = tokio::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", name]).env("FALLGATE_TEST_ALONE", "1").output().await.unwrap();
        assert!(output.status.success(), "{}", latin1(&output.stdout));
        return;
    }
    let (full, silent, server) = (Full::new(), Peer::start(keep_while_open).await, echo().await);
    let parent = Peer::start(keep_while_open).await;
    let egress = Setup::new(OPEN).top("timeouts: {connect: 1s}").start().await;
    let mute = Setup::new(OPEN).dns(Dns::silent().await).start().await;
    let behind = Setup::new(&format!("{OPEN}, parent: 'http://{}'", parent.address)).start().await;
    let targets = [full.address.to_string(), silent.address.to_string(), server.address.to_string()];
    let name = ["n1.test:443".to_owned()];
    // What is made once and kept is made now.
    vanish(&egress, &targets).await;
    vanish(&mute, &name).await;
    vanish(&behind, &name).await;
    let mut before = (usize::MAX, usize::MAX);
    for round in 0..3 {
        vanish(&egress, &targets).await;
        vanish(&mute, &name).await;
        vanish(&behind, &name).await;
        if round == 0 {
            before = settled().await;
            continue;
        }
        let mut now = (0, 0);
        let is_back = || {
            now = held();
            (now.0 <= before.0 + 2 && now.1 <= before.1 + 2).then_some(())
        };
        eventually(&format!("what was held is {before:?} again"), is_back).await;
    }
}

/// What is held once it does not change any more.
async fn settled() -> (usize, usize) {
    let (mut last, mut still) = (held(), 0);
    eventually("nothing changes any more", || {
        let now = held();
        still = if now == last { still + 1 } else { 0 };
        last = now;
        (still > 100).then_some(now)
    })
    .await
}

/// Says nothing, and leaves when the other side does.
async fn keep_while_open(mut stream: TcpStream) {
    while tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 512]).await.unwrap_or(0) > 0 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_while_its_target_is_dialled_is_not_dialled_for() {
    let full = Full::new();
    let egress = Setup::new(OPEN).top("timeouts: {connect: 1h}").start().await;
    let mut wire = egress.wire().await;
    wire.send(&connect_to(full.address)).await;
    egress.until("connections_active", &[("listener", "egress")], 1.0).await;
    drop(wire);
    let record = egress.record(1).await;
    assert_eq!((&record["outcome"], &record["reason"]), (&"client_lost".into(), &"client_lost".into()), "{record}");
    egress.is_calm().await;
    let mut wire = egress.wire().await;
    wire.send(&get_of(full.address)).await;
    drop(wire);
    assert_eq!(egress.record(2).await["outcome"], "client_lost");
    egress.is_calm().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_silent_tunnels_does_not_keep_others_out() {
    let egress = Setup::new(OPEN).top("limits: {max_tunnels_per_client: 20}").start().await;
    let (silent, server) = (Peer::start(keep_while_open).await, echo().await);
    let mut wires = Vec::new();
    for n in 0..40 {
        let mut wire = egress.wire().await;
        let reply = wire.ask(&connect_to(silent.address)).await;
        assert_eq!(reply.word(), if n < 20 { "" } else { "too_many_tunnels" });
        wires.push(wire);
    }
    let mut other = Wire::from([127, 0, 0, 2], egress.address).await;
    establish(&mut other, server.address).await;
    echoes(&mut other).await;
    drop(wires);
    egress.until("tunnels_active", &[], 1.0).await;
}
