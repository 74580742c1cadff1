//! The real client before a gateway that says all it can: its session is a secret that no test has made.

use super::{Ascp, LISTENERS, folder, is_here, one_node, root, sessions, source};
use crate::support::{certificate, process::Process, secrets};

#[tokio::test(flavor = "multi_thread")]
async fn a_real_transfer_leaves_no_secret_in_the_most_talkative_log() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().start().await;
    std::fs::write(root(&sandbox, 1).join("down"), b"down").unwrap();
    let path = source(&sandbox, "up", b"up");
    let text = format!(
        "version: 1\nlisteners:\n  - {{name: tls, protocol: https, address: '127.0.0.1:0', upstream: u, tls: {{cert_file: tls.crt, key_file: tls.key}}}}\n  - {{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u}}\nupstreams:\n  - {{name: u, nodes: [{{name: n1, host: 127.0.0.1, ports: {{http: {}}}}}]}}\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\nlog: {{level: trace}}\n",
        sandbox.nodes[0].address().port()
    );
    let process = Process::with(&text, |dir| certificate(dir, "tls", &rcgen::PKCS_ECDSA_P256_SHA256)).await;
    for listener in LISTENERS {
        let port = process.address(listener).await.port();
        let put = Ascp::put(&sandbox, listener, &[&path]).await.straight(port);
        put.run().await.must_be_ok(listener);
        let back = folder(&sandbox, listener);
        let get = Ascp::get(&sandbox, listener, &["down"], &back).await.straight(port);
        get.run().await.must_be_ok(listener);
        let missing = Ascp::get(&sandbox, listener, &["nothing"], &back).await.straight(port);
        assert!(!missing.run().await.is_ok());
        let refused = Ascp::put(&sandbox, listener, &[&path]).await.straight(port).token("SomeOddToken-of-mine");
        assert!(!refused.run().await.is_ok());
    }
    let ids = sessions(&sandbox.seen(1));
    assert!(ids.len() >= 6, "{ids:?}");
    let written = [process.log(), std::fs::read_to_string(process.dir().join("access.log")).unwrap()].concat();
    assert!(written.contains("A request was refused.") && written.contains("token_shape"), "{written}");
    assert!(ids.iter().all(|id| !written.contains(id) && !written.contains(&id[..18])), "{written}");
    secrets::none_in("what it has written", written);
}
