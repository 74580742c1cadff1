//! Spans at a collector, in a build that sends them: what they say, what they never say, and that a dead collector harms nobody.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use fallgate::node::NodeOptions;
use tokio_util::sync::CancellationToken;

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, eventually, nominal,
    peer::{DeadPort, Full, Peer, read_request, say},
    process::Process,
    secrets, uuid,
    wire::{end, put, start, start_body},
};

/// A span as a collector gets it.
#[derive(Debug, Clone, Default)]
struct Span {
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    name: String,
    /// Nanoseconds since 1970.
    times: (u64, u64),
    attributes: BTreeMap<String, String>,
    failed: bool,
}

/// One field of a message in protocol buffers: a number, or bytes.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message with their numbers.
fn fields(mut rest: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn number(rest: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (byte, after) = rest.split_first().unwrap();
            *rest = after;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }
    fn bytes<'a>(rest: &mut &'a [u8], n: usize) -> &'a [u8] {
        let (bytes, after) = rest.split_at(n);
        *rest = after;
        bytes
    }
    let mut all = Vec::new();
    while !rest.is_empty() {
        let key = number(&mut rest);
        let field = match key & 7 {
            0 => Field::Number(number(&mut rest)),
            1 => Field::Number(u64::from_le_bytes(bytes(&mut rest, 8).try_into().unwrap())),
            5 => Field::Number(u32::from_le_bytes(bytes(&mut rest, 4).try_into().unwrap()).into()),
            _ => {
                let n = number(&mut rest);
                Field::Bytes(bytes(&mut rest, usize::try_from(n).unwrap()))
            }
        };
        all.push((key >> 3, field));
    }
    all
}

/// All messages below this one by these field numbers.
fn below<'a>(message: &'a [u8], path: &[u64]) -> Vec<&'a [u8]> {
    let Some((first, path)) = path.split_first() else { return vec![message] };
    let inner = fields(message).into_iter().filter_map(|(n, field)| match field {
        Field::Bytes(bytes) if n == *first => Some(bytes),
        _ => None,
    });
    inner.flat_map(|message| below(message, path)).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn attribute(message: &[u8]) -> (String, String) {
    let key = text(below(message, &[1])[0]);
    let value = below(message, &[2])[0];
    let value = fields(value).into_iter().map(|(n, field)| match field {
        Field::Bytes(bytes) => text(bytes),
        Field::Number(number) if n == 4 => f64::from_bits(number).to_string(),
        Field::Number(number) => number.to_string(),
    });
    (key, value.collect())
}

fn span(message: &[u8]) -> Span {
    let mut span = Span::default();
    for (n, field) in fields(message) {
        match (n, field) {
            (1, Field::Bytes(id)) => span.trace = id.to_vec(),
            (2, Field::Bytes(id)) => span.id = id.to_vec(),
            (4, Field::Bytes(id)) => span.parent = id.to_vec(),
            (5, Field::Bytes(name)) => span.name = text(name),
            (7, Field::Number(time)) => span.times.0 = time,
            (8, Field::Number(time)) => span.times.1 = time,
            (9, Field::Bytes(pair)) => span.attributes.extend([attribute(pair)]),
            (15, Field::Bytes(status)) => {
                span.failed = fields(status).iter().any(|(n, f)| *n == 3 && matches!(f, Field::Number(2)));
            }
            _ => {}
        }
    }
    span
}

/// The head and the body of a request.
type Heard = (String, Vec<u8>);

