//! The end of a process, step by step, as its manager, its clients and an operator see it; and a reload likewise.

use std::time::Duration;

use crate::{
    crash::Stage,
    support::{Wire, eventually, get},
};

/// What `/readyz` says once it has this status.
async fn readiness(stage: &Stage, status: u16) -> String {
    let begun = std::time::Instant::now();
    loop {
        let (now, text) = get(stage.admin, "/readyz").await;
        if now == status {
            return text;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{now}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_told_lets_new_sessions_in_for_a_while_and_ends_with_the_last_one() {
    let Some(mut stage) = Stage::new().await else { return };
    let config = stage.config("", "timeouts: {pre_drain: 4s, drain: 1h}");
    stage.run(&config).await;
    readiness(&stage, 200).await;
    let running = stage.session().await;
    stage.manager.signal("TERM");
    stage.manager.hears("STOPPING=1").await;
    assert_eq!(readiness(&stage, 503).await, "draining\n");
    // Whoever has not heard of it yet is let in.
    let late = stage.session().await;
    let refused = loop {
        let (id, reply) = stage.begin(&mut Wire::plain(stage.plain).await).await;
        if reply.status != 200 {
            break reply;
        }
        assert_eq!(stage.end(&id).await.status, 200);
    };
    assert_eq!((refused.status, refused.word()), (503, "draining"));
    let line = eventually("a word of progress", || {
        let log = stage.manager.log();
        log.lines().find(|line| line.contains("seconds_left=")).map(str::to_owned)
    })
    .await;
    for told in ["sessions=2", "control_connections=0", "flows=0", "tunnels=0", "requests=0", "seconds_left=35"] {
        assert!(line.contains(told), "{line}");
    }
    for id in [&running, &late] {
        assert_eq!(stage.put(id, "b").await.status, 201);
        assert_eq!(stage.end(id).await.status, 200);
    }
    assert!(stage.manager.ended().await);
    assert!(stage.records(2).await.iter().filter(|record| record["outcome"] == "done").count() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_has_its_deadline_and_a_second_signal_does_not_wait_for_it() {
    let Some(mut stage) = Stage::new().await else { return };
    for (timeouts, signals) in [("pre_drain: 0s, drain: 200ms", 1), ("pre_drain: 1h, drain: 1h", 2)] {
        let config = stage.config("", &format!("timeouts: {{{timeouts}}}"));
        stage.run(&config).await;
        stage.session().await;
        stage.manager.signal("TERM");
        stage.manager.hears("STOPPING=1").await;
        if signals == 2 {
            stage.manager.signal("TERM");
        }
        assert!(stage.manager.ended().await, "{}", stage.manager.log());
    }
    let records = stage.records(2).await;
    assert!(records.iter().all(|record| record["outcome"] == "drained"), "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_is_told_from_its_beginning_to_its_end_also_where_the_config_is_rejected() {
    let Some(mut stage) = Stage::new().await else { return };
    let config = stage.config("", "");
    stage.run(&config).await;
    readiness(&stage, 200).await;
    for (text, said) in [("version: 2", "ok\ndegraded: config\n"), (config.as_str(), "ok\n")] {
        std::fs::write(stage.manager.dir().join("fallgate.yaml"), text).unwrap();
        stage.manager.signal("HUP");
        stage.manager.hears("RELOADING=1").await;
        let time = stage.manager.hears("MONOTONIC_USEC=").await;
        assert!(time.trim_start_matches("MONOTONIC_USEC=").parse::<u64>().unwrap() > 0, "{time}");
        stage.manager.hears("READY=1").await;
        assert_eq!(get(stage.admin, "/readyz").await, (200, said.to_owned()));
    }
}
