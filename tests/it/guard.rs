//! What a node's answer must not make the client do, and names that no node should see.

use std::net::SocketAddr;

use fallgate::node::NodeOptions;

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, noise, uuid,
    wire::{Reply, end, get, head, put, start, start_body},
};

const FILE: &[u8] = b"0123456789";

/// One node with the file `f` of ten bytes.
async fn sandbox(keys: &str) -> (Sandbox, SocketAddr, Wire) {
    let keys = format!("persistent_connection: force{keys}");
    let sandbox = Plan::new().node(NodeOptions::default()).listener(&keys).start().await;
    std::fs::write(sandbox.dir.path().join("n1/f"), FILE).unwrap();
    let host = sandbox.address("plain").await;
    let wire = Wire::plain(host).await;
    (sandbox, host, wire)
}

fn fault(sandbox: &Sandbox, text: &str) {
    let faults = if text.is_empty() { Vec::new() } else { vec![text.parse().unwrap()] };
    sandbox.nodes[0].set_faults(faults);
}

async fn begin(wire: &mut Wire, host: SocketAddr, operation: &str, sources: &[&str]) -> (String, Reply) {
    let id = uuid();
    let reply = wire.ask(&start(host, &id, &start_body(&id, operation, TOKEN.as_bytes(), sources))).await;
    (id, reply)
}