/// A collector that keeps what it gets.
struct Collector {
    peer: Peer,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Collector {
    async fn start() -> Collector {
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let all = heard.clone();
        let peer = Peer::start(move |mut stream| {
            let all = all.clone();
            async move {
                let Some((head, body)) = read_request(&mut stream).await else { return };
                all.lock().unwrap().push((text(&head), body));
                say(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        });
        Collector { peer: peer.await, heard }
    }

    fn url(&self) -> String {
        format!("http://{}", self.peer.address)
    }

    fn spans(&self) -> Vec<Span> {
        let heard = self.heard.lock().unwrap();
        heard.iter().flat_map(|(_, body)| below(body, &[1, 2, 2])).map(span).collect()
    }

    /// The spans once there is one of this name.
    async fn until(&self, name: &str) -> Vec<Span> {
        eventually(name, || {
            let spans = self.spans();
            spans.iter().any(|span| span.name == name).then_some(spans)
        })
        .await
    }
}

fn sends_to(url: &str) -> Plan {
    Plan::new().node(NodeOptions::default()).top(&format!("log: {{otlp_endpoint: '{url}'}}"))
}

/// One whole upload; gives the id of its session.
async fn upload(host: SocketAddr) -> String {
    let (id, mut wire) = (uuid(), Wire::plain(host).await);
    assert_eq!(wire.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await.status, 200);
    assert_eq!(Wire::plain(host).await.ask(&put(host, &id, "secret-name", b"hello")).await.status, 201);
    assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_a_span_with_its_requests_below_it_and_nothing_secret() {
    let collector = Collector::start().await;
    let sandbox = sends_to(&collector.url()).start().await;
    let begin = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let id = upload(sandbox.address("plain").await).await;
    let spans = collector.until("session").await;
    let record = &sandbox.records(1).await[0];
    let session = spans.iter().find(|span| span.name == "session").unwrap();
    for name in ["id", "listener", "upstream", "node", "direction", "outcome", "files", "bytes_uploaded", "requests"] {
        let wanted = record[name].as_str().map_or_else(|| record[name].to_string(), str::to_owned);
        assert_eq!(session.attributes.get(name), Some(&wanted), "{name}");
    }
    for name in ["last_file", "user", "client", "reason"] {
        assert!(!session.attributes.contains_key(name), "{name}");
    }
    assert!(session.parent.is_empty() && !session.failed);
    assert!(u128::from(session.times.0) + 2_000_000 >= begin && session.times.0 < session.times.1);
    let below: Vec<_> = spans.iter().filter(|span| span.parent == session.id).collect();
    let told: Vec<_> = below.iter().map(|span| (span.name.as_str(), span.attributes["status"].as_str())).collect();
    assert_eq!(told, [("session_start", "200"), ("file", "201"), ("session_end", "200")]);
    for span in below {
        assert_eq!((&span.trace, span.attributes["node"].as_str()), (&session.trace, "n1"));
        assert!(span.times.0 + 2_000_000 >= session.times.0 && span.times.1 <= session.times.1 + 2_000_000, "{span:?}");
    }
    let heard = collector.heard.lock().unwrap();
    for (head, body) in heard.iter() {
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n") && head.contains("application/x-protobuf"), "{head}");
        let shown = String::from_utf8_lossy(body);
        assert!(shown.contains("service.name") && !shown.contains("secret-name") && !shown.contains(&id));
        secrets::none_in("a span", body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_are_two_traces_and_what_fails_says_so() {
    let collector = Collector::start().await;
    let sandbox = sends_to(&collector.url()).start().await;
    let host = sandbox.address("plain").await;
    upload(host).await;
    let (id, mut wire) = (uuid(), Wire::plain(host).await);
    assert_eq!(wire.ask(&start(host, &id, &start_body(&id, "put", b"nonsense", &[]))).await.word(), "token_shape");
    sandbox.records(2).await;
    let spans = eventually("two sessions", || {
        let spans: Vec<_> = collector.spans().into_iter().filter(|span| span.name == "session").collect();
        (spans.len() == 2).then_some(spans)
    })
    .await;
    assert_ne!(spans[0].trace, spans[1].trace);
    let told: Vec<_> = spans.iter().map(|span| (span.attributes["outcome"].as_str(), span.failed)).collect();
    assert_eq!(told, [("done", false), ("refused", true)]);
    assert_eq!(spans[1].attributes["reason"], "token_shape");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_connection_and_a_flow_are_spans() {
    let collector = Collector::start().await;
    let node = nominal::Peer::start("a").await;
    let top = format!("log: {{otlp_endpoint: '{}'}}", collector.url());
    let place = nominal::Place::start(&[&node], ", flow_idle: 1s", &top).await;
    let (control, _) = place.control("127.0.0.1").await;
    let data = nominal::client("127.0.0.1", place.address("data").await).await;
    assert!(nominal::ask(&data, b"x").await.is_some());
    drop(control);
    for name in ["control", "flow"] {
        let spans = collector.until(name).await;
        let span = spans.iter().find(|span| span.name == name).unwrap();
        assert_eq!((span.attributes["upstream"].as_str(), span.attributes["node"].as_str()), ("u", "n1"), "{name}");
        assert!(span.parent.is_empty() && !span.attributes.contains_key("client"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_to_be_sent_is_sent_when_the_gateway_ends() {
    let collector = Collector::start().await;
    let Sandbox { gateway, .. } = {
        let sandbox = sends_to(&collector.url()).start().await;
        upload(sandbox.address("plain").await).await;
        sandbox
    };
    let begin = Instant::now();
    gateway.drain(CancellationToken::new()).await;
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert!(collector.spans().iter().any(|span| span.name == "session"), "{:?}", collector.spans());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_or_deaf_collector_holds_up_nobody_and_is_told_once() {
    let (dead, deaf) = (DeadPort::new(), Full::new());
    for (collector, is_told) in [(dead.address, true), (deaf.address, false)] {
        let node = Plan::new().node(NodeOptions::default()).start().await;
        let process = Process::start(&format!(
            "version: 1\nlisteners: [{{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u}}]\nupstreams: [{{name: u, nodes: [{{name: n1, host: 127.0.0.1, ports: {{http: {}}}}}]}}]\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\nlog: {{otlp_endpoint: 'http://{collector}'}}\n",
            node.nodes[0].address().port()
        ))
        .await;
        let host = process.address("plain").await;
        let told = || process.log().matches("Spans cannot be delivered").count();
        for _ in 0..3 {
            let begin = Instant::now();
            upload(host).await;
            assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
            if is_told {
                eventually("the warning", || (told() > 0).then_some(())).await;
            }
        }
        let begin = Instant::now();
        process.signal("TERM");
        eventually("its end", || process.log().contains("Stopped.").then_some(())).await;
        assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
        assert!(told() <= 1 && (told() == 1 || !is_told), "{}", process.log());
        assert_eq!(std::fs::read_to_string(process.dir().join("access.log")).unwrap().lines().count(), 3);
    }
}
