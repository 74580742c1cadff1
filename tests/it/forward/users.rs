//! Clients that must say who they are, and what becomes of what they said.

use argon2::{Argon2, Params, PasswordHasher, password_hash::phc::PasswordHash};
use base64::{Engine, engine::general_purpose::STANDARD};
use fallgate::gateway::Gateway;

use super::*;
use crate::support::process::Process;

const ANNA: (&str, &str) = ("anna", "Sesame-Oeffne-Dich");
const BERT: (&str, &str) = ("bert", "zwei:drei");
const POLICY: &str = "auth: {users_file: users}, allow: [{hosts: ['*'], users: [anna]}, {hosts: [n2.test]}], deny: [{hosts: [old.test], users: [anna]}], allow_private_addresses: [127.0.0.0/8]";

fn bcrypt_line((user, password): (&str, &str)) -> String {
    format!("{user}:{}", bcrypt::hash(password, 4).unwrap())
}

fn argon2_line((user, password): (&str, &str)) -> String {
    let hasher = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, Params::new(64, 1, 1, None).unwrap());
    let hash: PasswordHash = hasher.hash_password_with_salt(password.as_bytes(), b"0123456789abcdef").unwrap();
    format!("{user}:{hash}")
}

fn file() -> String {
    format!("# ours\n{}\n\n{}\n", bcrypt_line(ANNA), argon2_line(BERT))
}

async fn egress() -> Egress {
    Setup::new(POLICY).start_with(|dir| std::fs::write(dir.join("users"), file()).unwrap()).await
}

