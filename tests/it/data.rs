//! Data of the nominal path: datagrams through the gate, each flow whole on the node of its client.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{io::AsyncReadExt, net::UdpSocket, time::timeout};

use crate::support::{
    eventually, loopback, noise,
    nominal::{Peer, Place, SOON, ask, client},
};

#[tokio::test(flavor = "multi_thread")]
async fn data_follows_the_control_connection_of_its_client_to_one_node() {
    let (a, b) = (Peer::start("a").await, Peer::start("b").await);
    let place = Place::start(&[&a, &b], "", "").await;
    let data = place.address("data").await;
    for last in 2..8 {
        let ip = format!("127.0.0.{last}");
        let (_control, node) = place.control(&ip).await;
        let (one, other) = (client(&ip, data).await, client(&ip, data).await);
        for socket in [&one, &other] {
            assert_eq!(ask(socket, b"-x").await.as_deref(), Some(format!("{node}-x").as_bytes()), "{ip}");
        }
    }
    let sources = a.seen.lock().unwrap().len() + b.seen.lock().unwrap().len();
    assert_eq!(sources, 12, "distinct source ports stay distinct");
    assert_eq!((a.seen.lock().unwrap().len(), b.seen.lock().unwrap().len()), (6, 6), "clients take turns");
    let metrics = place.metrics().await;
    assert_eq!(metrics.sum("udp_flows_total", &[]), 12.0);
    for direction in ["upload", "download"] {
        place.until("udp_datagrams_total", &[("listener", "data"), ("direction", direction)], 12.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_dropped_and_counted_and_hears_nothing() {
    let node = Peer::start("a").await;
    let place = Place::start(&[&node], "", "").await;
    let data = place.address("data").await;
    let (_control, _) = place.control("127.0.0.2").await;
    let stranger = client("127.0.0.3", data).await;
    for _ in 0..10 {
        stranger.send(b"scan").await.unwrap();
    }
    place.until("udp_datagrams_dropped_total", &[("reason", "gate_closed")], 10.0).await;
    assert!(node.seen.lock().unwrap().is_empty());
    assert_eq!(place.metrics().await.sum("udp_flows_total", &[]), 0.0);
    assert!(ask(&client("127.0.0.2", data).await, b"me").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_closes_after_its_grace_and_takes_the_flows_along() {
    let node = Peer::start("a").await;
    let place = Place::start(&[&node], ", gate_grace: 400ms", "").await;
    let data = place.address("data").await;
    let (control, _) = place.control("127.0.0.2").await;
    let socket = client("127.0.0.2", data).await;
    assert!(ask(&socket, b"1").await.is_some());
    drop(control);
    place.until("control_connections_finished_total", &[("outcome", "closed")], 1.0).await;
    assert!(ask(&socket, b"2").await.is_some(), "within the grace");
    place.until("udp_flows_finished_total", &[("outcome", "gate_closed")], 1.0).await;
    place.until("udp_flows_active", &[], 0.0).await;
    socket.send(b"3").await.unwrap();
    place.until("udp_datagrams_dropped_total", &[("reason", "gate_closed")], 1.0).await;
    let (_again, _) = place.control("127.0.0.2").await;
    assert!(ask(&socket, b"4").await.is_some(), "a new control connection opens it anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_gate_off_a_client_keeps_its_node() {
    let (a, b) = (Peer::start("a").await, Peer::start("b").await);
    let place = Place::start(&[&a, &b], ", gate: off", "").await;
    let data = place.address("data").await;
    let mut nodes = HashSet::new();
    for last in 2..6 {
        let ip = format!("127.0.0.{last}");
        let first = ask(&client(&ip, data).await, b"").await;
        assert_eq!(first, None, "an empty datagram opens nothing");
        let node = ask(&client(&ip, data).await, b"-").await.unwrap();
        for _ in 0..3 {
            assert_eq!(ask(&client(&ip, data).await, b"-").await.unwrap(), node);
        }
        let (_control, name) = place.control(&ip).await;
        assert_eq!(format!("{name}-").into_bytes(), node, "a control connection joins its data");
        nodes.insert(node);
    }
    assert_eq!(nodes.len(), 2);
    place.until("udp_datagrams_dropped_total", &[("reason", "empty")], 4.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_flow_is_forgotten_with_its_record_and_comes_back() {
    let node = Peer::start("a").await;
    let place = Place::start(&[&node], ", flow_idle: 300ms", "").await;
    let (_control, _) = place.control("127.0.0.2").await;
    let socket = client("127.0.0.2", place.address("data").await).await;
    assert_eq!(ask(&socket, b"four").await.unwrap(), b"afour");
    place.until("udp_flows_finished_total", &[("outcome", "idle")], 1.0).await;
    assert!(ask(&socket, b"again").await.is_some());
    assert_eq!(place.metrics().await.sum("udp_flows_total", &[]), 2.0);
    let log = place.dir.path().join("access.log");
    let record: serde_json::Value =
        eventually("the record", || serde_json::from_str(std::fs::read_to_string(&log).ok()?.lines().next()?).ok())
            .await;
    let port = socket.local_addr().unwrap().port();
    for (field, value) in [
        ("kind", "flow".into()),
        ("listener", "data".into()),
        ("client", "127.0.0.2".into()),
        ("client_port", serde_json::Value::from(port)),
        ("node", "n1".into()),
        ("outcome", "idle".into()),
        ("bytes_uploaded", 4.into()),
        ("bytes_downloaded", 5.into()),
    ] {
        assert_eq!(record[field], value, "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_table_refuses_new_flows_and_old_ones_go_on() {
    let node = Peer::start("a").await;
    let top = "limits: {max_udp_flows: 3, max_udp_flows_per_client: 2}";
    let place = Place::start(&[&node], "", top).await;
    let data = place.address("data").await;
    let _controls = (place.control("127.0.0.2").await, place.control("127.0.0.3").await);
    let mut open = Vec::new();
    for ip in ["127.0.0.2", "127.0.0.2", "127.0.0.3"] {
        open.push(client(ip, data).await);
        assert!(ask(open.last().unwrap(), b"x").await.is_some());
    }
    client("127.0.0.3", data).await.send(b"x").await.unwrap();
    place.until("udp_datagrams_dropped_total", &[("reason", "too_many_flows")], 1.0).await;
    place.reload(|text| text.replace("max_udp_flows: 3", "max_udp_flows: 9")).await;
    client("127.0.0.2", data).await.send(b"x").await.unwrap();
    place.until("udp_datagrams_dropped_total", &[("reason", "too_many_flows_per_client")], 1.0).await;
    assert!(ask(&client("127.0.0.3", data).await, b"x").await.is_some());
    for socket in &open {
        assert!(ask(socket, b"y").await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_datagrams_pass_whole_both_ways_in_both_families() {
    let node = Peer::start("a").await;
    for ip in ["127.0.0.1", "[::1]", "[::]"] {
        let place = Place::listening(&[&node], ip, ", gate: off", "").await;
        let data = place.address("data").await;
        let (from, to) = match ip {
            "[::1]" => ("::1", data),
            _ => ("127.0.0.2", loopback(data.port())),
        };
        let socket = client(from, to).await;
        for size in [1, 1400, 9000, 60_001, 65_507] {
            let bytes = noise(size, 7);
            let answer = ask(&socket, &bytes).await.unwrap_or_else(|| panic!("{ip} {size}"));
            assert!(answer.ends_with(&bytes), "{ip} {size}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_leave_from_the_address_that_was_spoken_to() {
    let node = Peer::start("a").await;
    for ip in ["0.0.0.0", "[::]"] {
        let place = Place::listening(&[&node], ip, ", gate: off", "").await;
        let port = place.address("data").await.port();
        let socket = UdpSocket::bind("127.0.0.2:0").await.unwrap();
        for last in 5..8 {
            let to = SocketAddr::new(IpAddr::from([127, 0, 0, last]), port);
            socket.send_to(b"x", to).await.unwrap();
            let mut answer = [0; 10];
            let (_, from) = timeout(SOON, socket.recv_from(&mut answer)).await.unwrap().unwrap();
            assert_eq!(from, to, "{ip}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_socket_is_counted_and_ends_nothing() {
    let node = Peer::start("a").await;
    let place = Place::start(&[&node], "", "").await;
    place.reload(|text| text.replace(&format!("udp: {}", node.udp.port()), "udp: 1")).await;
    let (_control, _) = place.control("127.0.0.2").await;
    let socket = client("127.0.0.2", place.address("data").await).await;
    let mut sent = 0.0;
    while place.metrics().await.sum("udp_icmp_errors_total", &[]) < 3.0 {
        socket.send(b"x").await.unwrap();
        sent += 1.0;
        assert!(sent < 1000.0);
    }
    let metrics = place.metrics().await;
    assert_eq!((metrics.sum("udp_flows_active", &[]), metrics.sum("udp_flows_total", &[])), (1.0, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_leaves_flows_alone_and_a_drain_lets_them_end() {
    let node = Peer::start("a").await;
    let place = Place::start(&[&node], ", workers: 2", "timeouts: {drain: 5s}").await;
    let data = place.address("data").await;
    let (control, _) = place.control("127.0.0.2").await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(client("127.0.0.2", data).await);
        assert!(ask(sockets.last().unwrap(), b"x").await.is_some());
    }
    place.reload(|text| text.replace("workers: 2", "workers: 1, flow_idle: 10m")).await;
    for socket in &sockets {
        assert!(ask(socket, b"y").await.is_some());
    }
    assert_eq!(node.seen.lock().unwrap().len(), 20, "the node sees the same sources");
    let drain = tokio::spawn(place.gateway.drain(tokio_util::sync::CancellationToken::new()));
    for socket in &sockets {
        assert!(ask(socket, b"z").await.is_some(), "while the control connection lives");
    }
    assert!(!drain.is_finished());
    drop(control);
    timeout(SOON, drain).await.unwrap().unwrap();
    let log = std::fs::read_to_string(place.dir.path().join("access.log")).unwrap();
    assert_eq!(log.matches("\"kind\":\"flow\"").count(), 20);
    assert_eq!(log.matches("\"kind\":\"control\"").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_renamed_keeps_its_flows_and_connections() {
    let node = Peer::start("a").await;
    let place = Place::start(&[&node], "", "").await;
    // A port of our own that is free: of one that the system chooses anew the name decides.
    let port = UdpSocket::bind(loopback(0)).await.unwrap().local_addr().unwrap().port();
    let fixed =
        |text: String| text.replace("udp, address: '127.0.0.1:0'", &format!("udp, address: '127.0.0.1:{port}'"));
    place.reload(fixed).await;
    let (_control, _) = place.control("127.0.0.2").await;
    let socket = client("127.0.0.2", place.address("data").await).await;
    assert!(ask(&socket, b"1").await.is_some());
    place.reload(|text| fixed(text).replace("name: data", "name: renamed")).await;
    assert_eq!(place.address("renamed").await.port(), port);
    for _ in 0..5 {
        assert!(ask(&socket, b"2").await.is_some());
    }
    assert_eq!(node.seen.lock().unwrap().len(), 1, "the node sees the same source");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_running_flows_is_not_shared_with_another_listener() {
    let node = Peer::start("a").await;
    let place = Place::start(&[&node], "", "").await;
    let port = UdpSocket::bind(loopback(0)).await.unwrap().local_addr().unwrap().port();
    let at = |text: String, to: &str| {
        text.replace("udp, address: '127.0.0.1:0'", &format!("udp, address: '127.0.0.1:{to}'"))
    };
    place.reload(|text| at(text, &port.to_string())).await;
    let (_control, _) = place.control("127.0.0.2").await;
    let socket = client("127.0.0.2", place.address("data").await).await;
    assert!(ask(&socket, b"1").await.is_some());
    let range = place.config(|text| at(text, &format!("{port}-{}", port + 1)));
    let refused = place.gateway.reload(range).await.unwrap_err().to_string();
    assert!(refused.contains("in use"), "{refused}");
    assert!(ask(&socket, b"2").await.is_some());
    assert_eq!(node.seen.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_control_connection_lives_as_long_as_its_clients_data_moves() {
    let node = Peer::start("a").await;
    let place = Place::start(&[&node], "", "").await;
    place.reload(|text| text.replace("protocol: tcp,", "protocol: tcp, idle: 2s,")).await;
    let (mut control, _) = place.control("127.0.0.2").await;
    let socket = client("127.0.0.2", place.address("data").await).await;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        assert!(ask(&socket, b"data").await.is_some());
        let nothing = timeout(Duration::from_millis(100), control.read(&mut [0])).await;
        assert!(nothing.is_err(), "closed after {:?}: {nothing:?}", begin.elapsed());
    }
    let end = timeout(Duration::from_secs(8), control.read(&mut [0])).await.expect("an end once data rests");
    assert_eq!(end.unwrap(), 0);
    place.until("control_connections_finished_total", &[("outcome", "idle")], 1.0).await;
}
