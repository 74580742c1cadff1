//! What goes together in `limits` and `bandwidth`: no part above its whole, no listener above the gateway.

use std::time::Duration;

use super::super::error::Problem;
use super::super::units::{EventRate, format_bandwidth, format_duration, format_rate};
use super::super::{BandwidthConfig, Config, LimitsConfig, ListenerConfig, ListenerLimitsConfig, RateConfig, WhenFull};

/// The shortest wait that is worth a place in the queue.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// What is wrong in the sections that hold for all listeners.
pub(super) fn global(config: &Config, problems: &mut Vec<Problem>) {
    let limits = &config.limits;
    let usual = Maxima::of(&LimitsConfig::default());
    // A part that is the default was not thought of beside its whole, and does no harm.
    let said = |part: &str, value: u32| usual.get(part) != Some(value);
    parts("limits", &Maxima::of(limits), said, problems);
    wait("limits.max_wait", limits.max_wait, problems);
    if limits.when_full == WhenFull::Wait && limits.max_waiting == 0 {
        problems.push(
            Problem::new("limits.max_waiting", "nobody may wait, and when_full is wait")
                .hint("write when_full: refuse, or give it a number".to_owned()),
        );
    }
    bandwidth("bandwidth", &config.bandwidth, problems);
}

/// What is wrong in the limits of one listener; `path` is that of the listener.
pub(super) fn listener(config: &Config, listener: &ListenerConfig, path: &str, problems: &mut Vec<Problem>) {
    let (own, all) = (&listener.limits, &config.limits);
    let path = format!("{path}.limits");
    let maxima = Maxima::of_listener(own);
    parts(&path, &maxima, |_, _| true, problems);
    let whole = Maxima::of(all);
    for (key, value) in &maxima.0 {
        above(&path, key, *value, whole.get(key), |value| value.to_string(), problems);
    }
    rate(&path, "session_starts_per_client", own.session_starts_per_client, all.session_starts_per_client, problems);
    rate(&path, "requests_per_client", own.requests_per_client, all.requests_per_client, problems);
    if let Some(longest) = own.max_wait {
        wait(&format!("{path}.max_wait"), longest, problems);
        above(&path, "max_wait", longest, Some(all.max_wait), format_duration, problems);
    }
    if own.when_full == Some(WhenFull::Wait) && all.max_waiting == 0 {
        problems.push(
            Problem::new(format!("{path}.when_full"), "limits.max_waiting is 0: nobody may wait")
                .hint("give limits.max_waiting a number, or leave when_full out".to_owned()),
        );
    }
    let place = format!("{path}.bandwidth");
    bandwidth(&place, &own.bandwidth, problems);
    for ((key, own), (_, all)) in scopes(&own.bandwidth).into_iter().zip(scopes(&config.bandwidth)) {
        for ((direction, own), (_, all)) in own.into_iter().zip(all) {
            if let Some((own, all)) = own.zip(all).filter(|(own, all)| own > all) {
                let (own, all) = (format_bandwidth(own), format_bandwidth(all));
                problems.push(
                    Problem::new(format!("{place}.{key}"), format!("{own} of {direction} is above the {all} of all"))
                        .hint(format!("lower it, or raise bandwidth.{key}")),
                );
            }
        }
    }
}

type Key = &'static str;

/// Maxima of one section that are not off.
struct Maxima(Vec<(Key, u32)>);

impl Maxima {
    fn of(limits: &LimitsConfig) -> Self {
        Self::some([
            ("max_connections", Some(limits.max_connections)),
            ("max_connections_per_client", limits.max_connections_per_client),
            ("max_sessions", limits.max_sessions),
            ("max_sessions_per_client", limits.max_sessions_per_client),
            ("max_sessions_per_user", limits.max_sessions_per_user),
            ("max_waiting", Some(limits.max_waiting)),
            ("max_udp_flows", Some(limits.max_udp_flows)),
            ("max_udp_flows_per_client", Some(limits.max_udp_flows_per_client)),
            ("max_tunnels", Some(limits.max_tunnels)),
            ("max_tunnels_per_client", Some(limits.max_tunnels_per_client)),
        ])
    }

