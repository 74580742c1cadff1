//! The far end: a fallback port answers who knows the secret, once and within bounds; to everybody else it is as if there
//! were no doctor.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fallgate::{
    doctor::Path,
    net::probe::{
        Nonce, Secret,
        way::{Ask, ROW, Told},
    },
};
use tokio::task::JoinSet;

use super::{Seat, words};
use crate::support::{Plan, Sandbox, Wire, process::Process, uuid, wire::head};

const SECOND: Duration = Duration::from_secs(1);

/// A file with a secret.
fn secret(text: &str) -> (tempfile::NamedTempFile, Secret) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let secret = Secret::read(file.path()).unwrap();
    (file, secret)
}

/// A gateway that answers doctors, and what they share.
async fn site(plan: Plan, top: &str) -> (Sandbox, Secret, tempfile::NamedTempFile) {
    let (file, secret) = secret("0123456789abcdef");
    let sandbox = plan.top(&format!("doctor: {{secret_file: '{}'}}\n{top}", file.path().display())).start().await;
    (sandbox, secret, file)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// An upload of so many bytes whose file has this name.
fn upload(host: SocketAddr, name: &str, length: usize) -> Vec<u8> {
    let lines = format!("Content-Length: {length}\r\nx-File-accessible: 1\r\n");
    [head("PUT", host, &uuid(), &format!("file/{name}"), &lines), vec![b'x'; length]].concat()
}

/// Asks on a connection; what is told, and the head of the answer.
async fn ask(wire: &mut Wire, host: SocketAddr, secret: &Secret, nonce: Nonce, ask: Ask) -> Option<(Told, String)> {
    wire.send(&upload(host, &secret.name(&nonce, now(), &ask), 10)).await;
    answered(wire, secret, nonce).await
}

async fn answered(wire: &mut Wire, secret: &Secret, nonce: Nonce) -> Option<(Told, String)> {
    let mut reply = wire.head().await;
    while reply.status == 102 {
        reply = wire.head().await;
    }
    let length = reply.field("content-length")?.parse().unwrap();
    Some((secret.read_told(&wire.body(length).await, &nonce)?, reply.text))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_is_told_to_who_knows_the_secret_and_no_session_or_node_hears_of_it() {
    let (sandbox, secret, _file) = site(Plan::new(), "").await;
    let host = sandbox.address("plain").await;
    let mut wire = Wire::plain(host).await;
    let (told, reply) = ask(&mut wire, host, &secret, [1; 16], Ask::default()).await.unwrap();
    let text = String::from_utf8(told.head).unwrap();
    assert!(text.starts_with("PUT http://") && text.contains("/file/fallgate-doctor.-/"), "{text}");
    assert!(text.ends_with("\r\nContent-Length: 10\r\nx-File-accessible: 1\r\n\r\n"), "{text}");
    let row: String = ROW.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    assert!(reply.starts_with(&format!("HTTP/1.1 200 OK\r\n{row}")), "{reply}");
    // The body in two parts, and all that can be asked for.
    let all = Ask { notices: 2, spacing: SECOND / 10, silence: SECOND / 10, halves: true, idle: SECOND };
    let request = upload(host, &secret.name(&[2; 16], now(), &all), 10);
    let begin = Instant::now();
    wire.send(&request[..request.len() - 5]).await;
    assert!(wire.is_quiet(SECOND / 5).await);
    wire.send(&request[request.len() - 5..]).await;
    for _ in 0..2 {
        assert_eq!(wire.head().await.status, 102);
    }
    let (told, _) = answered(&mut wire, &secret, [2; 16]).await.unwrap();
    assert!(told.last >= told.first + 100, "{} {}", told.first, told.last);
    assert!(begin.elapsed() >= Duration::from_millis(200 + 200 + 100 + 800));
    assert!(ask(&mut wire, host, &secret, [3; 16], Ask::default()).await.is_some(), "the connection is kept");
    sandbox
        .until("all are counted", |m| {
            m.sum("doctor_probes_total", &[("result", "answered"), ("listener", "plain")]) == 3.0
        })
        .await;
    assert!(sandbox.all_seen().is_empty());
    assert_eq!(sandbox.metrics().await.sum("sessions_started_total", &[]), 0.0);
    assert_eq!(std::fs::read_to_string(sandbox.dir.path().join("access.log")).unwrap_or_default(), "");
}

/// Whoever does not know the secret cannot tell whether there is one.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_no_fresh_question_is_a_request_as_any_other() {
    let (sandbox, secret, _file) = site(Plan::new(), "").await;
    let host = sandbox.address("plain").await;
    let (_other, other) = self::secret("another-secret-0");
    let good = secret.name(&[1; 16], now(), &Ask::default());
    let mut wire = Wire::plain(host).await;
    wire.send(&upload(host, &good, 10)).await;
    assert!(answered(&mut wire, &secret, [1; 16]).await.is_some());
    let usual = wire.ask(&upload(host, "report.pdf", 10)).await;
    assert_eq!((usual.status, usual.word()), (403, "unknown_session"));
    let cases = [
        ("replayed", good.clone(), 10),
        ("forged", other.name(&[2; 16], now(), &Ask::default()), 10),
        ("forged", format!("{}0", secret.name(&[3; 16], now(), &Ask::default())), 10),
        ("forged", "fallgate-doctor.".to_owned(), 10),
        ("stale", secret.name(&[4; 16], now() - 61_000, &Ask::default()), 10),
        ("", "fallgate-doctor".to_owned(), 10),
        ("", secret.name(&[5; 16], now(), &Ask::default()), 64 * 1024 + 1),
    ];
    for (result, name, length) in &cases {
        assert_eq!(wire.ask(&upload(host, name, *length)).await.text, usual.text, "{result}");
    }
    for (result, times) in [("replayed", 1.0), ("forged", 3.0), ("stale", 1.0), ("answered", 1.0), ("too_many", 0.0)] {
        sandbox
            .until(result, |m| m.sum("doctor_probes_total", &[("result", result), ("listener", "plain")]) == times)
            .await;
    }
    sandbox.gateway.reload(sandbox.config(|text| text)).await.unwrap();
    assert_eq!(Wire::plain(host).await.ask(&upload(host, &good, 10)).await.text, usual.text, "also after a reload");
    let secretless = Plan::new().start().await;
    let host = secretless.address("plain").await;
    let name = secret.name(&[6; 16], now(), &Ask::default());
    assert_eq!(Wire::plain(host).await.ask(&upload(host, &name, 10)).await.text, usual.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_are_answered_at_once_and_a_listener_that_closes_waits_for_none() {
    let (sandbox, secret, _file) = site(Plan::new(), "").await;
    let host = sandbox.address("plain").await;
    let silent = Ask { notices: 1, silence: 100 * SECOND, ..Ask::default() };
    let mut waiting = JoinSet::new();
    for n in 0..64 {
        let mut wire = Wire::plain(host).await;
        assert_eq!(wire.ask(&upload(host, &secret.name(&[n; 16], now(), &silent), 10)).await.status, 102);
        waiting.spawn(async move { wire.rest().await });
    }
    let name = secret.name(&[64; 16], now(), &Ask::default());
    assert_eq!(Wire::plain(host).await.ask(&upload(host, &name, 10)).await.word(), "unknown_session");
    sandbox.until("one too many", |m| m.sum("doctor_probes_total", &[("result", "too_many")]) == 1.0).await;
    let without =
        sandbox.config(|text| text.lines().filter(|line| !line.contains("name: plain")).collect::<Vec<_>>().join("\n"));
    sandbox.gateway.reload(without).await.unwrap();
    while let Some(rest) = waiting.join_next().await {
        assert!(rest.unwrap().is_empty(), "nobody is answered");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_of_requests_holds_for_questions_too() {
    let (sandbox, secret, _file) = site(Plan::new(), "limits: {requests_per_client: {rate: 1/h, burst: 2}}").await;
    let host = sandbox.address("plain").await;
    let mut wire = Wire::plain(host).await;
    for n in 0..2 {
        assert!(ask(&mut wire, host, &secret, [n; 16], Ask::default()).await.is_some());
    }
    let reply = wire.ask(&upload(host, &secret.name(&[9; 16], now(), &Ask::default()), 10)).await;
    assert_eq!((reply.status, reply.word()), (429, "request_rate"));
}

/// What a gateway's limit keeps from being answered is no fault of the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_the_gateway_is_not_taken_for_a_box_on_the_way() {
    let (sandbox, secret, _file) = site(Plan::new(), "limits: {requests_per_client: {rate: 1/h, burst: 4}}").await;
    let mut seat = Seat::new().await.http(sandbox.address("plain").await);
    (seat.question.secret, seat.question.idle) = (Some(secret), SECOND / 10);
    let report = seat.examine().await;
    let words: Vec<_> = report.findings.iter().map(|finding| finding.diagnosis.as_str()).collect();
    assert!(words.contains(&"body_held_untold"), "{report:?}");
    let wrong = ["interim_broken", "silence_cut", "idle_cut"];
    assert!(!words.iter().any(|word| wrong.contains(word)), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_takes_over_answers_no_question_that_the_other_did() {
    let (file, secret) = secret("0123456789abcdef");
    let path = file.path().display().to_string();
    let config = format!(
        "version: 1\nlisteners: [{{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u}}]\nupstreams: [{{name: u, nodes: [{{name: a, host: 127.0.0.1, ports: {{http: 9}}}}]}}]\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\ndoctor: {{secret_file: '{path}'}}\n"
    );
    let gateway = Process::start(&config).await;
    let host = gateway.address("plain").await;
    let name = secret.name(&[1; 16], now(), &Ask::default());
    let mut wire = Wire::plain(host).await;
    wire.send(&upload(host, &name, 10)).await;
    assert!(answered(&mut wire, &secret, [1; 16]).await.is_some());
    let before = gateway.newest();
    assert_ne!(gateway.upgrade().await, before);
    let mut fresh = Wire::plain(host).await;
    assert_eq!(fresh.ask(&upload(host, &name, 10)).await.word(), "unknown_session", "it was answered by the other");
    assert!(ask(&mut fresh, host, &secret, [2; 16], Ask::default()).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doctor_with_another_secret_says_that_it_cannot_tell() {
    let (sandbox, _secret, _file) = site(Plan::new(), "").await;
    let mut seat = Seat::new().await.http(sandbox.address("plain").await);
    seat.question.secret = Some(secret("another-secret-0").1);
    let report = seat.examine().await;
    assert_eq!(words(&report, Path::Http), ["fallback_ok", "body_uncapped"]);
    let untold = report.findings.iter().find(|finding| finding.diagnosis.as_str() == "body_held_untold").unwrap();
    assert!(untold.seen.starts_with("403 to a signed question: no such secret there"), "{untold:?}");
}
