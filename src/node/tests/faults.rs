//! Faults, and what the client makes of them.

use std::fs;
use std::time::Duration;

use super::super::{Action, Fault, NodeOptions, Verb};
use super::{Scratch, node};

async fn upload_with(faults: &[&str]) -> (u32, u64, u64, Vec<String>) {
    let scratch = Scratch::new();
    let (node, client) = node(&scratch, NodeOptions::default()).await;
    fs::write(scratch.join("f1"), vec![1; 300_000]).unwrap();
    fs::write(scratch.join("f2"), b"2").unwrap();
    node.set_faults(faults.iter().map(|f| f.parse().unwrap()).collect());
    let sources = [scratch.join("f1"), scratch.join("f2")];
    let report = client.upload(&sources, "/").await.unwrap();
    let log = node.log();
    let operations = log.iter().map(|s| s.operation.clone()).collect();
    (report.code, report.files, report.failed, operations)
}

#[tokio::test]
async fn refused_start() {
    for (fault, code) in [
        ("start=403", 5),
        ("start=404", 14),
        ("start=500", 11),
        ("start=503", 47),
        ("start=200,x-real-mgmt-error: 25", 25),
        ("start=403,x-real-mgmt-error: 19", 19),
        ("start=raw:HTTP/2 200 OK\\r\\nA: b\\r\\n\\r\\n", 47),
        ("start=raw:HTTP/1.1 103 Early\\r\\nA: b\\r\\n\\r\\n", 47),
        ("start=rst@0", 47),
    ] {
        let (got, files, _, operations) = upload_with(&[fault]).await;
        assert_eq!((got, files), (code, 0), "{fault}");
        assert_eq!(operations, ["session_start", "session_end"], "{fault}");
    }
}

#[tokio::test]
async fn a_bad_file_does_not_stop_the_others() {
    for fault in ["put:1=403", "put:1=200", "put:1=drain:413", "put:1=raw:HTTP/1.1 201\\r\\n\\r\\n"] {
        let (code, files, failed, operations) = upload_with(&[fault]).await;
        assert_eq!((code, files, failed), (27, 1, 1), "{fault}");
        assert_eq!(operations.len(), 4, "{fault}");
    }
}

#[tokio::test]
async fn a_lost_connection_does() {
    for fault in ["put:1=fin@1000", "put:1=rst@1000"] {
        let (code, files, failed, operations) = upload_with(&[fault]).await;
        assert_eq!((code, files, failed), (16, 0, 1), "{fault}");
        assert_eq!(operations, ["session_start", "file", "session_end"], "{fault}");
    }
}

#[tokio::test]
async fn early_answer_is_sent_before_the_body() {
    let scratch = Scratch::new();
    let (node, client) = node(&scratch, NodeOptions::default()).await;
    let mut session = client.session();
    session.start_put(&["x"]).await.unwrap();
    node.set_faults(vec!["put=early:413".parse().unwrap()]);
    let host = &client.host;
    let id = session.id().to_owned();
    let head = format!("PUT http://{host}/aspera/http/{id}/file/x/u.ashttp HTTP/1.1\r\nContent-Length: 9\r\n\r\n");
    // The body is never sent, yet there is an answer.
    let answer = session.raw(head.as_bytes(), b"").await.unwrap();
    assert_eq!(answer.status, 413);
    assert_eq!(answer.field("connection"), Some(&b"close"[..]));
}

#[tokio::test]
async fn interim_answers_and_extra_fields() {
    let scratch = Scratch::new();
    let (node, client) = node(&scratch, NodeOptions::default()).await;
    node.set_faults(vec!["put=102:0.001".parse().unwrap(), "end=normal,x-one: 1,X-One: two ".parse().unwrap()]);
    let mut session = client.session();
    session.start_put(&["x"]).await.unwrap();
    let answer = session.put(b"x", b"1", None).await.unwrap();
    assert_eq!((answer.status, answer.interim), (201, 1));
    let answer = session.end("DONE", 0).await.unwrap();
    assert_eq!(answer.field("x-one"), Some(&b"two"[..]));
}

#[tokio::test]
async fn a_stalled_node_is_given_up() {
    let scratch = Scratch::new();
    let (node, mut client) = node(&scratch, NodeOptions::default()).await;
    client.silence = Duration::from_millis(50);
    fs::write(scratch.join("f1"), b"1").unwrap();
    node.set_faults(vec!["put=stall@0".parse().unwrap()]);
    let report = client.upload(&[scratch.join("f1")], "/").await.unwrap();
    assert_eq!(report.code, 16);
}

#[tokio::test]
async fn a_closed_persistent_connection_is_not_replaced() {
    let scratch = Scratch::new();
    let options = NodeOptions { persistent: Some("1".to_owned()), ..NodeOptions::default() };
    let (node, client) = node(&scratch, options).await;
    fs::write(scratch.join("f1"), b"1").unwrap();
    fs::write(scratch.join("f2"), b"2").unwrap();
    node.set_faults(vec!["put:1=closeafter".parse().unwrap()]);
    let sources = [scratch.join("f1"), scratch.join("f2")];
    let report = client.upload(&sources, "/").await.unwrap();
    assert_eq!((report.code, report.files, report.connections), (16, 1, 1));
    assert_eq!(node.log().last().unwrap().operation, "file");
}

#[tokio::test]
async fn download_errors() {
    for (fault, code, files) in [
        ("get:1=404", 27, 0),
        ("get:2=206", 27, 1),
        ("get:1=raw:HTTP/1.1 200 OK\\r\\nServer: x\\r\\n\\r\\nhello", 27, 0),
        ("get:2=fin@1", 16, 1),
    ] {
        let scratch = Scratch::new();
        let (node, client) = node(&scratch, NodeOptions::default()).await;
        fs::create_dir(scratch.join("node/d")).unwrap();
        fs::write(scratch.join("node/d/a"), b"aaa").unwrap();
        fs::write(scratch.join("node/d/b"), b"bbb").unwrap();
        node.set_faults(vec![fault.parse().unwrap()]);
        let out = scratch.join("out");
        let report = client.download(&["/d".to_owned()], &out).await.unwrap();
        assert_eq!((report.code, report.files), (code, files), "{fault}");
        assert_eq!(node.log().last().unwrap().operation, "session_end");
    }
}

#[test]
fn the_fault_language() {
    let fault: Fault = "put:2=403,X-A: 1, X-B: 2".parse().unwrap();
    assert_eq!(fault.verb, Verb::Put);
    assert_eq!(fault.nth, Some(2));
    assert_eq!(fault.action, Action::Status(403));
    assert_eq!(fault.fields, ["X-A: 1", "X-B: 2"]);
    let fault: Fault = "get=stall@7:1.5".parse().unwrap();
    assert_eq!(fault.action, Action::Stall(7, Duration::from_millis(1500)));
    let fault: Fault = r"end=raw:a,b\r\n\x00".parse().unwrap();
    assert_eq!(fault.action, Action::Raw(b"a,b\r\n\0".to_vec()));
    for bad in [
        "",
        "put",
        "put=",
        "what=403",
        "put:0=403",
        "put:x=403",
        "put=99",
        "put=fin@",
        "put=delay:-1",
        "put=403,nocolon",
        "put=fin@1:2",
        "put=jump:1",
    ] {
        assert!(bad.parse::<Fault>().is_err(), "{bad}");
    }
}
