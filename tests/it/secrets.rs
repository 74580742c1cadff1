//! No token, password or id of a session is in anything that the gateway writes, and the search for them finds what is there.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use fallgate::node::{Node, NodeOptions};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::TlsConnector;

use crate::support::{
    Metrics, Plan, TOKEN, Wire, certificate, eventually, get, loopback, nominal,
    peer::{DeadPort, Peer, read_request, say},
    process::Process,
    secrets, sweep, tls, uuid,
    wire::{end, get as fetch, head, put, start, start_body},
};

/// Names what the run of [`a_secret_that_is_written_fails_the_run`] is to write.
const PLANT: &str = "FALLGATE_TEST_PLANT";

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_written_fails_the_run() {
    if let Ok(plant) = std::env::var(PLANT) {
        return write_what_must_not_be(&plant).await;
    }
    let run = |(plant, place)| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "secrets::a_secret_that_is_written_fails_the_run", "--nocapture"]);
        command.env(PLANT, plant).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        (plant, place, command.spawn().unwrap())
    };
    let runs = [
        ("nothing", None),
        ("id", Some("written to the log: ")),
        ("token", Some("written to the log: ")),
        ("password", Some("written to the log: ")),
        ("of the record", Some("access.log: ")),
        ("too late", Some("written to a log: ")),
        ("known too late", Some("written to a log: ")),
        ("answer", Some("written to an answer: ")),
    ];
    for (plant, place, run) in runs.map(run) {
        let output = run.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.success(), place.is_none(), "{plant}: {told}");
        assert_eq!(told.contains("a secret is written"), place.is_some(), "{plant}: {told}");
        assert!(place.is_none_or(|place| told.contains(place)), "{plant}: {told}");
    }
}

async fn write_what_must_not_be(plant: &str) {
    let sandbox = Plan::new().start().await;
    let record = |text: String| std::fs::write(sandbox.dir.path().join("access.log"), text).unwrap();
    let say = |text: String| tracing::trace!(target: "fallgate::fallback", text, "Planted.");
    match plant {
        "id" => say(uuid()[..18].to_owned()),
        "token" => say(format!("what ATM3_{}", uuid())),
        "password" => {
            secrets::learn(format!("CONNECT a:1 HTTP/1.1\r\nproxy-authorization: Basic {}\r\n", login()).as_bytes());
            say("it was Sesame-Oeffne-Dich".to_owned());
        }
        "of the record" => record(format!("{{\"kind\":\"session\",\"session\":\"{}\"}}\n", uuid())),
        "answer" => {
            let peer = Peer::start(async |mut stream| {
                let answer = format!("HTTP/1.1 400 Bad\r\nX-Fallgate-Error: bad_name\r\nSession: {}\r\n\r\n", uuid());
                crate::support::peer::say(&mut stream, answer.as_bytes()).await;
            });
            Wire::plain(peer.await.address).await.head().await;
        }
        "too late" => {
            drop(sandbox);
            say(uuid());
        }
        "known too late" => {
            say("it was Sesame-Oeffne-Dich".to_owned());
            drop(sandbox);
            secrets::keep("Sesame-Oeffne-Dich");
        }
        _ => say("nothing".to_owned()),
    }
}

fn login() -> String {
    STANDARD.encode("anna:Sesame-Oeffne-Dich")
}

#[test]
fn what_clients_send_tells_what_is_secret() {
    let id = uuid();
    let sent = format!("GET http://carl:Apfel%20baum@h/ HTTP/1.1\r\nAuthorization: Bearer eyJhbGciOi\r\n\r\n{id}");
    secrets::learn(sent.as_bytes());
    secrets::learn(format!("<token>Basic {}</token>", STANDARD.encode("AKEY:Birnbaum")).as_bytes());
    for text in [
        id.to_uppercase(),
        id.replace('-', ""),
        "pass Apfel%20baum.".to_owned(),
        "eyJhbGciOi".to_owned(),
        "Birnbaum".to_owned(),
        STANDARD.encode("AKEY:Birnbaum"),
    ] {
        assert!(
            secrets::first_in(format!("first\nlast {text}")).is_some_and(|found| !found.contains("first")),
            "{text}"
        );
    }
    let fine = format!("AKEY carl 2026-11-23T10:00:00Z {} 12345678-1234-12", &id[..8]);
    assert_eq!(secrets::first_in(fine), None);
}

