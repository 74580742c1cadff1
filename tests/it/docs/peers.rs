//! The configs of other proxies in docs/migration.md: each passes the check of its own program.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use super::page;
use crate::support::{certificate, netns::Host, programs};

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
