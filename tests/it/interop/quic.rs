//! QUIC through the relay, many transfers at a time.

use std::{sync::Arc, time::Duration};

use quinn::rustls::RootCertStore;
use tokio::task::JoinSet;

use crate::support::{
    loopback,
    nominal::Place,
    quic::{Client, Identity, QuicNode, checksum},
};

const MIB: usize = 1024 * 1024;
const AT_A_TIME: usize = 50;
/// Machines with little to spare serve fifty at a time slowly.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn fifty_quic_transfers_at_a_time_arrive_whole_each_on_the_node_of_its_client() {
    // Set FALLGATE_LONG to the size of each transfer in MiB; 64 is a long run.
    let size = std::env::var("FALLGATE_LONG").map_or(MIB, |mib| mib.parse::<usize>().unwrap() * MIB);
    let identities = [Identity::new(), Identity::new()];
    let start = |name, identity| QuicNode::start(name, identity, loopback(0), loopback(0), PATIENCE).unwrap();
    let (a, b) = (start("a", &identities[0]), start("b", &identities[1]));
    let nodes = [(a.tcp.port(), a.udp.port()), (b.tcp.port(), b.udp.port())];
    let place = Arc::new(Place::before(&nodes, "127.0.0.1:0", "", "").await);
    let mut trusted = RootCertStore::empty();
    identities.iter().for_each(|identity| trusted.add(identity.certificate.clone()).unwrap());
    let expected = Arc::new(checksum(size, 2));
    let begin = std::time::Instant::now();
    let mut transfers = JoinSet::new();
    for i in 1..=AT_A_TIME {
        let (place, trusted, expected) = (place.clone(), trusted.clone(), expected.clone());
        transfers.spawn(async move {
            let ip = format!("127.0.1.{i}");
            let (control, data) = (place.address("control").await, place.address("data").await);
            let client = Client { ip: &ip, control, data, trusted, patience: PATIENCE };
            let ended = client.transfer(size, &expected).await.unwrap_or_else(|error| panic!("{ip}: {error}"));
            assert_eq!(ended.differs, None, "{ip}");
            (format!("{ip:16}"), ended.node)
        });
    }
    let transfers = transfers.join_all().await;
    let took = begin.elapsed();
    for (node, name) in [(&a, "a"), (&b, "b")] {
        let mut here: Vec<_> = transfers.iter().filter(|(_, n)| n == name).map(|(ip, _)| (ip.clone(), size)).collect();
        let mut received = node.received.lock().unwrap().clone();
        here.sort();
        received.sort();
        assert_eq!(received, here, "each whole on one node: {name}");
        assert_eq!(here.len(), AT_A_TIME / 2, "clients take turns");
    }
    let metrics = place.metrics().await;
    assert_eq!(metrics.sum("udp_flows_total", &[]), AT_A_TIME as f64);
    let dropped = metrics.sum("udp_datagrams_dropped_total", &[]);
    let moved = metrics.sum("udp_datagrams_total", &[]);
    eprintln!(
        "{AT_A_TIME} transfers of {} MiB each way in {took:.1?}; {moved} datagrams, {dropped} dropped",
        size / MIB
    );
}
