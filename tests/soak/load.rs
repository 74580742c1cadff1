//! One transfer: made, and its result held against what its client was told.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use super::{
    nodes::SILENCE,
    stage::{Stage, given},
    trees::{Sum, sum, sum_of},
    work::{LISTENERS, SETS, Work},
};
use crate::support::{
    ascp::{Ascp, Report},
    loopback, noise,
    quic::{Client, checksum},
};

/// Nothing here takes longer, unless it hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// How a transfer ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Why it failed, if it did; the same words for the same cause.
    pub(crate) failure: Option<String>,
    /// The files that the client called done.
    pub(crate) files: u64,
    /// What of it is not as the client believes. There must be nothing.
    pub(crate) wrong: Vec<String>,
}

impl Ended {
    fn failed(cause: impl Into<String>) -> Ended {
        Ended { failure: Some(cause.into()), ..Ended::default() }
    }
}

impl Work {
    /// Makes the transfer; `id` is its own.
    pub(crate) async fn run(&self, stage: &Stage, id: &str) -> Ended {
        match *self {
            Work::Fallback { up: true, listener, set, proxied } => upload(stage, id, listener, set, proxied).await,
            Work::Fallback { up: false, listener, set, proxied } => download(stage, id, listener, set, proxied).await,
            Work::Curl { up, tunnel, size } => curl(stage, id, up, tunnel, size).await,
            Work::Data { size } => data(stage, id, size).await,
        }
    }
}

/// The real client is done: what it says of the whole.
pub(crate) fn failure(report: &Report) -> Option<String> {
    let Some(code) = report.code else { return Some(format!("hangs, killed after {DEADLINE:?}")) };
    if report.is_ok() {
        return None;
    }
    if let Some((number, text)) = report.error() {
        return Some(format!("exit {code}, {number} {text}"));
    }
    let last = report.console.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("and nothing said");
    Some(format!("exit {code}, {last}"))
}

async fn ascp(stage: &Stage, ascp: Ascp, set: usize, proxied: bool) -> Report {
    let ascp = ascp.options(&["-L-", "-l", SETS[set].2]).deadline(DEADLINE);
    if proxied { ascp.by_way_of(loopback(stage.doors.egress)) } else { ascp }.run().await
}

async fn upload(stage: &Stage, id: &str, listener: usize, set: usize, proxied: bool) -> Ended {
    let source = stage.dir.path().join("source").join(id);
    stage.trees.link(set, &source);
    let client = Ascp::send(stage.doors.fallback[listener], LISTENERS[listener].1, &[&source]);
    let report = ascp(stage, client, set, proxied).await;
    let up: Vec<_> = stage.nodes.iter().map(|node| node.root.join("up").join(id)).collect();
    let ended = arrived(&report, id, stage.trees.files(set).iter(), &up);
    for folder in up.iter().chain([&source]) {
        let _ = fs::remove_dir_all(folder);
    }
    ended
}

/// Holds the files that a client called done against what the nodes have.
pub(crate) fn arrived<'a>(
    report: &Report,
    id: &str,
    files: impl Iterator<Item = (&'a String, &'a Sum)>,
    up: &[PathBuf],
) -> Ended {
    let mut ended = Ended { failure: failure(report), ..Ended::default() };
    let mut homes = BTreeSet::new();
    for (file, sum) in files {
        if !is_done(report, &Path::new(id).join(file)) {
            continue;
        }
        ended.files += 1;
        let copies: Vec<_> = up.iter().enumerate().filter_map(|(i, dir)| Some((i, sum_of(&dir.join(file))?))).collect();
        homes.extend(copies.iter().map(|(node, _)| *node));
        if copies.is_empty() {
            ended.wrong.push(format!("{id}/{file} is on no node"));
        }
        if copies.iter().any(|(_, copy)| copy != sum) {
            ended.wrong.push(format!("{id}/{file} differs on its node"));
        }
    }
    if homes.len() > 1 {
        ended.wrong.push(format!("{id} is on {} nodes", homes.len()));
    }
    ended
}

