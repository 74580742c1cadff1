//! Interrupted transfers go on where they stopped, and complete files are not sent again.

use std::fs;

use super::super::{NodeOptions, Seen};
use super::{Scratch, node};

fn field<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    let head = std::str::from_utf8(&seen.head).unwrap();
    head.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
}

fn files(log: &[Seen]) -> Vec<&Seen> {
    log.iter().filter(|s| s.operation == "file").collect()
}

#[tokio::test]
async fn upload() {
    let scratch = Scratch::new();
    let (node, mut client) = node(&scratch, NodeOptions::default()).await;
    client.resume = true;
    let body: Vec<u8> = (0..200_000_u32).map(|i| (i % 253) as u8).collect();
    fs::write(scratch.join("f1"), &body).unwrap();
    fs::write(scratch.join("f2"), b"next").unwrap();
    let sources = [scratch.join("f1"), scratch.join("f2")];

    node.set_faults(vec!["put:1=fin@70000".parse().unwrap()]);
    let report = client.upload(&sources, "/").await.unwrap();
    assert_eq!((report.code, report.files, report.failed), (16, 0, 1));
    assert_eq!(fs::metadata(scratch.join("node/up/f1.partial")).unwrap().len(), 70_000);

    node.set_faults(Vec::new());
    let before = node.log().len();
    let report = client.upload(&sources, "/").await.unwrap();
    assert!(report.is_ok(), "{report:?}");
    assert_eq!(report.bytes, 130_004);
    assert!(fs::read(scratch.join("node/up/f1")).unwrap() == body);
    let log = node.log();
    let puts = files(&log[before..]);
    assert_eq!(field(puts[0], "x-Content-range"), Some("bytes 70000-199999/*"));
    assert_eq!(field(puts[0], "Content-Length"), Some("130000"));

    let before = log.len();
    let report = client.upload(&sources, "/").await.unwrap();
    assert_eq!((report.code, report.files, report.bytes), (0, 2, 0));
    let log = node.log();
    for put in files(&log[before..]) {
        assert_eq!(field(put, "x-skip-file"), Some("1"));
        assert_eq!(field(put, "x-Content-range"), Some("0-0"));
    }
}

#[tokio::test]
async fn a_start_beyond_the_end_makes_the_length_wrap() {
    let scratch = Scratch::new();
    let (node, client) = node(&scratch, NodeOptions::default()).await;
    fs::write(scratch.join("f1"), vec![1; 200_000]).unwrap();
    node.set_faults(vec!["start=normal,x-next-file-start: 300000".parse().unwrap()]);
    let report = client.upload(&[scratch.join("f1")], "/").await.unwrap();
    assert_eq!(report.code, 16);
    // Only what the node had read by then is in its log.
    let log = node.log();
    if let Some(put) = files(&log).first() {
        assert_eq!(field(put, "Content-Length"), Some("18446744073709451616"));
    }
}

#[tokio::test]
async fn download() {
    let scratch = Scratch::new();
    let (node, mut client) = node(&scratch, NodeOptions::default()).await;
    let body: Vec<u8> = (0..300_000_u32).map(|i| (i % 253) as u8).collect();
    fs::write(scratch.join("node/a"), &body).unwrap();
    fs::write(scratch.join("node/b"), b"next").unwrap();
    let sources = ["/a".to_owned(), "/b".to_owned()];
    let out = scratch.join("out");

    node.set_faults(vec!["get:1=fin@90000".parse().unwrap()]);
    let report = client.download(&sources, &out).await.unwrap();
    assert_eq!((report.code, report.files), (16, 0));
    assert!(!out.join("a.partial").exists());

    client.resume = true;
    node.set_faults(vec!["get:1=fin@90000".parse().unwrap()]);
    let report = client.download(&sources, &out).await.unwrap();
    assert_eq!((report.code, report.files), (16, 0));
    assert_eq!(fs::metadata(out.join("a.partial")).unwrap().len(), 90_000);

    node.set_faults(Vec::new());
    let before = node.log().len();
    let report = client.download(&sources, &out).await.unwrap();
    assert!(report.is_ok(), "{report:?}");
    assert_eq!(report.bytes, 210_004);
    assert!(fs::read(out.join("a")).unwrap() == body);
    let log = node.log();
    let gets = files(&log[before..]);
    assert_eq!(field(gets[0], "x-Content-range"), Some("bytes 90000-*/*"));

    let report = client.download(&sources, &out).await.unwrap();
    assert_eq!((report.code, report.files, report.bytes), (0, 2, 0));
    let log = node.log();
    let last = files(&log).last().copied().unwrap();
    assert_eq!(field(last, "x-skip-file"), Some("1"));

    fs::remove_file(out.join("a")).unwrap();
    fs::write(out.join("a.partial"), vec![9; 400_000]).unwrap();
    let report = client.download(&sources, &out).await.unwrap();
    assert!(report.is_ok(), "the node starts over: {report:?}");
    assert!(fs::read(out.join("a")).unwrap() == body);
}
