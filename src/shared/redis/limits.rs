//! What replicas count together in the Redis: places of sessions, events of rates, and shares of caps. Each script is one
//! step for all replicas; the time is that of the Redis.
//!
//! A place is held for half a minute and then again ([`Redis::hold_places`]), so that those of a replica that is gone
//! become free.

use std::time::Duration;

use super::{Ran, Redis, Script, keys::hex};
use crate::shared::{
    Key,
    limits::{CapReport, CapTold, CapWanted, Events, Paced, Reserved, Starting},
};

/// Takes a place of a session in all scopes, and counts its start, or says what it lacks.
const RESERVE: Script = Script(include_str!("reserve.lua"));
/// Holds the places of sessions for longer.
const REFRESH: Script = Script(include_str!("refresh.lua"));
/// Gives the places of a session back.
const RELEASE: Script = Script(include_str!("release.lua"));
/// Counts events that have happened.
const EVENTS: Script = Script(include_str!("events.lua"));
/// Tells what is needed of caps, and hears what others need.
const TELL: Script = Script(include_str!("tell.lua"));
/// Takes shares of caps.
const HOLD: Script = Script(include_str!("hold.lua"));
/// Gives shares of caps back.
const LEAVE: Script = Script(include_str!("leave.lua"));

/// How long a place is held of which nothing is heard.
const PLACE_FOR: Duration = Duration::from_secs(30);
/// Sessions whose places are held for longer in one step.
const AT_ONCE: usize = 64;
/// How long a share is held of which nothing is heard.
const SHARE_FOR: Duration = Duration::from_secs(5);

impl Redis {
    /// Takes for a session what it needs of what all replicas share, or nothing but events of rates.
    pub async fn reserve(&self, starting: &Starting) -> Reserved {
        let scopes = starting.scopes.iter().map(|scope| self.scope(&scope.name));
        let rates = starting.rates.iter().map(|rate| self.rate(&rate.name));
        let keys: Vec<_> = [self.places(starting.key)].into_iter().chain(scopes).chain(rates).collect();
        let mut arguments = vec![hex(&starting.key.0), millis(PLACE_FOR), starting.scopes.len().to_string()];
        arguments.extend(
            starting.scopes.iter().map(|scope| scope.max.map_or_else(|| "-1".to_owned(), |max| max.to_string())),
        );
        arguments.extend(starting.rates.iter().flat_map(pace));
        let ran = self.run(&RESERVE, &keys, &bytes(arguments)).await;
        reserved(ran.as_ref()).unwrap_or(Reserved::Alone)
    }

    /// Holds the places of sessions that live, each with its scopes, for longer; those that are not held any more only
    /// where all may have been lost. False where it cannot be told.
    pub async fn hold_places(&self, sessions: &[(Key, Vec<String>)], may_be_lost: bool) -> bool {
        for some in sessions.chunks(AT_ONCE) {
            let mut keys = Vec::new();
            let mut arguments = vec![millis(PLACE_FOR), u8::from(may_be_lost).to_string()];
            for (key, scopes) in some {
                keys.push(self.places(*key));
                keys.extend(scopes.iter().map(|scope| self.scope(scope)));
                arguments.extend([hex(&key.0), scopes.len().to_string()]);
            }
            if self.run(&REFRESH, &keys, &bytes(arguments)).await.is_none() {
                return false;
            }
        }
        true
    }

    /// The places of sessions are free for others. Where that cannot be told they become so by themselves.
    pub async fn release(&self, sessions: &[Key]) {
        for some in sessions.chunks(AT_ONCE) {
            let places: Vec<_> = some.iter().map(|key| self.places(*key)).collect();
            self.run(&RELEASE, &places, &bytes(some.iter().map(|key| hex(&key.0)))).await;
        }
    }

    /// Counts events that have happened, as many as are allowed; of each rate how long until one more is, zero where it
    /// is now. None where it cannot be told.
    pub async fn count(&self, events: &[Events]) -> Option<Vec<Duration>> {
        let keys: Vec<_> = events.iter().map(|events| self.rate(&events.rate.name)).collect();
        let arguments = events.iter().flat_map(|events| {
            let [period, burst] = pace(&events.rate);
            [period, burst, events.count.to_string()]
        });
        let waits = self.run(&EVENTS, &keys, &bytes(arguments)).await?.numbers()?;
        (waits.len() == events.len()).then(|| waits.into_iter().map(micros).collect())
    }

    /// Tells what is needed here of each cap, and hears what each replica does, this one among them. None where the others
    /// cannot be asked.
    pub async fn tell_caps(&self, told: &[CapTold]) -> Option<Vec<Vec<CapReport>>> {
        let keys: Vec<_> = told.iter().map(|cap| self.cap(&cap.name)).collect();
        let each = told.iter().flat_map(|cap| [cap.need.to_string(), cap.rate.to_string()]);
        let arguments = [self.me().to_string(), millis(SHARE_FOR)].into_iter().chain(each);
        let texts = self.run(&TELL, &keys, &bytes(arguments)).await?.texts()?;
        reports(&self.me().to_string(), &texts, told.len())
    }