/// Whether the client called a file done: its exit status says all are, a message or a line of its log that this one is.
fn is_done(report: &Report, file: &Path) -> bool {
    let wire = format!(" wire={}", file.display());
    report.code == Some(0)
        || report.done().any(|done| done.ends_with(file))
        || report.console.lines().any(|line| line.contains("File PUT completed=1") && line.ends_with(&wire))
}

async fn download(stage: &Stage, id: &str, listener: usize, set: usize, proxied: bool) -> Ended {
    let into = stage.dir.path().join("back").join(id);
    fs::create_dir_all(&into).unwrap();
    let folder = SETS[set].0;
    let source = format!("/pool/{folder}");
    let client = Ascp::receive(stage.doors.fallback[listener], LISTENERS[listener].1, &[&source], &into);
    let report = ascp(stage, client, set, proxied).await;
    let mut ended = Ended { failure: failure(&report), ..Ended::default() };
    for (file, sum) in stage.trees.files(set) {
        let name = Path::new(folder).join(file);
        if is_done(&report, &name) {
            ended.files += 1;
            if sum_of(&into.join(&name)).as_ref() != Some(sum) {
                ended.wrong.push(format!("{id}: {} differs at the client", name.display()));
            }
        }
    }
    let _ = fs::remove_dir_all(into);
    ended
}

async fn curl(stage: &Stage, id: &str, up: bool, tunnel: bool, size: usize) -> Ended {
    let (from, to) = (stage.dir.path().join(format!("{id}.up")), stage.dir.path().join(format!("{id}.down")));
    let mut command = tokio::process::Command::new("curl");
    command.args(["-sS", "--max-time", &DEADLINE.as_secs().to_string(), "--limit-rate", "4M", "-H", "Expect:"]);
    command.args(["-x", &format!("http://127.0.0.1:{}", stage.doors.egress)]).arg("-o").arg(&to);
    let wanted = if up {
        let content = noise(size, size as u64);
        fs::write(&from, &content).unwrap();
        command.arg("-T").arg(&from);
        sum(&content)
    } else {
        given(size)
    };
    if tunnel {
        command.arg("-p");
    }
    command.arg(format!("http://{}/{size}", stage.origin.address)).stdin(Stdio::null()).kill_on_drop(true);
    let said = command.output().await.unwrap();
    let got = fs::read(&to).unwrap_or_default();
    let _ = (fs::remove_file(from), fs::remove_file(to));
    if !said.status.success() {
        return Ended::failed(format!("curl, exit {}", said.status.code().unwrap_or(-1)));
    }
    let wrong = (got != wanted).then(|| format!("{id} differs"));
    Ended { files: 1, wrong: wrong.into_iter().collect(), ..Ended::default() }
}

/// Each client of data has an address of its own, for a node is chosen by that.
async fn data(stage: &Stage, id: &str, size: usize) -> Ended {
    let place = id.bytes().fold(0_usize, |place, byte| place.wrapping_mul(31).wrapping_add(byte.into()));
    let ip = format!("127.0.{}.{}", 1 + place / 250 % 250, 2 + place % 250);
    let (control, data) = (loopback(stage.doors.control), loopback(stage.doors.data));
    let client = Client { ip: &ip, control, data, trusted: stage.trusted.clone(), patience: SILENCE };
    match tokio::time::timeout(DEADLINE, client.transfer(size, &checksum(size, 2))).await {
        Err(_) => Ended::failed("QUIC, hangs"),
        Ok(Err(error)) => Ended::failed(format!("QUIC, {error}")),
        Ok(Ok(done)) => {
            let wrong = done.differs.map(|what| format!("{id}: {what} differs"));
            Ended { files: 1, wrong: wrong.into_iter().collect(), ..Ended::default() }
        }
    }
}
