//! The Debian package.

use std::{fs, process::Command};

use crate::{
    machine::{Machine, package},
    support::{eventually, programs::is_here, text},
    systemd::{connect, nominal, says},
};

#[tokio::test]
async fn the_package_starts_as_it_is_hands_over_when_it_is_renewed_and_leaves_nothing_behind() {
    let Some(machine) = Machine::with_package().await else { return };
    assert_eq!(machine.run(&["systemctl", "is-active", "fallgate"]).1, "inactive\n");
    machine.ok(&["systemctl", "start", "fallgate"]);
    assert_eq!(machine.of_service("User"), "fallgate");
    eventually("the first checks", || machine.run(&["fallgate", "health", "--ready"]).0.then_some(())).await;
    machine.ok(&["test", "-e", "/var/lib/fallgate/state"]);
    assert_eq!(machine.ok(&["stat", "--format=%A %U %G", "/etc/fallgate/fallgate.yaml"]), "-rw-r----- root fallgate");

    for page in [
        "/usr/share/man/man1/fallgate.1.gz",
        "/usr/share/bash-completion/completions/fallgate",
        "/usr/share/zsh/vendor-completions/_fallgate",
        "/usr/share/fish/vendor_completions.d/fallgate.fish",
    ] {
        machine.ok(&["test", "-s", page]);
    }

    // The same again is an upgrade: another process serves, and systemd knows it.
    let before = machine.of_service("MainPID");
    machine.ok(&["sh", "-c", "echo '# mine' >> /etc/fallgate/fallgate.yaml"]);
    machine.ok(&["dpkg", "--install", "/mnt/fallgate.deb"]);
    eventually("another main process", || (machine.of_service("MainPID") != before).then_some(())).await;
    assert_eq!(machine.of_service("ActiveState"), "active");
    assert_eq!(machine.of_service("NRestarts"), "0");
    assert_eq!(machine.ok(&["fallgate", "health"]), "ok");
    assert_eq!(machine.ok(&["tail", "--lines=1", "/etc/fallgate/fallgate.yaml"]), "# mine");

    machine.ok(&["dpkg", "--remove", "fallgate"]);
    eventually("the end of the service", || (!machine.run(&["pgrep", "-x", "fallgate"]).0).then_some(())).await;
    assert_eq!(machine.ok(&["ls", "-A", "/etc/fallgate"]), "credentials\nfallgate.yaml");
    machine.ok(&["dpkg", "--purge", "fallgate"]);
    let left = machine.ok(&["find", "/etc", "/usr", "/var/lib", "/var/log", "-xdev", "-iname", "*fallgate*"]);
    assert_eq!(left, "");
}

const CONFIG: &str = "version: 1
listeners:
  - { name: control, protocol: tcp, address: '127.0.0.1:33001', upstream: u }
upstreams:
  - { name: u, nodes: [{ name: n1, host: 127.0.0.1, ports: { http: 18080, tcp: 18022 } }] }
state: { file: /var/lib/fallgate/state }
";

/// The package as an older version of it, beside the one that is there.
fn older(machine: &Machine) {
    let folder = machine.shared.path().join("older");
    let run = |program: &str, arguments: &[&str]| {
        assert!(Command::new(program).args(arguments).stdout(std::process::Stdio::null()).status().unwrap().success());
    };
    let (deb, at) = (machine.shared.path().join("fallgate.deb"), folder.to_str().unwrap());
    run("dpkg-deb", &["--raw-extract", deb.to_str().unwrap(), at]);
    let control = folder.join("DEBIAN/control");
    let said = fs::read_to_string(&control).unwrap();
    let version = said.lines().find(|line| line.starts_with("Version: ")).unwrap().to_owned();
    fs::write(&control, said.replace(&version, "Version: 0.0.1-1")).unwrap();
    run("dpkg-deb", &["--build", "-z1", at, machine.shared.path().join("older.deb").to_str().unwrap()]);
}

#[tokio::test]
async fn a_transfer_goes_on_while_the_package_is_renewed_and_then_purged() {
    let Some(machine) = Machine::with_package().await else { return };
    nominal(&machine.host);
    older(&machine);
    machine.ok(&["dpkg", "--install", "--force-downgrade", "/mnt/older.deb"]);
    fs::write(machine.path("/etc/fallgate/fallgate.yaml"), CONFIG).unwrap();
    machine.ok(&["systemctl", "start", "fallgate"]);
    eventually("the first checks", || machine.run(&["fallgate", "health", "--ready"]).0.then_some(())).await;
    let mut first = connect(&machine, 33001);
    assert_eq!(says(&mut first), "SSH-2.0-node\r\n");

    let before = machine.of_service("MainPID");
    machine.ok(&["dpkg", "--install", "--force-confold", "/mnt/fallgate.deb"]);
    eventually("another main process", || (machine.of_service("MainPID") != before).then_some(())).await;
    let after = machine.of_service("MainPID");
    let mut second = connect(&machine, 33001);
    assert_eq!(says(&mut second), "SSH-2.0-node\r\n");

    // Nothing waits for the transfers, and nothing ends them: not the unit that is gone, nor whoever has systemd read all anew.
    machine.ok(&["dpkg", "--remove", "fallgate"]);
    machine.ok(&["systemctl", "daemon-reload"]);
    assert_eq!(machine.of_service("TimeoutStopUSec"), "infinity");
    eventually("the drain", || machine.journal().contains("Draining. sessions=0").then_some(())).await;
    assert_eq!(machine.of_service("ActiveState"), "deactivating");
    machine.ok(&["dpkg", "--purge", "fallgate"]);
    let is_there = |pid: &str| machine.path(&format!("/proc/{pid}")).exists();
    drop(second);
    assert!(is_there(&before) && is_there(&after), "{}", machine.journal());
    drop(first);
    eventually("the end of both", || (!is_there(&before) && !is_there(&after)).then_some(())).await;
    assert!(!machine.journal().contains("SIGKILL"), "{}", machine.journal());
    let unit = machine.path("/run/systemd/system/fallgate.service");
    eventually("the end of the unit", || (!unit.exists()).then_some(())).await;
    assert_eq!(machine.of_service("Result"), "success");
    let left = machine.ok(&["find", "/etc", "/usr", "/var/lib", "/var/log", "/run", "-xdev", "-iname", "*fallgate*"]);
    assert_eq!(left, "");
}

#[test]
fn the_package_has_no_error_that_debian_knows_of() {
    let Some(package) = package() else { return };
    if !is_here("lintian", &["--version"]) {
        return;
    }
    let said = Command::new("lintian").args(["--allow-root", "--fail-on", "error"]).arg(package).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
}

#[test]
fn the_package_and_its_history_have_the_version_of_the_program() {
    let newest = text("deploy/debian/changelog").lines().next().unwrap().to_owned();
    assert!(newest.starts_with(&format!("fallgate ({}-1) ", env!("CARGO_PKG_VERSION"))), "{newest}");
}
