//! The names of nodes cannot be looked up any more.

use std::process::{Command, Stdio};

use fallgate::node::NodeOptions;

use super::{config, node, session};
use crate::support::process::Process;

/// Has names looked up in a file of the test's, and nowhere else.
const SCRIPT: &str =
    r#"mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$0" "$@""#;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_whose_names_are_not_found_any_more_stay_where_they_were() {
    let may = Command::new("unshare").args(["-m", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: `unshare -m` does not work here (it takes root)");
        return;
    }
    let (node, _dir) = node(NodeOptions::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let (hosts, servers) = (folder.path().join("hosts"), folder.path().join("resolv.conf"));
    std::fs::write(&hosts, "127.0.0.1 localhost\n127.0.0.1 node.test\n").unwrap();
    std::fs::write(&servers, "").unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", SCRIPT, env!("CARGO_BIN_EXE_fallgate")]).args([&hosts, &servers]);
    let text = config(
        ("node.test", node.address().port()),
        "interval: 50ms, timeout: 500ms, unhealthy_threshold: 1",
        "access_log: {path: access.log}\nlog: {level: debug}",
    );
    let process = Process::by(command, None, &text).await;
    let host = process.address("plain").await;
    process.until("node_up", &[], 1.0).await;
    session(host).await;
    // In place, for it is this very file that is there.
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    crate::support::eventually("it is not found", || process.log().contains("A name was not found.").then_some(()))
        .await;
    let checks = async || process.metrics().await.sum("health_checks_total", &[("result", "ok")]);
    let before = checks().await;
    while checks().await < before + 5.0 {}
    let metrics = process.metrics().await;
    assert_eq!((metrics.sum("node_up", &[]), metrics.sum("health_checks_total", &[("result", "failed")])), (1.0, 0.0));
    session(host).await;
}
