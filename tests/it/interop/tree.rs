//! Trees of files, to be sent and to be compared.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::support::noise;

/// What stands at each path below a folder; nothing for a folder that is empty.
pub(super) type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// A file's name and content.
pub(super) fn file(name: impl AsRef<[u8]>, content: Vec<u8>) -> (PathBuf, Option<Vec<u8>>) {
    (PathBuf::from(OsStr::from_bytes(name.as_ref())), Some(content))
}

/// An empty folder.
pub(super) fn folder(name: &str) -> (PathBuf, Option<Vec<u8>>) {
    (PathBuf::from(name), None)
}

/// Files, large, small and empty, in folders, and empty folders.
pub(super) fn plain() -> Tree {
    Tree::from([
        file("one", noise(300_000, 1)),
        file("empty", Vec::new()),
        file("d/two", noise(1, 2)),
        file("d/e/f/three", noise(8192, 3)),
        file("d/nothing", Vec::new()),
        folder("hollow"),
        folder("d/hollow/deep"),
    ])
}

/// So many small files in ten folders.
pub(super) fn many(count: usize) -> Tree {
    let named = |i: usize| file(format!("{}/{i:05}", i % 10), noise(i % 97, i as u64));
    (0..count).map(named).collect()
}

/// Every kind of name that the client can say and a gateway could spoil.
pub(super) fn odd_names() -> Tree {
    let mut names: Vec<Vec<u8>> = [
        " leading",
        "sp ace",
        "p%20q",
        "100%",
        "%",
        "%2e%2e",
        "%2f",
        "é",
        "漢字",
        "😀",
        "-leading",
        "--mode=recv",
        "tab\there",
        ".hidden",
        "...",
        "a..b",
        "~-_.",
        "sub dir/é/漢字 😀",
        "a.ashttp",
        "?a=b&c#d",
        "http:",
        "%0d%0a",
    ]
    .iter()
    .map(|n| n.as_bytes().to_vec())
    .collect();
    names.push(b"latin-\xe9".to_vec());
    names.push(vec![b'n'; 255]);
    names.push(vec![b' '; 8].into_iter().chain(*b"x").collect());
    names.push("漢/".repeat(10).into_bytes().into_iter().chain(*b"deep").collect());
    // Near 1 KiB the client stops reading a file of its own; each of these bytes becomes three.
    names.push(vec!["漢".repeat(80); 3].join("/").into_bytes());
    for c in "#?&+;\"'<>|[]:@=,$!*^`{}()".bytes() {
        names.push(vec![b'x', c, b'y']);
        names.push(vec![c]);
    }
    names.into_iter().enumerate().map(|(i, name)| file(name, noise(i * 37, i as u64))).collect()
}

/// Writes a tree below a folder.
pub(super) fn write(root: &Path, tree: &Tree) {
    for (path, content) in tree {
        let path = root.join(path);
        match content {
            Some(content) => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            None => fs::create_dir_all(path).unwrap(),
        }
    }
}

/// Reads back what stands below a folder.
pub(super) fn read(root: &Path) -> Tree {
    fn walk(root: &Path, folder: &Path, tree: &mut Tree) {
        let mut is_empty = true;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            is_empty = false;
            if path.is_dir() {
                walk(root, &path, tree);
            } else {
                tree.insert(path.strip_prefix(root).unwrap().to_owned(), Some(fs::read(&path).unwrap()));
            }
        }
        if is_empty && folder != root {
            tree.insert(folder.strip_prefix(root).unwrap().to_owned(), None);
        }
    }
    let mut tree = Tree::new();
    if root.is_dir() {
        walk(root, root, &mut tree);
    }
    tree
}

/// The tree without its empty folders, which no download brings.
pub(super) fn files_of(tree: &Tree) -> Tree {
    tree.iter().filter(|(_, content)| content.is_some()).map(|(p, c)| (p.clone(), c.clone())).collect()
}

/// Panics with the names that differ, not with their content.
#[track_caller]
pub(super) fn assert_same(found: &Tree, wanted: &Tree, what: &str) {
    let differs = |(path, content): &(&PathBuf, &Option<Vec<u8>>)| wanted.get(*path) != Some(content);
    let wrong: Vec<_> = found.iter().filter(differs).map(|(p, _)| p).collect();
    let missing: Vec<_> = wanted.keys().filter(|p| !found.contains_key(*p)).collect();
    assert!(wrong.is_empty() && missing.is_empty(), "{what}: wrong {wrong:?}, missing {missing:?}");
}
