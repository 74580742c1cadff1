//! When a tunnel last moved a byte, and when it has been quiet for too long.

use std::{
    future::pending,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Says that a tunnel is in use though no byte moves in it.
///
/// A control connection is silent for hours while the data of its transfer flows elsewhere.
pub trait Activity: Send + Sync {
    /// When something last moved, or nothing if never. It is asked only when the tunnel has been quiet for long.
    fn last_elsewhere(&self) -> Option<Instant>;
}

impl<F: Fn() -> Option<Instant> + Send + Sync> Activity for F {
    fn last_elsewhere(&self) -> Option<Instant> {
        self()
    }
}

/// Remembers the last byte. Moving one costs no timer.
#[derive(Debug)]
pub(super) struct Clock {
    began: Instant,
    /// In milliseconds after `began`.
    last: AtomicU64,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock { began: Instant::now(), last: AtomicU64::new(0) }
    }

    /// A byte has moved.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Comes back when nothing has moved for `idle`, here or elsewhere.
    pub(super) async fn quiet(&self, idle: Duration, elsewhere: Option<&dyn Activity>) {
        loop {
            let here = self.began.checked_add(Duration::from_millis(self.last.load(Ordering::Relaxed)));
            let due = here.and_then(|at| at.checked_add(idle));
            let due = match due {
                Some(due) if due <= Instant::now() => {
                    elsewhere.and_then(Activity::last_elsewhere).and_then(|at| at.checked_add(idle)).or(Some(due))
                }
                due => due,
            };
            match due {
                Some(due) if due <= Instant::now() => return,
                Some(due) => sleep_until(due).await,
                None => pending().await,
            }
        }
    }
}
