//! Replicas that share caps, in simulated time: together they keep to a cap and leave nothing of it.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::*;
use crate::{config::Config, limit::Flow};

const ROUND: Duration = Duration::from_millis(500);

/// What all tell: of each cap what each replica holds and needs, and its rate.
type Board = Arc<Mutex<HashMap<String, BTreeMap<usize, (u64, u64, u64)>>>>;

/// Some replicas that agree in rounds, each at a time of its own.
struct Scene {
    board: Board,
    replicas: Vec<Bandwidth>,
    rounds: Vec<JoinHandle<()>>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.rounds.iter().for_each(JoinHandle::abort);
    }
}

fn caps(bandwidth: &str) -> Bandwidth {
    let text = format!(
        "version: 1\nlisteners: [{{ name: web, protocol: http, address: '0.0.0.0:1', upstream: u }}]\nupstreams: [{{ name: u, nodes: [{{ name: n, host: n, ports: {{ http: 1 }} }}] }}]\nbandwidth: {bandwidth}\n",
    );
    Bandwidth::new(&Config::from_yaml(&text, Path::new("")).unwrap())
}

impl Scene {
    fn new(bandwidth: &[&str]) -> Scene {
        let mut scene = Scene { board: Board::default(), replicas: Vec::new(), rounds: Vec::new() };
        let count = u32::try_from(bandwidth.len()).unwrap();
        bandwidth.iter().for_each(|bandwidth| scene.join(bandwidth, count));
        scene
    }

    fn join(&mut self, bandwidth: &str, count: u32) {
        let (me, replica, board) = (self.replicas.len(), caps(bandwidth), self.board.clone());
        self.replicas.push(replica.clone());
        self.rounds.push(tokio::spawn(async move {
            sleep(ROUND / 7 * u32::try_from(me).unwrap()).await;
            let mut at = Instant::now();
            loop {
                round(&replica, me, &board, at.elapsed(), count);
                at = Instant::now();
                sleep(ROUND).await;
            }
        }));
    }

    /// A stream with much to send from now on, and the bytes of it that have passed.
    fn send(&self, replica: usize, client: u8) -> Arc<AtomicU64> {
        let client = IpAddr::from([192, 0, 2, client]).into();
        let flow = Flow { listener: "web".into(), client, session: None, node: Some("u/n".into()) };
        let mut shaper = self.replicas[replica].stream(flow, Direction::Upload);
        let passed = Arc::new(AtomicU64::new(0));
        let counted = passed.clone();
        tokio::spawn(async move {
            while Arc::strong_count(&counted) > 1 {
                counted.fetch_add(shaper.take(65_536).await, Ordering::Relaxed);
            }
        });
        passed
    }
}

/// One round, as it goes where the others are asked for what they tell.
fn round(replica: &Bandwidth, me: usize, board: &Board, passed: Duration, count: u32) {
    let mut board = board.lock().unwrap();
    let round = replica.round(passed, count);
    for left in &round.left {
        board.entry(left.to_string()).or_default().remove(&me);
    }
    for told in &round.told {
        let all = board.entry(told.cap.to_string()).or_default();
        let held = all.get(&me).map_or(0, |(held, ..)| *held);
        all.insert(me, (held, told.need, told.rate));
        let rate = all.values().map(|(_, _, rate)| *rate).min().unwrap();
        let needs: Vec<_> = all.values().map(|(_, need, _)| *need).collect();
        let mine = all.keys().position(|other| *other == me).unwrap();
        let others: u64 = all.iter().filter(|(other, _)| **other != me).map(|(_, (held, ..))| *held).sum();
        let share = Bandwidth::fair_share(rate, &needs, mine).min(rate.saturating_sub(others));
        let share = share.max(Bandwidth::least_share(rate, needs.len()));
        all.insert(me, (share, told.need, told.rate));
        replica.set_share(&told.cap, share);
    }
}

/// Bytes a second of each over some seconds.
async fn rates(streams: &[&Arc<AtomicU64>], seconds: u64) -> Vec<u64> {
    let now = |stream: &&Arc<AtomicU64>| stream.load(Ordering::Relaxed);
    let before: Vec<_> = streams.iter().map(now).collect();
    sleep(Duration::from_secs(seconds)).await;
    streams.iter().map(now).zip(before).map(|(after, before)| (after - before) / seconds).collect()
}

