//! The Debian package.

use std::process::Command;

use crate::{
    machine::{Machine, package},
    support::{eventually, programs::is_here, text},
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