/// What tests write down themselves would be no test of the gateway.
#[test]
fn every_gateway_of_these_tests_is_watched() {
    fn walk(dir: &Path, wrong: &mut Vec<String>) {
        for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                walk(&path, wrong);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("support/sweep.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let starts = concat!("Gateway::", "start(");
                wrong.extend(
                    text.lines().filter(|l| l.contains(starts) && !l.contains("unwrap_err")).map(str::to_owned),
                );
                let is_process = text.contains(concat!("Command::new(env!(\"CARGO_BIN_", "EXE_fallgate\"))"));
                if is_process && !text.contains("sweep::files(") && !text.contains("secrets::none_in(") {
                    wrong.push(path.display().to_string());
                }
            }
        }
    }
    let mut wrong = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it"), &mut wrong);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_at_work_shows_no_secret_by_its_debug_output() {
    let policy = "policies: [{name: p, allow: [{hosts: ['*']}], parent: 'http://anna:Sesame-Oeffne-Dich@127.0.0.1:1'}]";
    let egress = "{name: egress, protocol: forward_proxy, address: '127.0.0.1:0', policy: p}";
    secrets::keep_login("anna", "Sesame-Oeffne-Dich");
    let plan = Plan::new().listener("persistent_connection: force").listeners(egress).top(policy);
    let sandbox = plan.start().await;
    let host = sandbox.address("plain").await;
    let (id, mut wire) = (uuid(), Wire::plain(host).await);
    assert_eq!(wire.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &["/a"]))).await.status, 200);
    let shown = format!("{:?} {0:#?} {1:?}", sandbox.gateway, sandbox.config(|y| y));
    assert!(shown.contains("egress") && sandbox.gateway.sessions() == 1);
    secrets::none_in("Debug output", &shown);
    let written = serde_json::to_string(&sandbox.config(|y| y)).unwrap();
    secrets::none_in("a config that is written", written);
}

/// A config with every door, in front of this node, a dead one and one of the nominal path.
fn every_door(node: SocketAddr, dead: SocketAddr, nominal: &nominal::Peer) -> String {
    format!(
        "version: 1
listeners:
  - {{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u, node_target: origin_form}}
  - {{name: routed, protocol: http, address: '127.0.0.1:0', upstream: u, admission: {{token: off, unknown_session: route}}}}
  - {{name: decoded, protocol: http, address: '127.0.0.1:0', upstream: u, admission: {{token: decode, access_keys: [one]}}}}
  - {{name: fronted, protocol: http, address: '127.0.0.1:0', upstream: u, trusted_proxies: [127.0.0.1], proxy_protocol: accept}}
  - {{name: tls, protocol: https, address: '127.0.0.1:0', upstream: u, tls: {{cert_file: tls.crt, key_file: tls.key}}}}
  - {{name: broken, protocol: http, address: '127.0.0.1:0', upstream: d}}
  - {{name: control, protocol: tcp, address: '127.0.0.1:0', upstream: u, idle: 100ms}}
  - {{name: data, protocol: udp, address: '127.0.0.1:0', upstream: u, flow_idle: 1s}}
  - {{name: egress, protocol: forward_proxy, address: '127.0.0.1:0', policy: users}}
  - {{name: by_parent, protocol: forward_proxy, address: '127.0.0.1:0', policy: parent}}
upstreams:
  - {{name: u, nodes: [{{name: n1, host: 127.0.0.1, ports: {{http: {node}, tcp: {tcp}, udp: {udp}}}}}]}}
  - {{name: d, when_all_down: try_all, nodes: [{{name: n1, host: 127.0.0.1, ports: {{http: {dead}}}}}]}}
policies:
  - {{name: users, auth: {{users_file: users}}, allow: [{{hosts: ['*']}}], allow_private_addresses: [127.0.0.0/8]}}
  - {{name: parent, parent: 'http://gate:Affe%2FTiger@127.0.0.1:{dead}', allow: [{{hosts: ['*']}}], allow_private_addresses: [127.0.0.0/8]}}
access_log: {{path: access.log}}
admin: {{address: '127.0.0.1:0'}}
log: {{level: trace}}
timeouts: {{body_idle: 100ms, request_head: 100ms, keep_alive: 100ms, tls_handshake: 1s, tunnel_idle: 100ms}}
",
        node = node.port(),
        dead = dead.port(),
        tcp = nominal.tcp.port(),
        udp = nominal.udp.port(),
    )
}

