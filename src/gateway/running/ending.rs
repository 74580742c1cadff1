//! How a gateway ends: by a drain, or because another process has taken over.

use std::{
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::time;
use tokio_util::sync::CancellationToken;

use super::Run;
use crate::{
    gateway::{
        listeners::Listeners,
        replicas::Replicas,
        upgrade::{self, UpgradeError},
    },
    net::process,
    telemetry::{Kind, chain},
};

/// How often a drain tells how much is left.
const PROGRESS: Duration = Duration::from_secs(10);
/// Until then the ends of sessions that replicas share are written.
const FINISHING: Duration = Duration::from_secs(2);
/// How often it is looked whether all sessions are over.
const LOOK: Duration = Duration::from_millis(50);

impl Run {
    /// Ends it: nothing is ready from now on, after `pre_drain` nothing new is taken, and after `drain` at most, or at once
    /// on `hurry`, what is left is cut.
    pub(in crate::gateway) async fn drain(&self, hurry: CancellationToken) {
        let timeouts = self.config().timeouts.clone();
        self.draining.store(true, Ordering::Relaxed);
        self.notifier.stopping();
        tokio::select! {
            () = time::sleep(timeouts.pre_drain) => {}
            () = hurry.cancelled() => {}
        }
        let mut listeners = {
            let _one = self.changing.lock().await;
            std::mem::take(&mut *self.listeners())
        };
        listeners.drain();
        self.run_out(listeners, timeouts.drain, &hurry).await;
    }

    /// Waits until what is open is over, for so long at most or until `hurry`; what is left then is cut.
    async fn run_out(&self, listeners: Listeners, longest: Duration, hurry: &CancellationToken) {
        let deadline = time::Instant::now() + longest;
        let over = async {
            // In another process sessions go on by themselves.
            if !self.succeeded.is_cancelled() {
                self.sessions_are_over(deadline, hurry).await;
            }
            listeners.close(deadline, hurry, &self.parts.cut).await;
            self.older_is_over(deadline, hurry).await;
        };
        tokio::select! {
            () = over => {}
            () = self.tell_progress(deadline) => {}
        }
        self.end_sessions().await;
    }

    /// Ends what is left: what needs nothing of this process goes on in another one, or in the next one.
    async fn end_sessions(&self) {
        self.links.give_all(self);
        if self.replicas.get().is_some_and(Replicas::go_on_elsewhere) {
            self.parts.sessions.leave_to_others();
        }
        if self.kept.is_open() {
            self.parts.sessions.give_idle(
                |_| true,
                |sessions| {
                    sessions.iter().for_each(|session| self.kept.opened(session));
                    true
                },
            );
        }
        self.parts.sessions.finish_all();
        if let Some(replicas) = self.replicas.get() {
            replicas.finish(FINISHING).await;
        }
        self.links.finish_newer(self).await;
    }

    /// Has a process of the installed program take over; its number. What began here is then carried to its end.
    pub(in crate::gateway) async fn upgrade(self: &Arc<Self>) -> Result<u32, UpgradeError> {
        let result = self.try_upgrade().await;
        match &result {
            Ok(process) => tracing::info!(process, "Another process has taken over."),
            Err(error) => {
                tracing::error!(error = chain(error), "No other process has taken over; nothing has changed.");
            }
        }
        result
    }

    async fn try_upgrade(self: &Arc<Self>) -> Result<u32, UpgradeError> {
        let _one = self.changing.lock().await;
        if self.is_draining() {
            return Err(UpgradeError::Draining);
        }
        let program = self.program.clone().ok_or(UpgradeError::NoProgram)?;
        let (mut child, mut passage) = program.start()?;
        let (run, way) = (self.clone(), passage.share()?);
        let mut giving = pin!(tokio::task::spawn_blocking(move || upgrade::give(&run, &mut passage).map(|()| passage)));
        let given = tokio::select! {
            given = &mut giving => given,
            () = self.stopping.cancelled() => {
                // Who waits for the other process hears that it is gone.
                way.close();
                giving.await
            }
        };
        let passage = match given.unwrap_or_else(|error| Err(UpgradeError::Lost(io::Error::other(error)))) {
            Ok(passage) => passage,
            Err(error) => {
                // It may still be at work, and must not serve beside this one.
                let _ = child.kill().await;
                return Err(error);
            }
        };
        self.draining.store(true, Ordering::Relaxed);
        self.links.connect_newer(self, passage)?;
        let process = child.id().unwrap_or_default();
        self.successor.store(process, Ordering::Relaxed);
        self.notifier.main_pid(process);
        self.succeeded.cancel();
        tokio::spawn(async move { child.wait().await });
        // The other process waits for the file, but nobody waits for that.
        let run = self.clone();
        drop(tokio::task::spawn_blocking(move || run.kept.close()));
        Ok(process)
    }

    /// The end is asked for: an upgrade that is under way fails, if it still can. Where another process has taken over, it
    /// is told to end instead; true then.
    pub(in crate::gateway) async fn stop_with_successor(&self) -> bool {
        self.stopping.cancel();
        // Nothing is in between once it is free.
        let _one = self.changing.lock().await;
        let has_one = self.succeeded.is_cancelled();
        if has_one && let Err(error) = process::terminate(self.successor.load(Ordering::Relaxed)) {
            tracing::warn!(%error, "The process that took over could not be told to end.");
        }
        has_one
    }

    /// Carries what began here to its end, after another process has taken over.
    pub(in crate::gateway) async fn leave(&self, hurry: CancellationToken) {
        let listeners = std::mem::take(&mut *self.listeners());
        self.run_out(listeners, self.config().timeouts.drain, &hurry).await;
    }

    async fn sessions_are_over(&self, deadline: time::Instant, hurry: &CancellationToken) {
        // Through a forward proxy a session is known only by its requests, which follow one another.
        let goes_on = || {
            let sessions = match self.replicas.get().filter(|replicas| replicas.go_on_elsewhere()) {
                Some(_) => self.parts.sessions.count_held(),
                None => self.parts.sessions.count() + self.links.sessions_held(),
            };
            sessions > 0 || !self.parts.forward.recents.are_quiet(Instant::now())
        };
        while goes_on() {
            tokio::select! {
                () = time::sleep(LOOK) => {}
                () = time::sleep_until(deadline) => return,
                () = hurry.cancelled() => return,
            }
        }
    }

    async fn older_is_over(&self, deadline: time::Instant, hurry: &CancellationToken) {
        tokio::select! {
            () = self.links.older_is_over() => {}
            () = time::sleep_until(deadline) => {}
            () = hurry.cancelled() => {}
        }
    }

    /// Tells now and then how much is left to be drained, and how long that may take.
    async fn tell_progress(&self, deadline: time::Instant) {
        loop {
            time::sleep(PROGRESS).await;
            let open = self.parts.live.transfers();
            let count = |kind| open.iter().filter(|transfer| transfer.about().kind == kind).count();
            let (sessions, control_connections, flows) =
                (count(Kind::Session), count(Kind::Control), count(Kind::Flow));
            let (tunnels, requests) = (count(Kind::Tunnel), count(Kind::Request));
            let seconds_left = deadline.saturating_duration_since(time::Instant::now()).as_secs();
            tracing::info!(sessions, control_connections, flows, tunnels, requests, seconds_left, "Draining.");
        }
    }
}