const BAD_NAMES: [&str; 6] = ["..", "../x", "a/../b", "a/..", r"..\x", r"a\..\b"];

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_climbs_does_not_reach_the_client() {
    for name in BAD_NAMES {
        let (sandbox, host, mut wire) = sandbox("").await;
        fault(&sandbox, &format!("start=normal,x-next-wire-file: {name}"));
        let (id, reply) = begin(&mut wire, host, "get", &["f"]).await;
        assert_eq!((reply.status, reply.word()), (502, "node_bad_name"), "{name}");
        assert_eq!(reply.field("x-real-mgmt-error"), Some("41"), "{name}");
        assert_eq!((reply.field("x-next-wire-file"), reply.field("content-length")), (None, Some("0")), "{name}");
        assert_eq!(wire.ask(&end(host, &id, "ERROR")).await.status, 200);
        assert_eq!(sandbox.records(1).await[0]["reason"], "node_bad_name");

        fault(&sandbox, &format!("get=normal,x-next-wire-file: {name}"));
        let (id, reply) = begin(&mut wire, host, "get", &["f"]).await;
        assert_eq!(reply.status, 200);
        let reply = wire.ask(&get(host, &id, "f", "")).await;
        assert_eq!((reply.status, reply.word()), (502, "node_bad_name"), "{name}");
        // In step: what comes next is the next answer, and no byte of the file.
        assert_eq!(wire.ask(&end(host, &id, "ERROR")).await.status, 200, "{name}");
        let records = sandbox.records(2).await;
        assert_eq!((&records[1]["bytes_downloaded"], &records[1]["files_failed"]), (&0.into(), &1.into()), "{name}");
        let metrics = sandbox.metrics().await;
        assert_eq!(metrics.sum("refusals_total", &[("reason", "node_bad_name")]), 2.0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_a_control_does_not_reach_the_client() {
    for control in ["\\x01", "\\x00", "\\x7f", "\\x1b", "\\x0d", "\\x08"] {
        let answer =
            format!("HTTP/1.1 200 OK\\r\\nx-next-wire-file: a{control}b\\r\\nContent-Length: 5\\r\\n\\r\\nhello");
        for verb in ["start", "get"] {
            let (sandbox, host, mut wire) = sandbox("").await;
            fault(&sandbox, &format!("{verb}=raw:{answer}"));
            let (id, mut reply) = begin(&mut wire, host, "get", &["f"]).await;
            if verb == "get" {
                assert_eq!(reply.status, 200);
                reply = wire.ask(&get(host, &id, "f", "")).await;
            }
            // The engine knows most controls for a broken answer before the guard sees them.
            let words = ["node_bad_name", "node_bad_answer", "node_lost"];
            assert!(reply.status == 502 && words.contains(&reply.word()), "{control} {verb}: {reply:?}");
            assert_eq!(reply.field("x-next-wire-file"), None, "{control} {verb}");
            assert_eq!(wire.ask(&end(host, &id, "ERROR")).await.status, 200, "{control} {verb}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_beyond_the_announced_size_does_not_reach_the_client() {
    for (value, passes) in [("11", false), ("+11", false), ("011", false), ("11; x", false), ("10", true), ("-5", true)]
    {
        let (sandbox, host, mut wire) = sandbox("").await;
        let next = "x-next-wire-file: b\r\nx-next-wire-file-time: 1\r\nx-next-wire-file-size: 10\r\n";
        fault(&sandbox, &format!("start=normal,x-next-file-start: {value}"));
        let id = uuid();
        let body = start_body(&id, "put", TOKEN.as_bytes(), &["f"]);
        let lines = format!("Content-Length: {}\r\n{next}", body.len());
        let reply = wire.ask(&[head("POST", host, &id, "session_start/OOB", &lines), body].concat()).await;
        if passes {
            assert_eq!((reply.status, reply.field("x-next-file-start")), (200, Some(value)));
        } else {
            assert_eq!((reply.status, reply.word()), (502, "node_bad_start"), "{value}");
            assert_eq!(reply.field("x-next-file-start"), None);
            assert!(reply.field("x-real-mgmt-error").is_some());
        }
        fault(&sandbox, &format!("put=normal,x-next-file-start: {value}"));
        let (id, _) = begin(&mut wire, host, "put", &["f"]).await;
        wire.send(&[&head("PUT", host, &id, "file/a", &format!("Content-Length: 1\r\n{next}")), &b"x"[..]].concat())
            .await;
        let reply = wire.head().await;
        let wanted = if passes { (201, "") } else { (502, "node_bad_start") };
        assert_eq!((reply.status, reply.word()), wanted, "{value}");
        fault(&sandbox, "");
        assert_eq!(wire.ask(&put(host, &id, "c", b"x")).await.status, 201, "{value}");
    }
}

const WHOLE: &str = r"get=raw:HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_file_where_its_rest_was_asked_for_does_not_reach_the_client() {
    let (sandbox, host, mut wire) = sandbox("").await;
    fault(&sandbox, WHOLE);
    let (id, reply) = begin(&mut wire, host, "get", &["f"]).await;
    assert_eq!(reply.field("x-next-wire-file-size"), Some("10"));
    let reply = wire.ask(&get(host, &id, "f", "x-Content-range: bytes 4-*/*\r\n")).await;
    assert_eq!((reply.status, reply.word()), (502, "node_ignored_range"));
    assert_eq!(wire.ask(&end(host, &id, "ERROR")).await.status, 200, "no byte of the file in between");
    let record = &sandbox.records(1).await[0];
    assert_eq!((&record["bytes_downloaded"], &record["outcome"]), (&0.into(), &"error".into()));

    // The same from a node that claims to start at what was asked for.
    let claim = WHOLE.replace(r"OK\r\n", r"OK\r\nx-start-override: 4\r\n");
    fault(&sandbox, &claim);
    let (id, _) = begin(&mut wire, host, "get", &["f"]).await;
    let reply = wire.ask(&get(host, &id, "f", "x-Content-range: bytes 4-*/*\r\n")).await;
    assert_eq!((reply.status, reply.word()), (502, "node_ignored_range"));
    assert_eq!(wire.ask(&end(host, &id, "ERROR")).await.status, 200);
    // And from one that says its length twice.
    for twice in ["10, 10", r"10\r\nContent-Length: 10"] {
        fault(&sandbox, &WHOLE.replace("Length: 10", &format!("Length: {twice}")));
        let (id, _) = begin(&mut wire, host, "get", &["f"]).await;
        let reply = wire.ask(&get(host, &id, "f", "x-Content-range: bytes 4-*/*\r\n")).await;
        assert_eq!((reply.status, reply.word()), (502, "node_ignored_range"), "{twice}");
        assert_eq!(wire.ask(&end(host, &id, "ERROR")).await.status, 200);
    }
    // And from one that says it begins anew, which is what the client then does.
    fault(&sandbox, &claim.replace("override: 4", "override: 0"));
    let (id, _) = begin(&mut wire, host, "get", &["f"]).await;
    let reply = wire.ask(&get(host, &id, "f", "x-Content-range: bytes 4-*/*\r\n")).await;
    assert_eq!((reply.status, wire.body(10).await), (200, FILE.to_vec()));
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
    assert_eq!(sandbox.records(5).await[4]["lengths_differ"], 0);

    // A node that obeys is left alone.
    fault(&sandbox, "");
    let (id, _) = begin(&mut wire, host, "get", &["f"]).await;
    let reply = wire.ask(&get(host, &id, "f", "x-Content-range: bytes 4-*/*\r\n")).await;
    assert_eq!((reply.status, reply.field("content-length")), (200, Some("6")));
    assert_eq!(wire.body(6).await, FILE[4..]);
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
    assert_eq!(sandbox.records(6).await[5]["lengths_differ"], 0);
    assert_eq!(sandbox.metrics().await.sum("guard_findings_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_is_off_lets_all_of_it_pass() {
    let (sandbox, host, mut wire) = sandbox(", guard: {names: off, resume: off}").await;
    fault(&sandbox, "start=normal,x-next-wire-file: ../x");
    let (_, reply) = begin(&mut wire, host, "get", &["f"]).await;
    assert_eq!((reply.status, reply.field("x-next-wire-file")), (200, Some("../x")));
    fault(&sandbox, "put=normal,x-next-file-start: 11");
    let (id, _) = begin(&mut wire, host, "put", &["f"]).await;
    let lines = "Content-Length: 1\r\nx-next-wire-file: b\r\nx-next-wire-file-size: 10\r\n";
    wire.send(&[&head("PUT", host, &id, "file/a", lines), &b"x"[..]].concat()).await;
    let reply = wire.head().await;
    assert_eq!((reply.status, reply.field("x-next-file-start")), (201, Some("11")));
    fault(&sandbox, WHOLE);
    let (id, _) = begin(&mut wire, host, "get", &["f"]).await;
    let reply = wire.ask(&get(host, &id, "f", "x-Content-range: bytes 4-*/*\r\n")).await;
    assert_eq!((reply.status, wire.body(10).await), (200, FILE.to_vec()));
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
    let record = sandbox.records(1).await.pop().unwrap();
    assert_eq!(record["lengths_differ"], 1, "still worth knowing");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_length_passes_and_is_counted() {
    let (sandbox, host, mut wire) = sandbox("").await;
    for (body, range) in [("0123456789AB", ""), ("0123", ""), ("4567", "x-Content-range: bytes 4-*/*\r\n")] {
        fault(&sandbox, &format!(r"get=raw:HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        let (id, _) = begin(&mut wire, host, "get", &["f"]).await;
        let reply = wire.ask(&get(host, &id, "f", range)).await;
        assert_eq!((reply.status, wire.body(body.len()).await), (200, body.as_bytes().to_vec()));
        assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
    }
    let records = sandbox.records(3).await;
    assert!(records.iter().all(|r| r["lengths_differ"] == 1 && r["outcome"] == "done"), "{records:?}");
    let found = sandbox.metrics().await.sum("guard_findings_total", &[("finding", "length_differs")]);
    assert_eq!(found, 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_was_announced_for_another_file_is_no_measure_for_this_one() {
    let (sandbox, host, mut wire) = sandbox("").await;
    fault(&sandbox, r"get=raw:HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
    let (id, _) = begin(&mut wire, host, "get", &["f"]).await;
    // The answer before it came by another gateway.
    let later = String::from_utf8(get(host, &id, "f", "")).unwrap().replace("index: 0", "index: 1");
    let reply = wire.ask(later.as_bytes()).await;
    assert_eq!((reply.status, wire.body(3).await), (200, b"abc".to_vec()));
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
    assert_eq!(sandbox.records(1).await[0]["lengths_differ"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_files_that_ends_early_is_told() {
    let (sandbox, host, mut wire) = sandbox("").await;
    std::fs::write(sandbox.dir.path().join("n1/g"), b"g").unwrap();
    for (files, early) in [(1, true), (2, false)] {
        let (id, _) = begin(&mut wire, host, "get", &["f", "g"]).await;
        for (name, size) in [("f", 10), ("g", 1)].into_iter().take(files) {
            assert_eq!(wire.ask(&get(host, &id, name, "")).await.status, 200);
            wire.body(size).await;
        }
        assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
        let record = sandbox.records(if early { 1 } else { 2 }).await.pop().unwrap();
        assert_eq!(record["chain_ended_early"], early, "{record}");
        let found = sandbox.metrics().await.sum("guard_findings_total", &[("finding", "chain_ended_early")]);
        assert_eq!(found, 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn controls_of_a_client_are_refused_and_its_session_goes_on_on_the_same_connection() {
    for tls in [false, true] {
        let (sandbox, mut host, mut wire) = sandbox("").await;
        if tls {
            host = sandbox.address("tls").await;
            wire = Wire::tls(host, crate::support::tls()).await;
        }
        let (id, reply) = begin(&mut wire, host, "put", &["f"]).await;
        assert_eq!(reply.status, 200);
        let seen = sandbox.seen(1).len();
        let mut refusals = 0.0;
        for size in [0, 5, 3 << 20] {
            for (tail, lines) in [
                ("file/a", "x-next-wire-file: a\x01b\r\n"),
                ("file/a", "x-next-wire-file: \x7f\r\n"),
                ("file/a", "X-Other: a\x08b\r\n"),
                ("file/a%01b", ""),
                ("file/a%0d%0ab", ""),
                ("file/%7F", ""),
                ("file/a/%2e%2e/b", ""),
            ] {
                let lines = format!("Content-Length: {size}\r\n{lines}");
                wire.send(&[head("PUT", host, &id, tail, &lines), noise(size, 1)].concat()).await;
                let reply = wire.head().await;
                assert_eq!((reply.status, reply.word()), (400, "bad_name"), "{tail} {lines:?}");
                assert_eq!(reply.field("connection"), Some("keep-alive"), "{tail} {lines:?}");
                refusals += 1.0;
            }
        }
        assert_eq!(sandbox.seen(1).len(), seen, "no node hears of them");
        assert_eq!(wire.ask(&put(host, &id, "a", b"x")).await.status, 201);
        assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
        let metrics = sandbox.metrics().await;
        assert_eq!(metrics.sum("refusals_total", &[("reason", "bad_name")]), refusals);
        assert_eq!(sandbox.records(1).await[0]["outcome"], "done");
    }
}
