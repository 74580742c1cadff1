//! iperf3 through the relay: a paced stream of datagrams both ways, and what of it is lost.

use std::process::{Command, Stdio};

use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::support::{
    eventually, loopback,
    nominal::{Place, ssh},
};

/// Of a hundred datagrams.
const LOSS: f64 = 0.1;

/// A process that does not outlive its test.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether iperf3 is here; in CI it must be.
fn is_here() -> bool {
    let here = Command::new("iperf3").arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(here || std::env::var_os("CI").is_none(), "iperf3 must be here");
    if !here {
        eprintln!("SKIPPED: iperf3 is not installed");
    }
    here
}

/// A port that is free for TCP now.
/// A port that is free for both, and that the system gives to nobody by itself: other tests take many of those.
fn free() -> u16 {
    let is_free = |port: &u16| {
        std::net::TcpListener::bind(loopback(*port)).is_ok() && std::net::UdpSocket::bind(loopback(*port)).is_ok()
    };
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    (first..30_100).find(is_free).unwrap()
}

/// Carries the control connections of iperf3, which are no SSH, on the port whose datagrams are relayed.
async fn forward(listener: TcpListener, to: u16) {
    while let Ok((mut near, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut far = TcpStream::connect(loopback(to)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paced_stream_of_iperf3_loses_next_to_nothing_in_either_direction() {
    if !is_here() {
        return;
    }
    let port = free();
    let said = tempfile::NamedTempFile::new().unwrap();
    let mut server = Command::new("iperf3");
    server.args(["-s", "--forceflush", "-B", "127.0.0.1", "-p", &port.to_string()]).stdin(Stdio::null());
    let _server = Server(server.stdout(said.reopen().unwrap()).spawn().unwrap());
    let listens = || std::fs::read_to_string(said.path()).unwrap().contains("listening").then_some(());
    eventually("the server", listens).await;
    // Its health is that of a control port, which iperf3 has not.
    let health = TcpListener::bind(loopback(0)).await.unwrap();
    let checked = health.local_addr().unwrap().port();
    let _health = JoinSet::from_iter([ssh("iperf3", health)]);
    let place = Place::before(&[(checked, port)], "127.0.0.9:0", ", gate: off", "").await;
    // An address of its own, where no other test takes the same port for TCP.
    let data = place.address("data").await;
    let control = tokio::spawn(forward(TcpListener::bind(data).await.unwrap(), port));
    for direction in [&[][..], &["-R"]] {
        let mut client = tokio::process::Command::new("iperf3");
        client.args(["-c", "127.0.0.9", "-p", &data.port().to_string(), "-u", "-b", "10M", "-P", "4", "-l", "1400"]);
        let output = client.args(["-t", "3", "-J"]).args(direction).kill_on_drop(true).output().await.unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let sum = &report["end"]["sum"];
        assert!(report.get("error").is_none(), "{report}");
        let (lost, sent) = (sum["lost_packets"].as_f64().unwrap(), sum["packets"].as_f64().unwrap());
        assert!(sent > 8_000.0, "{report}");
        assert!(lost * 100.0 / sent < LOSS, "{direction:?}: {lost} of {sent} were lost");
        eprintln!(
            "iperf3 {direction:?}: {lost} of {sent} lost at {} Mbit/s",
            sum["bits_per_second"].as_f64().unwrap() / 1e6
        );
    }
    assert_eq!(place.metrics().await.sum("udp_flows_total", &[]), 8.0, "four streams each way");
    control.abort();
}
