//! A gateway that sees by itself that its files have changed.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use crate::support::{Plan, Sandbox, certificate, eventually, process::Process};

const WATCH: &str = "reload: {watch: 40ms}\n";

/// The certificate that the listener `tls` shows, by its first bytes.
async fn shown(sandbox: &Sandbox) -> Vec<u8> {
    let address = sandbox.address("tls").await;
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::from(address.ip());
    let tls = tokio_rustls::TlsConnector::from(crate::support::tls()).connect(name, tcp).await.unwrap();
    tls.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

async fn until_shown(sandbox: &Sandbox, what: &str, is_so: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let begin = Instant::now();
    loop {
        let now = shown(sandbox).await;
        if is_so(&now) {
            return now;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "never came: {what}");
    }
}

/// Writes the sandbox's config file with a change, whole at once.
fn write(sandbox: &Sandbox, change: impl FnOnce(String) -> String) {
    let file = sandbox.dir.path().join("fallgate.yaml");
    let text = change(fs::read_to_string(&file).unwrap());
    let next = sandbox.dir.path().join("next.yaml");
    fs::write(&next, text).unwrap();
    fs::rename(next, file).unwrap();
}

/// A secret as a volume of Kubernetes has it: each file a link by way of `..data`, which is turned to the new folder.
fn put_secret(volume: &Path, version: &str) {
    let folder = volume.join(format!("..{version}"));
    fs::create_dir_all(&folder).unwrap();
    certificate(&folder, "tls", &rcgen::PKCS_ECDSA_P256_SHA256);
    symlink(format!("..{version}"), volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        if !volume.join(name).exists() {
            symlink(Path::new("..data").join(name), volume.join(name)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_whose_link_is_turned_to_another_folder_is_served_without_a_signal() {
    let sandbox = Plan::new().top(WATCH).start().await;
    let first = shown(&sandbox).await;
    let volume = sandbox.dir.path().join("volume");
    put_secret(&volume, "2024");
    // The config file is watched as well.
    write(&sandbox, |text| text.replace("tls.crt", "volume/tls.crt").replace("tls.key", "volume/tls.key"));
    let second = until_shown(&sandbox, "the secret", |now| now != first).await;
    let metadata = fs::symlink_metadata(volume.join("tls.crt")).unwrap();
    put_secret(&volume, "2025");
    let same = fs::symlink_metadata(volume.join("tls.crt")).unwrap();
    assert_eq!(
        (metadata.modified().unwrap(), metadata.len()),
        (same.modified().unwrap(), same.len()),
        "the named files themselves have not changed"
    );
    until_shown(&sandbox, "the new secret", |now| now != second).await;
    fs::remove_dir_all(volume.join("..2024")).unwrap();
    sandbox.until("still good", |m| m.sum("config_last_reload_success", &[]) == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_whose_key_has_not_come_yet_waits_for_it_and_the_old_pair_is_served() {
    let sandbox = Plan::new().top(WATCH).start().await;
    let first = shown(&sandbox).await;
    let (dir, next) = (sandbox.dir.path(), sandbox.dir.path().join("next"));
    fs::create_dir(&next).unwrap();
    certificate(&next, "tls", &rcgen::PKCS_ECDSA_P256_SHA256);
    fs::copy(next.join("tls.crt"), dir.join("tls.crt")).unwrap();
    sandbox.until("it is refused", |m| m.sum("config_last_reload_success", &[]) == 0.0).await;
    assert_eq!(shown(&sandbox).await, first);
    fs::copy(next.join("tls.key"), dir.join("tls.key")).unwrap();
    until_shown(&sandbox, "the new pair", |now| now != first).await;
    sandbox.until("it is good", |m| m.sum("config_last_reload_success", &[]) == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_that_will_not_do_is_named_at_once() {
    let sandbox = Plan::new().admin("token_file: token").start().await;
    fs::write(sandbox.dir.path().join("token"), "short").unwrap();
    fs::remove_file(sandbox.dir.path().join("tls.key")).unwrap();
    let error = sandbox.gateway.reload_file().await.unwrap_err().to_string();
    let lines: Vec<_> = error.lines().filter(|line| !line.starts_with("  hint: ")).collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(lines[0].starts_with("listener tls: ") && lines[0].contains("tls.key"), "{error}");
    assert!(lines[1].starts_with("admin.token_file: ") && !lines[1].contains("short"), "{error}");
}

/// A gateway of its own process, whose log is its own.
async fn process(more: &str) -> (Process, String) {
    let text = format!(
        "version: 1\nlisteners: [{{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u}}]\nupstreams: [{{name: u, nodes: [{{name: n1, host: 127.0.0.1, ports: {{http: 1}}}}]}}]\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0', token_file: token}}\n{more}"
    );
    let fill = |dir: &Path| fs::write(dir.join("token"), "0123456789abcdef0123").unwrap();
    (Process::with(&text, fill).await, text)
}

const REJECTED: &str = "The new config is rejected";

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_changes_nothing_and_all_its_problems_are_told_once_until_it_changes_again() {
    let (process, text) = process(WATCH).await;
    let file = process.dir().join("fallgate.yaml");
    let told = |what: &str| process.log().matches(what).count();
    for time in 1..=2 {
        let bad = format!("{text}timeouts: {{connect: {time}}}\ncolour: red\n");
        fs::write(&file, bad).unwrap();
        eventually("it is rejected", || (told(REJECTED) == time).then_some(())).await;
        // Looks go on, and nothing more is said of it.
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(400) {
            process.until("config_generation", &[], 1.0).await;
            assert_eq!(told(REJECTED), time, "{}", process.log());
        }
        assert_eq!((told("timeouts.connect"), told("colour: unknown key")), (time, time), "{}", process.log());
        assert_eq!(told("Files have changed"), time);
    }
    assert!(process.log().contains("fallgate.yaml"), "which file it was is said: {}", process.log());
    fs::write(&file, format!("{text}limits: {{max_sessions: 7}}\n")).unwrap();
    process.until("config_generation", &[], 2.0).await;
    process.until("limit", &[("limit", "max_sessions")], 7.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_half_written_never_takes_the_place_of_the_whole_one() {
    let (process, text) = process(WATCH).await;
    let file = process.dir().join("fallgate.yaml");
    let whole = format!("{text}limits: {{max_sessions: 7}}\n");
    // Empty, then cut in the middle of a line: what an editor or a copy leaves for a moment, or for ever.
    for (n, half) in ["", &whole[..whole.len() / 2]].into_iter().enumerate() {
        fs::write(&file, half).unwrap();
        let rejected = || (process.log().matches(REJECTED).count() > n).then_some(());
        eventually("it is rejected", rejected).await;
        process.until("config_generation", &[], 1.0).await;
    }
    fs::write(&file, &whole).unwrap();
    process.until("config_generation", &[], 2.0).await;
    process.until("limit", &[("limit", "max_sessions")], 7.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_the_new_config_lacked_is_waited_for_and_a_token_and_users_are_watched() {
    let (process, text) = process(WATCH).await;
    fs::write(process.dir().join("fallgate.yaml"), text.replace("token_file: token", "token_file: late")).unwrap();
    eventually("it is rejected", || (process.log().matches(REJECTED).count() == 1).then_some(())).await;
    fs::write(process.dir().join("late"), "too short").unwrap();
    eventually("it is rejected", || (process.log().matches(REJECTED).count() == 2).then_some(())).await;
    fs::write(process.dir().join("late"), "fedcba9876543210fedc").unwrap();
    process.until("config_generation", &[], 2.0).await;
    fs::write(process.dir().join("late"), "another-one-of-good-length").unwrap();
    process.until("config_generation", &[], 3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_switches_the_watch_on_and_off() {
    let (process, text) = process("").await;
    let file = process.dir().join("fallgate.yaml");
    let with = |sessions: u32, watch: &str| {
        format!("{text}reload: {{watch: {watch}}}\nlimits: {{max_sessions: {sessions}}}\n")
    };
    process.configure(&with(5, "40ms"));
    process.until("limit", &[("limit", "max_sessions")], 5.0).await;
    fs::write(&file, with(6, "40ms")).unwrap();
    process.until("limit", &[("limit", "max_sessions")], 6.0).await;
    fs::write(&file, with(7, "off")).unwrap();
    process.until("limit", &[("limit", "max_sessions")], 7.0).await;
    fs::write(&file, with(8, "off")).unwrap();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(400) {
        process.until("limit", &[("limit", "max_sessions")], 7.0).await;
    }
    process.signal("HUP");
    process.until("limit", &[("limit", "max_sessions")], 8.0).await;
}
