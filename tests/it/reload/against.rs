//! `fallgate check --against`: what a reload would change at a gateway that runs.

use std::process::{Command, Stdio};

use crate::support::{ADMIN_TOKEN, Plan, Sandbox, Wire, peer::DeadPort, secrets};

/// Exit status, what is said and what is complained of.
async fn check(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fallgate"));
    command.arg("check").args(arguments).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    secrets::none_in("stdout", &output.stdout);
    secrets::none_in("stderr", &output.stderr);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What is said of the sandbox's config with this change.
async fn changed(sandbox: &Sandbox, change: impl FnOnce(String) -> String) -> (i32, String, String) {
    let path = sandbox.dir.path().join("next.yaml");
    let now = std::fs::read_to_string(sandbox.dir.path().join("fallgate.yaml")).unwrap();
    std::fs::write(&path, change(now)).unwrap();
    let url = format!("http://{}", sandbox.gateway.admin_address().unwrap());
    check(&["--config", path.to_str().unwrap(), "--against", &url]).await
}

const DATA: &str = "{name: data, protocol: udp, address: '127.0.0.1:0', upstream: u, gate: off, workers: 1}";

#[tokio::test(flavor = "multi_thread")]
async fn what_would_change_come_and_go_is_told_and_what_of_it_needs_a_restart() {
    let sandbox = Plan::new().ports("udp: 1").ports("udp: 1").listeners(DATA).start().await;
    let (status, stdout, stderr) = changed(&sandbox, |text| text).await;
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("nothing differs from http://127.0.0.1:"), "{stdout}");
    assert!(!stdout.contains("restart"), "{stdout}");

    let (status, stdout, _) = changed(&sandbox, |text| {
        let text = text.replace("name: plain, protocol: http", "name: other, protocol: http");
        let text = text.replace("{name: n2,", "{name: n3, weight: 2,").replace("{name: n1,", "{name: n1, weight: 7,");
        let text = text.replace("workers: 1", "workers: 2").replace("access.log", "other.log");
        let text = text.replace("admin: {address: '127.0.0.1:0'", "admin: {address: '127.0.0.2:0'");
        format!("{text}limits: {{max_sessions: 7}}\nupstreams_: 1\n").replace("upstreams_: 1\n", "")
    })
    .await;
    assert_eq!(status, 0);
    let dir = sandbox.dir.path().display();
    for line in [
        &format!("  access_log.path: {dir}/access.log -> {dir}/other.log") as &str,
        "  admin.address: 127.0.0.1:0 -> 127.0.0.2:0",
        "  limits.max_sessions: 2000 -> 7",
        "  listeners[plain] is removed",
        "  listeners[other] is added",
        "  listeners[data].workers: 1 -> 2",
        "  upstreams[u].nodes[n1].weight: 1 -> 7",
        "  upstreams[u].nodes[n2] is removed",
        "  upstreams[u].nodes[n3] is added",
        "needs a restart: admin.address",
        "needs a restart: listeners[data].workers",
    ] {
        assert!(stdout.lines().any(|told| told == line), "{line}: {stdout}");
    }
    assert!(stdout.contains("9 changes to http://127.0.0.1:") && stdout.contains("applies all but 2"), "{stdout}");
    assert_eq!(stdout.matches("needs a restart").count(), 2, "{stdout}");

    let (status, stdout, _) = changed(&sandbox, |text| text.replace("workers: 1", "workers: 2")).await;
    assert_eq!((status, stdout.contains("a reload applies none of them")), (0, true), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_says_is_what_the_reload_does_and_what_waits_for_a_restart_is_said_again() {
    let sandbox = Plan::new().admin("token_file: token").start().await;
    let change = |text: String| {
        text.replace("address: '127.0.0.1:0', token_file", "address: '127.0.0.2:0', token_file")
            + "limits: {max_sessions: 7}\n"
    };
    let (_, stdout, _) = changed(&sandbox, change).await;
    assert!(stdout.contains("2 changes") && stdout.contains("all but 1"), "{stdout}");
    std::fs::copy(sandbox.dir.path().join("next.yaml"), sandbox.dir.path().join("fallgate.yaml")).unwrap();
    let kept = sandbox.gateway.reload_file().await.unwrap();
    assert_eq!(kept, ["admin.address"]);
    let (_, stdout, _) = changed(&sandbox, |text| text).await;
    assert!(stdout.contains("1 changes") && stdout.contains("needs a restart: admin.address"), "{stdout}");
    assert!(!stdout.contains("max_sessions"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_has_changed_by_hand_is_told_as_what_the_reload_takes_back() {
    let sandbox = Plan::new().admin("token_file: token").start().await;
    let admin = sandbox.gateway.admin_address().unwrap();
    let body = r#"{"bandwidth": {"total": "800Mbit/s"}}"#;
    let ask = format!(
        "POST /api/v1/config HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(Wire::plain(admin).await.ask(ask.as_bytes()).await.status, 200);
    let (_, stdout, _) = changed(&sandbox, |text| text).await;
    assert!(stdout.contains("bandwidth.total: 800Mbit/s -> off"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_cannot_be_asked_is_1_and_a_config_or_usage_that_will_not_do_is_2() {
    let sandbox = Plan::new().admin("token_file: token").start().await;
    let (dir, admin) = (sandbox.dir.path(), sandbox.gateway.admin_address().unwrap());
    let (good, url) = (dir.join("fallgate.yaml"), format!("http://{admin}"));
    let good = good.to_str().unwrap();
    let (dead, plain) = (DeadPort::new(), sandbox.address("plain").await);
    let wrong = dir.join("wrong");
    std::fs::write(&wrong, "another-token-than-there-is").unwrap();
    for (address, part) in [
        (format!("http://{}", dead.address), "cannot be reached"),
        (format!("http://{plain}"), "it answers 4"),
        // A name is let in only with the token.
        (format!("http://foreign.localhost:{}", admin.port()), ""),
    ] {
        let (status, _, stderr) = check(&["--config", good, "--against", &address]).await;
        assert_eq!(status, 1, "{address}: {stderr}");
        assert!(stderr.contains(&address) && stderr.contains(part), "{address}: {stderr}");
    }
    let (status, _, stderr) =
        check(&["--config", good, "--against", &url, "--token-file", wrong.to_str().unwrap()]).await;
    assert_eq!(status, 1);
    assert!(stderr.contains("401: This is not the token"), "{stderr}");
    let token = dir.join("token");
    let (status, _, stderr) =
        check(&["--config", good, "--against", &url, "--token-file", token.to_str().unwrap()]).await;
    assert_eq!(status, 0, "{stderr}");

    let bad = dir.join("bad.yaml");
    std::fs::write(&bad, "version: 1\nlisteners: []\ncolour: red\n").unwrap();
    let (status, stdout, stderr) = check(&["--config", bad.to_str().unwrap(), "--against", &url]).await;
    assert_eq!(status, 2);
    assert!(stderr.contains("colour") && stderr.contains("listeners") && stdout.is_empty(), "{stderr}");
    for usage in [
        vec!["--config", good, "--against", "https://gate:1"],
        vec!["--config", good, "--token-file", token.to_str().unwrap()],
        vec!["--config", good, "--against", &url, "--token-file", "/nowhere/token"],
    ] {
        assert_eq!(check(&usage).await.0, 2, "{usage:?}");
    }
}
