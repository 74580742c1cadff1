//! The node's side of the corpus: hostile answers, and what the client hears instead.
//!
//! A file `corpus_answers/OPERATION_NAME.http` holds the bytes that a node answers that operation
//! with. `expected.txt` tells what the client gets: for a node that closes after these bytes, and after
//! `|` for one that stays, where that differs.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Notify, task::JoinSet};

use crate::{
    streaming::behind,
    support::{
        Plan, Sandbox, TOKEN, Wire,
        peer::{Peer, keep, read_request, say},
        uuid,
        wire::{end, get, head, put, start, start_body},
    },
};

/// What a node says.
struct Answer {
    bytes: Vec<u8>,
    /// What it then repeats for as long as somebody reads.
    endless: Vec<u8>,
}

type Corpus = BTreeMap<String, Answer>;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nx-mark: sound\r\nContent-Length: 0\r\n\r\n";
const KEEPS: &[u8] = b"HTTP/1.1 200 OK\r\nx-persistent-connection: 1\r\nx-mark: sound\r\nContent-Length: 0\r\n\r\n";

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/corpus_answers")
}

/// The files, and those that would be too large for files.
fn corpus() -> Corpus {
    let mut corpus = Corpus::new();
    let mut add = |name: &str, bytes: Vec<u8>, endless: &[u8]| {
        corpus.insert(name.to_owned(), Answer { bytes, endless: endless.repeat(65_536 / endless.len().max(1)) });
    };
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "http") {
            add(path.file_stem().unwrap().to_str().unwrap(), std::fs::read(&path).unwrap(), b"");
        }
    }
    let fields = |n: usize| (0..n).map(|i| format!("x-{i}: v\r\n")).collect::<String>();
    for (operation, status) in [("get", 200), ("put", 201), ("start", 200)] {
        let line = format!("HTTP/1.1 {status} X\r\n");
        let mut made = |name: &str, head: String, endless: &[u8]| {
            add(&format!("{operation}_{name}"), format!("{line}{head}").into(), endless);
        };
        made("huge_field", format!("x-a: {}\r\nContent-Length: 0\r\n\r\n", "v".repeat(1 << 20)), b"");
        made("huge_field_name", format!("{}: v\r\nContent-Length: 0\r\n\r\n", "n".repeat(1 << 20)), b"");
        made("large_field", format!("x-a: {}\r\nContent-Length: 0\r\n\r\n", "v".repeat(256 << 10)), b"");
        let far = format!("x-a: {}\r\nx-next-wire-file: ../EVIL\r\n", "v".repeat(256 << 10));
        made("next_name_far_off", format!("{far}Content-Length: 0\r\n\r\n"), b"");
        made("many_fields", format!("{}Content-Length: 0\r\n\r\n", fields(10_000)), b"");
        made("many_lengths", format!("{}\r\n", "Content-Length: 0\r\n".repeat(200)), b"");
        made("endless_field", "x-a: ".into(), b"vvvvvvvv");
        made("endless_fields", String::new(), b"x-a: b\r\n");
        made("endless_trailer", "Transfer-Encoding: chunked\r\n\r\n0\r\n".into(), b"x-a: b\r\n");
        made("endless_extension", "Transfer-Encoding: chunked\r\n\r\n4;".into(), b"EVILEVIL");
        if operation != "get" {
            made("endless_body", "\r\n".into(), b"EVILEVIL");
        }
        add(&format!("{operation}_endless_phrase"), format!("HTTP/1.1 {status} ").into(), b"XXXXXXXX");
        add(&format!("{operation}_endless_newlines"), Vec::new(), b"\r\n");
        add(&format!("{operation}_endless_continue"), Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n");
        add(&format!("{operation}_endless_hints"), Vec::new(), b"HTTP/1.1 103 Early Hints\r\nLink: </EVIL>\r\n\r\n");
    }
    corpus
}

