//! Trees go up and come down unchanged, plain and with TLS, with and without persistence.

use std::fs;

use super::super::NodeOptions;
use super::super::client::insecure_tls;
use super::{Scratch, acceptor, node, plant};

async fn there_and_back(tls: bool, persistent: bool) {
    let scratch = Scratch::new();
    let files = plant(&scratch);
    let options = NodeOptions {
        tls: tls.then(acceptor),
        persistent: persistent.then(|| "1".to_owned()),
        token: Some("a&b<c>\"".to_owned()),
        ..NodeOptions::default()
    };
    let (node, mut client) = node(&scratch, options).await;
    client.tls = tls.then(|| insecure_tls().unwrap());
    client.token = "a&b<c>\"".to_owned();
    let up = client.upload(&[scratch.join("t")], "/").await.unwrap();
    assert!(up.is_ok(), "{up:?}");
    assert_eq!((up.files, up.failed), (7, 0));
    // start, 7 files, 1 directory, end
    assert_eq!(up.connections, if persistent { 1 } else { 10 });
    for (name, body) in &files {
        let stored = fs::read(scratch.join("node/up").join(name)).unwrap();
        assert!(stored == *body, "{name}");
    }
    assert!(scratch.join("node/up/t/hollow").is_dir());

    let out = scratch.join("out");
    let down = client.download(&["/up/t".to_owned()], &out).await.unwrap();
    assert!(down.is_ok(), "{down:?}");
    assert_eq!(down.bytes, up.bytes);
    for (name, body) in &files {
        assert!(fs::read(out.join(name)).unwrap() == *body, "{name}");
    }
    assert_eq!(node.connections(), up.connections + down.connections);
    node.close().await;
}

#[tokio::test]
async fn plain() {
    there_and_back(false, false).await;
}

#[tokio::test]
async fn plain_persistent() {
    there_and_back(false, true).await;
}

#[tokio::test]
async fn tls() {
    there_and_back(true, false).await;
}

#[tokio::test]
async fn tls_persistent() {
    there_and_back(true, true).await;
}

#[tokio::test]
async fn requests_are_recorded_in_order() {
    let scratch = Scratch::new();
    let (node, client) = node(&scratch, NodeOptions::default()).await;
    fs::write(scratch.join("f1"), b"abc").unwrap();
    let sources = [scratch.join("f1"), scratch.join("nope")];
    let report = client.upload(&sources, "/").await.unwrap();
    assert!(report.is_ok());
    let log = node.log();
    let operations: Vec<_> = log.iter().map(|s| s.operation.as_str()).collect();
    assert_eq!(operations, ["session_start", "file", "mgmt_msg", "session_end"]);
    assert!(log.iter().all(|s| s.session == report.session));
    assert_eq!((log[1].body_bytes, log[1].body.len()), (3, 0));
    let text = String::from_utf8(log[2].body.clone()).unwrap();
    assert!(text.contains("/nope\nSize: 0\n"), "{text}");
    assert!(log[2].head.starts_with(b"PUT http://127.0.0.1:"));
    let line = String::from_utf8_lossy(&log[2].head).into_owned();
    assert!(line.contains("/mgmt_msg//"), "{line}");
}

#[tokio::test]
async fn sink_keeps_nothing_and_makes_zeros() {
    let scratch = Scratch::new();
    let options = NodeOptions { sink: true, record: false, ..NodeOptions::default() };
    let (node, client) = node(&scratch, options).await;
    fs::write(scratch.join("f1"), vec![7; 600_000]).unwrap();
    let report = client.upload(&[scratch.join("f1")], "/").await.unwrap();
    assert!(report.is_ok());
    assert!(!scratch.join("node/up").exists());
    let mut session = client.session();
    let answer = session.start_get(&["/a.700000b", "/b.0b"]).await.unwrap();
    assert_eq!(answer.field("X-NEXT-WIRE-FILE-SIZE"), Some(&b"700000"[..]));
    let (answer, body) = session.get(b"a.700000b", 0).await.unwrap();
    assert!(body == vec![0; 700_000]);
    assert_eq!(answer.field("x-next-wire-file"), Some(&b"b.0b"[..]));
    assert!(session.get(b"b.0b", 1).await.unwrap().1.is_empty());
    assert_eq!(session.end("DONE", 0).await.unwrap().status, 200);
    assert!(node.log().is_empty());
}

