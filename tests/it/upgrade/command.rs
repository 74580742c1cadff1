//! `fallgate upgrade`: what an operator says, and hears.

use std::process::Command;

use fallgate::node::{Node, NodeOptions};

use super::{Client, Plan};
use crate::support::{ADMIN_TOKEN, eventually, loopback, process::Process, secrets};

/// What the command says on standard output and error, with its exit status.
fn upgrade(gateway: &Process) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fallgate"));
    let ended = command.args(["upgrade", "--config"]).arg(gateway.dir().join("fallgate.yaml")).output().unwrap();
    let said = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
    secrets::none_in("what the command says", &said);
    (said, ended.status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_waits_for_the_new_process_and_says_why_there_is_none() {
    let files = tempfile::tempdir().unwrap();
    let root = files.path().to_owned();
    let node = Node::start(loopback(0), NodeOptions { root, ..NodeOptions::default() }).await.unwrap();
    // On an address of its own, where nobody takes ports by chance.
    let free = std::net::TcpListener::bind("127.77.0.2:0").unwrap();
    let admin = format!("address: '{}', token_file: token", free.local_addr().unwrap());
    drop(free);
    let text = super::config(&Plan::default(), &[node.address()]);
    let good = text.replace("admin: {address: '127.0.0.1:0'", &format!("admin: {{{admin}"));
    let token = |dir: &std::path::Path| std::fs::write(dir.join("token"), ADMIN_TOKEN).unwrap();
    let gateway = Process::with(&good, token).await;
    let client = Client::begin(gateway.address("plain").await).await;

    let (said, status) = upgrade(&gateway);
    assert_eq!(status, Some(0), "{said}");
    // Its log may be read a moment later.
    let is_told = || said.contains(&format!("Process {} has taken over.", gateway.newest()));
    eventually("the process that has taken over", || is_told().then_some(())).await;
    assert_ne!(gateway.newest(), gateway.first());
    assert_eq!(client.put("a", b"x").await, 201);

    gateway.write(&good.replace("version: 1", "version: 2"));
    let (said, status) = upgrade(&gateway);
    assert_eq!((status, said.contains("version")), (Some(2), true), "{said}");
    gateway.write(&good.replace("name: n1", "name: other"));
    let (said, status) = upgrade(&gateway);
    assert_eq!((status, said.contains("a session is on node n1")), (Some(1), true), "{said}");
    std::fs::write(gateway.dir().join("token"), "another-token-of-16").unwrap();
    gateway.write(&good);
    let (said, status) = upgrade(&gateway);
    assert_eq!((status, said.contains("401")), (Some(1), true), "{said}");
    assert_eq!(client.end().await, 200);
}
