//! The task that keeps the connection: it connects, reads and tells everything, and then hears and writes until something
//! fails; and again.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use redis::{FromRedisValue, PushInfo, PushKind};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    Inner, Mirror, Write,
    connect::{self, Connection, RedisError},
    record,
    sync::{self, Written},
};

/// How often a replica tells that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// How long one counts as living of which nothing is heard, in seconds.
const TTL: u64 = 10;
/// How many news go in one round trip.
const BATCH: usize = 256;
/// From one try to connect to the next.
const AGAIN: Duration = Duration::from_millis(500);

/// Goes on for as long as it is let.
pub(super) async fn keep(it: Arc<Inner>, mirror: Arc<dyn Mirror>, mut waiting: mpsc::Receiver<Write>) {
    let mut was_well = true;
    loop {
        let error = match connect::connect(&it.config, &it.keys.channel()).await {
            Ok((connection, pushed)) => {
                let mut served = false;
                let error = serve(&it, mirror.as_ref(), connection, pushed, &mut waiting, &mut served).await;
                it.takes.store(false, Ordering::Release);
                it.connection.store(None);
                it.up.send_replace(false);
                if served {
                    was_well = true;
                    mirror.lost();
                }
                error
            }
            Err(error) => error,
        };
        it.failures.fetch_add(1, Ordering::Relaxed);
        if std::mem::replace(&mut was_well, false) {
            tracing::error!(%error, "The Redis that replicas share cannot be used; what the others do is not known until it can.");
        }
        sleep(AGAIN).await;
    }
}

/// Makes use of a connection until it fails; `served` once everything is read and told.
async fn serve(
    it: &Inner,
    mirror: &dyn Mirror,
    mut connection: Connection,
    pushed: mpsc::Receiver<PushInfo>,
    waiting: &mut mpsc::Receiver<Write>,
    served: &mut bool,
) -> RedisError {
    // What was told before is told anew; what is told from here on comes after that.
    while waiting.try_recv().is_ok() {}
    it.overflown.store(false, Ordering::Release);
    it.takes.store(true, Ordering::Release);
    if let Err(error) = tell_all(it, mirror, &mut connection).await {
        return error.into();
    }
    it.connection.store(Some(Arc::new(connection.clone())));
    it.up.send_replace(true);
    *served = true;
    tracing::info!(replicas = it.replicas.load().len(), "The Redis that replicas share is used.");
    tokio::select! {
        error = hear(it, mirror, pushed) => error,
        error = write(it, mirror, connection.clone(), waiting) => error,
        error = beat(it, mirror, connection) => error,
        () = it.overdue.notified() => RedisError::Unreachable("it does not answer in time".to_owned()),
    }
}

/// Reads all that others have told, and tells what there is here.
async fn tell_all(it: &Inner, mirror: &dyn Mirror, connection: &mut Connection) -> Result<(), redis::RedisError> {
    let live = sync::beat(connection, &it.keys, it.me, TTL).await?;
    let found = sync::read(connection, &it.keys, (it.me, &live), mirror.label_key()).await?;
    it.replicas.store(Arc::new(live));
    let mut all = mirror.synced(found);
    let mut told = Instant::now();
    while !all.is_empty() {
        let rest = all.split_off(all.len().min(BATCH));
        let written = sync::write(connection, &it.keys, it.me, &it.terms.load(), all).await?;
        settle(mirror, written);
        all = rest;
        // Who has much to tell lives all the same.
        if told.elapsed() >= BEAT {
            sync::beat(connection, &it.keys, it.me, TTL).await?;
            told = Instant::now();
        }
    }
    Ok(())
}

fn settle(mirror: &dyn Mirror, written: Written) {
    written.gone.into_iter().for_each(|key| mirror.gone(key));
    written.back.into_iter().for_each(|key| mirror.back(key));
}

async fn hear(it: &Inner, mirror: &dyn Mirror, mut pushed: mpsc::Receiver<PushInfo>) -> RedisError {
    while let Some(PushInfo { kind, data }) = pushed.recv().await {
        match kind {
            PushKind::Disconnection => break,
            PushKind::Message => {
                let text = data.get(1).and_then(|text| Vec::<u8>::from_redis_value_ref(text).ok()).unwrap_or_default();
                let Some((from, news)) = record::read_message(&text).filter(|(from, _)| *from != it.me) else {
                    continue;
                };
                news.into_iter().for_each(|news| mirror.heard(from, news));
            }
            _ => {}
        }
    }
    RedisError::Unreachable("the connection has ended".to_owned())
}

async fn write(
    it: &Inner,
    mirror: &dyn Mirror,
    mut connection: Connection,
    waiting: &mut mpsc::Receiver<Write>,
) -> RedisError {
    let mut some = Vec::new();
    while waiting.recv_many(&mut some, BATCH).await > 0 {
        if it.overflown.load(Ordering::Acquire) {
            return RedisError::Unreachable("it does not take what it is told fast enough".to_owned());
        }
        let (news, done): (Vec<_>, Vec<_>) = some.drain(..).map(|write| (write.news, write.done)).unzip();
        match sync::write(&mut connection, &it.keys, it.me, &it.terms.load(), news).await {
            Ok(written) => {
                it.written.fetch_add(1, Ordering::Release);
                settle(mirror, written);
            }
            Err(error) => return error.into(),
        }
        for done in done.into_iter().flatten() {
            let _ = done.send(());
        }
    }
    RedisError::Unreachable("nobody tells anything any more".to_owned())
}

async fn beat(it: &Inner, mirror: &dyn Mirror, mut connection: Connection) -> RedisError {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        match sync::beat(&mut connection, &it.keys, it.me, TTL).await {
            Ok(live) => {
                mirror.live(&live);
                it.replicas.store(Arc::new(live));
            }
            Err(error) => return error.into(),
        }
    }
}
