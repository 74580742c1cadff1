//! A crowd with every kind of limit at once: nobody is forgotten, and nothing is given away twice.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{task::JoinSet, time::timeout};

use super::{ask_as, limited};
use crate::support::{Metrics, eventually, peer::pause, wire::put};

const CLIENTS: u8 = 6;
const EACH: u32 = 8;
const ROUNDS: u32 = 3;
/// All of it takes some seconds; who is forgotten would wait for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is held now by whom, as the clients see it.
#[derive(Default)]
struct Held(Mutex<HashMap<String, u32>>);

impl Held {
    fn take(&self, maxima: &[(String, u32)]) {
        let mut held = self.0.lock().unwrap();
        for (key, max) in maxima {
            let now = held.entry(key.clone()).or_default();
            *now += 1;
            assert!(*now <= *max, "{now} of {key}");
        }
    }

    fn give(&self, maxima: &[(String, u32)]) {
        let mut held = self.0.lock().unwrap();
        maxima.iter().for_each(|(key, _)| *held.get_mut(key).unwrap() -= 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_crowd_that_waits_for_everything_at_once_all_are_served() {
    let limits = "max_sessions: 6, max_sessions_per_client: 2, max_sessions_per_user: 3, max_wait: 10m, session_starts_per_client: {rate: 20/s, burst: 5}";
    // So that who leaves just when it is let in has lost its session.
    let sandbox = limited(limits).listener("persistent_connection: force").start().await;
    let narrow = sandbox.config(|y| y.replace("ports:", "max_sessions: 5, ports:"));
    sandbox.gateway.reload(narrow).await.unwrap();
    let host = sandbox.address("plain").await;
    let held = Arc::<Held>::default();
    let mut crowd = JoinSet::new();
    for client in 0..CLIENTS {
        for n in 0..EACH {
            let (from, user, held) = ([127, 0, 0, 20 + client], ["ann", "bob", "eve"][n as usize % 3], held.clone());
            crowd.spawn(async move {
                let maxima = [("all".to_owned(), 5), (format!("{from:?}"), 2), (user.to_owned(), 3)];
                for round in 0..ROUNDS {
                    if (n + round) % 4 == 0 {
                        // Some leave before they are served.
                        drop(ask_as(from, host, user).await);
                    }
                    let mut session = ask_as(from, host, user).await;
                    let (reply, _) = session.answer().await;
                    assert_eq!(reply.status, 200, "{}", reply.word());
                    held.take(&maxima);
                    let stored = session.wire.ask(&put(host, &session.id, &format!("{client}-{n}"), b"x")).await;
                    assert_eq!(stored.status, 201, "{}", stored.text);
                    pause(Duration::from_millis(5)).await;
                    // Its place may be another one's before its client has heard of it.
                    held.give(&maxima);
                    assert_eq!(session.end().await, 200);
                }
            });
        }
    }
    timeout(PATIENCE, crowd.join_all()).await.expect("somebody is forgotten");
    let metrics = sandbox.metrics().await;
    assert_eq!(
        (metrics.sum("waiting", &[]), metrics.sum("refusals_total", &[("reason", "wait_too_long")])),
        (0.0, 0.0)
    );
    let served = f64::from(u32::from(CLIENTS) * EACH * ROUNDS);
    // A client may hear of its end a moment before that is counted.
    let done = |metrics: &Metrics| metrics.sum("sessions_finished_total", &[("outcome", "done")]) >= served;
    sandbox.until("all sessions are done", done).await;
    eventually("no start waits", || (sandbox.gateway.sessions() == 0).then_some(())).await;
}
