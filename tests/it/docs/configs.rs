//! Configs in the pages: each passes `fallgate check`.
//!
//! `FALLGATE_BLESS=1 cargo test --test it docs::configs` writes those that stand in a file of their own anew.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use super::{Page, page, pages, root};
use crate::support::{certificate, secrets};

/// The guides: each has its picture first, and then a config.
const GUIDES: [&str; 4] = ["dmz", "ingress", "corporate-proxy", "load-balancer"];

/// Files that configs name.
pub(super) fn fill(dir: &Path) {
    certificate(dir, "tls", &rcgen::PKCS_ECDSA_P256_SHA256);
    let (token, password) = ("0123456789abcdef0123", "sesame-of-the-page");
    secrets::keep(token);
    for name in ["admin.token", "token", "doctor.secret"] {
        std::fs::write(dir.join(name), format!("{token}\n")).unwrap();
    }
    let hash = bcrypt::hash(password, 4).unwrap();
    ["ann", "ben"].into_iter().for_each(|user| secrets::keep_login(user, password));
    std::fs::write(dir.join("users"), format!("ann:{hash}\nben:{hash}\n")).unwrap();
}

/// A config that lacks parts has those of the least one.
pub(super) fn completed(text: &str) -> String {
    let mut text = text.replace("/etc/fallgate/tls/", "");
    if text.lines().any(|line| line.starts_with("version:")) {
        return text;
    }
    let minimal = std::fs::read_to_string(root().join("config/minimal.yaml")).unwrap();
    let (mut key, mut parts) = ("", Vec::<(&str, String)>::new());
    for line in minimal.lines().filter(|line| !line.starts_with('#')) {
        if !line.starts_with(' ') {
            key = line.split(':').next().unwrap();
            parts.push((key, String::new()));
        }
        assert!(!key.is_empty());
        let part = &mut parts.last_mut().unwrap().1;
        *part += &format!("{line}\n");
    }
    for (key, part) in parts {
        if !text.lines().any(|line| line.starts_with(&format!("{key}:"))) {
            text += &part;
        }
    }
    text
}

fn check(page: &Page, text: &str) {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let path = dir.path().join("fallgate.yaml");
    std::fs::write(&path, completed(text)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fallgate"));
    command.env("POD_NAMESPACE", "default").args(["check", "--config"]).arg(path).stdin(Stdio::null());
    let said = command.output().unwrap();
    secrets::none_in("stdout", &said.stdout);
    secrets::none_in("stderr", &said.stderr);
    assert!(said.status.success(), "{}: {}\n{text}", page.path, String::from_utf8_lossy(&said.stderr));
}

#[test]
fn every_config_of_a_page_passes_the_check() {
    let mut checked = 0;
    for page in pages() {
        for block in page.blocks().iter().filter(|block| block.language == "yaml") {
            check(&page, &block.text);
            checked += 1;
        }
    }
    assert!(checked >= 12, "{checked}");
}

#[test]
fn each_guide_begins_with_its_picture_and_a_whole_config() {
    for name in GUIDES {
        let page = page(&format!("docs/guide/{name}.md"));
        let blocks = page.blocks();
        assert_eq!(blocks[0].language, "text", "{name}");
        assert_eq!(blocks[1].language, "yaml", "{name}");
        assert!(blocks[1].text.lines().any(|line| line == "version: 1"), "{name}");
        let before = page.text.split("```text").next().unwrap();
        assert_eq!(before.lines().filter(|line| !line.is_empty()).count(), 1, "{name}: the picture comes first");
        let readme = super::page("README.md");
        assert!(readme.text.contains(&format!("](docs/guide/{name}.md)")), "the README does not know {name}");
    }
}

#[test]
fn a_config_that_stands_in_a_file_of_its_own_is_that_file() {
    let mut held = 0;
    for page in pages() {
        let mut text = page.text.clone();
        for part in page.text.split("<!-- file ").skip(1) {
            let file = part.split(" -->").next().unwrap();
            let shown = part.split("<!-- /file -->").next().unwrap();
            let wanted = std::fs::read_to_string(root().join(file)).unwrap();
            let wanted = format!("{file} -->\n```yaml\n{wanted}```\n");
            text = text.replace(shown, &wanted);
            held += 1;
        }
        if std::env::var_os("FALLGATE_BLESS").is_some() {
            std::fs::write(root().join(&page.path), &text).unwrap();
        } else {
            assert!(text == page.text, "{} does not have its files as they are; bless it", page.path);
        }
    }
    assert!(held >= 2);
}
