//! Each event at each door reaches its family, and the whole is as Prometheus wants it.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use fallgate::{
    config::{AccessLogConfig, Config},
    telemetry::{AccessLog, Kind, Limit, Metrics, Record},
};
use tokio::io::AsyncWriteExt as _;

use super::stage::Stage;
use crate::admin::Operator;
use crate::support::{self, Plan, Sandbox, programs::is_here};

/// Families that stay at 0 where nothing is amiss; where they are made to rise is in tests of what runs out.
const QUIET: &[&str] = &[
    "fallgate_access_log_dropped_total",
    "fallgate_log_dropped_total",
    "fallgate_shared_state_errors_total",
    "fallgate_unverified_requests_total",
];

/// Something at each door, and two scrapes: one while sessions, connections, flows and tunnels are open and a session
/// waits, one when all are over.
async fn traffic(stage: &mut Stage) -> [support::Metrics; 2] {
    let sandbox = &stage.sandbox;
    for listener in ["tls", "plain"] {
        for report in stage.transfers(listener, "bob").await {
            assert!(report.is_ok(), "{report:?}");
        }
    }
    stage.refusals().await;
    let [(n1, mut good), (n2, deaf)] = stage.controls().await;
    assert_eq!((n1.as_str(), n2.as_str()), ("n1", "n2"));
    good.write_all(b"SSH-2.0-client\r\n").await.unwrap();
    assert!(stage.datagram(&good).await && !stage.datagram(&deaf).await);
    stage.stray_datagram().await;
    assert_eq!(stage.absolute().await.word(), "", "the node answers");
    let tunnel = stage.tunnel().await;
    let mut first = stage.session("ann").await;
    assert_eq!(first.answer().await, 200);
    assert_eq!(first.get("f").await, 200);
    let mut second = stage.session("ann").await;
    let open = |m: &support::Metrics, listener: &str| m.sum("connections_active", &[("listener", listener)]);
    let are_open = |m: &support::Metrics| ["tls", "control", "egress"].map(|listener| open(m, listener));
    scrape(&stage.sandbox, "only what is held is open", |m| are_open(m) == [0.0, 2.0, 1.0]).await;
    assert!(stage.datagram(&good).await);
    let is_meant = |m: &support::Metrics| m.sum("waiting", &[]) == 1.0 && m.sum("udp_flows_active", &[]) >= 1.0;
    assert_eq!(Operator::of(sandbox).post("/api/v1/nodes/n3/drain", "").await.status, 200);
    let during = scrape(&stage.sandbox, "one waits, and a flow is open", is_meant).await;
    // Fewer files than were asked for: that is noticed, and let pass.
    assert_eq!((first.end().await, second.answer().await, second.end().await), (200, 200, 200));
    drop((tunnel, good, deaf));
    outage(stage).await;
    let sandbox = &stage.sandbox;
    std::fs::write(sandbox.dir.path().join("fallgate.yaml"), "version: 2").unwrap();
    sandbox.gateway.reload_file().await.unwrap_err();
    sandbox.until("the reload is told", |m| m.sum("config_last_reload_success", &[]) == 0.0).await;
    sandbox.gateway.reload(sandbox.config(|text| text)).await.unwrap();
    let gauges = ["tunnels_active", "connections_active", "udp_flows_active", "sessions_active", "waiting"];
    let used = |m: &support::Metrics| {
        let files = m.sum("limit_used", &[("limit", "open_files")]);
        m.sum("limit_used", &[]) - files
    };
    let is_over = |m: &support::Metrics| gauges.iter().all(|gauge| m.sum(gauge, &[]) == 0.0) && used(m) == 0.0;
    [during, scrape(&stage.sandbox, "all is over", is_over).await]
}

