//! Who may have what.

use std::time::{Duration, Instant};

use base64::{Engine, prelude::BASE64_STANDARD};
use fallgate::config::Config;

use super::{ADMIN_TOKEN, Operator};
use crate::support::{Plan, Sandbox, Wire};

async fn sandbox() -> Sandbox {
    Plan::new().admin("token_file: token").start().await
}

const READ: &[&str] = &[
    "/",
    "/api/v1/status",
    "/api/v1/sessions",
    "/api/v1/nodes",
    "/api/v1/config",
    "/api/v1/openapi.json",
    "/api/v1/sessions/none",
    "/nothing",
];
const COMMANDS: &[&str] = &["/api/v1/reload", "/api/v1/drain", "/api/v1/config", "/api/v1/sessions/none/cancel"];

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_from_this_host_may_read_and_needs_the_token_to_command() {
    let sandbox = sandbox().await;
    let stranger = Operator::stranger(&sandbox);
    for path in READ {
        let status = stranger.get(path).await.status;
        assert!([200, 404].contains(&status), "{path}: {status}");
    }
    for (n, path) in COMMANDS.iter().enumerate() {
        let said = stranger.post(path, "{}").await;
        assert_eq!(said.refusal(), (401, "auth_required".into()), "{path}");
        assert!(said.head.contains("www-authenticate: Bearer"), "a browser must not ask its user: {}", said.head);
        let refusals = [("listener", "admin"), ("reason", "auth_required")];
        assert_eq!(sandbox.metrics().await.sum("refusals_total", &refusals), (n + 1) as f64);
    }
    let wrong = [("Authorization", "Bearer 00000000000000000000")];
    assert_eq!(stranger.ask("POST", "/api/v1/drain", &wrong, "").await.refusal(), (401, "auth_failed".into()));
    assert_eq!(stranger.ask("GET", "/api/v1/status", &wrong, "").await.refusal(), (401, "auth_failed".into()));
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("anna:{ADMIN_TOKEN}")));
    let said = stranger.ask("POST", "/api/v1/sessions/none/cancel", &[("Authorization", &basic)], "").await;
    assert_eq!(said.refusal(), (404, "unknown_session".into()), "who brings the token is let in");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_file_nobody_commands() {
    let sandbox = Plan::new().start().await;
    for operator in [Operator::of(&sandbox), Operator::stranger(&sandbox)] {
        let said = operator.post("/api/v1/drain", "").await;
        let word = if operator.has_token { "auth_failed" } else { "auth_required" };
        assert_eq!((said.status / 100, said.word().as_str()), (4, word));
    }
    assert!(Operator::stranger(&sandbox).post("/api/v1/drain", "").await.body.contains("admin.token_file"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_on_this_host_passes_on_is_not_of_this_host() {
    let sandbox = sandbox().await;
    let stranger = Operator::stranger(&sandbox);
    for field in ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"] {
        let said = stranger.ask("GET", "/api/v1/status", &[(field, "for=192.0.2.1")], "").await;
        assert_eq!(said.refusal(), (401, "auth_required".into()), "{field}");
        assert!(said.head.contains("www-authenticate: Basic"), "a browser asks its user: {}", said.head);
        assert_eq!(Operator::of(&sandbox).ask("GET", "/api/v1/status", &[(field, "x")], "").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_made_to_lead_here_and_a_page_of_another_site_are_refused_and_counted() {
    let sandbox = sandbox().await;
    let (stranger, operator) = (Operator::stranger(&sandbox), Operator::of(&sandbox));
    let foreign = [("Host", "evil.example")];
    for path in READ.iter().chain(&["/metrics", "/readyz", "/api/v1/events"]) {
        assert_eq!(stranger.ask("GET", path, &foreign, "").await.refusal(), (403, "foreign_host".into()), "{path}");
    }
    assert_eq!(operator.ask("GET", "/api/v1/status", &foreign, "").await.status, 200, "the token says who asks");
    let origin = [("Origin", "http://evil.example")];
    for (method, path) in [("POST", "/api/v1/drain"), ("GET", "/api/v1/status"), ("GET", "/api/v1/events")] {
        let said = operator.ask(method, path, &origin, "").await;
        assert_eq!(said.refusal(), (403, "foreign_origin".into()), "{path}");
    }
    let metrics = sandbox.metrics().await;
    let count = |reason| metrics.sum("refusals_total", &[("listener", "admin"), ("reason", reason)]);
    assert_eq!((count("foreign_host"), count("foreign_origin")), ((READ.len() + 3) as f64, 3.0));
    let seen = operator.get("/api/v1/status").await.json();
    let refusals = seen["refusals"].as_array().unwrap();
    let words: Vec<_> = refusals.iter().map(|refusal| refusal["reason"].as_str().unwrap()).collect();
    assert_eq!(words, ["foreign_origin", "foreign_host"], "the latest first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_brings_a_new_token_and_one_that_will_not_do_changes_nothing() {
    let sandbox = sandbox().await;
    let (file, operator) = (sandbox.dir.path().join("token"), Operator::of(&sandbox));
    std::fs::write(&file, "short").unwrap();
    let said = operator.post("/api/v1/reload", "").await;
    assert_eq!(said.refusal(), (400, "rejected".into()));
    assert!(said.body.contains("admin.token_file") && !said.body.contains("short"), "{said:?}");
    std::fs::write(&file, "0123456789abcdef0123").unwrap();
    assert_eq!(operator.post("/api/v1/reload", "").await.status, 200);
    assert_eq!(operator.post("/api/v1/reload", "").await.refusal(), (401, "auth_failed".into()));
    let new = [("Authorization", "Bearer 0123456789abcdef0123")];
    assert_eq!(Operator::stranger(&sandbox).ask("POST", "/api/v1/reload", &new, "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_is_shown_without_its_passwords() {
    let sandbox = Plan::new()
        .listeners("{name: egress, protocol: forward_proxy, address: '127.0.0.1:0', policy: p}")
        .top("policies: [{name: p, allow: [{hosts: ['*.example']}], parent: 'http://anna:verySecret1@127.0.0.1:3128'}]")
        .start()
        .await;
    let said = Operator::stranger(&sandbox).get("/api/v1/config").await;
    let config = said.json();
    assert_eq!(config["policies"][0]["parent"], "http://anna:***@127.0.0.1:3128");
    assert_eq!(config["timeouts"]["drain"], "1d", "with defaults, and units as they are written");
    assert!(!said.body.contains("verySecret1"));
    Config::from_yaml(&said.body, sandbox.dir.path()).expect("it is a config");
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_and_paths_that_are_not_there_are_said_so_and_bodies_are_bounded() {
    let sandbox = sandbox().await;
    let operator = Operator::of(&sandbox);
    for (method, path, allow) in [
        ("POST", "/api/v1/status", "allow: GET, HEAD"),
        ("DELETE", "/api/v1/config", "allow: GET, HEAD, POST"),
        ("GET", "/api/v1/drain", "allow: POST"),
        ("POST", "/metrics", "allow: GET, HEAD"),
    ] {
        let said = operator.ask(method, path, &[], "").await;
        assert_eq!(said.refusal(), (405, "method_not_allowed".into()), "{path}");
        assert!(said.head.contains(allow), "{}", said.head);
    }
    for path in ["/api/v1", "/api/v1/", "/api/v1/sessions/", "/api/v1/sessions/a/b", "/api/v2/status", "//"] {
        assert_eq!(operator.get(path).await.refusal(), (404, "not_found".into()), "{path}");
    }
    assert_eq!(operator.ask("HEAD", "/api/v1/status", &[], "").await.status, 200);
    for body in ["", "{", "x", &"[".repeat(60_000), &format!("\"{}\"", "x".repeat(70_000))] {
        let said = operator.post("/api/v1/config", body).await;
        assert_eq!(said.refusal(), (400, "bad_request".into()));
    }
    for said in [operator.get("/").await, operator.get("/nothing").await, operator.get("/metrics").await] {
        assert!(said.head.contains("x-content-type-options: nosniff") && said.head.contains("cache-control: no-store"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_stall_hold_up_nobody_else_and_not_themselves_for_long() {
    let sandbox = Plan::new().start().await;
    let address = sandbox.gateway.admin_address().unwrap();
    // Some say nothing, some half of a head, some ask again and again and do not read.
    let greedy = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(200);
    let mut stalled = Vec::new();
    for n in 0..72 {
        let mut wire = Wire::plain(address).await;
        let said: [&[u8]; 3] = [b"", b"GET /metrics HTTP/1.1\r\nHost: loc", &greedy];
        wire.try_send(said[n % 3]).await;
        stalled.push(wire);
    }
    let begin = Instant::now();
    let reply = Wire::from([127, 0, 0, 2], address).await.ask(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(reply.status, 200);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    let ask = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    loop {
        let mut wire = Wire::plain(address).await;
        if wire.try_send(ask).await && wire.try_head().await.is_some() {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(40), "their places do not come back");
    }
    let metrics = sandbox.metrics().await;
    let refused = [("listener", "admin"), ("reason", "too_many_connections_per_client")];
    assert!(metrics.sum("refusals_total", &refused) >= 40.0, "{}", metrics.sum("refusals_total", &refused));
    drop(stalled);
}
