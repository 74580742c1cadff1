//! Proxies and servers of others on the way: what the doctor says of each is what it is.

use std::{
    net::SocketAddr,
    path::Path as File,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use fallgate::doctor::Path;
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
};

use super::{Seat, words};
use crate::support::{
    Plan, Sandbox, loopback,
    peer::{DeadPort, Peer, read_head},
    programs::is_here,
};

/// A program that ends with this.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program and waits until the port accepts. The port was free a moment ago.
async fn run(program: &str, arguments: &[&str], dir: &File, port: u16) -> Program {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let program = Program(command.spawn().unwrap());
    let begin = Instant::now();
    while TcpStream::connect(loopback(port)).await.is_err() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{program:?} does not accept", program = program.0);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    program
}

fn free() -> SocketAddr {
    DeadPort::new().address
}

async fn plain(sandbox: &Sandbox) -> SocketAddr {
    sandbox.address("plain").await
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_is_told_by_its_size_limit_and_its_http_1_0_and_when_tuned_all_is_well() {
    if !is_here("nginx", &["-v"]) {
        return;
    }
    let sandbox = Plan::new().start().await;
    let (dir, far) = (tempfile::tempdir().unwrap(), plain(&sandbox).await);
    let [stock, old, tuned, web] = [free(), free(), free(), free()];
    let node = sandbox.nodes[0].address();
    let config = format!(
        "daemon off; master_process off; pid pid; error_log stderr; events {{}}\nhttp {{ access_log off; client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;\nserver {{ listen {stock}; location / {{ proxy_pass http://{node}; }} }}\nserver {{ listen {old}; location / {{ proxy_pass http://{far}; }} }}\nserver {{ listen {tuned}; location / {{ client_max_body_size 0; proxy_request_buffering off; proxy_buffering off; proxy_http_version 1.1; proxy_pass http://{far}; }} }}\nserver {{ listen {web}; root /var/empty; }} }}\n"
    );
    std::fs::write(dir.path().join("nginx.conf"), config).unwrap();
    let prefix = dir.path().to_str().unwrap();
    let _nginx = run("nginx", &["-p", prefix, "-c", "nginx.conf"], dir.path(), web.port()).await;
    for (at, expected) in [
        (stock, &["token_unneeded", "body_capped"][..]),
        (old, &["request_changed", "intermediary", "body_capped"]),
        (tuned, &["fallback_ok", "intermediary", "body_uncapped"]),
        (web, &["not_fallback"]),
    ] {
        assert_eq!(Seat::new().await.http(at).words(Path::Http).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_passes_what_comes_and_without_a_server_it_is_a_gateway_in_error() {
    if !is_here("haproxy", &["-v"]) {
        return;
    }
    let sandbox = Plan::new().start().await;
    let (dir, far, dead) = (tempfile::tempdir().unwrap(), plain(&sandbox).await, DeadPort::new());
    let [good, lost] = [free(), free()];
    let config = format!(
        "defaults\n mode http\n timeout connect 1s\n timeout client 30s\n timeout server 30s\n retries 0\nlisten good\n bind {good}\n server s {far}\nlisten lost\n bind {lost}\n server s {}\n",
        dead.address
    );
    std::fs::write(dir.path().join("haproxy.cfg"), config).unwrap();
    let _haproxy = run("haproxy", &["-db", "-f", "haproxy.cfg"], dir.path(), good.port()).await;
    assert_eq!(Seat::new().await.http(good).words(Path::Http).await, ["fallback_ok", "body_uncapped"]);
    assert_eq!(Seat::new().await.http(lost).words(Path::Http).await, ["gateway_error"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tinyproxy_shows_itself_and_allows_connect_where_its_ports_say_so() {
    if !is_here("tinyproxy", &["-v"]) {
        return;
    }
    let sandbox = Plan::new().start().await;
    let (http, https) = (plain(&sandbox).await, sandbox.address("tls").await);
    for (allowed, expected) in [(443, "proxy_denied"), (https.port(), "connect_ok")] {
        let (dir, port) = (tempfile::tempdir().unwrap(), free().port());
        let config = format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nConnectPort {allowed}\n");
        std::fs::write(dir.path().join("conf"), config).unwrap();
        let _proxy = run("tinyproxy", &["-d", "-c", "conf"], dir.path(), port).await;
        let report = Seat::new().await.http(http).https(https).proxy(loopback(port)).examine().await;
        assert_eq!(words(&report, Path::HttpProxy), ["fallback_ok", "intermediary", "body_uncapped"]);
        assert_eq!(words(&report, Path::HttpsProxy)[0], expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn squid_is_told_from_the_server_when_it_forbids_and_when_it_asks_for_a_password() {
    if !is_here("squid", &["-v"]) {
        return;
    }
    let sandbox = Plan::new().start().await;
    let (http, https) = (plain(&sandbox).await, sandbox.address("tls").await);
    for (access, by_http, by_https) in
        [("allow", "fallback_ok", "connect_ok"), ("deny", "proxy_denied", "proxy_denied")]
    {
        let (dir, port) = (tempfile::tempdir().unwrap(), free().port());
        let log = dir.path().join("log");
        let config = format!(
            "http_port 127.0.0.1:{port}\npid_filename none\naccess_log none\ncache_log {}\ncache deny all\nshutdown_lifetime 0\nhttp_access {access} all\n",
            log.display()
        );
        std::fs::write(dir.path().join("conf"), config).unwrap();
        // It gives its rights up for those of another user.
        std::fs::write(&log, "").unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode;
        std::fs::set_permissions(dir.path(), open(0o755)).unwrap();
        std::fs::set_permissions(&log, open(0o666)).unwrap();
        let config = dir.path().join("conf");
        let _proxy = run("squid", &["-N", "-f", config.to_str().unwrap()], dir.path(), port).await;
        let report = Seat::new().await.http(http).https(https).proxy(loopback(port)).examine().await;
        assert_eq!(words(&report, Path::HttpProxy)[0], by_http, "{report:?}");
        assert_eq!(words(&report, Path::HttpsProxy)[0], by_https, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_asks_for_a_password_or_says_nothing_or_is_none_is_named() {
    let sandbox = Plan::new().start().await;
    let seat = async || {
        let (http, https) = (plain(&sandbox).await, sandbox.address("tls").await);
        Seat::new().await.http(http).https(https)
    };
    let asking = Peer::start(|mut stream: TcpStream| async move {
        let _ = read_head(&mut stream).await;
        let head = b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.write_all(head).await;
    })
    .await;
    let report = seat().await.proxy(asking.address).examine().await;
    for path in [Path::HttpProxy, Path::HttpsProxy] {
        assert_eq!(words(&report, path), ["proxy_auth"]);
    }
    let seen = &report.findings.iter().find(|finding| finding.path == Path::HttpsProxy).unwrap().seen;
    assert_eq!(seen, "407, Negotiate, Basic");
    let silent =
        Peer::start(|mut stream: TcpStream| async move { while !read_head(&mut stream).await.0.is_empty() {} }).await;
    assert_eq!(seat().await.proxy(silent.address).words(Path::HttpsProxy).await, ["proxy_silent"]);
    let shell = Peer::start(|mut stream: TcpStream| async move {
        let _ = stream.write_all(b"SSH-2.0-x\r\n").await;
        while !read_head(&mut stream).await.0.is_empty() {}
    })
    .await;
    assert_eq!(seat().await.proxy(shell.address).words(Path::HttpsProxy).await, ["not_proxy"]);
}

/// What such a box does to answers is told where the server is reached directly too.
#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_strips_fields_of_answers_is_found_by_comparing_with_the_direct_way() {
    let sandbox = Plan::new().start().await;
    let far = plain(&sandbox).await;
    let through = async |stripping: bool| {
        let between = Peer::start(move |mut near: TcpStream| async move {
            let mut server = TcpStream::connect(far).await.unwrap();
            if !stripping {
                let _ = copy_bidirectional(&mut near, &mut server).await;
                return;
            }
            let (mut up, mut down) = near.split();
            let (mut from, mut to) = server.split();
            let asking = tokio::io::copy(&mut up, &mut to);
            let answering = async {
                let mut bytes = Vec::with_capacity(4096);
                while tokio::io::AsyncReadExt::read_buf(&mut from, &mut bytes).await.is_ok_and(|n| n > 0) {
                    let text = String::from_utf8_lossy(&bytes).replace("x-real-mgmt-error", "x-renamed");
                    let _ = down.write_all(text.as_bytes()).await;
                    bytes.clear();
                }
            };
            let _ = tokio::join!(asking, answering);
        })
        .await;
        let report = Seat::new().await.http(far).proxy(between.address).examine().await;
        words(&report, Path::HttpProxy).contains(&"fields_changed")
    };
    assert!(through(true).await && !through(false).await);
}
