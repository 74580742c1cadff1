//! What the scripts of limits count, in a real Redis, beside what they should.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use fallgate::{
    config::{Config, OnUnavailable, RedisConfig},
    limit::{ClientKey, RateLimit},
    shared::{
        Key,
        limits::{CapTold, CapWanted, Events, Paced, Reserved, Scoped, Starting},
        redis::{Found, Mirror, News, Redis, ReplicaId, Script, Terms},
    },
};

use crate::support::{dice::Dice, eventually, redis::Redis as Server};

/// Scripts that are told the time, in microseconds, by their last argument.
const CLOCK: &str = "redis.call('TIME')";

struct Alone;

impl Mirror for Alone {
    fn synced(&self, _: Found) -> Vec<News> {
        Vec::new()
    }
    fn label_key(&self) -> (u64, u64) {
        (1, 2)
    }
    fn heard(&self, _: ReplicaId, _: News) {}
    fn live(&self, _: &[ReplicaId]) {}
    fn gone(&self, _: Key) {}
    fn back(&self, _: Key) {}
    fn lost(&self) {}
}

/// A Redis, where there is one on this machine; else its test is skipped.
async fn server() -> Option<Server> {
    if Server::is_here() { Some(Server::start().await) } else { None }
}

async fn replica(server: &Server) -> Redis {
    let config = RedisConfig {
        redis: vec![server.url().parse().unwrap()],
        on_unavailable: OnUnavailable::Local,
        password_file: None,
        ca_file: None,
        sentinel_master: None,
        key_prefix: "test".to_owned(),
        timeout: Duration::from_secs(10),
    };
    let terms = Terms { session_ttl: Duration::from_secs(60), max_pins: 10 };
    let redis = Redis::start(&config, ReplicaId::new(), terms, Arc::new(Alone));
    eventually("the Redis", || redis.is_up().then_some(())).await;
    redis
}

fn starting(key: u8, scopes: &[(&str, u32)], rates: &[Paced]) -> Starting {
    let scopes = scopes.iter().map(|(name, max)| Scoped { name: (*name).to_owned(), max: Some(*max) }).collect();
    Starting { key: Key([key; 16]), scopes, rates: rates.to_vec() }
}

