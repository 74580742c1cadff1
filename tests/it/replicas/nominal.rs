//! The nominal path: control through one replica, data through another.

use super::redis_of;
use crate::support::{
    nominal::{Peer, ask, client, config, control},
    process::Process,
};

#[tokio::test(flavor = "multi_thread")]
async fn data_through_one_replica_meets_the_node_of_its_control_connection_through_another() {
    let Some(redis) = redis_of().await else { return };
    let nodes = [Peer::start("a").await, Peer::start("b").await];
    let ports = nodes.each_ref().map(|node| (node.tcp.port(), node.udp.port()));
    let state = format!("state: {{redis: '{}'}}\n", redis.url());
    let text = config(&ports, "127.0.0.1:0", ", gate_grace: 1s", &state);
    let gateways = [Process::start(&text).await, Process::start(&text).await];
    for gateway in &gateways {
        gateway.until("replicas", &[], 2.0).await;
    }
    let at = gateways[0].address("control").await;
    let data = gateways[1].address("data").await;
    for last in 1..=8 {
        let ip = format!("127.0.7.{last}");
        let (held, node) = control(&ip, at).await.unwrap();
        // The gate opens as soon as the other one has heard of it.
        let mut said = None;
        while said.is_none() {
            let socket = client(&ip, data).await;
            said = ask(&socket, b"x").await;
        }
        assert_eq!(said.unwrap(), format!("{node}x").into_bytes());
        drop(held);
    }
    for gateway in &gateways {
        gateway.until("node_sessions", &[], 0.0).await;
    }
    let closed = async { while ask(&client("127.0.7.1", data).await, b"x").await.is_some() {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), closed).await.expect("the gate closes");
}
