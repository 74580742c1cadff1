//! Every request of a corpus of odd and hostile ones, and what becomes of it: the table is
//! `tests/it/corpus_forward/answers.md`, and docs/forward-proxy.md tells how others answer.

use std::path::Path;

use super::Setup;

/// Written anew with `FALLGATE_BLESS=1`.
const TABLE: &str = "tests/it/corpus_forward/answers.md";

#[tokio::test(flavor = "multi_thread")]
async fn every_odd_request_is_answered_as_the_table_says_and_no_hostile_one_reaches_an_origin() {
    let policy = "allow: [{hosts: [127.0.0.0/8, localhost, '::1']}], allow_private_addresses: [127.0.0.0/8, '::1']";
    let egress = Setup::new(policy).top("timeouts: {request_head: 1s}").start().await;
    let mut command = tokio::process::Command::new("python3");
    command.arg("scripts/forward-corpus").args(["--patience", "4", &format!("fallgate={}", egress.address)]);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).kill_on_drop(true);
    let said = command.output().await.unwrap();
    assert!(said.status.success(), "{said:?}");
    let found = String::from_utf8(said.stdout).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
    if std::env::var_os("FALLGATE_BLESS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let wanted = std::fs::read_to_string(path).unwrap();
    let differing: Vec<_> = found.lines().filter(|line| !wanted.lines().any(|other| other == *line)).collect();
    assert!(differing.is_empty() && found.lines().count() == wanted.lines().count(), "{differing:#?}");
}