fn paced(name: &str, period: Duration, burst: u32) -> Paced {
    Paced { name: name.to_owned(), period, burst }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_taken_in_all_scopes_or_in_none_and_free_for_all_after_its_release() {
    let Some(server) = server().await else { return };
    let (one, two) = (replica(&server).await, replica(&server).await);
    let scopes = [("client:a", 2), ("all", 3)];
    assert_eq!(one.reserve(&starting(1, &scopes, &[])).await, Reserved::Yes);
    assert_eq!(two.reserve(&starting(2, &scopes, &[])).await, Reserved::Yes);
    assert_eq!(one.reserve(&starting(1, &scopes, &[])).await, Reserved::Yes, "it has its place already");
    assert_eq!(one.reserve(&starting(3, &scopes, &[])).await, Reserved::Full(0));
    assert_eq!(two.reserve(&starting(4, &[("client:b", 2), ("all", 3)], &[])).await, Reserved::Yes);
    assert_eq!(two.reserve(&starting(5, &[("client:c", 2), ("all", 3)], &[])).await, Reserved::Full(1));
    assert_eq!(
        one.reserve(&starting(6, &[("client:c", 1), ("all", 9)], &[])).await,
        Reserved::Yes,
        "by its own maxima"
    );
    one.release(&[Key([2; 16])]).await;
    one.release(&[Key([6; 16])]).await;
    assert_eq!(two.reserve(&starting(3, &scopes, &[])).await, Reserved::Yes);
    // What lives is counted, whatever the maxima are.
    let names = vec!["client:a".to_owned(), "all".to_owned()];
    let live = [(Key([7; 16]), names), (Key([8; 16]), vec!["all".to_owned()])];
    assert!(one.hold_places(&live, false).await);
    assert_eq!(two.reserve(&starting(9, &[("all", 4)], &[])).await, Reserved::Yes, "what is over stays so");
    two.release(&[Key([9; 16])]).await;
    assert!(one.hold_places(&live, true).await);
    assert_eq!(two.reserve(&starting(9, &[("all", 5)], &[])).await, Reserved::Full(0));
    assert_eq!(two.reserve(&starting(9, &[("all", 6)], &[])).await, Reserved::Yes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_counts_for_the_rates_before_the_one_that_refuses_and_takes_no_place() {
    let Some(server) = server().await else { return };
    let (redis, hour) = (replica(&server).await, Duration::from_secs(3600));
    let (all, own) = (paced("all", hour, 3), paced("own", hour, 1));
    let rates = [all.clone(), own.clone()];
    assert_eq!(redis.reserve(&starting(1, &[("all", 1)], &rates)).await, Reserved::Yes);
    let refused = redis.reserve(&starting(2, &[("all", 9)], &rates)).await;
    let Reserved::TooFast(1, wait) = refused else { panic!("{refused:?}") };
    assert!(wait > hour - Duration::from_secs(60) && wait <= hour, "{wait:?}");
    assert_eq!(redis.reserve(&starting(2, &[("all", 1)], std::slice::from_ref(&all))).await, Reserved::Full(0));
    let refused = redis.reserve(&starting(2, &[("all", 9)], std::slice::from_ref(&all))).await;
    assert!(matches!(refused, Reserved::TooFast(0, _)), "{refused:?}: it has counted twice before");
    // Events that have happened count as far as they are allowed.
    let events = |rate: &Paced, count| Events { rate: rate.clone(), count };
    let free = paced("free", hour, 5);
    let waits = redis.count(&[events(&free, 4), events(&all, 7)]).await.unwrap();
    assert!(waits[0].is_zero() && waits[1] > hour / 2, "{waits:?}");
    let waits = redis.count(&[events(&free, 9)]).await.unwrap();
    assert!(waits[0] > hour / 2 && waits[0] <= hour, "{waits:?}");
}

/// Runs a script as if it were so many microseconds since 1970.
async fn run_at(redis: &Redis, script: &str, micros: u64, keys: &[String], arguments: &[String]) -> Vec<i64> {
    assert!(script.contains(CLOCK));
    let text = script.replace(CLOCK, "{ math.floor(ARGV[#ARGV] / 1000000), ARGV[#ARGV] % 1000000 }");
    let arguments: Vec<_> = arguments.iter().cloned().chain([micros.to_string()]).map(String::into_bytes).collect();
    let script = Script(Box::leak(text.into_boxed_str()));
    redis.run(&script, keys, &arguments).await.unwrap().numbers().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_in_the_redis_is_the_same_as_one_in_a_process() {
    let Some(server) = server().await else { return };
    let redis = replica(&server).await;
    let client: ClientKey = IpAddr::from([192, 0, 2, 1]).into();
    let mut dice = Dice::new(7);
    for case in 0..40_u64 {
        let per_hour = [1, 2, 3, 5, 12, 30, 60][usize::try_from(dice.below(7)).unwrap()];
        let (period, burst) = (3600 / per_hour, 1 + dice.below(9));
        let text = format!(
            "version: 1\nlisteners: [{{name: l, protocol: http, address: '127.0.0.1:0', upstream: u}}]\nupstreams: [{{name: u, nodes: [{{name: n, host: h, ports: {{http: 1}}}}]}}]\nlimits: {{session_starts_per_client: {{rate: {per_hour}/h, burst: {burst}}}}}\n"
        );
        let rate = Config::from_yaml(&text, std::path::Path::new("")).unwrap().limits.session_starts_per_client;
        let base = Instant::now();
        let limit = RateLimit::new(rate, 10, base);
        let (start, mut passed) = (1_800_000_000_000_000_u64, 0);
        for _ in 0..40 {
            passed += dice.below(2) * dice.below(2 * period * 1_000_000);
            let here = limit.check(&client, base + Duration::from_micros(passed));
            let keys = [redis.key("none"), redis.key(&format!("rate:case{case}"))];
            let arguments = ["s", "1000", "0"].map(str::to_owned).into_iter();
            let pace = [(period * 1_000_000).to_string(), burst.to_string()];
            let arguments: Vec<_> = arguments.chain(pace).collect();
            let there = run_at(
                &redis,
                include_str!("../../../src/shared/redis/reserve.lua"),
                start + passed,
                &keys,
                &arguments,
            )
            .await;
            match here {
                Ok(()) => assert_eq!(there, [0], "case {case}"),
                Err(wait) => assert_eq!(there, [1, 0, i64::try_from(wait.as_micros()).unwrap()], "case {case}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn places_in_the_redis_are_those_of_sessions_that_live_and_no_more_than_may_be() {
    let Some(server) = server().await else { return };
    let redis = replica(&server).await;
    let (mut dice, mut now) = (Dice::new(11), 1_800_000_000_000_000_u64);
    let (names, lasts) = (["a", "b", "c", "all"], 30_000_000);
    let maxima: HashMap<&str, usize> = [("a", 2), ("b", 3), ("c", 9), ("all", 6)].into();
    // Of each session the scopes that it has its place in, and until when.
    let mut model: BTreeMap<u64, (Vec<&str>, u64)> = BTreeMap::new();
    let key = |name: &str| redis.key(&format!("count:{name}"));
    for step in 0..600 {
        now += dice.below(3_000_000);
        let (session, of) = (dice.below(12), names[usize::try_from(dice.below(3)).unwrap()]);
        let held = redis.key(&format!("places:{session}"));
        if dice.below(3) == 0 {
            let script = include_str!("../../../src/shared/redis/release.lua");
            let script = Script(script);
            redis.run(&script, &[held], &[session.to_string().into_bytes()]).await.unwrap();
            model.remove(&session);
            continue;
        }
        model.retain(|_, (_, ends)| *ends > now / 1000 * 1000);
        // A session is of one client as long as it lives.
        let of = model.get(&session).map_or(of, |(scopes, _)| scopes[0]);
        let scopes = vec![of, "all"];
        let count = |scope: &str| model.values().filter(|(scopes, _)| scopes.contains(&scope)).count();
        let full = scopes.iter().position(|scope| !model.contains_key(&session) && count(scope) >= maxima[scope]);
        let wanted = match full {
            Some(scope) => vec![2, i64::try_from(scope).unwrap()],
            None => vec![0],
        };
        let keys = [held, key(of), key("all")];
        let arguments =
            [session.to_string(), "30000".to_owned(), "2".to_owned(), maxima[of].to_string(), "6".to_owned()];
        let found = run_at(&redis, include_str!("../../../src/shared/redis/reserve.lua"), now, &keys, &arguments).await;
        assert_eq!(found, wanted, "step {step}: {session} of {of}: {model:?}");
        if full.is_none() {
            model.insert(session, (scopes, now / 1000 * 1000 + lasts));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_taken_of_what_others_do_not_hold_and_one_that_is_not_told_of_is_free() {
    let Some(server) = server().await else { return };
    let (one, two) = (replica(&server).await, replica(&server).await);
    let told = |need, rate| [CapTold { name: "total".to_owned(), need, rate }];
    let wanted = |share, least| [CapWanted { name: "total".to_owned(), share, rate: 1000, least }];
    let reports = one.tell_caps(&told(u64::MAX, 1000)).await.unwrap();
    assert_eq!((reports[0].len(), reports[0][0].need, reports[0][0].is_own), (1, u64::MAX, true));
    assert_eq!(one.hold_caps(&wanted(1000, 50)).await.unwrap(), [1000]);
    let reports = two.tell_caps(&told(7, 800)).await.unwrap();
    let mut rates: Vec<_> = reports[0].iter().map(|report| (report.is_own, report.need, report.rate)).collect();
    rates.sort_unstable();
    assert_eq!(rates, [(false, u64::MAX, 1000), (true, 7, 800)]);
    assert_eq!(two.hold_caps(&wanted(500, 50)).await.unwrap(), [50], "nothing is left but what a beginner has");
    assert_eq!(one.hold_caps(&wanted(500, 50)).await.unwrap(), [500]);
    assert_eq!(two.hold_caps(&wanted(800, 50)).await.unwrap(), [500]);
    one.leave_caps(&["total".to_owned()]).await;
    assert_eq!(two.hold_caps(&wanted(800, 50)).await.unwrap(), [800]);
}
