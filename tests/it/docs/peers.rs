//! The configs of other proxies in docs/migration.md: each passes the check of its own program, and those that carry a fallback
//! carry one of the real client, as what takes their place does.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use super::page;
use crate::support::{TOKEN, ascp, certificate, eventually, netns::Host, programs};

/// The block of a language, with its files in this folder.
fn config(language: &str, dir: &Path) -> String {
    let page = page("docs/migration.md");
    let mut blocks = page.blocks().into_iter().filter(|block| block.language == language);
    let text = blocks.next().unwrap_or_else(|| panic!("no {language}")).text;
    assert!(blocks.next().is_none(), "one {language}");
    certificate(dir, "tls", &rcgen::PKCS_ECDSA_P256_SHA256);
    let pem = ["tls.crt", "tls.key"].map(|name| std::fs::read_to_string(dir.join(name)).unwrap()).concat();
    std::fs::write(dir.join("tls.pem"), pem).unwrap();
    let dir = dir.display();
    text.replace("/etc/nginx/", &format!("{dir}/")).replace("/etc/haproxy/", &format!("{dir}/"))
}

fn passes(mut command: Command) {
    let said = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr) + String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && !text.contains("FATAL"), "{command:?}: {text}");
}

/// Its check opens the ports, so it has a host of its own.
#[test]
fn nginx_takes_its_config() {
    if !programs::is_here("nginx", &["-v"]) {
        return;
    }
    let Some(host) = Host::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let text = format!("pid {}/pid;\n{}", dir.path().display(), config("nginx", dir.path()));
    std::fs::write(dir.path().join("nginx.conf"), text).unwrap();
    let mut command = host.command("nginx");
    command.args(["-t", "-e", "stderr", "-c"]).arg(dir.path().join("nginx.conf"));
    passes(command);
}

#[test]
fn haproxy_takes_its_config() {
    if !programs::is_here("haproxy", &["-v"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("haproxy.cfg"), config("haproxy", dir.path())).unwrap();
    let mut command = Command::new("haproxy");
    command.args(["-c", "-f"]).arg(dir.path().join("haproxy.cfg"));
    passes(command);
}

#[test]
fn squid_takes_its_config() {
    if !programs::is_here("squid", &["-v"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("squid.conf"), config("squid", dir.path())).unwrap();
    let mut command = Command::new("squid");
    command.args(["-k", "parse", "-f"]).arg(dir.path().join("squid.conf"));
    passes(command);
}

/// Its program is not here, but what it reads is XML.
#[test]
fn the_config_of_aspera_proxy_is_sound_xml() {
    if !programs::is_here("python3", &["--version"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("aspera.conf"), config("xml", dir.path())).unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", "import sys, xml.dom.minidom as xml; xml.parse(sys.argv[1])"]);
    command.arg(dir.path().join("aspera.conf"));
    passes(command);
}

/// A process that is told to end, and is gone, when its test is over.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Asked and not killed: nginx has processes of its own.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

fn start(mut command: Command) -> Ended {
    Ended(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// The edges of the page that carry a fallback, theirs and ours, each before two nodes at the addresses of the page.
#[tokio::test(flavor = "multi_thread")]
async fn the_real_client_uploads_through_each_of_them_and_through_what_takes_its_place() {
    if !ascp::is_here() || !programs::is_here("nginx", &["-v"]) || !programs::is_here("haproxy", &["-v"]) {
        return;
    }
    let (Some(edge), Some(inside)) = (Host::new(), Host::new()) else { return };
    edge.link("inside", &inside, "10.1.0", "fd00:1");
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    certificate(dir.path(), "CLIENT", &rcgen::PKCS_ECDSA_P256_SHA256);
    let _nodes = ["10.1.0.11", "10.1.0.12"].map(|address| {
        inside.ip(&format!("addr add {address}/24 dev eth0"));
        std::fs::create_dir(at(address)).unwrap();
        let mut node = inside.command(env!("CARGO_BIN_EXE_fallgate"));
        node.args(["node", "--address", &format!("{address}:8080"), "--root"]).arg(at(address));
        start(node)
    });
    for address in ["10.1.0.11:8080", "10.1.0.12:8080"] {
        let to: std::net::SocketAddr = address.parse().unwrap();
        eventually("the node", || edge.open(|| std::net::TcpStream::connect(to).ok())).await;
    }
    std::fs::write(
        at("nginx.conf"),
        format!("pid {}/pid;\ndaemon off;\n{}", dir.path().display(), config("nginx", dir.path())),
    )
    .unwrap();
    std::fs::write(at("haproxy.cfg"), config("haproxy", dir.path())).unwrap();
    let ours: Vec<_> =
        page("docs/migration.md").blocks().into_iter().filter(|block| block.language == "yaml").collect();
    for (name, block) in ["ours-1.yaml", "ours-2.yaml"].into_iter().zip(ours) {
        std::fs::write(at(name), block.text).unwrap();
    }
    for (program, arguments, file) in [
        ("nginx", &["-e", "stderr", "-c"][..], "nginx.conf"),
        (env!("CARGO_BIN_EXE_fallgate"), &["run", "--config"], "ours-1.yaml"),
        ("haproxy", &["-db", "-f"], "haproxy.cfg"),
        (env!("CARGO_BIN_EXE_fallgate"), &["run", "--config"], "ours-2.yaml"),
    ] {
        let mut command = edge.command(program);
        command.args(arguments).arg(at(file));
        let _edge = start(command);
        for (scheme, port, flags) in
            [("http", 8080, &["-T"][..]), ("https", 8443, &["-I", "CLIENT.crt", "-Y", "CLIENT.key"])]
        {
            let to = std::net::SocketAddr::from(([127, 0, 0, 1], port));
            eventually("the edge", || edge.open(|| std::net::TcpStream::connect(to).ok())).await;
            let source = format!("{file} {scheme}");
            std::fs::write(at(&source), source.repeat(100_000)).unwrap();
            let mut client = edge.command(ascp::program().unwrap().to_str().unwrap());
            client.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", dir.path());
            client.env("ASPERA_SCP_TOKEN", TOKEN).current_dir(dir.path()).stdin(Stdio::null());
            client.args(["-y", "F", "-t", &port.to_string()]).args(flags);
            client.args(["--host=127.0.0.1", "--user=xfer", "--mode=send", &source, "/"]);
            let mut child = client.spawn().unwrap();
            let status = eventually("the end of the client", || child.try_wait().unwrap()).await;
            assert!(status.success(), "{source}");
            let came = ["10.1.0.11", "10.1.0.12"].map(|node| std::fs::read(at(node).join("up").join(&source)).ok());
            let came: Vec<_> = came.into_iter().flatten().collect();
            assert!(came == [source.repeat(100_000).into_bytes()], "{source}");
        }
    }
}
