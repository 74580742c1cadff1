//! What the doctor says of real servers and proxies, and of boxes that do one thing wrong: the table "Tried against" in
//! `docs/doctor.md` is what is found here.
//!
//! `FALLGATE_BLESS=1 cargo test --test it doctor::tried -- --test-threads=1` writes it anew.

use std::{collections::BTreeMap, net::SocketAddr, process::Stdio, sync::Arc, task::Poll, time::Duration};

use fallgate::{
    doctor::{Path, Report},
    net::probe::Secret,
};
use tokio::{io::AsyncReadExt, net::TcpStream};

use super::{
    Seat,
    between::{Between, lines},
    run::{envoy, free, haproxy, nginx, squid, tinyproxy},
    table,
};
use crate::support::{
    Plan, Sandbox, loopback,
    netns::Host,
    peer::Peer,
    programs::{bring, is_here},
    secrets,
};

/// What comes of all, in their order; they go on at the same time.
async fn join_all<T>(all: impl IntoIterator<Item: Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.into_iter().map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|cx| {
        for (one, done) in all.iter_mut().filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(value) = one.as_mut().poll(cx) {
                *done = Some(value);
            }
        }
        if all.iter().all(|(_, done)| done.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    all.into_iter().filter_map(|(_, done)| done).collect()
}

/// What a box with a time-out lets pass; a seat's idle is twice as long.
const SHORT: Duration = Duration::from_secs(2);

/// A gateway that shares a secret with doctors, before one node.
struct Site {
    sandbox: Sandbox,
    http: SocketAddr,
    https: SocketAddr,
    secret: tempfile::NamedTempFile,
}

/// What was found, by peer; nothing where it could not be tried here.
#[derive(Default)]
struct Rows(Vec<(&'static str, Option<String>)>);

impl Rows {
    fn add(&mut self, peer: &'static str, report: &Report, path: Path) {
        let of_path = report.findings.iter().filter(|finding| finding.path == path);
        let words = of_path.map(|finding| format!("`{}`", finding.diagnosis.as_str())).collect::<Vec<_>>();
        self.0.push((peer, Some(words.join(" "))));
    }

    fn skip(&mut self, peers: &[&'static str]) {
        self.0.extend(peers.iter().map(|peer| (*peer, None)));
    }
}

impl Site {
    async fn start() -> Site {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "0123456789abcdef").unwrap();
        let top = format!("doctor: {{secret_file: '{}'}}", secret.path().display());
        let sandbox = Plan::new().top(&top).start().await;
        let (http, https) = (sandbox.address("plain").await, sandbox.address("tls").await);
        Site { sandbox, http, https, secret }
    }

    async fn seat(&self) -> Seat {
        let mut seat = Seat::new().await;
        seat.question.secret = Some(Secret::read(self.secret.path()).unwrap());
        // A busy host must not seem a box that cuts or is silent.
        (seat.question.timeout, seat.question.idle) = (Duration::from_secs(6), 2 * SHORT);
        seat
    }

    async fn http(&self, at: SocketAddr) -> Report {
        self.seat().await.http(at).examine().await
    }

    /// By a proxy, to this site.
    async fn proxied(&self, proxy: SocketAddr) -> Report {
        self.seat().await.http(self.http).https(self.https).proxy(proxy).examine().await
    }
}

async fn houses_own(site: &Site) -> Rows {
    let mut rows = Rows::default();
    let direct = site.seat().await.http(site.http).https(site.https).examine().await;
    rows.add("fallgate, TLS", &direct, Path::Https);
    rows.add("fallgate, in the clear", &direct, Path::Http);
    let secretless = Seat::new().await.http(site.http).examine().await;
    rows.add("the same without the secret", &secretless, Path::Http);
    let node = site.http(site.sandbox.nodes[0].address()).await;
    rows.add("`fallgate node`, the demo node", &node, Path::Http);
    rows
}

async fn of_nginx(site: &Site) -> Rows {
    let names = [
        "nginx, its defaults, before a node",
        "nginx, its defaults",
        "nginx, `proxy_http_version 1.1`",
        "nginx, tuned",
        "nginx, tuned but for `proxy_buffering`",
        "nginx, tuned, time-outs of 2 s",
    ];
    let mut rows = Rows::default();
    if !is_here("nginx", &["-v"]) {
        rows.skip(&names);
        return rows;
    }
    let (dir, far, node) = (tempfile::tempdir().unwrap(), site.http, site.sandbox.nodes[0].address());
    const TUNED: &str = "client_max_body_size 0; proxy_http_version 1.1; proxy_request_buffering off;";
    let kinds = [
        (node, String::new()),
        (far, String::new()),
        (far, "proxy_http_version 1.1;".to_owned()),
        (far, format!("{TUNED} proxy_buffering off;")),
        (far, TUNED.to_owned()),
        (far, format!("{TUNED} proxy_buffering off; proxy_read_timeout 2s; keepalive_timeout 2s;")),
    ];
    let kinds = kinds.map(|(far, keys)| (free(), far, keys));
    let servers: String = kinds
        .iter()
        .map(|(at, far, keys)| format!("server {{ listen {at}; location / {{ {keys} proxy_pass http://{far}; }} }}\n"))
        .collect();
    let _nginx = nginx(dir.path(), &servers, kinds[0].0.port()).await;
    let found = kinds.iter().zip(names).map(|((at, ..), name)| async move { (name, site.http(*at).await) });
    for (name, report) in join_all(found).await {
        rows.add(name, &report, Path::Http);
    }
    rows
}

async fn of_haproxy(site: &Site) -> Rows {
    let names = [
        "HAProxy, `mode http`",
        "HAProxy, `option http-buffer-request`",
        "HAProxy, `timeout server` of 2 s",
        "HAProxy, `mode tcp`",
    ];
    let mut rows = Rows::default();
    if !is_here("haproxy", &["-v"]) {
        rows.skip(&names);
        return rows;
    }
    let dir = tempfile::tempdir().unwrap();
    let keys =
        ["", " option http-buffer-request\n", " timeout server 2s\n timeout http-keep-alive 2s\n", " mode tcp\n"];
    let kinds = keys.map(|keys| (free(), keys));
    let section =
        |(at, keys): &(SocketAddr, &str)| format!("listen p{}\n bind {at}\n{keys} server s {}\n", at.port(), site.http);
    let sections: String = kinds.iter().map(section).collect();
    let _haproxy = haproxy(dir.path(), &sections, kinds[0].0.port()).await;
    for ((at, _), name) in kinds.iter().zip(names) {
        rows.add(name, &site.http(*at).await, Path::Http);
    }
    rows
}

async fn of_envoy(site: &Site) -> Rows {
    let names = ["Envoy, its defaults", "Envoy, `preserve_case` both ways", "Envoy, `timeout` of 2 s"];
    let mut rows = Rows::default();
    let Some(program) = tokio::task::spawn_blocking(|| bring("tests/get-envoy")).await.unwrap() else {
        rows.skip(&names);
        return rows;
    };
    const CASE: &str = "http_protocol_options: {header_key_format: {stateful_formatter: {name: preserve_case, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig}}}}";
    let listeners = [("", ""), ("", CASE), (", timeout: 2s", "")].map(|(route, keys)| (free().port(), route, keys));
    let dir = tempfile::tempdir().unwrap();
    let _envoy = envoy(&program, dir.path(), site.http, &listeners).await;
    for ((port, ..), name) in listeners.iter().zip(names) {
        rows.add(name, &site.http(loopback(*port)).await, Path::Http);
    }
    rows
}

async fn of_proxies(site: &Site) -> Rows {
    let mut rows = Rows::default();
    let squids = ["Squid, in the clear", "Squid, CONNECT"];
    if is_here("squid", &["-v"]) {
        let (dir, port) = (tempfile::tempdir().unwrap(), free().port());
        let _squid = squid(dir.path(), port, "allow").await;
        let report = site.proxied(loopback(port)).await;
        rows.add(squids[0], &report, Path::HttpProxy);
        rows.add(squids[1], &report, Path::HttpsProxy);
    } else {
        rows.skip(&squids);
    }
    let tinies = ["tinyproxy, in the clear", "tinyproxy, CONNECT"];
    if is_here("tinyproxy", &["-v"]) {
        let (dir, port) = (tempfile::tempdir().unwrap(), free().port());
        let _tinyproxy = tinyproxy(dir.path(), port, site.https.port()).await;
        let report = site.proxied(loopback(port)).await;
        rows.add(tinies[0], &report, Path::HttpProxy);
        rows.add(tinies[1], &report, Path::HttpsProxy);
    } else {
        rows.skip(&tinies);
    }
    rows
}

async fn of_boxes(site: &Site) -> Rows {
    let nothing = Between::NOTHING;
    let boxes = [
        ("a box that does nothing", nothing),
        (
            "a box that strips the `x-` fields of requests",
            Between {
                request: |head| lines(&head, |lines| lines.retain(|l| !l.to_ascii_lowercase().starts_with("x-"))),
                ..nothing
            },
        ),
        (
            "a box that renames a field of requests",
            Between { request: |head| head.replace("x-next-wire-file:", "x-renamed:"), ..nothing },
        ),
        (
            "a box that writes names in small letters",
            Between {
                request: |head| {
                    let small = |line: &mut String| {
                        if let Some((name, value)) = line.split_once(": ") {
                            *line = format!("{}: {value}", name.to_ascii_lowercase());
                        }
                    };
                    lines(&head, |lines| lines.iter_mut().skip(1).for_each(small))
                },
                ..nothing
            },
        ),
        (
            "a box that sorts fields",
            Between { request: |head| lines(&head, |lines| lines[1..].sort_unstable()), ..nothing },
        ),
        (
            "a box that adds a field",
            Between {
                request: |head| lines(&head, |lines| lines.push("X-Forwarded-For: 192.0.2.1".to_owned())),
                ..nothing
            },
        ),
        (
            "a box that strips a field of answers",
            Between {
                answer: |head| lines(&head, |lines| lines.retain(|line| !line.starts_with("x-next-wire-file:"))),
                ..nothing
            },
        ),
        ("a box that swallows 102", Between { swallows: true, ..nothing }),
        ("a box that takes a 102 for the answer", Between { confuses: true, ..nothing }),
        ("a box that gathers the bodies of requests", Between { gathers: true, ..nothing }),
        ("a box that gathers answers", Between { hoards: true, ..nothing }),
        ("a box that cuts a silent request after 2 s", Between { silence: Some((SHORT, "")), ..nothing }),
        (
            "a box that answers a silent request with 504 after 2 s",
            Between { silence: Some((SHORT, "HTTP/1.1 504 Late\r\nContent-Length: 0\r\n\r\n")), ..nothing },
        ),
        ("a box that cuts an idle connection after 2 s", Between { idle: Some(SHORT), ..nothing }),
    ];
    let mut rows = Rows::default();
    let found = boxes.map(|(name, between)| async move {
        let between = between.start(site.http).await;
        (name, site.http(between.address).await)
    });
    for (name, report) in join_all(found).await {
        rows.add(name, &report, Path::Http);
    }
    let silent = Peer::start(|mut stream: TcpStream| async move {
        let mut sink = Vec::new();
        let _ = stream.read_to_end(&mut sink).await;
    })
    .await;
    let report = site.seat().await.http(silent.address).https(silent.address).examine().await;
    rows.add("a port that accepts and says nothing, TLS", &report, Path::Https);
    rows.add("the same in the clear", &report, Path::Http);
    rows
}

/// A firewall that drops what would make a connection, on a host of its own.
async fn of_a_firewall() -> Rows {
    const NAME: &str = "a firewall that drops SYN";
    let mut rows = Rows::default();
    let Some(host) = Host::new().filter(|_| is_here("nft", &["--version"])) else {
        rows.skip(&[NAME]);
        return rows;
    };
    let rules = "table inet f { chain i { type filter hook input priority 0; tcp flags syn drop; }; }";
    assert!(host.command("nft").arg(rules).status().unwrap().success());
    let mut command = host.command(env!("CARGO_BIN_EXE_fallgate"));
    command.args(["doctor", "--host", "127.0.0.1", "--timeout", "1s", "--json"]).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    secrets::none_in("stdout", &output.stdout);
    secrets::none_in("stderr", &output.stderr);
    assert_eq!(output.status.code(), Some(3));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of_path = told["findings"].as_array().unwrap().iter().filter(|finding| finding["path"] == "http");
    let words: Vec<_> = of_path.map(|finding| format!("`{}`", finding["diagnosis"].as_str().unwrap())).collect();
    rows.0.push((NAME, Some(words.join(" "))));
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_of_each_peer_what_the_doctor_finds() {
    let site = Arc::new(Site::start().await);
    // Each on a thread of its own: while one starts a program, what another looks at must not seem held back.
    macro_rules! threads {
        ($($of:ident),+) => {
            [$({
                let (site, runtime) = (site.clone(), tokio::runtime::Handle::current());
                tokio::task::spawn_blocking(move || runtime.block_on($of(&site)))
            }),+]
        };
    }
    let mut all = Vec::new();
    for rows in threads!(houses_own, of_nginx, of_haproxy, of_envoy, of_proxies, of_boxes) {
        all.push(rows.await.unwrap());
    }
    all.push(of_a_firewall().await);
    let before: BTreeMap<_, _> = table::rows("tried").into_iter().collect();
    let mut wanted = "| peer | what the doctor says of it |\n|---|---|\n".to_owned();
    for (peer, words) in all.into_iter().flat_map(|rows| rows.0) {
        // What cannot be tried here stays as it was found elsewhere.
        let words = words.or_else(|| before.get(peer).cloned()).unwrap_or_default();
        wanted += &format!("| {peer} | {words} |\n");
    }
    table::hold("tried", &wanted);
    site.sandbox.until("no session is left", |m| m.sum("sessions_active", &[]) == 0.0).await;
    // The other node was asked directly, too.
    let seen = site.sandbox.seen(2);
    assert!(seen.iter().all(|seen| seen.operation != "file"), "{seen:?}");
}