/// Requests of the fallback that carry secrets where they belong, and where nobody looks for them.
fn of_a_session(host: SocketAddr, id: &str) -> Vec<Vec<u8>> {
    let body = start_body(id, "put", TOKEN.as_bytes(), &["/a"]);
    let text = |line: String, lines: &str| format!("{line}\r\nHost: {host}\r\n{lines}\r\n").into_bytes();
    let basic = STANDARD.encode("other:Kirschbaum");
    vec![
        start(host, id, &body),
        start(host, id, &body[..body.len() - 9]),
        start(host, &uuid(), &body),
        start(host, id, &start_body(id, "steal", TOKEN.as_bytes(), &[])),
        start(host, &uuid(), &start_body(&uuid(), "put", format!("Basic {basic}").as_bytes(), &[])),
        start(host, id, format!("<session><id>{id}</id><operation>put</operation><token>{TOKEN}").as_bytes()),
        put(host, id, "a", b"hello"),
        put(host, id, TOKEN, b"hello"),
        put(host, id, &format!("..%2f{id}"), b"hello"),
        fetch(host, id, "missing", &format!("x-Content-range: {TOKEN}\r\n")),
        fetch(host, &uuid(), "a", ""),
        head("GET", host, id, "file/a", &format!("Authorization: {TOKEN}\r\nCookie: {id}\r\n{TOKEN}: {id}\r\n")),
        head("GET", host, id, "file/a", &format!("{id}\r\n")),
        head("GET", host, id, "file/a", &format!("X: {TOKEN}\x01\r\n")),
        head("GET", host, id, "file/a", &format!("X: {}\r\n", id.repeat(2000))),
        head("PUT", host, id, "file/a", &format!("Content-Length: {id}\r\n")),
        head("PUT", host, id, "file/a", &format!("Transfer-Encoding: {TOKEN}\r\n")),
        head("POST", host, id, &format!("session_start/{TOKEN}"), "Content-Length: 0\r\n"),
        head("POST", host, id, &format!("{TOKEN}/OOB"), "Content-Length: 0\r\n"),
        head(TOKEN, host, id, "file/a", ""),
        text(format!("GET /aspera/http/{id} HTTP/1.1"), ""),
        text(format!("GET /aspera/http/{id}x/file/a/{id}.ashttp HTTP/1.1"), ""),
        text(format!("GET /aspera/{id}/http/file/a/{}.ashttp HTTP/1.1", uuid()), ""),
        text(format!("GET /?token={TOKEN}&session={id} HTTP/1.1"), ""),
        text(format!("GET http://user:Kirschbaum@{host}/aspera/http/{id}/file/a/{id}.ashttp HTTP/1.1"), ""),
        text(format!("GET http://{id}/aspera/http/{id}/file/a/{id}.ashttp HTTP/1.1"), ""),
        text(format!("GET /aspera/http/{id}/file/a/{id}.ashttp HTTP/{id}"), ""),
        text(format!("GET /aspera/http/{id}/file/a b/{id}.ashttp HTTP/1.1"), ""),
        text(format!("CONNECT {id}:443 HTTP/1.1"), &format!("Proxy-Authorization: Basic {basic}\r\n")),
        format!("PROXY TCP4 {id} {TOKEN} 1 2\r\nGET / HTTP/1.1\r\n\r\n").into(),
        format!("SSH-2.0-{TOKEN}\r\n{id}\r\n\r\n").into(),
        format!("{TOKEN}\n{id}\n\n").into(),
        end(host, id, &format!("ERROR {TOKEN}")),
        end(host, id, "ERROR"),
        end(host, &uuid(), "DONE"),
    ]
}