fn near(found: u64, wanted: u64, percent: u64) {
    assert!(found.abs_diff(wanted) * 100 <= wanted * percent, "{found} is not within {percent} % of {wanted}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_alone_has_the_whole_cap_from_the_first_byte() {
    let scene = Scene::new(&["{ total: 10Mbit/s }"]);
    let one = scene.send(0, 1);
    near(rates(&[&one], 10).await[0], 1_250_000, 5);
}

#[tokio::test(start_paused = true)]
async fn replicas_together_keep_to_a_cap_and_leave_nothing_of_it() {
    for cap in ["total", "per_node"] {
        let scene = Scene::new(&[format!("{{ {cap}: 10Mbit/s }}").as_str(); 3]);
        let (one, two) = (scene.send(0, 1), scene.send(1, 2));
        sleep(Duration::from_secs(4)).await;
        let both = rates(&[&one, &two], 10).await;
        near(both.iter().sum(), 1_250_000, 5);
        near(both[0], both[1], 5);
        drop(two);
        sleep(Duration::from_secs(12)).await;
        near(rates(&[&one], 10).await[0], 1_250_000, 5);
        let two = scene.send(2, 3);
        sleep(Duration::from_secs(3)).await;
        let both = rates(&[&one, &two], 10).await;
        near(both.iter().sum(), 1_250_000, 5);
        near(both[0], both[1], 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cap_on_all_is_kept_in_every_second_while_others_come() {
    let mut scene = Scene::new(&["{ total: 10Mbit/s }"]);
    let one = scene.send(0, 1);
    sleep(Duration::from_secs(3)).await;
    scene.join("{ total: 10Mbit/s }", 2);
    sleep(Duration::from_secs(3)).await;
    let two = scene.send(1, 2);
    for _ in 0..10 {
        let both: u64 = rates(&[&one, &two], 1).await.iter().sum();
        assert!(both < 1_250_000 * 112 / 100, "{both}");
    }
    let both = rates(&[&one, &two], 5).await;
    near(both[0], both[1], 5);
}

#[tokio::test(start_paused = true)]
async fn a_client_keeps_to_its_cap_whatever_replicas_it_uses_and_others_are_not_told_of() {
    let scene = Scene::new(&["{ per_client: 8Mbit/s }"; 3]);
    let (one, two, other) = (scene.send(0, 1), scene.send(1, 1), scene.send(2, 2));
    sleep(Duration::from_secs(4)).await;
    let all = rates(&[&one, &two, &other], 10).await;
    near(all[0] + all[1], 1_000_000, 5);
    near(all[2], 1_000_000, 5);
    drop((one, two, other));
    sleep(Duration::from_secs(30)).await;
    assert!(scene.replicas.iter().all(|replica| replica.lock().shares.is_empty()), "quiet caps are not told of");
}

#[tokio::test(start_paused = true)]
async fn where_the_caps_differ_the_smallest_holds_for_all() {
    let scene = Scene::new(&["{ total: 10Mbit/s }", "{ total: 4Mbit/s }"]);
    let (one, two) = (scene.send(0, 1), scene.send(1, 2));
    sleep(Duration::from_secs(4)).await;
    near(rates(&[&one, &two], 10).await.iter().sum(), 500_000, 5);
}

#[tokio::test(start_paused = true)]
async fn without_the_others_each_keeps_its_share_and_new_caps_are_divided_by_how_many_there_were() {
    let scene = Scene::new(&["{ total: 12Mbit/s, per_client: 6Mbit/s }"; 3]);
    let streams = [scene.send(0, 1), scene.send(1, 2), scene.send(2, 3)];
    sleep(Duration::from_secs(5)).await;
    scene.rounds.iter().for_each(JoinHandle::abort);
    scene.replicas.iter().for_each(|replica| replica.divide_by(3));
    let late = scene.send(0, 9);
    let all = rates(&[&streams[0], &streams[1], &streams[2], &late], 10).await;
    near(all.iter().sum(), 1_500_000, 5);
    near(all[3], 250_000, 5);
    scene.replicas[0].divide_by(1);
    assert_eq!(scene.replicas[0].lock().divided, 1);
}

#[test]
fn a_cap_is_called_the_same_by_every_replica() {
    let client = IpAddr::from([192, 0, 2, 7]).into();
    let name = |scope, listener: Option<&str>, whose| {
        let listener = listener.map(Arc::from);
        CapName(Key { scope, direction: Direction::Upload, listener, whose }).to_string()
    };
    assert_eq!(name(Scope::Total, None, Whose::All), "total:upload:");
    assert_eq!(name(Scope::Client, Some("web"), Whose::Client(client)), "client:upload:192.0.2.7@web");
    assert_eq!(name(Scope::Node, None, Whose::Node("u/n".into())), "node:upload:u/n");
}
