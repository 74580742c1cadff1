//! The real client: 200 files of 1 KiB over TLS, by the clock on the wall.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use crate::{
    Options,
    load::TOKEN,
    peer::{Kind, Peer},
    report::Table,
    rounds,
    stage::Stage,
};

const FILES: usize = 200;
const SIZE: usize = 1024;

pub(crate) fn run(options: &Options, stage: &Stage) -> Vec<Table> {
    let Some(ascp) = client() else {
        eprintln!("ascp: left out, tests/get-ascp could not bring the client");
        return Vec::new();
    };
    let files = files(stage, FILES);
    // A session has a start and an end beside its files, and they pass the same proxy.
    let lines: [(&str, &str, SocketAddr, Option<f64>); 4] = [
        ("ascp-auto", "auto", stage.plain, Some(1.0)),
        ("ascp-off", "off", stage.plain, None),
        ("ascp-force", "force", stage.plain, None),
        ("ascp-auto-node-persists", "auto", stage.persistent, Some(1.0)),
    ];
    let mut table = Table::new("The real client, 200 files of 1 KiB over TLS: seconds on the wall", "s");
    for (line, persistence, node, goal) in lines {
        if !options.wants(line) {
            continue;
        }
        let mut kinds: Vec<_> = options
            .builds()
            .into_iter()
            .map(|(name, program)| (name, Kind::Fallgate { program, persistence }))
            .collect();
        if !options.alone {
            // nginx does not pass what the client needs in other cases, but it does here.
            kinds.push(("HAProxy".to_owned(), Kind::Haproxy));
        }
        let peers: Vec<_> = kinds.iter().map(|(name, kind)| Peer::start(name, kind, stage, node)).collect();
        // One transfer is short: three make a figure.
        let measured = rounds::run(line, options, &peers, |peer| {
            (0..3).map(|_| send(&ascp, stage.dir(), &files, peer.rsa.port(), &peer.name)).fold(f64::INFINITY, f64::min)
        });
        table.add(line, goal, measured);
    }
    vec![table]
}

/// Makes `n` small files.
pub(crate) fn files(stage: &Stage, n: usize) -> Vec<PathBuf> {
    let files: Vec<_> = (0..n).map(|i| stage.dir().join(format!("file-{i}"))).collect();
    for file in &files {
        std::fs::write(file, [7; SIZE]).expect("a writable folder");
    }
    files
}

/// The path of the real client, fetched where it is not there yet.
pub(crate) fn client() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/get-ascp");
    let done = Command::new(script).output().ok().filter(|d| d.status.success())?;
    Some(PathBuf::from(String::from_utf8(done.stdout).ok()?.trim()))
}

/// One upload to a port of this host; the seconds it took.
pub(crate) fn send(ascp: &Path, dir: &Path, files: &[PathBuf], port: u16, name: &str) -> f64 {
    let start = Instant::now();
    let done = Command::new(ascp)
        .args(["-y", "F", "-t", &port.to_string(), "--mode=send", "--user=xfer", "--host=127.0.0.1"])
        .arg("-I")
        .arg(dir.join("rsa.crt"))
        .arg("-Y")
        .arg(dir.join("rsa.key"))
        .args(files)
        .arg("/")
        .env("ASPERA_SCP_TOKEN", TOKEN)
        .stdin(Stdio::null())
        .output()
        .expect("the client runs");
    let seconds = start.elapsed().as_secs_f64();
    assert!(done.status.success(), "ascp through {name}: {}", String::from_utf8_lossy(&done.stderr));
    seconds
}