/// Both nodes are away for a moment, in which a session asks for a file.
async fn outage(stage: &mut Stage) {
    let mut session = stage.session("eve").await;
    assert_eq!(session.answer().await, 200);
    for node in [1, 2] {
        support::away(&mut stage.sandbox, node).await;
    }
    let operator = Operator::of(&stage.sandbox);
    let absence = async {
        operator.until("", |shown| shown["user"] == "eve" && shown["state"] == "held").await;
        for node in [1, 2] {
            support::back(&mut stage.sandbox, node);
        }
    };
    let (got, ()) = tokio::join!(session.get("f"), absence);
    assert_eq!((got, session.end().await), (200, 200));
}

/// The first scrape of which this is so.
async fn scrape(sandbox: &Sandbox, what: &str, is_so: impl Fn(&support::Metrics) -> bool) -> support::Metrics {
    let begin = Instant::now();
    loop {
        let now = sandbox.metrics().await;
        if is_so(&now) {
            return now;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "never came: {what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_family_has_series_and_what_happened_shows_in_each() {
    let mut stage = Stage::start().await;
    let [during, after] = traffic(&mut stage).await;
    for family in Metrics::new().unwrap().families() {
        let name = family.name.as_str();
        let short = name.strip_prefix("fallgate_").unwrap();
        let is_of = |line: &&str| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with(['{', ' ']) || rest.starts_with("_count{")
        };
        assert!(after.0.lines().any(|line| is_of(&line)), "{name} has no series");
        let sum = |m: &support::Metrics| m.sum(short, &[]) + m.sum(&format!("{short}_count"), &[]);
        let is_quiet = QUIET.contains(&name);
        assert_eq!(sum(&during) + sum(&after) == 0.0, is_quiet, "{name}");
    }
    for name in ["cpu_seconds_total", "open_fds", "max_fds", "resident_memory_bytes", "start_time_seconds", "threads"] {
        assert!(after.0.lines().any(|line| line.starts_with(&format!("process_{name} "))), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_at_each_door_is_counted_under_its_word() {
    let mut stage = Stage::start().await;
    let [during, after] = traffic(&mut stage).await;
    let listeners = |m: &support::Metrics, family: &str| {
        ["tls", "plain", "control", "data", "egress"].map(|listener| m.sum(family, &[("listener", listener)]))
    };
    let [_, plain, control, _, egress] = listeners(&during, "connections_active");
    assert!(plain >= 1.0 && control == 2.0 && egress == 1.0, "{:?}", (plain, control, egress));
    for (family, label, words) in [
        ("sessions_started_total", "direction", &["upload", "download"][..]),
        ("sessions_finished_total", "outcome", &["done", "refused"]),
        ("files_total", "outcome", &["ok"]),
        ("bytes_total", "direction", &["upload", "download"]),
        ("refusals_total", "reason", &["token_shape", "tls_handshake", "policy_denied"]),
        ("tls_handshakes_total", "result", &["ok", "failed"]),
        ("guard_findings_total", "finding", &["chain_ended_early"]),
        ("tunnels_total", "outcome", &["closed", "refused"]),
        ("control_connections_finished_total", "outcome", &["closed"]),
        ("udp_flows_finished_total", "outcome", &["idle"]),
        ("udp_datagrams_total", "direction", &["upload", "download"]),
        ("udp_datagrams_dropped_total", "reason", &["gate_closed"]),
        ("throttled_seconds_total", "scope", &["session"]),
        ("health_checks_total", "result", &["ok", "failed"]),
        ("node_waits_total", "result", &["returned"]),
        ("node_picks_total", "how", &["balance"]),
        ("limit_used", "limit", &["open_files"]),
    ] {
        for word in words {
            assert!(after.sum(family, &[(label, word)]) > 0.0, "{family} {word}");
        }
    }
    let used = |limit: &str| during.sum("limit_used", &[("limit", limit)]);
    assert_eq!(["max_sessions", "max_waiting", "max_tunnels"].map(used), [1.0, 1.0, 1.0]);
    assert!(used("max_udp_flows") >= 1.0);
    assert!(used("max_connections") >= 5.0);
    for direction in ["upload", "download"] {
        for listener in ["tls", "plain", "control", "data", "egress"] {
            let moved = after.sum("bytes_total", &[("listener", listener), ("direction", direction)]);
            assert!(moved > 0.0, "{listener} {direction}");
        }
    }
    for (family, doors) in [
        ("connections_total", &["tls", "plain", "control", "egress"][..]),
        ("requests_total", &["tls", "plain", "egress"]),
        ("refusals_total", &["tls", "plain", "egress"]),
        ("sessions_started_total", &["tls", "plain"]),
        ("session_duration_seconds_count", &["tls", "plain"]),
        ("added_latency_seconds_count", &["tls", "plain"]),
        ("wait_seconds_count", &["plain"]),
        ("tls_certificate_not_after_timestamp_seconds", &["tls"]),
    ] {
        let fed = listeners(&after, family).map(|n| n > 0.0);
        assert_eq!(fed, ["tls", "plain", "control", "data", "egress"].map(|l| doors.contains(&l)), "{family}");
    }
    for operation in ["session_start", "file", "session_end", "connect", "absolute"] {
        assert!(after.sum("requests_total", &[("operation", operation)]) > 0.0, "{operation}");
    }
    assert_eq!(after.sum("config_generation", &[]), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_is_as_prometheus_wants_it() {
    if !is_here("promtool", &["--version"]) {
        return;
    }
    let mut stage = Stage::start().await;
    for scrape in traffic(&mut stage).await {
        let mut command = Command::new("promtool");
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(scrape.0.as_bytes()).unwrap();
        let said = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success() && text.trim().is_empty(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_follows_a_reload_and_one_that_is_off_has_no_series() {
    let sandbox = Plan::new().top("limits: {max_sessions: 7, max_waiting: 3}").start().await;
    let limit = async |name: &str| {
        let metrics = sandbox.metrics().await;
        let has = metrics.0.contains(&format!("fallgate_limit{{limit=\"{name}\"}}"));
        has.then(|| metrics.sum("limit", &[("limit", name)]))
    };
    assert_eq!((limit("max_sessions").await, limit("max_waiting").await), (Some(7.0), Some(3.0)));
    assert!(limit("open_files").await.unwrap() >= 256.0);
    let other = sandbox.config(|text| text.replace("max_sessions: 7", "max_sessions: off, max_tunnels: 5"));
    sandbox.gateway.reload(other).await.unwrap();
    assert_eq!((limit("max_sessions").await, limit("max_tunnels").await), (None, Some(5.0)));
    for limit in Limit::ALL {
        let used = sandbox.metrics().await;
        assert!(used.0.contains(&format!("fallgate_limit_used{{limit=\"{limit}\"}}")), "{limit}");
    }
}

#[test]
fn each_limit_is_named_as_its_key() {
    let schema = Config::schema();
    let keys = schema["$defs"]["LimitsConfig"]["properties"].as_object().unwrap();
    for limit in Limit::ALL.iter().filter(|limit| **limit != Limit::OpenFiles) {
        assert!(keys.contains_key(limit.as_str()), "{limit}");
    }
}

#[test]
fn log_lines_that_the_writer_cannot_keep_up_with_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // A reader that never reads.
    let reader = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let config = AccessLogConfig { path: pipe.to_str().unwrap().to_owned(), ..AccessLogConfig::default() };
    let metrics = Metrics::new().unwrap();
    let log = AccessLog::open(&config).unwrap().counting_drops(metrics.access_log_dropped.clone());
    let record = Record {
        last_file: Some("x".repeat(100)),
        ..Record::new(Kind::Session, "tls", [192, 0, 2, 1].into(), "done", Duration::ZERO)
    };
    let mut lines = 0;
    while metrics.access_log_dropped.get() == 0 {
        log.write(&record);
        lines += 1;
        assert!(lines < 1_000_000, "nothing is ever dropped");
    }
    assert!(lines > 16 * 1024, "{lines}");
    drop(reader);
}
