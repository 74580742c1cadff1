//! How fast bytes come, and whether that is as fast as it should be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::sleep,
};

/// Bytes a second of one megabit a second.
pub(crate) const MBIT: f64 = 125_000.0;

/// Counts bytes as they come. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Arc<AtomicU64>);

impl Meter {
    pub(crate) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until so many bytes have come.
    pub(crate) async fn reach(&self, bytes: u64) {
        let begin = Instant::now();
        while self.bytes() < bytes {
            assert!(begin.elapsed() < Duration::from_secs(20), "{} of {bytes} bytes have come", self.bytes());
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Bytes a second over this time.
    pub(crate) async fn rate(&self, window: Duration) -> f64 {
        rates(std::slice::from_ref(self), window).await[0]
    }

    /// Reads `n` bytes, or all there are.
    pub(crate) async fn drink(&self, from: &mut (impl AsyncRead + Unpin), n: usize) {
        let (mut left, mut buffer) = (n, vec![0; 65_536]);
        while left > 0 {
            let room = left.min(buffer.len());
            match from.read(&mut buffer[..room]).await {
                Ok(n) if n > 0 => {
                    self.add(n);
                    left -= n;
                }
                _ => return,
            }
        }
    }
}

/// Bytes a second of each over this time.
pub(crate) async fn rates(meters: &[Meter], window: Duration) -> Vec<f64> {
    let (begin, before) = (Instant::now(), meters.iter().map(Meter::bytes).collect::<Vec<_>>());
    sleep(window).await;
    let seconds = begin.elapsed().as_secs_f64();
    meters.iter().zip(before).map(|(meter, before)| (meter.bytes() - before) as f64 / seconds).collect()
}

/// Waits until each meter has counted so many bytes: those of the first burst.
pub(crate) async fn all_reach(meters: &[Meter], bytes: u64) {
    for meter in meters {
        meter.reach(bytes).await;
    }
}

/// Writes `n` bytes, or as many as are taken.
pub(crate) async fn pour(to: &mut (impl AsyncWrite + Unpin), n: usize) {
    let piece = [7; 65_536];
    let mut left = n;
    while left > 0 {
        let now = left.min(piece.len());
        if to.write_all(&piece[..now]).await.is_err() {
            return;
        }
        left -= now;
    }
}

#[track_caller]
pub(crate) fn near(found: f64, wanted: f64, percent: f64) {
    let off = (found / wanted - 1.0) * 100.0;
    assert!(off.abs() <= percent, "{found:.0} is off by {off:.1} % from {wanted:.0}");
}