/// The field by which a client says who it is.
fn is(who: (&str, &str)) -> String {
    format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("{}:{}", who.0, who.1)))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_asked_and_gets_in_on_the_same_connection() {
    let (egress, origin) = (egress().await, echo().await);
    let mut wire = egress.wire().await;
    let reply = wire.ask(&connect_to(origin.address)).await;
    says(&reply, 407, "auth_required");
    assert!(reply.field("proxy-authenticate").unwrap().starts_with("Basic realm="), "{reply:?}");
    assert_eq!(reply.field("connection"), Some("keep-alive"));
    wire.send(&connect_with(origin.address, &is(ANNA))).await;
    assert_eq!(wire.raw_head().await, ESTABLISHED);
    echoes(&mut wire).await;
    drop(wire);
    let records = egress.records(2).await;
    assert!(records[0]["user"].is_null() && records[0]["outcome"] == "refused", "{records:?}");
    assert_eq!(records[1]["user"], "anna");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_request_is_asked_as_well_and_its_body_does_no_harm() {
    let (egress, origin) = (egress().await, Origin::says("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await);
    let mut wire = egress.wire().await;
    let put = |lines: &str| {
        let head = absolute("PUT", origin.address(), "/a", &format!("Content-Length: 5\r\n{lines}"));
        [head, b"hello".to_vec()].concat()
    };
    says(&wire.ask(&put("")).await, 407, "auth_required");
    assert_eq!(wire.ask(&put(&is(ANNA))).await.status, 201);
    says(&wire.ask(&put("")).await, 407, "auth_required");
    assert_eq!(origin.heard().len(), 1);
    assert_eq!(origin.last().body, b"hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_words_are_refused_and_never_open_anything() {
    let (egress, origin) = (egress().await, echo().await);
    let wrong =
        [("anna", "sesame"), ("anna", ""), ("Anna", ANNA.1), ("carl", ANNA.1), ("bert", ANNA.1), ("bert", "zwei")];
    let mut n = 0;
    for _ in 0..2 {
        for who in wrong {
            n += 1;
            let reply = egress.refuses(n, &connect_with(origin.address, &is(who)), 407, "auth_failed").await;
            assert!(reply.field("proxy-authenticate").is_some());
            assert!(egress.record(n).await["user"].is_null(), "who has proven nothing is nobody");
        }
    }
    for odd in ["Basic", "Basic !", "Bearer abc", "Basic YW5uYQ==", "Basic Om9uZQ==", "Digest username=\"anna\""] {
        n += 1;
        let lines = format!("Proxy-Authorization: {odd}\r\n");
        egress.refuses(n, &connect_with(origin.address, &lines), 407, "auth_required").await;
    }
    let lines = is(ANNA).replace("Proxy-", "");
    egress.refuses(n + 1, &connect_with(origin.address, &lines), 407, "auth_required").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kinds_of_hash_do_and_rules_are_kept_by_user() {
    let (egress, origin) = (egress().await, echo().await);
    let port = origin.address.port();
    for (who, host, decision) in [
        (ANNA, "n1.test", ""),
        (ANNA, "n2.test", ""),
        (ANNA, "old.test", "policy_denied"),
        (BERT, "n1.test", "policy_denied"),
        (BERT, "n2.test", ""),
        (BERT, "old.test", "policy_denied"),
    ] {
        let reply = egress.ask(&connect_with(format!("{host}:{port}"), &is(who))).await;
        assert_eq!(reply.word(), decision, "{} {host}", who.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_one_connection_each_request_is_its_own_users() {
    let (egress, origin) = (egress().await, Origin::says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await);
    let target = format!("n1.test:{}", origin.address().port());
    let mut wire = egress.wire().await;
    assert_eq!(wire.ask(&absolute("GET", &target, "/", &is(ANNA))).await.status, 200);
    says(&wire.ask(&absolute("GET", &target, "/", &is(BERT))).await, 403, "policy_denied");
    says(&wire.ask(&absolute("GET", &target, "/", "")).await, 407, "auth_required");
    assert_eq!(origin.heard().len(), 1, "a connection that there is already opens nothing to others");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_to_the_proxy_reaches_no_origin() {
    let (egress, origin) = (egress().await, Origin::says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await);
    for path in ["/a", "/aspera/http/ab/file/x.ashttp"] {
        let lines = format!("{}Authorization: Basic bm9kZQ==\r\n", is(ANNA));
        assert_eq!(egress.ask(&absolute("GET", origin.address(), path, &lines)).await.status, 200);
        let heard = origin.last().head.to_ascii_lowercase();
        assert!(!heard.contains("proxy-authorization") && heard.contains("authorization: basic bm9kzq=="), "{heard}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_and_hashes_are_in_no_log_no_record_and_no_metric() {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    std::fs::write(&users, file()).unwrap();
    let log = dir.path().join("access.log");
    let policy = POLICY.replace("users_file: users", &format!("users_file: '{}'", users.display()));
    let dns = Dns::start(|_, _| vec![here()]).await;
    let setup = Setup::new(&policy).top("log: {level: trace}");
    let text = setup.yaml(&policy, dns.address).replace("path: access.log", &format!("path: '{}'", log.display()));
    let process = Process::start(&text).await;
    let (address, origin) =
        (process.address("egress").await, Origin::says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await);
    let wrong = (ANNA.0, "Geheimes-Wort");
    for who in [ANNA, wrong, BERT] {
        for request in [absolute("GET", origin.address(), "/", &is(who)), connect_with(origin.address(), &is(who))] {
            Wire::plain(address).await.ask(&request).await;
        }
    }
    let records = eventually("all records", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        (text.lines().count() >= 6).then_some(text)
    })
    .await;
    let said = [process.log(), records, process.metrics().await.0].concat();
    assert!(said.contains("auth_failed") && said.contains("anna"), "{said}");
    for who in [ANNA, wrong, BERT] {
        let coded = STANDARD.encode(format!("{}:{}", who.0, who.1));
        assert!(!said.contains(who.1) && !said.contains(&coded), "{}", who.1);
    }
    assert!(!said.contains("$2b$") && !said.contains("$argon2id$"));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_from_elsewhere_are_refused_whatever_they_say() {
    let policy = format!("auth: {{allow_from: [127.0.0.2], users_file: users}}, {OPEN}");
    let setup = Setup::new(&policy);
    let egress = setup.start_with(|dir| std::fs::write(dir.join("users"), file()).unwrap()).await;
    let origin = echo().await;
    for (lines, n) in ["", &is(ANNA), &is(("anna", "wrong"))].into_iter().zip(1..) {
        egress.refuses(n, &connect_with(origin.address, lines), 403, "client_not_allowed").await;
    }
    let lines = format!("X-Forwarded-For: 127.0.0.2\r\nForwarded: for=127.0.0.2\r\n{}", is(ANNA));
    egress.refuses(4, &connect_with(origin.address, &lines), 403, "client_not_allowed").await;
    let mut wire = Wire::from([127, 0, 0, 2], egress.address).await;
    says(&wire.ask(&connect_to(origin.address)).await, 407, "auth_required");
    wire.send(&connect_with(origin.address, &is(BERT))).await;
    assert_eq!(wire.raw_head().await, ESTABLISHED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_users_in_and_out() {
    let (egress, origin) = (egress().await, echo().await);
    let open = |who| connect_with(origin.address, &is(who));
    assert_eq!(egress.ask(&open(ANNA)).await.status, 200);
    std::fs::write(egress.dir.path().join("users"), bcrypt_line(("anna", "other"))).unwrap();
    assert_eq!(egress.ask(&open(ANNA)).await.status, 200, "until then nothing changes");
    assert!(egress.reload(POLICY).await);
    says(&egress.ask(&open(ANNA)).await, 407, "auth_failed");
    assert_eq!(egress.ask(&open(("anna", "other"))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_will_not_do_is_told_by_path_and_line_and_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("{}\n# one\ncarl:SECRET-of-carl\ndora:$apr1$SECRET$SECRET\nSECRET\n", bcrypt_line(ANNA));
    std::fs::write(dir.path().join("users"), text).unwrap();
    let config = |name: &str| {
        let yaml = Setup::new(&POLICY.replace("file: users", &format!("file: {name}")))
            .yaml(&POLICY.replace("file: users", &format!("file: {name}")), SocketAddr::from(([127, 0, 0, 1], 53)));
        Config::from_yaml(&yaml, dir.path()).unwrap()
    };
    let path = dir.path().join("users").display().to_string();
    let error = Gateway::start(config("users"), None).await.unwrap_err();
    let told = format!("{error} {error:?}");
    for expected in [path.as_str(), "line 3: ", "line 4: ", "line 5: "] {
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(!told.contains("SECRET") && !told.contains("$2b$") && !error.to_string().contains("line 1:"), "{told}");
    let error = Gateway::start(config("nothing"), None).await.unwrap_err().to_string();
    assert!(error.contains("nothing"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_with_a_bad_file_changes_nothing() {
    let (egress, origin) = (egress().await, echo().await);
    std::fs::write(egress.dir.path().join("users"), "anna:plain\n").unwrap();
    assert!(!egress.reload(POLICY).await);
    assert_eq!(egress.ask(&connect_with(origin.address, &is(ANNA))).await.status, 200);
}

#[test]
fn the_check_names_the_line_of_a_bad_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("users"), "carl:SECRET\n").unwrap();
    let yaml = Setup::new(POLICY).yaml(POLICY, SocketAddr::from(([127, 0, 0, 1], 53)));
    std::fs::write(dir.path().join("fallgate.yaml"), yaml).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fallgate"));
    let output = command.args(["check", "--config"]).arg(dir.path().join("fallgate.yaml")).output().unwrap();
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "{told}");
    support::secrets::none_in("the output", &told);
    assert!(told.contains("users: line 1: ") && !told.contains("SECRET"), "{told}");
}
