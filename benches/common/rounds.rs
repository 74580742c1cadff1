//! Rounds: every peer once in each, in turning order, and again where the machine was busy with something else.

use std::time::{Duration, Instant};

use super::{machine, options::Options, process::pause};

/// A round in which others used more of the machine than this, in processors, does not count.
const FOREIGN: f64 = 0.15;

/// What is compared.
pub(crate) trait Compared {
    /// What it is called in the tables.
    fn name(&self) -> &str;
    /// Its process, if it is one.
    fn pid(&self) -> Option<u32>;
}

/// What was measured of one line: by peer, then by round.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) names: Vec<String>,
    pub(crate) values: Vec<Vec<f64>>,
    /// Rounds that were thrown away because of foreign load.
    pub(crate) noisy: usize,
    /// Whether rounds with foreign load had to be counted.
    pub(crate) unsure: bool,
}

/// Measures all peers as often as the options say. What `one` returns is better the smaller it is.
pub(crate) fn run<P: Compared>(line: &str, options: &Options, peers: &[P], mut one: impl FnMut(&P) -> f64) -> Measured {
    let [measured] = run_many(line, options, peers, |peer| [one(peer)]);
    measured
}

/// The same where one measurement gives several figures.
pub(crate) fn run_many<P: Compared, const N: usize>(
    line: &str,
    options: &Options,
    peers: &[P],
    mut one: impl FnMut(&P) -> [f64; N],
) -> [Measured; N] {
    let rounds = options.rounds();
    let pids: Vec<_> = peers.iter().filter_map(P::pid).collect();
    let mut measured = std::array::from_fn(|_| Measured {
        names: peers.iter().map(|p| p.name().to_owned()).collect(),
        values: vec![Vec::new(); peers.len()],
        noisy: 0,
        unsure: false,
    });
    let (mut counted, mut noisy) = (0, 0);
    // Once for warmth.
    for peer in peers {
        one(peer);
    }
    let mut turn = 0;
    while counted < rounds && !peers.is_empty() {
        wait_for_quiet(&pids, Duration::from_secs(options.patience));
        let (start, before) = (Instant::now(), machine::foreign_seconds(&pids));
        let mut round = vec![[0.0; N]; peers.len()];
        for i in 0..peers.len() {
            let i = (i + turn) % peers.len();
            round[i] = one(&peers[i]);
        }
        turn += 1;
        let foreign = (machine::foreign_seconds(&pids) - before) / start.elapsed().as_secs_f64();
        if foreign > FOREIGN {
            if noisy < rounds && options.patience > 0 {
                noisy += 1;
                continue;
            }
            measured.iter_mut().for_each(|figure| figure.unsure = true);
        }
        counted += 1;
        for (n, figure) in measured.iter_mut().enumerate() {
            figure.noisy = noisy;
            figure.values.iter_mut().zip(&round).for_each(|(all, values)| all.push(values[n]));
        }
    }
    eprintln!("{line}: {counted} rounds, {noisy} more thrown away");
    measured
}

/// Waits, up to a bound, until nobody else uses the machine.
fn wait_for_quiet(pids: &[u32], patience: Duration) {
    let start = Instant::now();
    while start.elapsed() < patience {
        let (moment, before) = (Instant::now(), machine::foreign_seconds(pids));
        pause(Duration::from_millis(200));
        if (machine::foreign_seconds(pids) - before) / moment.elapsed().as_secs_f64() <= FOREIGN {
            return;
        }
    }
}

impl Measured {
    /// The median of a peer, in the unit of the line.
    pub(crate) fn median(&self, peer: usize) -> f64 {
        quantile(&self.values[peer], 0.5)
    }

    /// Quartiles of the ratio of two peers within each round: the lower one, the median, the upper one.
    pub(crate) fn ratio(&self, peer: usize, to: usize) -> [f64; 3] {
        let ratios: Vec<_> = self.values[peer].iter().zip(&self.values[to]).map(|(a, b)| a / b).collect();
        [0.25, 0.5, 0.75].map(|q| quantile(&ratios, q))
    }
}

fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = q * (sorted.len().saturating_sub(1)) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}
