//! What a tunnel moves, counted for metrics while it runs.

use std::time::Duration;

use tokio::time::{self, Instant, MissedTickBehavior};

use crate::telemetry::{Counts, Direction, ListenerMetrics};

/// How often the bytes of a running tunnel are counted.
const COUNTED: Duration = Duration::from_secs(5);

/// Waits for `running`, and adds what it moves to the listener's bytes as it goes.
pub async fn counted<T>(counts: &Counts, metrics: &ListenerMetrics, running: impl Future<Output = T>) -> T {
    let mut told = (0, 0);
    let mut count = || {
        let now = (counts.upload(), counts.download());
        metrics.bytes(Direction::Upload, now.0 - told.0);
        metrics.bytes(Direction::Download, now.1 - told.1);
        told = now;
    };
    let mut tick = time::interval_at(Instant::now() + COUNTED, COUNTED);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(running);
    let end = loop {
        tokio::select! {
            end = &mut running => break end,
            _ = tick.tick() => count(),
        }
    };
    count();
    end
}