#[tokio::test]
async fn nothing_outside_of_the_root() {
    let scratch = Scratch::new();
    let (_node, client) = node(&scratch, NodeOptions::default()).await;
    fs::write(scratch.join("secret"), b"s").unwrap();
    std::os::unix::fs::symlink(&*scratch, scratch.join("node/link")).unwrap();
    fs::create_dir(scratch.join("node/up")).unwrap();
    std::os::unix::fs::symlink(&*scratch, scratch.join("node/up/link")).unwrap();
    let mut session = client.session();
    session.start_put(&["x"]).await.unwrap();
    assert_eq!(session.put(b"../x", b"1", None).await.unwrap().status, 400);
    assert_eq!(session.put(b"link/x", b"1", None).await.unwrap().status, 403);
    assert!(!scratch.join("x").exists());
    for source in ["../secret", "/link/secret", "/link"] {
        let mut session = client.session();
        let answer = session.start_get(&[source]).await.unwrap();
        assert_eq!(answer.field("x-next-wire-file"), None, "{source}");
    }
}

#[tokio::test]
async fn wrong_token_and_unknown_session() {
    let scratch = Scratch::new();
    let options = NodeOptions { token: Some("good".to_owned()), ..NodeOptions::default() };
    let (node, mut client) = node(&scratch, options).await;
    fs::write(scratch.join("f1"), b"abc").unwrap();
    client.token = "bad</token><token>good".to_owned();
    let report = client.upload(&[scratch.join("f1")], "/").await.unwrap();
    assert_eq!((report.code, report.files), (5, 0));
    let operations: Vec<_> = node.log().iter().map(|s| s.operation.clone()).collect();
    assert_eq!(operations, ["session_start", "session_end"]);
    let mut session = client.session();
    assert_eq!(session.put(b"f1", b"abc", None).await.unwrap().status, 404);
    assert_eq!(session.get(b"f1", 0).await.unwrap().0.status, 404);
}

#[tokio::test]
async fn closing_the_node_ends_its_connections() {
    let scratch = Scratch::new();
    let options = NodeOptions { persistent: Some("1".to_owned()), ..NodeOptions::default() };
    let (node, client) = node(&scratch, options).await;
    let mut session = client.session();
    session.start_put(&["x"]).await.unwrap();
    node.close().await;
    assert!(session.put(b"x", b"1", None).await.is_err());
    assert!(session.lost());
    assert!(client.session().start_put(&["x"]).await.is_err());
}

#[tokio::test]
async fn a_node_that_went_down_comes_back_to_its_port_with_its_sessions() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const ID: &str = "6b1c4ba7-6c2e-4a8c-9f0e-1f2d3c4b5a69";
    let scratch = Scratch::new();
    let (mut node, _) = node(&scratch, NodeOptions::default()).await;
    let address = node.address();
    let ask = async |request: String| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        String::from_utf8(status[9..].to_vec()).unwrap()
    };
    let target = |what: &str| format!("/aspera/http/{ID}/{what}/{ID}.ashttp HTTP/1.1\r\nHost: n\r\n");
    let body = format!("<id>{ID}</id>\n<operation>put</operation>\n<token></token>\n");
    let start = format!("POST {}Content-Length: {}\r\n\r\n{body}", target("session_start/OOB"), body.len());
    assert_eq!(ask(start).await, "200");
    node.fall().await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    node.come_back().unwrap();
    assert_eq!(node.address(), address);
    assert_eq!(ask(format!("PUT {}Content-Length: 3\r\n\r\nabc", target("file/a"))).await, "201");
    assert_eq!(fs::read(scratch.join("node/up/a")).unwrap(), b"abc");
}