/// Requests to a forward proxy, likewise.
fn of_a_proxy(origin: SocketAddr, dead: SocketAddr, id: &str) -> Vec<Vec<u8>> {
    let logins = [
        format!("Proxy-Authorization: Basic {}\r\n", login()),
        format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode("anna:Falsches-Wort")),
        format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("{id}:{TOKEN}"))),
        format!("Proxy-Authorization: Bearer {TOKEN}\r\n"),
        format!("Proxy-Authorization: Basic {}!\r\nX: {TOKEN}\x01\r\n", login()),
        format!("Authorization: Basic {}\r\n", login()),
        format!("Proxy-Authorization: Basic\r\n {}\r\n", login()),
    ];
    let lines = [
        format!("CONNECT {origin} HTTP/1.1"),
        format!("CONNECT {dead} HTTP/1.1"),
        format!("CONNECT anna:Sesame-Oeffne-Dich@{origin} HTTP/1.1"),
        format!("CONNECT {origin}/{id}?{TOKEN} HTTP/1.1"),
        format!("CONNECT http://anna:Sesame-Oeffne-Dich@{origin}/ HTTP/1.1"),
        format!("GET http://{origin}/aspera/http/{id}/file/a/{id}.ashttp?{TOKEN} HTTP/1.1"),
        format!("GET http://{dead}/aspera/http/{id}/file/a/{id}.ashttp?{TOKEN} HTTP/1.1"),
        format!("GET http://anna:Sesame-Oeffne-Dich@{origin}/ HTTP/1.1"),
        "GET http://anna:Sesame-Oeffne-Dich@/ HTTP/1.1".to_owned(),
        format!("GET ftp://anna:Sesame-Oeffne-Dich@{origin}/{id} HTTP/1.1"),
        format!("GET /aspera/http/{id}/file/a/{id}.ashttp HTTP/1.1"),
        format!("{TOKEN} http://{origin}/ HTTP/1.1"),
        format!("GET http://{origin}/ HTTP/{id}"),
    ];
    let one = |line: &String, login: &String| format!("{line}\r\nHost: {origin}\r\nX: {id}\r\n{login}\r\n").into();
    logins.iter().flat_map(|login| lines.iter().map(move |line| one(line, login))).collect()
}

/// Says it, and looks at all that is answered if the gateway answers for itself.
async fn tell(mut wire: Wire, request: &[u8]) {
    if wire.try_send(request).await && wire.try_head().await.is_some_and(|reply| !reply.word().is_empty()) {
        wire.finish().await;
        secrets::none_in("an answer", wire.rest().await);
    }
}

