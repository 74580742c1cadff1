//! The house keeps its order: who may import whom, one room for each library, small files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Each room with the rooms that it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("telemetry", &["config"]),
    ("net", &["config", "telemetry"]),
    ("limit", &["config", "telemetry"]),
    ("tunnel", &["config", "telemetry", "net", "limit"]),
    ("upstream", &["config", "telemetry", "net", "shared"]),
    ("shared", &["config", "telemetry"]),
    ("fallback", &["config", "telemetry", "net", "limit", "upstream", "shared"]),
    ("relay", &["config", "telemetry", "net", "limit", "upstream", "shared", "tunnel"]),
    ("forward", &["config", "telemetry", "net", "limit", "tunnel"]),
    ("admin", &["config", "telemetry", "net", "limit", "upstream"]),
    ("node", &["config", "telemetry", "net"]),
    (
        "gateway",
        &[
            "config",
            "telemetry",
            "net",
            "limit",
            "upstream",
            "shared",
            "tunnel",
            "fallback",
            "relay",
            "forward",
            "admin",
        ],
    ),
    ("doctor", &["config", "telemetry", "net", "node"]),
    ("cli", &["config", "telemetry", "net", "gateway", "node", "doctor"]),
];

/// Each library with the rooms that may name it.
const ROOMS_OF: &[(&str, &[&str])] = &[
    ("pingora_core", &["fallback"]),
    ("pingora_proxy", &["fallback"]),
    ("pingora_http", &["fallback"]),
    ("hyper", &["admin", "upstream"]),
    ("hyper_util", &["admin", "upstream"]),
    ("rustls", &["net", "node"]),
    ("tokio_rustls", &["net", "node"]),
    ("prometheus", &["telemetry", "gateway"]),
    ("serde_saphyr", &["config"]),
    ("socket2", &["net", "node"]),
    ("rustix", &["net"]),
    ("libc", &["net"]),
    ("mio", &["net"]),
    ("nix", &["net"]),
    ("listenfd", &["net"]),
    ("redb", &["shared"]),
    ("redis", &["shared"]),
    ("hickory_resolver", &["net"]),
    ("x509_parser", &["net"]),
    ("bcrypt", &["forward"]),
    ("argon2", &["forward"]),
    ("sha_crypt", &["forward"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("governor", &["limit"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_http", &["telemetry"]),
];

/// Where system calls are made that no library offers, and unsafe code may be.
const MAY_BE_UNSAFE: &str = "net/udp/";

const MAX_LINES: usize = 400;

fn sources() -> BTreeMap<PathBuf, String> {
    fn walk(dir: &Path, into: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                into.insert(path.clone(), std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    all
}

/// The room of a file: the folder right below `src`.
fn room(path: &Path) -> Option<String> {
    let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    (below.components().count() > 1)
        .then(|| below.components().next().unwrap().as_os_str().to_str().unwrap().to_owned())
}

/// Code without comments.
fn code(text: &str) -> String {
    text.lines().map(|l| l.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Rooms that a text names after `crate::`, alone or in a braced list.
fn imports(code: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let word = |s: &str| s.trim_start().chars().take_while(|c| is_word(*c)).collect::<String>();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = code[at + 7..].trim_start();
        let Some(list) = rest.strip_prefix('{') else {
            found.push(word(rest));
            continue;
        };
        let (mut depth, mut start) = (0, true);
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && !c.is_whitespace() => {
                    found.push(word(&list[i..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn imports_go_downward_only() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(room) = room(&path) else { continue };
        let allowed = MAY_IMPORT.iter().find(|(r, _)| *r == room).unwrap_or_else(|| panic!("{room} has no row")).1;
        for import in imports(&code(&text)) {
            if import != room && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{} imports {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_library_has_its_rooms() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(room) = room(&path) else { continue };
        let code = code(&text);
        for (library, rooms) in ROOMS_OF {
            if names(&code, library) && !rooms.contains(&room.as_str()) {
                wrong.push(format!("{} names {library}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether a path begins with this library: `library::x` or `::library::x`, and not `ours::library::x`.
fn names(code: &str, library: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '>';
    let begins = |at: usize| !code[..at].strip_suffix("::").unwrap_or(&code[..at]).ends_with(is_word);
    code.match_indices(&format!("{library}::")).any(|(at, _)| begins(at))
}

#[test]
fn a_library_is_told_from_a_module_of_ours_that_is_called_like_it() {
    for named in ["use redis::Value;", "use ::redis::Value;", "x(redis::cmd())", "use {redis::Value};"] {
        assert!(names(named, "redis"), "{named}");
    }
    for ours in ["use crate::shared::redis::News;", "shared::redis::look()", "predis::x", "<T as It>::redis::x"] {
        assert!(!names(ours, "redis"), "{ours}");
    }
}

#[test]
fn unsafe_code_has_one_place_and_says_why_it_is_sound() {
    for (path, text) in sources() {
        let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
        let below = below.to_str().unwrap();
        let blocks = code(&text).matches("unsafe ").count();
        assert!(blocks == 0 || below.starts_with(MAY_BE_UNSAFE), "{below}");
        assert!(text.matches("// SAFETY: ").count() >= blocks, "{below}");
    }
}

#[test]
fn statics_with_state_are_not_in_the_house() {
    for (path, text) in sources() {
        let code = code(&text);
        for line in code.lines().filter(|l| l.trim_start().starts_with("static ") || l.contains("pub static ")) {
            assert!(line.contains("ALLOCATOR"), "{}: {line}", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_stays_small() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{} does not say what it is for", path.display());
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_import_reader_sees_single_nested_and_inline_names() {
    let text =
        "use crate::{config::{A, B}, telemetry::C,\n net};\nuse crate::upstream::D; fn f() { crate::limit::g() }";
    assert_eq!(imports(text), ["config", "telemetry", "net", "upstream", "limit"]);
}

/// The fuzz targets are no part of the workspace, so no build here notices when theirs is out of date.
#[test]
fn the_lock_of_the_fuzz_targets_has_every_dependency() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let (manifest, lock) = (read("Cargo.toml"), read("fuzz/Cargo.lock"));
    let version = format!("name = \"fallgate\"\nversion = \"{}\"\n", env!("CARGO_PKG_VERSION"));
    let ours = lock.split("[[package]]\n").find(|package| package.starts_with(&version)).expect("another version");
    let table = manifest.split("[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let is_taken = |line: &&str| !line.starts_with('#') && !line.contains("optional = true");
    let names = table.lines().filter(is_taken).filter_map(|line| line.split_once(" = "));
    let lacking: Vec<_> = names.map(|(name, _)| name).filter(|name| !ours.contains(&format!("\n \"{name}"))).collect();
    assert!(lacking.is_empty(), "fuzz/Cargo.lock does not know {lacking:?}");
}
