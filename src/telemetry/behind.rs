//! How to wait for a thread that writes what is queued: behind all that was queued before, and not for ever.

use std::{
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    time::{Duration, Instant},
};

/// How often it is tried to find a place in a queue that is full.
const AGAIN: Duration = Duration::from_millis(5);

/// Has `ask` make a message that is answered once its turn comes; whether that was within `patience`. Blocks.
pub(super) fn wait<T>(queue: &SyncSender<T>, ask: impl FnOnce(SyncSender<()>) -> T, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let (done, over) = sync_channel(1);
    let mut message = ask(done);
    while let Err(TrySendError::Full(back)) = queue.try_send(message) {
        if Instant::now() >= deadline {
            return false;
        }
        message = back;
        pause();
    }
    over.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a full queue tells nobody when it has room again, and whoever is here blocks"
)]
fn pause() {
    std::thread::sleep(AGAIN);
}