/// What a request asks this node for: the name of an answer, and whether the node stays after it.
fn wanted(head: &[u8], body: &[u8]) -> Option<(String, bool)> {
    let (head, body) = (String::from_utf8_lossy(head), String::from_utf8_lossy(body));
    let part = |text: &str, before: &str| text.split(before).nth(1)?.split(['/', '<']).next().map(str::to_owned);
    let wish = part(&head, "/file/").or_else(|| part(&body, "<source>"))?;
    let (name, ending) = wish.split_once('.')?;
    Some((name.to_owned(), ending == "stays"))
}

async fn node(mut stream: TcpStream, corpus: Arc<Corpus>) {
    while let Some((head, body)) = read_request(&mut stream).await {
        let Some((name, stays)) = wanted(&head, &body) else {
            say(&mut stream, OK).await;
            continue;
        };
        let Some(answer) = corpus.get(&name) else {
            // A start that is not the matter. Only a node that stays may say that it keeps connections.
            say(&mut stream, if stays { KEEPS } else { OK }).await;
            continue;
        };
        say(&mut stream, &answer.bytes).await;
        while !answer.endless.is_empty() && stream.write_all(&answer.endless).await.is_ok() {}
        if !stays {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// A head that nobody can read in two ways; gives its status, length and whether it is chunked.
fn strictly(head: &[u8], name: &str) -> (u16, Option<usize>, bool) {
    let shown = head.escape_ascii();
    let lines = head.strip_suffix(b"\r\n\r\n").unwrap().split(|b| *b == b'\n').collect::<Vec<_>>();
    let (mut lengths, mut codings) = (Vec::new(), Vec::new());
    for (i, line) in lines.iter().enumerate() {
        let line = if i + 1 < lines.len() { line.strip_suffix(b"\r").expect("CR LF") } else { line };
        assert!(line.iter().all(|b| *b == b'\t' || *b >= b' ' && *b != 0x7f), "{name}: {shown}");
        if i == 0 {
            assert!(line.starts_with(b"HTTP/1.1 ") && line.len() >= 13 && line[12] == b' ', "{name}: {shown}");
            continue;
        }
        let colon = line.iter().position(|b| *b == b':').unwrap_or_else(|| panic!("{name}: {shown}"));
        let (field, value) = (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii());
        let token =
            !field.is_empty() && field.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b));
        assert!(token, "{name}: {shown}");
        let value = String::from_utf8_lossy(value).into_owned();
        match &field[..] {
            b"content-length" => lengths.push(value),
            b"transfer-encoding" => codings.push(value),
            _ => {}
        }
    }
    assert!(lengths.len() + codings.len() <= 1, "{name}: {shown}");
    assert!(codings.iter().all(|c| c == "chunked"), "{name}: {shown}");
    let length = lengths.first().map(|l| {
        assert!(l.bytes().all(|b| b.is_ascii_digit()), "{name}: {shown}");
        l.parse().unwrap_or_else(|_| panic!("{name}: {shown}"))
    });
    let status = std::str::from_utf8(&head[9..12]).unwrap().parse().unwrap_or_else(|_| panic!("{name}: {shown}"));
    (status, length, !codings.is_empty())
}

/// Reads chunks of the plainest form up to the last; none if they are cut.
async fn chunks(wire: &mut Wire, name: &str) -> (Vec<u8>, bool) {
    let mut data = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            match wire.body_up_to(1).await.first() {
                Some(byte) => line.push(*byte),
                None => return (data, false),
            }
            assert!(line.len() <= 18, "{name}: {}", line.escape_ascii());
        }
        let digits = std::str::from_utf8(&line[..line.len() - 2]).unwrap();
        assert!(digits.bytes().all(|b| b.is_ascii_hexdigit()), "{name}: {digits}");
        let size = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{name}: {digits:?}"));
        let chunk = wire.body_up_to(size).await;
        data.extend_from_slice(&chunk);
        let close = wire.body_up_to(2).await;
        if chunk.len() < size || close.len() < 2 {
            return (data, false);
        }
        assert_eq!(close, b"\r\n", "{name}");
        if size == 0 {
            return (data, true);
        }
    }
}

