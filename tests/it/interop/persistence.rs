//! One connection for a session, or one for each request: on either side of the gateway.

use std::collections::BTreeSet;

use fallgate::node::NodeOptions;

use super::{Ascp, LISTENERS, folder, is_here, root, tree};
use crate::support::Plan;

const FILES: usize = 10;
/// Start, files, end.
const REQUESTS: usize = FILES + 2;

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_decides_for_the_client_and_the_node_for_itself() {
    if !is_here() {
        return;
    }
    for (said, offers) in [("force", Some(true)), ("auto", None), ("off", Some(false))] {
        for node_keeps in [true, false] {
            let node = NodeOptions { persistent: node_keeps.then(|| "1".to_owned()), ..NodeOptions::default() };
            let plan = Plan::new().node(node).listener(&format!("persistent_connection: {said}"));
            let sandbox = plan.upstream("health_check: {interval: 1h}").start().await;
            let tree = tree::many(FILES);
            tree::write(&root(&sandbox, 1).join("t"), &tree);
            let source = folder(&sandbox, "source").join("t");
            tree::write(&source, &tree);
            for listener in LISTENERS {
                let what = format!("{said}, node keeps {node_keeps}, {listener}");
                let back = folder(&sandbox, listener);
                Ascp::put(&sandbox, listener, &[&source]).await.run().await.must_be_ok(&what);
                Ascp::get(&sandbox, listener, &["t"], &back).await.run().await.must_be_ok(&what);
                tree::assert_same(&tree::read(&back.join("t")), &tree, &what);

                let accepted = sandbox.metrics().await.sum("connections_total", &[("listener", listener)]);
                let wanted = if offers.unwrap_or(node_keeps) { 2 } else { 2 * REQUESTS };
                assert_eq!(accepted, wanted as f64, "connections of the client: {what}");
            }
            let seen = sandbox.seen(1);
            for session in super::sessions(&seen) {
                let of_it: Vec<_> = seen.iter().filter(|s| s.session == session).collect();
                let connections: BTreeSet<_> = of_it.iter().map(|s| s.connection).collect();
                // A client slow to follow up its start may find that connection gone.
                let wanted = if node_keeps { 1..=2 } else { REQUESTS..=REQUESTS };
                assert_eq!(of_it.len(), REQUESTS);
                assert!(wanted.contains(&connections.len()), "{said}, node keeps {node_keeps}: {connections:?}");
            }
        }
    }
}