    /// Takes as much of each cap as is wanted and not held by others; what is held here from now on.
    pub async fn hold_caps(&self, wanted: &[CapWanted]) -> Option<Vec<u64>> {
        let keys: Vec<_> = wanted.iter().map(|cap| self.cap(&cap.name)).collect();
        let each = wanted.iter().flat_map(|cap| [cap.share, cap.rate, cap.least].map(|bytes| bytes.to_string()));
        let arguments = [self.me().to_string()].into_iter().chain(each);
        let shares = self.run(&HOLD, &keys, &bytes(arguments)).await?.numbers()?;
        (shares.len() == wanted.len())
            .then(|| shares.into_iter().map(|share| u64::try_from(share).unwrap_or(0)).collect())
    }

    /// Gives back what is held of these caps.
    pub async fn leave_caps(&self, names: &[String]) {
        let keys: Vec<_> = names.iter().map(|name| self.cap(name)).collect();
        if !keys.is_empty() {
            self.run(&LEAVE, &keys, &bytes([self.me().to_string()])).await;
        }
    }

    fn scope(&self, name: &str) -> String {
        self.key(&format!("count:{name}"))
    }

    fn places(&self, key: Key) -> String {
        self.key(&format!("places:{}", hex(&key.0)))
    }

    fn rate(&self, name: &str) -> String {
        self.key(&format!("rate:{name}"))
    }

    fn cap(&self, name: &str) -> String {
        self.key(&format!("cap:{name}"))
    }
}

/// The longest time in which a bucket fills, in microseconds: scripts reckon in numbers of 53 bits.
const MAX_FILLING: u64 = 50 * 365 * 86_400 * 1_000_000;

/// From one event to the next in microseconds, at least one, and the burst.
fn pace(rate: &Paced) -> [String; 2] {
    let period = u64::try_from(rate.period.as_nanos().div_ceil(1000)).unwrap_or(MAX_FILLING).clamp(1, MAX_FILLING);
    let burst = u64::from(rate.burst).min(MAX_FILLING / period).max(1);
    [period.to_string(), burst.to_string()]
}

fn reserved(ran: Option<&Ran>) -> Option<Reserved> {
    let index = |at: i64| usize::try_from(at).ok();
    match ran?.numbers()?[..] {
        [0] => Some(Reserved::Yes),
        [1, rate, wait] => Some(Reserved::TooFast(index(rate)?, micros(wait))),
        [2, scope] => Some(Reserved::Full(index(scope)?)),
        _ => None,
    }
}

/// What each replica tells of each of so many caps; what is not sound is left out. None where it is no such answer.
fn reports(me: &str, texts: &[Vec<u8>], caps: usize) -> Option<Vec<Vec<CapReport>>> {
    let mut texts = texts.iter().map(|text| std::str::from_utf8(text).unwrap_or_default());
    let mut all = Vec::new();
    for _ in 0..caps {
        let count: usize = texts.next()?.parse().ok()?;
        let mut reports = Vec::new();
        for _ in 0..count {
            let (replica, told) = (texts.next()?, texts.next()?);
            let numbers: Vec<_> = told.split(' ').map_while(|number| number.parse().ok()).collect();
            if let [_, _, need, rate] = numbers[..] {
                reports.push(CapReport { is_own: replica == me, need, rate });
            }
        }
        all.push(reports);
    }
    Some(all)
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

fn bytes(texts: impl IntoIterator<Item = String>) -> Vec<Vec<u8>> {
    texts.into_iter().map(String::into_bytes).collect()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    #[test]
    fn what_replicas_tell_of_caps_is_read_and_what_is_not_sound_left_out() {
        let max = u64::MAX.to_string();
        let told = format!("9 5 {max} 100");
        let found = reports("b", &texts(&["3", "a", &told, "b", "9 5 7 100", "c", "x", "0"]), 2).unwrap();
        let report = |is_own, need| CapReport { is_own, need, rate: 100 };
        assert_eq!(found, [vec![report(false, u64::MAX), report(true, 7)], vec![]]);
        assert_eq!(reports("b", &texts(&["2", "a"]), 1), None);
    }

    #[test]
    fn a_rate_is_reckoned_in_microseconds_that_scripts_can_count() {
        let paced = |nanos, burst| pace(&Paced { name: String::new(), period: Duration::from_nanos(nanos), burst });
        assert_eq!(paced(100_000_000, 50), ["100000", "50"]);
        assert_eq!(paced(333_333_333, 3), ["333334", "3"]);
        assert_eq!(paced(1, 7), ["1", "7"]);
        assert_eq!(paced(3_600_000_000_000 * 24 * 365, u32::MAX), ["31536000000000", "50"]);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(answer in vec(vec(any::<u8>(), 0..12), 0..12), caps in 0..5usize) {
            let _ = reports("b", &answer, caps);
        }
    }
}
