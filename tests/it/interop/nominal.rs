//! The real client on its nominal path: SSH to a far `ascp` through the control door, and the fallback when no node
//! answers there.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fallgate::node::NodeOptions;

use super::{
    Ascp, LISTENERS, folder, is_here, source,
    sshd::{self, Sshd, user},
    up,
};
use crate::support::{
    Plan, Sandbox, ascp, noise,
    peer::{DeadPort, Peer, keep},
};

const CONTROL: &str = "{name: control, protocol: tcp, address: '127.0.0.1:0', upstream: u}";
/// What the far program says, for it may be had as a client only.
const LICENSE: (u32, &str) = (38, "Server aborted session: Server has only a client license");
/// The user waits no longer for the fallback than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// The far program: the same client as a server, with a config of its own.
fn far(sandbox: &Sandbox) -> PathBuf {
    let dir = folder(sandbox, "far");
    let (program, config) = (dir.join("ascp"), dir.join("aspera.conf"));
    fs::write(&config, "<?xml version='1.0' encoding='UTF-8'?>\n<CONF version=\"2\"></CONF>\n").unwrap();
    let real = ascp::program().unwrap();
    fs::write(&program, format!("#!/bin/sh\nexec '{}' -f '{}' \"$@\"\n", real.display(), config.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// What the user of a client sees that sends `file` by SSH at `port`: exit code, error, console.
async fn seen(
    sandbox: &Sandbox,
    file: &Path,
    port: u16,
    key: &Path,
    far: &Path,
) -> (Option<i32>, Option<(u32, String)>, String) {
    let put = Ascp::put(sandbox, "plain", &[file]).await.by_ssh(port, user(), key, far);
    let report = put.run().await;
    let error = report.error().map(|(code, text)| (code, text.to_owned()));
    (report.code, error, report.console)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dialogue_with_the_far_program_is_the_same_as_without_the_gateway() {
    if !is_here() || !sshd::is_here() {
        return;
    }
    let sshd = Sshd::start().await;
    let sandbox = Plan::new().listeners(CONTROL).ports(&sshd.port()).start().await;
    let (file, key, far) = (source(&sandbox, "file", &noise(100_000, 1)), sshd.key(), far(&sandbox));
    let strange = sandbox.dir.path().join("strange");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-m", "PEM", "-N", "", "-f"])
        .arg(&strange)
        .status();
    assert!(made.unwrap().success());
    let gateway = sandbox.address("control").await.port();
    for (case, key, far, wanted) in [
        ("no licence", &key, &far, LICENSE.0),
        ("no such key", &strange, &far, 19),
        ("no far program", &key, &far.with_file_name("missing"), 12),
    ] {
        let mut direct = seen(&sandbox, &file, sshd.address.port(), key, far).await;
        let mut through = seen(&sandbox, &file, gateway, key, far).await;
        if case == "no far program" {
            // It reads the shell's complaint or finds the session ended, whichever it comes to first: one code, two
            // texts, with the gateway and without it.
            for (_, error, console) in [&mut direct, &mut through] {
                error.iter_mut().for_each(|(_, text)| text.clear());
                console.clear();
            }
        }
        assert_eq!(through, direct, "{case}");
        assert_eq!(through.1.as_ref().map(|(code, _)| *code), Some(wanted), "{case}: {through:?}");
        if case == "no licence" {
            assert_eq!(through.1.unwrap().1, LICENSE.1);
        }
    }
    let records = sandbox.records(3).await;
    assert!(records.iter().all(|r| r["kind"] == "control" && r["node"] == "n1"), "{records:?}");
    assert!(records[0]["bytes_uploaded"].as_u64() > Some(2_000), "keys, login, session: {records:?}");
    assert!(sandbox.seen(1).is_empty(), "nothing fell back");
}

/// A client that may fall back finds no SSH at the control port; how long until its file is on the node.
async fn falls_back(sandbox: &Sandbox, listener: &str, name: &str) -> Duration {
    let content = noise(1_000_000, 9);
    let file = source(sandbox, name, &content);
    let port = sandbox.address("control").await.port();
    let begin = Instant::now();
    Ascp::put(sandbox, listener, &[&file]).await.after_ssh(port).run().await.must_be_ok(listener);
    let took = begin.elapsed();
    assert!(fs::read(up(sandbox, 1, name)).unwrap() == content, "{listener}");
    assert!(took < PATIENCE, "{listener}: {took:?}");
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_node_up_the_client_falls_back_at_once_and_its_file_arrives() {
    if !is_here() {
        return;
    }
    let dead = DeadPort::new();
    let plan = Plan::new().node(NodeOptions::default()).listeners(CONTROL);
    let sandbox = plan.ports(&format!("tcp: {}", dead.address.port())).start().await;
    sandbox.until("checks", |m| m.sum("health_checks_total", &[]) >= 2.0).await;
    for listener in LISTENERS {
        let took = falls_back(&sandbox, listener, listener).await;
        eprintln!("{listener}: no node up, the file was there after {took:?}");
    }
    let labels = [("listener", "control"), ("reason", "no_node")];
    assert_eq!(sandbox.metrics().await.sum("refusals_total", &labels), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_node_that_stays_silent_the_client_falls_back_after_banner_timeout() {
    if !is_here() {
        return;
    }
    let silent = Peer::start(keep).await;
    let hasty = CONTROL.replace("upstream: u", "upstream: u, banner_timeout: 1s");
    let plan = Plan::new().node(NodeOptions::default()).listeners(&hasty).upstream("health_check: {banner: off}");
    let sandbox = plan.ports(&format!("tcp: {}", silent.address.port())).start().await;
    let took = falls_back(&sandbox, "plain", "file").await;
    assert!(took >= Duration::from_secs(1), "{took:?}");
    eprintln!("silent node, patience of 1s: the file was there after {took:?}");
    let labels = [("listener", "control"), ("reason", "node_silent")];
    assert_eq!(sandbox.metrics().await.sum("refusals_total", &labels), 1.0);
}
