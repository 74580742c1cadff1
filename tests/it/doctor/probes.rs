//! Probes of a data port: answered to who knows the secret, once, and nobody else hears anything.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fallgate::{
    doctor::{Path, Verdict},
    net::probe::{LEAST, MOST, Secret},
};
use tokio::net::UdpSocket;

use super::{Seat, words};
use crate::support::{
    loopback,
    nominal::{Peer, Place, ask, client, hear},
};

/// A gateway of the nominal path that answers doctors with this secret; the secret's file.
async fn gateway(node: &Peer, secret: &str) -> (Place, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), secret).unwrap();
    let place = Place::start(&[node], "", &format!("doctor: {{secret_file: '{}'}}", file.path().display())).await;
    (place, file)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_secret_the_nominal_path_is_known_to_work() {
    let node = Peer::start("a").await;
    let (place, file) = gateway(&node, "0123456789abcdef\n").await;
    let mut seat = Seat::new().await.ssh(place.address("control").await).udp(place.address("data").await);
    // The first control connection that finds its node says that it is up.
    let _ = place.control("127.0.0.2").await;
    seat.question.secret = Some(Secret::read(file.path()).unwrap());
    let report = seat.examine().await;
    assert_eq!((words(&report, Path::Udp), report.verdict), (vec!["udp_ok"], Verdict::Nominal));
    assert!(node.seen.lock().unwrap().is_empty(), "no probe reaches a node");
    place.until("doctor_probes_total", &[("result", "answered")], 2.0).await;
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), "another-secret-0").unwrap();
    seat.question.secret = Some(Secret::read(other.path()).unwrap());
    seat.question.timeout = Duration::from_millis(200);
    assert_eq!(seat.words(Path::Udp).await, ["udp_silent"]);
    place.until("doctor_probes_total", &[("result", "forged")], 3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_secret_udp_is_not_told_unless_the_port_is_closed() {
    let node = Peer::start("a").await;
    let (place, _file) = gateway(&node, "0123456789abcdef\n").await;
    let seat = Seat::new().await;
    assert_eq!(seat.words(Path::Udp).await, ["udp_refused"]);
    assert_eq!(seat.udp(place.address("data").await).words(Path::Udp).await, ["udp_untold"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_answered_once_at_its_own_length_and_data_is_not_taken_for_one() {
    let node = Peer::start("a").await;
    let (place, file) = gateway(&node, "0123456789abcdef\n").await;
    let (secret, data) = (Secret::read(file.path()).unwrap(), place.address("data").await);
    let stranger = client("127.0.0.9", data).await;
    for (n, size) in [LEAST, 500, MOST].into_iter().enumerate() {
        let question = secret.question(&[n as u8; 16], now(), size);
        let answer = ask(&stranger, &question).await.unwrap();
        assert_eq!(answer.len(), question.len());
        assert_eq!(secret.read_answer(&answer, &[n as u8; 16]), Some(stranger.local_addr().unwrap()));
        stranger.send(&question).await.unwrap();
    }
    place.until("doctor_probes_total", &[("result", "replayed")], 3.0).await;
    stranger.send(&secret.question(&[9; 16], now() - 90_000, LEAST)).await.unwrap();
    place.until("doctor_probes_total", &[("result", "stale")], 1.0).await;
    assert_eq!(hear(&stranger, Duration::from_millis(50)).await, None, "all else is met with silence");
    let (_control, _) = place.control("127.0.0.2").await;
    let friend = client("127.0.0.2", data).await;
    assert!(ask(&friend, b"data").await.is_some());
    let begins_alike = &secret.question(&[8; 16], now(), LEAST)[..15];
    assert_eq!(ask(&friend, begins_alike).await.unwrap().len(), 16, "the node answers");
    let question = secret.question(&[7; 16], now(), LEAST);
    assert!(secret.read_answer(&ask(&friend, &question).await.unwrap(), &[7; 16]).is_some(), "also amid a flow");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_another_secret_and_lets_no_probe_be_answered_twice() {
    let node = Peer::start("a").await;
    let (place, file) = gateway(&node, "0123456789abcdef\n").await;
    let (secret, data) = (Secret::read(file.path()).unwrap(), place.address("data").await);
    let socket = client("127.0.0.9", data).await;
    let question = secret.question(&[1; 16], now(), LEAST);
    assert!(ask(&socket, &question).await.is_some());
    place.reload(|text| text).await;
    socket.send(&question).await.unwrap();
    place.until("doctor_probes_total", &[("result", "replayed")], 1.0).await;
    place.reload(|text| text.split("doctor:").next().unwrap().to_owned()).await;
    // A thread takes the new door at its next round; until then it answers.
    for n in 2_u8.. {
        socket.send(&secret.question(&[n; 16], now(), LEAST)).await.unwrap();
        if place.metrics().await.sum("udp_datagrams_dropped_total", &[("reason", "gate_closed")]) > 0.0 {
            break;
        }
        assert!(n < 250, "probes are still answered");
        let _ = hear(&socket, Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_on_which_only_small_datagrams_pass_is_told_by_the_size() {
    let node = Peer::start("a").await;
    let (place, file) = gateway(&node, "0123456789abcdef\n").await;
    let data = place.address("data").await;
    let (near, far) = (UdpSocket::bind(loopback(0)).await.unwrap(), UdpSocket::bind(loopback(0)).await.unwrap());
    far.connect(data).await.unwrap();
    let between = near.local_addr().unwrap();
    let narrow = tokio::spawn(async move {
        let (mut up, mut down, mut client) = ([0; 2048], [0; 2048], None);
        loop {
            tokio::select! {
                Ok((n, from)) = near.recv_from(&mut up) => {
                    client = Some(from);
                    if n < 1000 {
                        let _ = far.send(&up[..n]).await;
                    }
                }
                Ok(n) = far.recv(&mut down) => {
                    let _ = near.send_to(&down[..n], client.unwrap()).await;
                }
            }
        }
    });
    let mut seat = Seat::new().await.udp(between);
    seat.question.secret = Some(Secret::read(file.path()).unwrap());
    seat.question.timeout = Duration::from_millis(300);
    assert_eq!(seat.words(Path::Udp).await, ["udp_large_lost"]);
    narrow.abort();
}
