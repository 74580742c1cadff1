//! One transfer, as its client makes it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use super::{
    nodes::SILENCE,
    proof::{arrived, fetched, sum},
    report::Ended,
    stage::{Stage, given},
    trees::Trees,
    work::{LISTENERS, SETS, Work},
};
use crate::support::{
    ascp::{Ascp, Report},
    loopback, noise,
    quic::{Client, checksum},
};

/// Nothing here takes longer, unless it hangs.
const DEADLINE: Duration = Duration::from_secs(90);

impl Work {
    /// Makes the transfer; `id` is its own.
    pub(crate) async fn run(&self, stage: &Stage, id: &str) -> Ended {
        match *self {
            Work::Fallback { up, listener, set, proxied } => {
                let way = Way {
                    dir: stage.dir.path(),
                    trees: &stage.trees,
                    roots: stage.nodes.iter().map(|node| node.root.clone()).collect(),
                    port: stage.doors.fallback[listener],
                    is_tls: LISTENERS[listener].1,
                    proxy: proxied.then(|| loopback(stage.doors.egress)),
                    rate: None,
                };
                if up { way.upload(id, set).await } else { way.download(id, set).await }
            }
            Work::Curl { up, tunnel, size } => curl(stage, id, up, tunnel, size).await,
            Work::Data { size } => data(stage, id, size).await,
        }
    }
}

/// How the real client gets to some nodes.
pub(crate) struct Way<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) trees: &'a Trees,
    /// The folders of the nodes.
    pub(crate) roots: Vec<PathBuf>,
    pub(crate) port: u16,
    pub(crate) is_tls: bool,
    pub(crate) proxy: Option<SocketAddr>,
    /// What it keeps to; none: what goes with the set of files.
    pub(crate) rate: Option<&'a str>,
}

impl Way<'_> {
    async fn run(&self, ascp: Ascp, set: usize) -> Report {
        let ascp = ascp.options(&["-L-", "-l", self.rate.unwrap_or(SETS[set].2)]).deadline(DEADLINE);
        match self.proxy {
            Some(proxy) => ascp.by_way_of(proxy).run().await,
            None => ascp.run().await,
        }
    }

    pub(crate) async fn upload(&self, id: &str, set: usize) -> Ended {
        let source = self.dir.join("source").join(id);
        self.trees.link(set, &source);
        let report = self.run(Ascp::send(self.port, self.is_tls, &[&source]), set).await;
        let up: Vec<_> = self.roots.iter().map(|root| root.join("up").join(id)).collect();
        let ended = arrived(&report, id, self.trees.files(set), &up);
        for folder in up.iter().chain([&source]) {
            let _ = fs::remove_dir_all(folder);
        }
        ended
    }

    /// Each node has all sets in the folder `pool`.
    pub(crate) async fn download(&self, id: &str, set: usize) -> Ended {
        let into = self.dir.join("back").join(id);
        fs::create_dir_all(&into).unwrap();
        let folder = SETS[set].0;
        let client = Ascp::receive(self.port, self.is_tls, &[&format!("/pool/{folder}")], &into);
        let report = self.run(client, set).await;
        let ended = fetched(&report, folder, self.trees.files(set), &into);
        let _ = fs::remove_dir_all(into);
        ended
    }
}

async fn curl(stage: &Stage, id: &str, up: bool, tunnel: bool, size: usize) -> Ended {
    let (from, to) = (stage.dir.path().join(format!("{id}.up")), stage.dir.path().join(format!("{id}.down")));
    let mut command = tokio::process::Command::new("curl");
    command.args(["-sSf", "--max-time", &DEADLINE.as_secs().to_string(), "--limit-rate", "4M", "-H", "Expect:"]);
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