    fn of_listener(limits: &ListenerLimitsConfig) -> Self {
        Self::some([
            ("max_connections", limits.max_connections),
            ("max_connections_per_client", limits.max_connections_per_client),
            ("max_sessions", limits.max_sessions),
            ("max_sessions_per_client", limits.max_sessions_per_client),
            ("max_sessions_per_user", limits.max_sessions_per_user),
            ("max_waiting", limits.max_waiting),
            ("max_udp_flows", limits.max_udp_flows),
            ("max_udp_flows_per_client", limits.max_udp_flows_per_client),
            ("max_tunnels", limits.max_tunnels),
            ("max_tunnels_per_client", limits.max_tunnels_per_client),
        ])
    }

    fn some(all: [(Key, Option<u32>); 10]) -> Self {
        Self(all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
    }

    fn get(&self, key: &str) -> Option<u32> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }
}

/// A maximum of each client or user that is above that of all of them would never be met.
fn parts(path: &str, maxima: &Maxima, said: impl Fn(&str, u32) -> bool, problems: &mut Vec<Problem>) {
    for (part, value) in &maxima.0 {
        let Some((whole, _)) = part.split_once("_per_") else { continue };
        if let Some(total) = maxima.get(whole).filter(|total| value > total && said(part, *value)) {
            problems.push(
                Problem::new(format!("{path}.{part}"), format!("{value} is above {whole}, which is {total}"))
                    .hint(format!("write at most {total}, or raise {whole}")),
            );
        }
    }
}

/// What a listener may have more of than there is over all would never be had.
fn above<T: PartialOrd>(
    path: &str,
    key: &str,
    own: T,
    all: Option<T>,
    show: impl Fn(T) -> String,
    problems: &mut Vec<Problem>,
) {
    if let Some(all) = all.filter(|all| own > *all) {
        let (own, all) = (show(own), show(all));
        problems.push(
            Problem::new(format!("{path}.{key}"), format!("{own} is above limits.{key}, which is {all}"))
                .hint(format!("write at most {all}, or raise limits.{key}")),
        );
    }
}

fn rate(path: &str, key: &str, own: Option<RateConfig>, all: Option<RateConfig>, problems: &mut Vec<Problem>) {
    let Some((own, all)) = own.zip(all) else { return };
    above(path, &format!("{key}.rate"), Often(own.rate), Some(Often(all.rate)), |o| format_rate(o.0), problems);
    above(path, &format!("{key}.burst"), own.burst, Some(all.burst), |burst| burst.to_string(), problems);
}

/// Rates in the order of how much they allow.
#[derive(PartialEq)]
struct Often(EventRate);

impl PartialOrd for Often {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.0.is_above(other.0).cmp(&other.0.is_above(self.0)))
    }
}

fn wait(path: &str, longest: Duration, problems: &mut Vec<Problem>) {
    if longest < MIN_WAIT {
        problems.push(
            Problem::new(path, format!("{} is too short to wait for anything", format_duration(longest)))
                .hint("write at least 1s, or when_full: refuse".to_owned()),
        );
    }
}

type Each = [(&'static str, Option<u64>); 2];

/// The keys of a bandwidth section with what they say for each direction.
fn scopes(config: &BandwidthConfig) -> [(Key, Each); 4] {
    [
        ("total", config.total),
        ("per_client", config.per_client),
        ("per_session", config.per_session),
        ("per_node", config.per_node),
    ]
    .map(|(key, both)| (key, [("upload", both.upload), ("download", both.download)]))
}

/// A part of a bandwidth that is above its whole would never be reached.
fn bandwidth(path: &str, config: &BandwidthConfig, problems: &mut Vec<Problem>) {
    let [total, client, session, node] = scopes(config);
    for (part, wholes) in [(client, vec![total]), (session, vec![client, total]), (node, vec![total])] {
        for (index, (direction, value)) in part.1.into_iter().enumerate() {
            let exceeded = wholes.iter().find_map(|(key, each)| {
                let whole = each.get(index)?.1?;
                value.filter(|value| *value > whole).map(|value| (*key, value, whole))
            });
            if let Some((whole, value, most)) = exceeded {
                let (value, most) = (format_bandwidth(value), format_bandwidth(most));
                problems.push(
                    Problem::new(
                        format!("{path}.{}", part.0),
                        format!("{value} of {direction} is above {whole}, which is {most}"),
                    )
                    .hint(format!("write at most {most}, or raise {whole}")),
                );
            }
        }
    }
}
