//! OpenSSH through the control door: what its users do, and what they see of the gateway, which is nothing.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::{
    folder,
    sshd::{Sshd, is_here, run, user},
};
use crate::support::{Plan, Sandbox, noise};

const MIB: usize = 1024 * 1024;
const CONTROL: &str = "{name: control, protocol: tcp, address: '127.0.0.1:0', upstream: u}";

async fn before(sshd: &Sshd, control: &str) -> Sandbox {
    Plan::new().listeners(control).ports(&sshd.port()).start().await
}

/// The one record, whose outcome must be `closed`, and the bytes that went up and down.
async fn carried(sandbox: &Sandbox) -> (u64, u64) {
    let record = sandbox.records(1).await.pop().unwrap();
    assert_eq!((&record["kind"], &record["node"]), (&"control".into(), &"n1".into()));
    assert_eq!(record["outcome"], "closed", "{record}");
    (record["bytes_uploaded"].as_u64().unwrap(), record["bytes_downloaded"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_runs_a_command_with_its_streams_and_its_exit_status() {
    if !is_here() {
        return;
    }
    let sshd = Sshd::start().await;
    let sandbox = before(&sshd, CONTROL).await;
    let to = sandbox.address("control").await;
    let said = sshd.ssh(to, &[], "echo out; echo err >&2; exit 7").await;
    assert_eq!(said.status.code(), Some(7), "{said:?}");
    assert_eq!((said.stdout.as_slice(), said.stderr.as_slice()), (b"out\n".as_slice(), b"err\n".as_slice()));
    let (up, down) = carried(&sandbox).await;
    assert!(up > 1000 && down > 1000, "{up} {down}");
    // A banner check opens and closes a connection, and no more than that.
    assert_eq!(sandbox.metrics().await.sum("node_up", &[("port", "tcp")]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_arrive_whole_both_ways_by_scp_and_by_sftp() {
    if !is_here() {
        return;
    }
    let long = std::env::var_os("FALLGATE_LONG").is_some();
    let len = if long { 1024 * MIB } else { 64 * MIB };
    let sshd = Sshd::start().await;
    for way in ["scp", "scp -O", "sftp"] {
        let sandbox = before(&sshd, CONTROL).await;
        let to = sandbox.address("control").await;
        let dir = folder(&sandbox, "files");
        let (here, there, back) = (dir.join("here"), dir.join("there"), dir.join("back"));
        fs::write(&here, noise(len, 7)).unwrap();
        let far = format!("{}@127.0.0.1", user());
        if way == "sftp" {
            let batch = dir.join("batch");
            let lines =
                format!("put {} {}\nget {} {}\n", here.display(), there.display(), there.display(), back.display());
            fs::write(&batch, lines).unwrap();
            let mut sftp = sshd.program("sftp", "-P", to);
            sftp.arg("-b").arg(&batch).arg(&far);
            let said = run(sftp).await;
            assert!(said.status.success(), "{said:?}");
        } else {
            for (from, into) in [
                (here.display().to_string(), format!("{far}:{}", there.display())),
                (format!("{far}:{}", there.display()), back.display().to_string()),
            ] {
                let mut scp = sshd.program("scp", "-P", to);
                scp.args(way.split(' ').skip(1)).args([from, into]);
                let said = run(scp).await;
                assert!(said.status.success(), "{way}: {said:?}");
            }
        }
        let sent = fs::read(&here).unwrap();
        assert!(fs::read(&there).unwrap() == sent, "{way}: up");
        assert!(fs::read(&back).unwrap() == sent, "{way}: down");
        let connections = if way == "sftp" { 1 } else { 2 };
        let records = sandbox.records(connections).await;
        assert!(records.len() == connections && records.iter().all(|r| r["outcome"] == "closed"), "{records:?}");
        let sum = |field: &str| records.iter().map(|r| r[field].as_u64().unwrap()).sum::<u64>();
        assert!(sum("bytes_uploaded") > len as u64 && sum("bytes_downloaded") > len as u64, "{records:?}");
        let labels = |direction| [("listener", "control"), ("direction", direction)];
        let metrics = sandbox.metrics().await;
        assert_eq!(metrics.sum("bytes_total", &labels("upload")), sum("bytes_uploaded") as f64);
        assert_eq!(metrics.sum("bytes_total", &labels("download")), sum("bytes_downloaded") as f64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_session_lives_by_its_own_keepalive_and_is_closed_after_idle_without_one() {
    if !is_here() {
        return;
    }
    let sshd = Sshd::start().await;
    let sandbox = before(&sshd, &CONTROL.replace("upstream: u", "upstream: u, idle: 2s")).await;
    let to = sandbox.address("control").await;
    let alive = sshd.ssh(to, &["-o", "ServerAliveInterval=1"], "sleep 4; echo done").await;
    assert_eq!((alive.status.code(), alive.stdout.as_slice()), (Some(0), b"done\n".as_slice()), "{alive:?}");
    let begin = Instant::now();
    let quiet = sshd.ssh(to, &[], "sleep 8; echo done").await;
    assert_eq!((quiet.status.code(), quiet.stdout.as_slice()), (Some(255), b"".as_slice()), "{quiet:?}");
    assert!(begin.elapsed() < Duration::from_secs(7), "{:?}", begin.elapsed());
    let outcomes: Vec<_> = sandbox.records(2).await.iter().map(|r| r["outcome"].clone()).collect();
    assert_eq!(outcomes, ["closed", "idle"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_logins_at_once_all_meet_their_command() {
    if !is_here() {
        return;
    }
    let sshd = Sshd::start().await;
    let sandbox = before(&sshd, CONTROL).await;
    let to = sandbox.address("control").await;
    let login = async |i: u32| {
        let said = sshd.ssh(to, &[], &format!("echo {i}")).await;
        assert_eq!(String::from_utf8_lossy(&said.stdout), format!("{i}\n"), "{said:?}");
    };
    tokio::join!(login(1), login(2), login(3), login(4), login(5), login(6));
    assert_eq!(sandbox.records(6).await.len(), 6);
}
