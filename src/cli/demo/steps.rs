//! The transfers that the demo shows, each with its proof.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Result, files, nominal,
    stage::{Stage, TOKEN},
};
use crate::node::client::{Client, Report, text_of};

/// Sessions that the steps make.
const SESSIONS: usize = 8;

/// Plays all of them; the first that goes wrong ends the demo.
pub(super) async fn all(stage: &mut Stage) -> Result<()> {
    setting(stage);
    let uploaded = up(stage).await?;
    down(stage, uploaded).await?;
    plain(stage).await?;
    refused(stage).await?;
    resumed(stage).await?;
    nominal::play(stage).await?;
    death(stage).await?;
    records(stage).await
}

fn setting(stage: &Stage) {
    let screen = stage.screen;
    screen.step("1. Two transfer nodes and a gateway in front of them");
    let doors = [("HTTPS", stage.https, "--+-- fallgate"), ("HTTP ", stage.http, "--+")];
    for ((name, node), (scheme, address, end)) in stage.nodes.iter().zip(doors) {
        let left = format!("client -- {scheme} {address} {end}");
        screen.line(format_args!("{left:<46} --+-- {name:<5} {}", node.address()));
    }
    screen.aside(format_args!("Until the end all files are in {}", stage.dir.path().display()));
}

/// Over TLS; the client gets one connection for the whole session although the nodes offer none.
async fn up(stage: &Stage) -> Result<&'static str> {
    let tree = files::tree(&stage.photos)?;
    stage
        .screen
        .step(format_args!("2. Upload over HTTPS: the folder `photos`, {} files and an empty folder", tree.len() - 1));
    let start = Instant::now();
    let report = good(moving(stage, bytes(&stage.photos)?)?.upload(std::slice::from_ref(&stage.photos), "/").await?)?;
    let node = stage.node_of(&report.session);
    told(stage, &report, node, start);
    same(stage, &stage.photos, &stage.dir.path().join(node).join("up/photos"))?;
    Ok(node)
}

/// The files must be where the download's node looks for them, so both nodes get them: as on the
/// shared storage that nodes of one group usually have.
async fn down(stage: &Stage, uploaded: &str) -> Result<()> {
    let from = stage.dir.path().join(uploaded).join("up/photos");
    for (name, _) in &stage.nodes {
        copy(&from, &stage.dir.path().join(name).join("photos"))?;
    }
    stage.screen.step("3. Download over HTTPS: the same folder back");
    let into = stage.dir.path().join("back");
    std::fs::create_dir(&into)?;
    let start = Instant::now();
    let report = good(moving(stage, bytes(&stage.photos)?)?.download(&["photos".into()], &into).await?)?;
    told(stage, &report, stage.node_of(&report.session), start);
    let (sent, back) = (files::tree(&stage.photos)?, files::tree(&into.join("photos"))?);
    // An empty folder has no request of its own on the way down.
    if back.iter().any(|(path, sum)| sent.get(path) != Some(sum)) || back.len() + 1 != sent.len() {
        return Err("the files that came back differ".into());
    }
    stage.screen.proof("SHA-256 of every file is the same.");
    Ok(())
}

async fn plain(stage: &Stage) -> Result<()> {
    stage.screen.step("4. Upload over plain HTTP: one file, one connection a request");
    let start = Instant::now();
    let file = stage.photos.join("2026/thumb-00.jpg");
    let report = good(stage.client(false, TOKEN)?.upload(&[file], "/").await?)?;
    told(stage, &report, stage.node_of(&report.session), start);
    Ok(())
}

async fn refused(stage: &Stage) -> Result<()> {
    stage.screen.step("5. A token of the wrong shape is refused at the edge; no node hears of it");
    let report = stage.client(true, "open sesame")?.upload(std::slice::from_ref(&stage.photos), "/").await?;
    if report.is_ok() || stage.node_of(&report.session) != "no node" {
        return Err("it was not refused".into());
    }
    stage.screen.line(format_args!("The client's user reads: {} (code {})", text_of(report.code), report.code));
    Ok(())
}

