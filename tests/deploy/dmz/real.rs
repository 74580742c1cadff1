//! Real programs through both firewalls: ascp by the fallback, and OpenSSH by the control port.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use super::{
    nft_is_here, rules,
    site::{FILES, Running, Site, certificate, explained},
};
use crate::support::{eventually, here, programs};

const TOKEN: &str = "ATM3_ACsGh7NRzGA2-ANT6j6mT3O4UYw48JKSstgxg2y8PunjPYAAEc-5aMrqwWI9XCbMaE2Kxk_3MTA";

/// The client, where it can be had; in CI it must.
fn ascp() -> Option<PathBuf> {
    let said = Command::new(here("tests/get-ascp")).stdin(Stdio::null()).output().unwrap();
    assert!(said.status.success() || std::env::var_os("CI").is_none(), "{}", String::from_utf8_lossy(&said.stderr));
    if !said.status.success() {
        eprintln!("SKIPPED: a test with the real client: {}", String::from_utf8_lossy(&said.stderr));
        return None;
    }
    Some(PathBuf::from(String::from_utf8(said.stdout).unwrap().trim_end()))
}

/// Runs a program to its end, or panics.
async fn run(command: Command) -> Output {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(Duration::from_secs(60), command.output()).await.expect("it does not end").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_moves_files_through_both_firewalls_by_the_flags_that_explain_prints() {
    if !nft_is_here() {
        return;
    }
    let Some(ascp) = ascp() else { return };
    let Some(mut site) = Site::new().await else { return };
    site.banners();
    let _gateway = site.gateway().await;
    FILES.iter().for_each(|file| site.load(file, &rules(file)));
    let home = tempfile::tempdir().unwrap();
    certificate(home.path(), "CLIENT");
    let all: serde_json::Value = serde_json::from_str(&explained(&["--json"])).unwrap();
    let mut calls = 0;
    for call in all["ascp"].as_array().unwrap().iter().filter(|call| call["flags"][1] == "F") {
        let name = format!("by {}", call["listeners"][0].as_str().unwrap());
        let content: Vec<_> = (0..200_000_u32).flat_map(|n| (n ^ calls).to_le_bytes()).collect();
        std::fs::write(home.path().join(&name), &content).unwrap();
        let mut command = site.client.command(ascp.to_str().unwrap());
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", home.path());
        command.env("ASPERA_SCP_TOKEN", TOKEN).current_dir(home.path());
        command.args(call["flags"].as_array().unwrap().iter().map(|flag| flag.as_str().unwrap()));
        command.args(["--user=xfer", "--mode=send", &name, "/"]);
        let said = run(command).await;
        assert!(said.status.success(), "{call}: {said:?}");
        assert!(site.uploaded(&name).await == content, "{name}");
        calls += 1;
    }
    assert_eq!(calls, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_the_control_port_meets_the_ssh_server_of_a_node() {
    let ssh = programs::is_here("ssh", &["-V"]);
    if !nft_is_here() || !ssh || !Path::new("/usr/sbin/sshd").exists() && std::env::var_os("CI").is_none() {
        eprintln!("SKIPPED: a test with OpenSSH");
        return;
    }
    let Some(mut site) = Site::new().await else { return };
    let dir = tempfile::tempdir().unwrap();
    for name in ["host", "key"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.path().join(name));
        assert!(keygen.status().unwrap().success());
    }
    let _ = std::fs::create_dir_all("/run/sshd");
    let mut servers = Vec::new();
    for (host, ip) in [(&site.n1, "10.1.0.11"), (&site.n2, "fd00:1::12")] {
        let mut sshd = host.command("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f", "/dev/null", "-p", "33001"]);
        for (key, value) in [
            ("ListenAddress", ip.to_owned()),
            ("HostKey", dir.path().join("host").display().to_string()),
            ("AuthorizedKeysFile", dir.path().join("key.pub").display().to_string()),
            ("UsePAM", "no".to_owned()),
            ("StrictModes", "no".to_owned()),
            ("PidFile", "none".to_owned()),
            ("PermitRootLogin", "yes".to_owned()),
        ] {
            sshd.arg("-o").arg(format!("{key}={value}"));
        }
        servers.push(Running(sshd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()));
    }
    for (host, ip) in [(&site.n1, "10.1.0.11:33001"), (&site.n2, "[fd00:1::12]:33001")] {
        eventually("an SSH server", || {
            host.open(|| std::net::TcpStream::connect(ip.parse::<std::net::SocketAddr>().unwrap())).ok()
        })
        .await;
    }
    let _gateway = site.gateway().await;
    FILES.iter().for_each(|file| site.load(file, &rules(file)));
    for to in super::doors::GATEWAY {
        let mut ssh = site.client.command("ssh");
        ssh.args(["-F", "/dev/null", "-q", "-p", "33001", "-i"]).arg(dir.path().join("key"));
        for option in
            ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
        {
            ssh.args(["-o", option]);
        }
        ssh.arg(format!("root@{to}")).arg("echo $SSH_CONNECTION");
        let said = run(ssh).await;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        // The node sees the gateway, which is all that the inner firewall lets in.
        let from = [("192.0.2.10", "10.1.0.11"), ("2001:db8:d::10", "fd00:1::12")];
        let is_so = from.iter().any(|(gateway, node)| text.starts_with(gateway) && text.contains(node));
        assert!(said.status.success() && is_so, "{to}: {said:?}");
    }
}
