//! What the gateway holds when nothing is open, before the load and after it.

use std::time::{Duration, Instant};

use crate::support::process::Process;

/// Sessions and flows whose client is gone are forgotten after the idle times of the config; then nothing may be left.
const PATIENCE: Duration = Duration::from_secs(120);
/// What counts what is open.
const GAUGES: [&str; 5] = ["sessions_active", "connections_active", "udp_flows_active", "tunnels_active", "waiting"];
/// Descriptors and threads that may come and go: a health check of each node and port, the admin door, the runtime's own.
const SLACK: usize = 12;
/// Memory that an allocator may keep, besides half as much again as there was.
const KEPT: u64 = 96 << 20;

/// What a process holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    descriptors: usize,
    threads: usize,
    memory: u64,
    /// As the gateway itself counts.
    open_files: f64,
}

impl Held {
    async fn by(process: &Process) -> Held {
        let open_files = process.metrics().await.sum("limit_used", &[("limit", "open_files")]);
        Held { descriptors: process.descriptors(), threads: process.threads(), memory: process.memory(), open_files }
    }

    fn is_near(&self, base: &Held) -> bool {
        self.descriptors <= base.descriptors + SLACK
            && self.threads <= base.threads + SLACK
            && self.memory <= base.memory * 3 / 2 + KEPT
            && self.open_files <= base.open_files + SLACK as f64
    }
}

/// Waits until nothing is open any more; what is then held, or what is still open.
pub(crate) async fn at_rest(process: &Process) -> Result<Held, String> {
    let begin = Instant::now();
    loop {
        let metrics = process.metrics().await;
        let open: Vec<_> = GAUGES.iter().map(|g| (*g, metrics.sum(g, &[]))).filter(|(_, n)| *n != 0.0).collect();
        if open.is_empty() {
            return Ok(Held::by(process).await);
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!("still open {PATIENCE:?} after the load: {open:?}"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until it holds no more than before; what is left over, if anything is.
pub(crate) async fn since(process: &Process, base: &Held) -> Result<Held, String> {
    let begin = Instant::now();
    at_rest(process).await?;
    loop {
        let (held, others) = (Held::by(process).await, process.alive().len());
        if held.is_near(base) && others == 1 {
            return Ok(held);
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!("{others} processes; held before the load: {base:?}, after it: {held:?}"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