/// The partial file is put on both nodes, as on the storage that nodes of one group usually share.
async fn resumed(stage: &Stage) -> Result<()> {
    stage.screen.step("6. An upload is cut at 10 MB by its node, and resumed");
    let file = stage.dir.path().join("night.mov");
    std::fs::copy(stage.photos.join("master.raw"), &file)?;
    for (_, node) in &stage.nodes {
        node.set_faults(vec!["put:1=rst@10000000".parse()?]);
    }
    let client = moving(stage, bytes(&file)?)?;
    let cut = client.upload(std::slice::from_ref(&file), "/").await?;
    let first = stage.node_of(&cut.session);
    stage.screen.line(format_args!("First run:  {} (code {}), on node {first}", text_of(cut.code), cut.code));
    for (_, node) in &stage.nodes {
        node.set_faults(Vec::new());
    }
    for (name, _) in stage.nodes.iter().filter(|(name, _)| *name != first) {
        let (from, to) = (stage.dir.path().join(first).join("up"), stage.dir.path().join(name).join("up"));
        std::fs::create_dir_all(&to)?;
        std::fs::copy(from.join("night.mov.partial"), to.join("night.mov.partial"))?;
    }
    let report = good(client.upload(std::slice::from_ref(&file), "/").await?)?;
    let node = stage.node_of(&report.session);
    stage.screen.line(format_args!("Second run: {} more, on node {node}", size(report.bytes)));
    if std::fs::read(&file)? != std::fs::read(stage.dir.path().join(node).join("up/night.mov"))? {
        return Err("the resumed file differs".into());
    }
    stage.screen.proof("The file on the node is the same byte for byte.");
    Ok(())
}

async fn death(stage: &mut Stage) -> Result<()> {
    let (name, node) = stage.nodes.remove(0);
    node.close().await;
    stage.screen.step(format_args!("8. Node {name} dies; the next sessions do not notice"));
    for file in ["2026/thumb-01.jpg", "2026/thumb-02.jpg"] {
        let start = Instant::now();
        let file = stage.photos.join(file);
        let report = good(stage.client(true, TOKEN)?.upload(&[file], "/").await?)?;
        told(stage, &report, stage.node_of(&report.session), start);
    }
    Ok(())
}

async fn records(stage: &Stage) -> Result<()> {
    stage.screen.step("9. What the operator has of it: one line per session (connection, flow)");
    stage.screen.line("session       way       node   outcome  files  bytes up   bytes down");
    for record in written(&stage.dir.path().join("access.log")).await? {
        let text = |key: &str| record[key].as_str().unwrap_or("-").to_owned();
        let number = |key: &str| record[key].as_u64().unwrap_or(0);
        stage.screen.line(format_args!(
            "{:<13} {:<9} {:<6} {:<8} {:>5}  {:<10} {}",
            text("id"),
            text("direction"),
            text("node"),
            text("outcome"),
            number("files"),
            size(number("bytes_uploaded")),
            size(number("bytes_downloaded")),
        ));
    }
    Ok(())
}

/// A client over TLS that shows how much of so many bytes it has moved.
fn moving(stage: &Stage, total: u64) -> Result<Client> {
    Ok(Client { on_progress: stage.screen.progress(total), ..stage.client(true, TOKEN)? })
}

/// The length of a file, or of all files below a folder.
fn bytes(path: &Path) -> std::io::Result<u64> {
    if !path.is_dir() {
        return Ok(std::fs::metadata(path)?.len());
    }
    std::fs::read_dir(path)?.map(|entry| bytes(&entry?.path())).sum()
}

/// The records of all sessions so far; they are written by and by.
async fn written(log: &Path) -> Result<Vec<serde_json::Value>> {
    let mut often = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..500 {
        often.tick().await;
        // A line without its end is one that is being written.
        let text = std::fs::read_to_string(log)?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let all: Vec<serde_json::Value> =
            whole.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
        let sessions: Vec<_> = all.into_iter().filter(|record| record["kind"] == "session").collect();
        if sessions.len() >= SESSIONS {
            return Ok(sessions);
        }
    }
    Err("the access log lacks sessions".into())
}

fn good(report: Report) -> Result<Report> {
    if report.is_ok() { Ok(report) } else { Err(format!("error {}: {}", report.code, report.problem).into()) }
}

fn told(stage: &Stage, report: &Report, node: &str, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    stage.screen.line(format_args!(
        "{}, {} on node {node}, over {}, in {seconds:.2} s",
        count(report.files, "file"),
        size(report.bytes),
        count(report.connections, "connection"),
    ));
}

fn same(stage: &Stage, left: &Path, right: &Path) -> Result<()> {
    if files::tree(left)? != files::tree(right)? {
        return Err("the files on the node differ".into());
    }
    stage.screen.proof("SHA-256 of every file is the same.");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
