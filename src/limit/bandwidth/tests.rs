//! Tests of bandwidth in simulated time: how exact, how fair, what changes in place, and that nobody waits forever.

use std::{future::Future, net::IpAddr, path::Path};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::*;

fn config(bandwidth: &str, of_listener: &str) -> Config {
    let text = format!(
        "version: 1\nlisteners: [{{ name: web, protocol: http, address: '0.0.0.0:1', upstream: u, limits: {{ bandwidth: {of_listener} }} }}]\nupstreams: [{{ name: u, nodes: [{{ name: n, host: n, ports: {{ http: 1 }} }}] }}]\nbandwidth: {bandwidth}\n",
    );
    Config::from_yaml(&text, Path::new("")).unwrap()
}

fn caps(bandwidth: &str) -> Bandwidth {
    Bandwidth::new(&config(bandwidth, "{}"))
}

fn flow(client: u8, session: u128) -> Flow {
    let client = IpAddr::from([192, 0, 2, client]).into();
    Flow { listener: "web".into(), client, session: Some(session), node: Some("u/n".into()) }
}

fn upload(bandwidth: &Bandwidth, client: u8, session: u128) -> Shaper {
    bandwidth.stream(flow(client, session), Direction::Upload)
}

/// Sends `chunk` after `chunk` for so long; how many bytes passed.
async fn send(mut shaper: Shaper, chunk: u64, time: Duration) -> u64 {
    let end = Instant::now() + time;
    let mut passed = 0;
    while let Ok(bytes) = timeout(end - Instant::now(), shaper.take(chunk)).await {
        passed += bytes;
        if Instant::now() >= end {
            break;
        }
    }
    passed
}

/// All at once, in the order given.
async fn all(tasks: impl IntoIterator<Item = impl Future<Output = u64> + Send + 'static>) -> Vec<u64> {
    let mut set = JoinSet::new();
    for (index, task) in tasks.into_iter().enumerate() {
        set.spawn(async move { (index, task.await) });
    }
    let mut results = set.join_all().await;
    results.sort_unstable();
    results.into_iter().map(|(_, bytes)| bytes).collect()
}

fn near(found: u64, wanted: u64, percent: u64) {
    let off = found.abs_diff(wanted) * 100;
    assert!(off <= wanted * percent, "{found} is not within {percent} % of {wanted}");
}

