//! Which transfers are made: a pure function of the seed.

use crate::support::dice::Dice;

/// The fallback listeners: name, whether over TLS, `persistent_connection`.
pub(crate) const LISTENERS: [(&str, bool, &str); 4] =
    [("https", true, "force"), ("https-each", true, "off"), ("http", false, "force"), ("http-each", false, "off")];

/// Sets of files: name, sizes in bytes, and the rate that the client keeps to.
pub(crate) const SETS: [(&str, &[usize], &str); 6] = [
    ("empty", &[0], "20m"),
    ("one", &[4_000_000], "30m"),
    ("mixed", &[0, 1, 8192, 300_000, 2_000_000, 0], "20m"),
    ("pair", &[6_000_000, 0, 100, 12_000_000], "80m"),
    ("large", &[30_000_000], "160m"),
    ("many", &[777; 100], "20m"),
];

/// How many transfers go on at a time.
pub(crate) const LANES: usize = 10;

/// One transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    /// By the real client: up or down, listener, set of files, through the forward proxy or not.
    Fallback { up: bool, listener: usize, set: usize, proxied: bool },
    /// By curl through the forward proxy: up or down, as a tunnel or in absolute form, so many bytes.
    Curl { up: bool, tunnel: bool, size: usize },
    /// QUIC beside a control connection: so many bytes each way.
    Data { size: usize },
}

impl Work {
    /// The transfer of a lane with this number.
    pub(crate) fn of(seed: u64, lane: usize, number: u64) -> Work {
        let mut dice = Dice::new(seed ^ ((lane as u64) << 48) ^ (number << 8) ^ 0x1ead);
        let mut below = |end: usize| dice.below(end as u64) as usize;
        match lane {
            0 | 1 => Work::Data { size: 200_000 + below(3_000_000) },
            2 => Work::Curl { up: below(2) == 0, tunnel: below(2) == 0, size: below(8_000_000) },
            lane => {
                let (up, listener, set) = (below(2) == 0, below(LISTENERS.len()), below(SETS.len()));
                Work::Fallback { up, listener, set, proxied: lane < 5 }
            }
        }
    }

    /// One of each kind.
    pub(crate) fn each() -> Vec<Work> {
        let mut all = vec![Work::Data { size: 1_000_000 }];
        for up in [true, false] {
            for proxied in [true, false] {
                let works = (0..LISTENERS.len()).map(|listener| Work::Fallback { up, listener, set: 2, proxied });
                all.extend(works);
            }
            all.extend([true, false].map(|tunnel| Work::Curl { up, tunnel, size: 1_000_000 }));
        }
        all
    }

    /// Its kind, as the report has it.
    pub(crate) fn name(&self) -> String {
        let way = |up: &bool| if *up { "up" } else { "down" };
        match self {
            Work::Fallback { up, listener, proxied, .. } => {
                let (listener, via) = (LISTENERS[*listener].0, if *proxied { "ascp -x" } else { "ascp" });
                format!("{via}, {listener}, {}", way(up))
            }
            Work::Curl { up, tunnel, .. } => {
                format!("curl, {}, {}", if *tunnel { "tunnel" } else { "absolute form" }, way(up))
            }
            Work::Data { .. } => "QUIC over UDP, both ways".to_owned(),
        }
    }
}