/// Reads exactly one final answer; what it is in a few words, and whether the connection goes on.
async fn hear(wire: &mut Wire, name: &str) -> (String, bool) {
    let mut interims = 0;
    let (raw, status, length, chunked) = loop {
        let Some(raw) = wire.try_raw_head().await else { return ("closed".into(), false) };
        let (status, length, chunked) = strictly(&raw, name);
        assert!(!raw.windows(4).any(|w| w == b"EVIL"), "{name}: {}", raw.escape_ascii());
        if status >= 200 {
            break (raw, status, length, chunked);
        }
        assert!(matches!(status, 100 | 102) && length.is_none() && !chunked, "{name}: {}", raw.escape_ascii());
        interims += 1;
        assert!(interims <= 1000, "{name}: no end of interim answers");
    };
    let text = String::from_utf8_lossy(&raw).into_owned();
    let word = text.split("x-fallgate-error: ").nth(1).and_then(|t| t.split("\r\n").next());
    let closes = text.contains("\r\nConnection: close\r\n");
    let (data, whole, goes_on) = match length {
        Some(length) => {
            let data = wire.body_up_to(length).await;
            let whole = data.len() == length;
            (data, whole, whole && !closes)
        }
        None if chunked => {
            let (data, whole) = chunks(wire, name).await;
            (data, whole, whole && !closes)
        }
        None => (wire.rest().await, true, false),
    };
    assert!(!data.windows(4).any(|w| w == b"EVIL"), "{name}: {}", data.escape_ascii());
    let mut told = status.to_string();
    for part in [word, (!whole).then_some("cut"), (length.is_none() && !chunked).then_some("to the end")] {
        told.extend(part.map(|p| format!(" {p}")));
    }
    if !data.is_empty() {
        told.push_str(&format!(" \"{}\"", data.escape_ascii()));
    }
    (told, goes_on)
}

/// A session whose operation the node answers so; what the client hears to it.
async fn session(sandbox: Arc<Sandbox>, name: String, ending: &'static str) -> String {
    let name = name.as_str();
    let host = sandbox.address("plain").await;
    let (begin, id, mut wire) = (Instant::now(), uuid(), Wire::plain(host).await);
    let operation = name.split('_').next().unwrap();
    let direction = if operation == "put" { "put" } else { "get" };
    let wish = format!("{name}.{ending}");
    let source = if operation == "start" { wish.clone() } else { format!("nothing.{ending}") };
    wire.send(&start(host, &id, &start_body(&id, direction, TOKEN.as_bytes(), &[&source]))).await;
    let mut told = hear(&mut wire, name).await;
    let refused = operation == "start" && told.0 != "200";
    if operation != "start" {
        assert_eq!(told, ("200".to_owned(), true), "{name}");
        let lines = "Content-Length: 4\r\nx-next-wire-file: b\r\nx-next-wire-file-size: 10\r\n";
        let request = if operation == "put" {
            [head("PUT", host, &id, &format!("file/{wish}"), lines), b"good".into()].concat()
        } else {
            get(host, &id, &wish, "")
        };
        wire.send(&request).await;
        told = hear(&mut wire, name).await;
    }
    if told.1 {
        // In step: the answer to the next request is that answer, and the last.
        wire.try_send(&end(host, &id, "DONE")).await;
        match wire.try_head().await {
            Some(reply) => {
                assert_eq!((reply.status, reply.field("content-length")), (200, Some("0")), "{name}: {reply:?}");
                assert_eq!(reply.field("x-mark").is_some(), !refused, "{name}: {reply:?}");
            }
            None => told.0.push_str(", closed"),
        }
        wire.finish().await;
    }
    assert_eq!(wire.rest().await.escape_ascii().to_string(), "", "{name}: more than one answer");
    assert!(begin.elapsed() < Duration::from_secs(15), "{name}: {:?}", begin.elapsed());
    told.0
}