/// An origin that tells everybody their secrets, in the wrong places.
async fn indiscreet() -> Peer {
    let number = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    Peer::start(move |mut stream| {
        let n = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            let Some((head, _)) = read_request(&mut stream).await else { return };
            let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().replace("HTTP/1.1", TOKEN);
            let answers = [
                format!("HTTP/1.1 {line}\r\n\r\n"),
                format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n"),
                format!("HTTP/1.1 200 OK\r\nContent-Length: {line}\r\n\r\n"),
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {line}\r\n\r\n"),
                format!("HTTP/1.1 200 OK\r\nContent-Length: 4000\r\nx-next-wire-file: {line}\x01\r\n\r\n{line}"),
                format!("{line}\r\n\r\n"),
            ];
            say(&mut stream, answers[n % answers.len()].as_bytes()).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_talkative_gateway_writes_no_secret_whatever_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (node, dead) =
        (Node::start(loopback(0), NodeOptions { root: dir.path().into(), ..Default::default() }), DeadPort::new());
    let (node, control) = (node.await.unwrap(), nominal::Peer::start("n1").await);
    let bad = indiscreet().await;
    secrets::keep_login("gate", "Affe/Tiger");
    secrets::keep("Affe%2FTiger");
    for (target, dead) in [(node.address(), dead.address), (node.address(), bad.address)] {
        let text = every_door(target, dead, &control);
        let process = Process::with(&text, |dir| {
            certificate(dir, "tls", &rcgen::PKCS_ECDSA_P256_SHA256);
            let hash = bcrypt::hash("Sesame-Oeffne-Dich", 4).unwrap();
            std::fs::write(dir.join("users"), format!("anna:{hash}\n")).unwrap();
        })
        .await;
        let mut clients = JoinSet::new();
        for listener in ["plain", "routed", "decoded", "fronted", "broken", "tls", "control"] {
            let host = process.address(listener).await;
            clients.spawn(async move {
                for request in of_a_session(host, &uuid()) {
                    let wire = if listener == "tls" { Wire::tls(host, tls()).await } else { Wire::plain(host).await };
                    tell(wire, &request).await;
                }
            });
        }
        for listener in ["egress", "by_parent"] {
            let (host, origin) = (process.address(listener).await, bad.address);
            clients.spawn(async move {
                for request in of_a_proxy(origin, dead, &uuid()) {
                    tell(Wire::plain(host).await, &request).await;
                }
            });
        }
        clients.join_all().await;
        let tls = process.address("tls").await;
        tell(Wire::plain(tls).await, uuid().as_bytes()).await;
        let name = ServerName::try_from(format!("{}.example", uuid())).unwrap();
        let tcp = TcpStream::connect(tls).await.unwrap();
        let stream = TlsConnector::from(crate::support::tls()).connect(name, tcp).await.unwrap();
        tell(Wire::over(stream), b"GET / HTTP/1.1\r\n\r\n").await;
        let mut opens = TcpStream::connect(process.address("control").await).await.unwrap();
        assert_eq!(nominal::greeted(&mut opens).await.as_deref(), Some("n1"));
        let data = nominal::client("127.0.0.1", process.address("data").await).await;
        assert!(nominal::ask(&data, uuid().as_bytes()).await.is_some());
        drop(opens);
        for path in ["/", "/readyz", "/livez", &format!("/{}?{TOKEN}", uuid())] {
            secrets::none_in("an admin answer", get(process.admin(), path).await.1);
        }
        // Configs that will not do, with the password where the problem is.
        for (n, (from, to)) in [
            ("@127.0.0.1", "@"),
            ("'http://gate:", "'https://gate:"),
            ("parent: 'http", "parent: ['http"),
            ("parent: 'http", "users_file: 'http"),
            ("host: 127.0.0.1", "host: 'http://gate:Affe%2FTiger@h:1'"),
            ("version: 1", "'http://gate:Affe%2FTiger@h:1': 1"),
            ("level: trace", "level: 'http://gate:Affe%2FTiger@h:1'"),
            ("allow: [{hosts", "'http://gate:Affe%2FTiger@h:1': [{hosts"),
        ]
        .into_iter()
        .enumerate()
        {
            process.configure(&text.replace(from, to));
            let said = || (process.log().matches("The new config is rejected").count() > n).then_some(());
            eventually("it is rejected", said).await;
        }
        for word in ["A request was refused.", "No PROXY header.", "No TLS with a client.", "auth_failed"] {
            assert!(process.log().contains(word), "{word}: {}", process.log());
        }
        let read = || std::fs::read_to_string(process.dir().join("access.log")).unwrap();
        for kind in ["session", "control", "flow", "tunnel", "request"] {
            eventually(kind, || read().contains(&format!("\"kind\":\"{kind}\"")).then_some(())).await;
        }
        let records = read();
        secrets::none_in("its log", process.log());
        secrets::none_in("its records", records);
        secrets::none_in("its metrics", Metrics::scrape(process.admin()).await.0);
    }
}

#[test]
fn the_search_is_told_of_what_the_tests_log_by_this_process() {
    sweep::listen();
    tracing::trace!(target: "fallgate::fallback", "It listens.");
    tracing::error!(target: "other", "Nobody hears this.");
    let text = sweep::logged();
    assert!(text.contains("It listens.") && !text.contains("Nobody hears this."));
}
