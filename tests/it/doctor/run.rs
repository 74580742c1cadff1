//! Programs of others, run for a test.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use crate::support::{loopback, ports};

/// A program that ends with this.
pub(super) struct Program {
    child: Child,
    /// What it leaves behind when it is killed.
    left: Vec<PathBuf>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.left.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
}

/// Runs a program and waits until the port accepts. What it could be told on its standard input stays open, for the end of
/// that ends some.
pub(super) async fn run(name: &str, arguments: &[&str], dir: &Path, port: u16) -> Program {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut program = Program { child: command.spawn().unwrap(), left: Vec::new() };
    let begin = Instant::now();
    while TcpStream::connect(loopback(port)).await.is_err() {
        let ended = program.child.try_wait().unwrap();
        assert!(ended.is_none() && begin.elapsed() < Duration::from_secs(60), "{name} does not accept: {ended:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    program
}

/// A port for a program.
pub(super) fn free() -> SocketAddr {
    loopback(ports::lasting())
}

/// nginx with these servers.
pub(super) async fn nginx(dir: &Path, servers: &str, port: u16) -> Program {
    let config = format!(
        "daemon off; master_process off; pid pid; error_log stderr; events {{}}\nhttp {{ access_log off; client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;\n{servers} }}\n"
    );
    std::fs::write(dir.join("nginx.conf"), config).unwrap();
    run("nginx", &["-p", dir.to_str().unwrap(), "-c", "nginx.conf"], dir, port).await
}

/// HAProxy with these sections.
pub(super) async fn haproxy(dir: &Path, sections: &str, port: u16) -> Program {
    let defaults = "defaults\n mode http\n timeout connect 1s\n timeout client 30s\n timeout server 30s\n retries 0\n";
    std::fs::write(dir.join("haproxy.cfg"), format!("{defaults}{sections}")).unwrap();
    run("haproxy", &["-db", "-f", "haproxy.cfg"], dir, port).await
}

/// A tinyproxy that allows CONNECT to this port.
pub(super) async fn tinyproxy(dir: &Path, port: u16, allowed: u16) -> Program {
    let config = format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nConnectPort {allowed}\n");
    std::fs::write(dir.join("conf"), config).unwrap();
    run("tinyproxy", &["-d", "-c", "conf"], dir, port).await
}

/// A Squid that allows or denies everything.
pub(super) async fn squid(dir: &Path, port: u16, access: &str) -> Program {
    let log = dir.join("log");
    let config = format!(
        "http_port 127.0.0.1:{port}\npid_filename none\naccess_log none\ncache_log {}\ncache deny all\nshutdown_lifetime 0\nhttp_access {access} all\n",
        log.display()
    );
    std::fs::write(dir.join("conf"), config).unwrap();
    // It gives its rights up for those of another user.
    std::fs::write(&log, "").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(dir, open(0o755)).unwrap();
    std::fs::set_permissions(&log, open(0o666)).unwrap();
    // Its shared memory has its name: two of one name get in each other's way, and what another user left in its.
    let name = format!("fallgate{}x{port}", std::process::id());
    let mut program = run("squid", &["-n", &name, "-N", "-f", dir.join("conf").to_str().unwrap()], dir, port).await;
    program.left = ["metadata", "queues", "readers"].map(|of| format!("/dev/shm/{name}-cf__{of}.shm").into()).to_vec();
    program
}

/// An Envoy with a listener at each port, all before one server. Of each the first text goes into its route; the other is
/// of the protocol, for clients and for the server.
pub(super) async fn envoy(program: &Path, dir: &Path, far: SocketAddr, listeners: &[(u16, &str, &str)]) -> Program {
    const TYPE: &str = "type.googleapis.com/envoy.extensions";
    let at = |port: u16| format!("address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}");
    let listener = |(port, route, keys): &(u16, &str, &str)| {
        let keys = if keys.is_empty() { String::new() } else { format!(", {keys}") };
        format!(
            "  - name: l{port}\n    {}\n    filter_chains:\n    - filters:\n      - name: envoy.filters.network.http_connection_manager\n        typed_config: {{\"@type\": {TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: a{keys}, route_config: {{virtual_hosts: [{{name: a, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: c{port}{route}}}}}]}}]}}, http_filters: [{{name: envoy.filters.http.router, typed_config: {{\"@type\": {TYPE}.filters.http.router.v3.Router}}}}]}}\n",
            at(*port)
        )
    };
    let cluster = |(port, _, keys): &(u16, &str, &str)| {
        format!(
            "  - {{name: c{port}, type: STATIC, load_assignment: {{cluster_name: c{port}, endpoints: [{{lb_endpoints: [{{endpoint: {{{}}}}}]}}]}}, typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{\"@type\": {TYPE}.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{{}}}}}}}}}\n",
            at(far.port()),
            if keys.is_empty() { "http_protocol_options: {}" } else { keys },
        )
    };
    let (of_listeners, of_clusters): (String, String) =
        (listeners.iter().map(listener).collect(), listeners.iter().map(cluster).collect());
    let config = format!("static_resources:\n  listeners:\n{of_listeners}  clusters:\n{of_clusters}");
    std::fs::write(dir.join("envoy.yaml"), config).unwrap();
    let arguments = ["-c", "envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "--log-level", "off"];
    run(program.to_str().unwrap(), &arguments, dir, listeners[0].0).await
}