/// Whether a line is as expected. After `closed?` the connection may go on too: the client has its whole answer, and the
/// gateway may or may not have seen by then that the node's has no end, or not the one that it announced.
fn fits(expected: &str, line: &str) -> bool {
    let Some(either) = expected.strip_suffix(", closed?") else { return expected == line };
    let (name, answer) = either.split_once(": ").unwrap_or_default();
    let told = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": "));
    told.is_some_and(|told| told.split(" | ").all(|one| one.strip_suffix(", closed").unwrap_or(one) == answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_answer_is_one_sound_answer_for_the_client_in_time_and_the_next_session_works() {
    let corpus = Arc::new(corpus());
    assert!(corpus.len() > 200, "{}", corpus.len());
    let answers = corpus.clone();
    let peer = Peer::start(move |stream| node(stream, answers.clone())).await;
    let plan = Plan::new().peer(peer.address).listener("persistent_connection: force");
    let plan = plan.upstream("health_check: {interval: 1h}");
    let limits = "limits: {session_starts_per_client: off, requests_per_client: off, max_sessions_per_client: off}";
    let plan = plan.top(&format!("timeouts: {{body_idle: 3s}}\n{limits}"));
    let sandbox = Arc::new(plan.start().await);
    let names = Arc::new(std::sync::Mutex::new(corpus.keys().cloned().collect::<Vec<_>>()));
    let mut workers = JoinSet::new();
    for _ in 0..48 {
        let (sandbox, names) = (sandbox.clone(), names.clone());
        workers.spawn(async move {
            let mut told = Vec::new();
            loop {
                let Some(name) = names.lock().unwrap().pop() else { return told };
                // In a task of its own, so that all that is wrong is told at once.
                let run = async |name: &str, ending| {
                    let task = tokio::spawn(session(sandbox.clone(), name.to_owned(), ending));
                    task.await.unwrap_or_else(|_| "BROKEN".into())
                };
                let closes = run(&name, "closes").await;
                let stays = run(&name, "stays").await;
                assert_eq!(run("put_good", "stays").await, "201", "after {name}");
                let both = if closes == stays { closes } else { format!("{closes} | {stays}") };
                told.push(format!("{name}: {both}"));
            }
        });
    }
    let told = workers.join_all().await.concat();
    let expected = std::fs::read_to_string(folder().join("expected.txt")).unwrap();
    let mut expected: Vec<_> = expected.lines().map(str::to_owned).collect();
    let is_expected = |line: &&String| expected.iter().any(|expected| fits(expected, line));
    let mut news: Vec<_> = told.iter().filter(|line| !is_expected(line)).cloned().collect();
    news.sort();
    assert_eq!(news, [""; 0], "these differ from expected.txt:\n{}", news.join("\n"));
    expected.retain(|expected| !told.iter().any(|line| fits(expected, line)));
    assert_eq!(expected, [""; 0], "these are expected of nobody");
    assert_eq!(sandbox.gateway.sessions(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_asked_for_is_never_the_answer_to_the_next_request() {
    let (may_say, said) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (when, then) = (may_say.clone(), said.clone());
    let peer = Peer::start(move |mut stream| {
        let (when, then) = (when.clone(), then.clone());
        async move {
            while let Some((head, _)) = read_request(&mut stream).await {
                say(&mut stream, KEEPS).await;
                if head.windows(13).any(|w| w == b"session_start") {
                    // The gateway must have read the first one before.
                    when.notified().await;
                    say(&mut stream, b"HTTP/1.1 201 X\r\nx-evil: EVIL\r\nContent-Length: 0\r\n\r\n").await;
                    then.notify_one();
                    return keep(stream).await;
                }
            }
        }
    })
    .await;
    let (_sandbox, host, mut wire) = behind(&peer, "").await;
    let id = uuid();
    let reply = wire.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await;
    assert_eq!(reply.status, 200);
    may_say.notify_one();
    said.notified().await;
    let reply = wire.ask(&put(host, &id, "a", b"x")).await;
    assert_eq!((reply.status, reply.field("x-mark")), (200, Some("sound")), "{reply:?}");
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.field("x-mark"), Some("sound"));
}
