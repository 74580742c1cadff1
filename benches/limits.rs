//! What one decision of a limit costs: of a rate with a million keys known, and of the caps on a stream.
//!
//! `cargo bench --bench limits`; about ten seconds. It measures chunk by chunk, and a chunk in which somebody else was on
//! the processor does not move the median.
#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure ends with the reason")]
#![allow(clippy::print_stdout, reason = "the table is what a bench is for")]

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Barrier,
    task::{Context, Poll, Waker},
    thread,
    time::Instant,
};

use fallgate::{
    config::{Config, RateConfig, units::EventRate},
    limit::{Bandwidth, ClientKey, Flow, RateLimit, Shaper},
    telemetry::Direction,
};

const KEYS: usize = 1_000_000;
/// Decisions of a chunk.
const CHUNK: usize = 10_000;
const CHUNKS: usize = 500;
/// What a stream asks for at a time.
const PIECE: u64 = 16 * 1024;

fn main() {
    println!("\n### One decision, in chunks of {CHUNK}: ns\n");
    println!("| decision | median | 5 to 95 % of the chunks |");
    println!("|---|---|---|");
    rates();
    caps();
}

fn rates() {
    let keys = keys();
    let fast = RateConfig { rate: EventRate { count: 1_000_000, seconds: 1 }, burst: u32::MAX };
    let limit = known(fast, &keys);
    let pass = |keys: &[ClientKey], now| keys.iter().for_each(|key| assert!(limit.check(key, now).is_ok()));
    line("rate, a million keys, one thread", through(&keys, 0, pass));
    let together = Barrier::new(2);
    let both = thread::scope(|scope| {
        let one = |from| {
            let (keys, together) = (&keys, &together);
            move || {
                together.wait();
                through(keys, from, pass)
            }
        };
        let threads = [scope.spawn(one(0)), scope.spawn(one(KEYS / 2))];
        threads.map(|thread| thread.join().expect("a thread that ends"))
    });
    line("rate, a million keys, each of two threads", both.concat());
    let slow = RateConfig { rate: EventRate { count: 1, seconds: 3600 }, burst: 1 };
    let limit = known(slow, &keys);
    let refuse = |keys: &[ClientKey], now| keys.iter().for_each(|key| assert!(limit.check(key, now).is_err()));
    line("rate, a million keys, refused", through(&keys, 0, refuse));
    let limit = known(fast, &keys[..1]);
    let one = vec![keys[0]; CHUNK];
    line(
        "rate, one key",
        through(&one, 0, |keys, now| keys.iter().for_each(|key| assert!(limit.check(key, now).is_ok()))),
    );
}

fn caps() {
    let mut free = shaper("{}");
    line("no cap, is_unlimited", chunks(|| (0..CHUNK).for_each(|_| assert!(black_box(&mut free).is_unlimited()))));
    let piece = |shaper: &mut Shaper| {
        let mut left = PIECE;
        while left > 0 {
            match shaper.poll_take(&mut Context::from_waker(Waker::noop()), left) {
                Poll::Ready(bytes) => left -= bytes,
                Poll::Pending => panic!("the cap is reached"),
            }
        }
    };
    for (name, bandwidth) in [
        ("one cap that is not reached, 16 KiB", "{ per_session: 80000Gbit/s }"),
        (
            "four caps that are not reached, 16 KiB",
            "{ total: 80000Gbit/s, per_client: 80000Gbit/s, per_session: 80000Gbit/s, per_node: 80000Gbit/s }",
        ),
    ] {
        let mut capped = shaper(bandwidth);
        line(name, chunks(|| (0..CHUNK).for_each(|_| piece(black_box(&mut capped)))));
    }
}

/// A million clients in random order, always the same.
fn keys() -> Vec<ClientKey> {
    let mut keys: Vec<_> =
        (0..KEYS as u32).map(|n| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n)).into()).collect();
    let mut state = 1_u64;
    for at in (1..keys.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        keys.swap(at, (state >> 33) as usize % (at + 1));
    }
    keys
}

/// A limit that has seen every key once.
fn known(rate: RateConfig, keys: &[ClientKey]) -> RateLimit<ClientKey> {
    let now = Instant::now();
    let limit = RateLimit::new(Some(rate), 2 * KEYS, now);
    keys.iter().for_each(|key| assert!(limit.check(key, now).is_ok()));
    assert_eq!(limit.len(), keys.len());
    limit
}

/// Chunk after chunk of the keys, from one of them on and round and round.
fn through(keys: &[ClientKey], from: usize, work: impl Fn(&[ClientKey], Instant)) -> Vec<f64> {
    let mut all = keys.chunks_exact(CHUNK).cycle().skip(from / CHUNK);
    chunks(|| work(all.next().expect("it goes round"), Instant::now()))
}

/// Nanoseconds of a decision, of each chunk, after some for warmth.
fn chunks(mut work: impl FnMut()) -> Vec<f64> {
    let mut one = || {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e9 / CHUNK as f64
    };
    (0..CHUNKS / 10).for_each(|_| {
        let _ = one();
    });
    (0..CHUNKS).map(|_| one()).collect()
}

fn line(name: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let at = |percent| values[percent * (values.len() - 1) / 100];
    println!("| {name} | {:.1} | {:.1}-{:.1} |", at(50), at(5), at(95));
}

fn shaper(bandwidth: &str) -> Shaper {
    let text = format!(
        "version: 1\nlisteners: [{{ name: l, protocol: http, address: '127.0.0.1:1', upstream: u }}]\n\
         upstreams: [{{ name: u, nodes: [{{ name: n, host: n, ports: {{ http: 1 }} }}] }}]\nbandwidth: {bandwidth}\n"
    );
    let config = Config::from_yaml(&text, Path::new("")).expect("a sound config");
    let client = IpAddr::from(Ipv4Addr::LOCALHOST).into();
    let flow = Flow { listener: "l".into(), client, session: Some(1), node: Some("u/n".into()) };
    Bandwidth::new(&config).stream(flow, Direction::Download)
}