const TEN: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_cap_is_met_within_five_percent_at_any_rate_and_with_any_chunks() {
    for (rate, bytes) in [("1Mbit/s", 125_000), ("10Mbit/s", 1_250_000), ("1Gbit/s", 125_000_000)] {
        for (streams, chunk) in [(1, 8192), (1, 1 << 20), (7, 1000)] {
            let bandwidth = caps(&format!("{{ total: {rate} }}"));
            let passed = all((0..streams).map(|n| send(upload(&bandwidth, 1, n), chunk, TEN))).await;
            near(passed.iter().sum(), bytes * 10, 5);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn streams_with_much_to_send_share_a_cap_equally_whatever_their_chunks() {
    for rate in [("10Mbit/s", 12_500_000), ("1Gbit/s", 1_250_000_000)] {
        for streams in [2u64, 10, 100] {
            let bandwidth = caps(&format!("{{ total: {} }}", rate.0));
            // The burst is for who comes first; now all come at once.
            let mut first = upload(&bandwidth, 9, 999);
            while timeout(Duration::ZERO, first.take(1 << 20)).await.is_ok() {}
            drop(first);
            let chunk = |n: u64| [1000, 8192, 1 << 16, 1 << 20][usize::try_from(n % 4).unwrap()];
            let passed = all((0..streams).map(|n| send(upload(&bandwidth, 1, n.into()), chunk(n), TEN))).await;
            passed.iter().for_each(|bytes| near(*bytes, rate.1 / streams, 10));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_comes_later_gets_its_share_at_once_and_no_more() {
    let bandwidth = caps("{ total: 10Mbit/s }");
    let first = tokio::spawn(send(upload(&bandwidth, 1, 1), 8192, TEN));
    sleep(TEN / 2).await;
    let second = send(upload(&bandwidth, 1, 2), 65536, TEN / 2).await;
    near(second, 3_125_000, 10);
    near(first.await.unwrap(), 9_375_000, 10);
}

#[tokio::test(start_paused = true)]
async fn caps_hold_one_inside_the_other() {
    let bandwidth = caps("{ total: 100Mbit/s, per_client: 40Mbit/s, per_session: 10Mbit/s }");
    // Client 1 has ten sessions, each with two streams; client 2 has two sessions; client 3 has one.
    let of = |client, session| send(upload(&bandwidth, client, session), 32_768, TEN);
    let first = all((0..20).map(|n| of(1, n / 2)));
    let (first, second, third) = tokio::join!(first, all([of(2, 20), of(2, 21)]), of(3, 30));
    near(first.iter().sum(), 50_000_000, 5);
    first.iter().for_each(|bytes| near(*bytes, 2_500_000, 10));
    second.iter().for_each(|bytes| near(*bytes, 12_500_000, 5));
    near(third, 12_500_000, 5);
}

#[tokio::test(start_paused = true)]
async fn the_widest_cap_is_shared_by_streams_under_narrow_ones_too() {
    let bandwidth = caps("{ total: 20Mbit/s, per_session: 5Mbit/s }");
    let passed = all((0..10).map(|n| send(upload(&bandwidth, 1, n), 16_384, TEN))).await;
    passed.iter().for_each(|bytes| near(*bytes, 2_500_000, 10));
    let (slow, fast) = (caps("{ total: 100Mbit/s, per_client: { upload: 90Mbit/s } }"), TEN);
    let narrow = tokio::spawn(send(upload(&slow, 1, 1), 16_384, fast));
    let wide = all((2..4).map(|n| send(upload(&slow, n, n.into()), 65_536, fast))).await;
    let narrow = narrow.await.unwrap();
    wide.into_iter().chain([narrow]).for_each(|bytes| near(bytes, 41_666_666, 10));
}

#[tokio::test(start_paused = true)]
async fn a_listener_and_a_node_have_caps_of_their_own_and_each_direction_has() {
    let config = config("{ per_node: { upload: 20Mbit/s } }", "{ total: { upload: 8Mbit/s, download: 4Mbit/s } }");
    let bandwidth = Bandwidth::new(&config);
    let other = Flow { listener: "other".into(), ..flow(2, 2) };
    let tasks = [
        send(upload(&bandwidth, 1, 1), 8192, TEN),
        send(bandwidth.stream(flow(1, 1), Direction::Download), 8192, TEN),
        send(bandwidth.stream(other, Direction::Upload), 8192, TEN),
    ];
    let passed = all(tasks).await;
    near(passed[0], 10_000_000, 5);
    near(passed[1], 5_000_000, 5);
    near(passed[2], 15_000_000, 5);
}

#[tokio::test(start_paused = true)]
async fn a_burst_after_a_pause_is_short() {
    let bandwidth = caps("{ total: 100Mbit/s }");
    let mut shaper = upload(&bandwidth, 1, 1);
    for _ in 0..3 {
        assert!(shaper.take(1 << 20).await > 0);
        sleep(TEN).await;
        let mut passed = 0;
        while let Ok(bytes) = timeout(Duration::ZERO, shaper.take(1 << 20)).await {
            passed += bytes;
        }
        assert!((500_000..=625_000 + bucket::MAX_PIECE).contains(&passed), "{passed}");
        sleep(TEN).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_holds_within_a_tenth_of_a_second() {
    let bandwidth = caps("{ total: 8kbit/s }");
    let mut shaper = upload(&bandwidth, 1, 1);
    while timeout(Duration::from_millis(1), shaper.take(1 << 20)).await.is_ok() {}
    let sending = tokio::spawn(send(shaper, 65_536, TEN));
    sleep(Duration::from_millis(1)).await;
    bandwidth.apply(&config("{ total: 100Mbit/s }", "{}"));
    near(sending.await.unwrap(), 125_000_000, 5);

    let mut shaper = upload(&bandwidth, 1, 1);
    assert!(shaper.take(1).await == 1);
    bandwidth.apply(&config("{ total: 100Mbit/s, per_session: 1Mbit/s }", "{}"));
    near(send(shaper, 65_536, TEN).await, 1_250_000, 5);
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_goes_lets_all_go_on_and_costs_nothing() {
    let bandwidth = caps("{ total: 8kbit/s, per_client: 8kbit/s }");
    let mut shapers: Vec<_> = (0..50).map(|n| upload(&bandwidth, 1, n)).collect();
    assert!(shapers.iter_mut().all(|shaper| !shaper.is_unlimited()));
    let start = Instant::now();
    let waiting = tokio::spawn(all(shapers.into_iter().map(|mut shaper| async move {
        let mut passed = 0;
        while !shaper.is_unlimited() {
            passed += shaper.take(1 << 20).await;
        }
        assert_eq!(shaper.take(1 << 30).await, 1 << 30, "what is free is not cut up");
        passed
    })));
    sleep(Duration::from_secs(1)).await;
    bandwidth.apply(&config("{}", "{}"));
    waiting.await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(1100));
    assert!(upload(&bandwidth, 1, 1).is_unlimited());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_ten_seconds_for_a_piece_however_little_there_is() {
    let bandwidth = caps("{ total: 8kbit/s, per_client: 8kbit/s, per_node: 8kbit/s }");
    let longest = all((0..200).map(|n| {
        let mut shaper = upload(&bandwidth, 1, n);
        async move {
            let (end, mut longest) = (Instant::now() + Duration::from_secs(60), Duration::ZERO);
            while Instant::now() < end {
                let since = Instant::now();
                shaper.take(1 << 20).await;
                longest = longest.max(since.elapsed());
            }
            u64::try_from(longest.as_millis()).unwrap()
        }
    }));
    let longest = longest.await.into_iter().max().unwrap();
    assert!(longest < 10_000, "{longest} ms");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_goes_while_it_waits_loses_nothing() {
    let bandwidth = caps("{ total: 1Mbit/s, per_session: 500kbit/s }");
    let start = Instant::now();
    let counted: Vec<_> = (0..3).map(|n| send(upload(&bandwidth, 1, n), 8192, TEN)).collect();
    let counted = tokio::spawn(all(counted));
    while start.elapsed() < TEN {
        // Some are dropped in line, some with a piece in hand, some are only interrupted.
        let mut shaper = upload(&bandwidth, 2, 9);
        let _ = timeout(Duration::from_millis(3), shaper.take(1)).await;
        let _ = timeout(Duration::from_millis(3), shaper.take(1)).await;
    }
    let passed: u64 = counted.await.unwrap().iter().sum();
    near(passed, 1_250_000, 5);
}

#[tokio::test(start_paused = true)]
async fn who_stops_asking_without_a_word_does_not_stop_the_others() {
    let bandwidth = caps("{ total: 1Mbit/s }");
    let mut silent: Vec<_> = (0..5).map(|n| upload(&bandwidth, 1, n)).collect();
    for shaper in &mut silent {
        std::future::poll_fn(|cx| {
            while shaper.poll_take(cx, 1 << 20).is_ready() {}
            std::task::Poll::Ready(())
        })
        .await;
    }
    near(send(upload(&bandwidth, 1, 9), 8192, TEN).await, 1_250_000, 10);
}

#[tokio::test(start_paused = true)]
async fn what_did_not_pass_can_be_given_back() {
    let bandwidth = caps("{ total: 10Mbit/s }");
    let mut shaper = upload(&bandwidth, 1, 1);
    let (end, mut passed) = (Instant::now() + TEN, 0);
    while Instant::now() < end {
        let bytes = shaper.take(10_000).await;
        let sent = bytes.min(3000);
        shaper.give_back(bytes - sent);
        passed += sent;
    }
    near(passed, 12_500_000, 5);
}

#[tokio::test(start_paused = true)]
async fn more_than_a_piece_is_taken_at_once_only_while_the_cap_has_it() {
    let bandwidth = caps("{ total: 1Gbit/s }");
    let (mut one, mut two) = (upload(&bandwidth, 1, 1), upload(&bandwidth, 1, 2));
    assert_eq!(one.take_at_once(1 << 20), 1 << 20);
    one.give_back(1 << 19);
    let burst = one.take_at_once(1 << 30);
    assert!((5_700_000..5_800_000 + bucket::MAX_PIECE).contains(&burst), "{burst}");
    assert_eq!(one.take_at_once(1), 0);
    // Who asked in vain stands in nobody's way.
    near(send(two, 65_536, TEN).await, 1_250_000_000, 5);
    two = upload(&bandwidth, 1, 3);
    bandwidth.apply(&config("{}", "{}"));
    assert_eq!(two.take_at_once(1 << 40), 1 << 40);
}

#[tokio::test(start_paused = true)]
async fn datagrams_above_the_cap_are_refused_and_share_it_with_streams() {
    let bandwidth = caps("{ total: 10Mbit/s, per_client: 8Mbit/s }");
    let blast = |client: u8, every: Duration| {
        let mut shaper = upload(&bandwidth, client, client.into());
        async move {
            let (end, mut passed) = (Instant::now() + TEN, 0);
            while Instant::now() < end {
                (0..10).for_each(|_| passed += if shaper.try_take(1400) { 1400 } else { 0 });
                sleep(every).await;
            }
            passed
        }
    };
    near(blast(1, Duration::from_millis(1)).await, 10_000_000, 5);
    sleep(TEN).await;
    let (datagrams, stream) =
        tokio::join!(blast(1, Duration::from_millis(1)), send(upload(&bandwidth, 2, 7), 8192, TEN));
    near(datagrams + stream, 12_500_000, 5);
    near(datagrams, 6_250_000, 20);
}

#[tokio::test(start_paused = true)]
async fn many_flows_of_datagrams_leave_a_stream_its_share() {
    for (rate, bytes) in [("1Mbit/s", 1_250_000), ("100Mbit/s", 125_000_000)] {
        let bandwidth = caps(&format!("{{ total: {rate} }}"));
        let mut flows: Vec<_> = (0..9).map(|n| upload(&bandwidth, 1, n)).collect();
        let blast = async {
            let (end, mut passed) = (Instant::now() + TEN, vec![0; flows.len()]);
            while Instant::now() < end {
                for (flow, passed) in flows.iter_mut().zip(&mut passed) {
                    (0..20).for_each(|_| *passed += if flow.try_take(1400) { 1400 } else { 0 });
                }
                sleep(Duration::from_millis(1)).await;
            }
            passed
        };
        let (datagrams, stream) = tokio::join!(blast, send(upload(&bandwidth, 2, 99), 8192, TEN));
        near(datagrams.iter().sum::<u64>() + stream, bytes, 5);
        datagrams.into_iter().chain([stream]).for_each(|passed| near(passed, bytes / 10, 25));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_datagram_takes_nothing_from_any_cap() {
    let bandwidth = caps("{ total: 8kbit/s, per_session: 8kbit/s }");
    let (mut one, mut two) = (upload(&bandwidth, 1, 1), upload(&bandwidth, 1, 2));
    while one.try_take(500) {}
    // The total is empty now, and the session of the other is not.
    assert!((0..100).all(|_| !two.try_take(500)));
    bandwidth.apply(&config("{ per_session: 8kbit/s }", "{}"));
    assert!((0..8).all(|_| two.try_take(500)));
    assert!(!one.try_take(1_000_000), "what would take longer than five seconds never passes");
}

#[tokio::test(start_paused = true)]
async fn what_streams_wait_is_told_for_each_scope_and_direction() {
    let bandwidth = caps("{ per_client: 8Mbit/s }");
    all((0..2).map(|n| send(upload(&bandwidth, 1, n), 8192, TEN))).await;
    let waited = bandwidth.throttled(Scope::Client, Direction::Upload);
    assert!((Duration::from_secs(15)..=Duration::from_secs(20)).contains(&waited), "{waited:?}");
    assert_eq!(bandwidth.throttled(Scope::Client, Direction::Download), Duration::ZERO);
    assert_eq!(bandwidth.throttled(Scope::Total, Direction::Upload), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_anew_finds_the_debt_it_left_and_nobody_is_kept_for_long() {
    let bandwidth = caps("{ per_client: 1Mbit/s }");
    let (start, mut passed) = (Instant::now(), 0);
    while start.elapsed() < TEN {
        passed += upload(&bandwidth, 1, 1).take(65_536).await;
    }
    near(passed, 1_250_000, 5);
    for client in 0..=255 {
        for session in 0..20 {
            let _ = upload(&bandwidth, client, session).take(1).await;
        }
        sleep(TEN).await;
    }
    let kept = bandwidth.lock().live.len();
    assert!(kept <= 2 * FIRST_LOOK, "{kept} caps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_at_once_share_a_cap_and_nobody_is_forgotten() {
    let bandwidth = caps("{ total: 100MB/s, per_client: 50MB/s }");
    let tasks = (0..64u8).map(|n| {
        let mut shaper = upload(&bandwidth, n % 4, n.into());
        async move {
            let mut left = 200_000;
            while left > 0 {
                left -= shaper.take(left).await;
                tokio::task::yield_now().await;
            }
            0
        }
    });
    timeout(Duration::from_secs(60), all(tasks)).await.expect("somebody was forgotten");
}
