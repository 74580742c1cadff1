//! Durations, sizes, bandwidths and rates as people write them: a whole number and a unit, never a bare number.
//!
//! A duration may join several parts, the larger first: `1h30m`. The others are one part: `4MiB`, `200Mbit/s`, `10/s`. Pure
//! text work: nothing here knows about configuration keys.

use std::fmt::Write as _;
use std::time::Duration;

/// The longest duration that is accepted, ten years; it keeps every later sum with a clock in range.
pub const MAX_DURATION: Duration = Duration::from_millis(MAX_MILLIS);

const MAX_MILLIS: u64 = 3650 * 86_400_000;

/// Units of a duration in milliseconds, the largest first.
const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of a size in bytes, in the order in which `format_size` tries them.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Units of a bandwidth in bytes a second, in the order in which `format_bandwidth` tries them.
const BANDWIDTH_UNITS: [(&str, u64); 10] = [
    ("Gbit/s", 125_000_000),
    ("Mbit/s", 125_000),
    ("kbit/s", 125),
    ("GiB/s", 1 << 30),
    ("MiB/s", 1 << 20),
    ("KiB/s", 1 << 10),
    ("GB/s", 1_000_000_000),
    ("MB/s", 1_000_000),
    ("KB/s", 1_000),
    ("B/s", 1),
];

/// Units of a rate of events: the seconds in which so many may come.
const RATE_UNITS: [(&str, u64); 3] = [("/s", 1), ("/min", 60), ("/h", 3600)];

const DURATION_NAMES: &str = "ms, s, m, h, d";
const SIZE_NAMES: &str = "B, KiB, MiB, GiB, KB, MB, GB";
const BANDWIDTH_NAMES: &str = "kbit/s, Mbit/s, Gbit/s, KB/s, MB/s, GB/s";
const RATE_NAMES: &str = "/s, /min, /h";

/// Why a text is no duration, size, bandwidth or rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The text does not begin with a digit, or a part of it does not.
    #[error("{text:?} is not a {what}")]
    NotANumber {
        /// `duration`, `size`, `bandwidth` or `rate`.
        what: &'static str,
        /// The text as given.
        text: String,
        /// The units that may be used.
        units: &'static str,
    },
    /// The number has no unit behind it.
    #[error("{text:?} has no unit")]
    NoUnit {
        /// The text as given.
        text: String,
        /// A unit that is probably meant.
        likely: &'static str,
        /// The units that may be used.
        units: &'static str,
    },
    /// The unit behind the number is not known.
    #[error("{text:?} has the unknown unit {unit:?}")]
    UnknownUnit {
        /// The text as given.
        text: String,
        /// The unit as given.
        unit: String,
        /// The units that may be used.
        units: &'static str,
    },
    /// The number is not whole.
    #[error("{text:?} is not a whole number of its unit")]
    Fraction {
        /// The text as given.
        text: String,
    },
    /// The parts are not in falling order, or a unit is used twice.
    #[error("{text:?} does not go from the larger unit to the smaller")]
    Order {
        /// The text as given.
        text: String,
    },
    /// The value is beyond what can be used.
    #[error("{text:?} is too large")]
    TooLarge {
        /// The text as given.
        text: String,
        /// The largest value.
        largest: &'static str,
    },
}

impl UnitError {
    /// What to write instead.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NotANumber { units, .. } | Self::UnknownUnit { units, .. } => {
                format!("a whole number and a unit: {units}")
            }
            Self::NoUnit { text, likely, units } => {
                format!("write \"{text}{likely}\"; units: {units}")
            }
            Self::Fraction { .. } => "use whole numbers of a smaller unit".to_owned(),
            Self::Order { .. } => "write each unit once, the largest first: 1h30m".to_owned(),
            Self::TooLarge { largest, .. } => format!("the largest value is {largest}"),
        }
    }
}

/// Reads a duration such as `250ms`, `30s` or `1h30m`.
///
/// # Errors
/// Anything but whole numbers with the units ms, s, m, h and d in falling order, or more than [`MAX_DURATION`].
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    let mut rest = text;
    loop {
        let (number, unit, tail) = part("duration", "s", DURATION_NAMES, text, rest)?;
        let scale = scale_of(&DURATION_UNITS, DURATION_NAMES, text, unit)?;
        if scale >= smallest {
            return Err(UnitError::Order { text: text.to_owned() });
        }
        smallest = scale;
        total = number
            .and_then(|n| n.checked_mul(scale))
            .and_then(|n| n.checked_add(total))
            .filter(|n| *n <= MAX_MILLIS)
            .ok_or_else(|| UnitError::TooLarge { text: text.to_owned(), largest: "3650d" })?;
        if tail.is_empty() {
            return Ok(Duration::from_millis(total));
        }
        rest = tail;
    }
}

/// Writes a duration so that [`parse_duration`] reads it back; what is below a millisecond is dropped.
#[must_use]
pub fn format_duration(value: Duration) -> String {
    let mut left = value.as_millis();
    let mut out = String::new();
    for (unit, scale) in DURATION_UNITS {
        let count = left / u128::from(scale);
        left %= u128::from(scale);
        if count > 0 {
            // Writing to a String cannot fail.
            let _ = write!(out, "{count}{unit}");
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// Reads a size such as `512B`, `4MiB` or `10GB`, in bytes.
///
/// # Errors
/// Anything but one whole number with one of the units B, KiB, MiB, GiB, KB, MB and GB, or more than 64 bits hold.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, scale) = single("size", "MiB", &SIZE_UNITS, SIZE_NAMES, text)?;
    number
        .and_then(|n| n.checked_mul(scale))
        .ok_or_else(|| UnitError::TooLarge { text: text.to_owned(), largest: "17179869183GiB" })
}

/// Writes a size in bytes with the largest unit that divides it, so that [`parse_size`] reads it back.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    SIZE_UNITS
        .into_iter()
        .find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale))
        .map_or_else(|| format!("{bytes}B"), |(unit, scale)| format!("{}{unit}", bytes / scale))
}

/// Reads a bandwidth such as `200Mbit/s`, `1Gbit/s` or `25MB/s`, in bytes a second.
///
/// # Errors
/// Anything but one whole number with one of the units kbit/s, Mbit/s, Gbit/s, B/s, KB/s, MB/s, GB/s, KiB/s, MiB/s and
/// GiB/s, or more than 64 bits hold.
pub fn parse_bandwidth(text: &str) -> Result<u64, UnitError> {
    let (number, scale) = single("bandwidth", "Mbit/s", &BANDWIDTH_UNITS, BANDWIDTH_NAMES, text)?;
    number
        .and_then(|n| n.checked_mul(scale))
        .ok_or_else(|| UnitError::TooLarge { text: text.to_owned(), largest: "147573952589Gbit/s" })
}

/// Writes bytes a second with the largest unit that divides them, so that [`parse_bandwidth`] reads it back.
#[must_use]
pub fn format_bandwidth(bytes: u64) -> String {
    BANDWIDTH_UNITS
        .into_iter()
        .find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale))
        .map_or_else(|| format!("{bytes}B/s"), |(unit, scale)| format!("{}{unit}", bytes / scale))
}

/// How often something may happen: so many times in so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventRate {
    /// How many times.
    pub count: u32,
    /// In how many seconds: 1, 60 or 3600.
    pub seconds: u32,
}

impl EventRate {
    /// Whether it allows more than `other`.
    #[must_use]
    pub fn is_above(self, other: Self) -> bool {
        u64::from(self.count) * u64::from(other.seconds) > u64::from(other.count) * u64::from(self.seconds)
    }

    /// The time from one event to the next; none comes when the count is zero.
    #[must_use]
    pub fn period(self) -> Option<Duration> {
        Duration::from_secs(u64::from(self.seconds)).checked_div(self.count)
    }
}

/// Reads a rate such as `10/s`, `600/min` or `100/h`.
///
/// # Errors
/// Anything but one whole number with one of the units /s, /min and /h, or more than 32 bits hold.
pub fn parse_rate(text: &str) -> Result<EventRate, UnitError> {
    let (number, scale) = single("rate", "/s", &RATE_UNITS, RATE_NAMES, text)?;
    let count = number.and_then(|n| u32::try_from(n).ok());
    count
        .zip(u32::try_from(scale).ok())
        .map(|(count, seconds)| EventRate { count, seconds })
        .ok_or_else(|| UnitError::TooLarge { text: text.to_owned(), largest: "4294967295/s" })
}

/// Writes a rate so that [`parse_rate`] reads it back.
#[must_use]
pub fn format_rate(rate: EventRate) -> String {
    let unit = RATE_UNITS.into_iter().find(|(_, seconds)| *seconds == u64::from(rate.seconds));
    format!("{}{}", rate.count, unit.map_or("/s", |(unit, _)| unit))
}

/// The number and the scale of a text that is one part.
fn single(
    what: &'static str,
    likely: &'static str,
    table: &[(&str, u64)],
    units: &'static str,
    text: &str,
) -> Result<(Option<u64>, u64), UnitError> {
    let (number, unit, tail) = part(what, likely, units, text, text)?;
    let scale = scale_of(table, units, text, unit)?;
    match tail {
        "" => Ok((number, scale)),
        _ => Err(UnitError::NotANumber { what, text: text.to_owned(), units }),
    }
}

/// The first number and unit of `rest`, and what follows; the number is `None` when it has too many digits.
fn part<'a>(
    what: &'static str,
    likely: &'static str,
    units: &'static str,
    text: &str,
    rest: &'a str,
) -> Result<(Option<u64>, &'a str, &'a str), UnitError> {
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, after) = rest.split_at(digits);
    if number.is_empty() {
        return Err(UnitError::NotANumber { what, text: text.to_owned(), units });
    }
    if after.starts_with('.') {
        return Err(UnitError::Fraction { text: text.to_owned() });
    }
    let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
    let (unit, tail) = after.split_at(letters);
    if unit.is_empty() {
        return Err(UnitError::NoUnit { text: text.to_owned(), likely, units });
    }
    Ok((number.parse().ok(), unit, tail))
}

fn scale_of(table: &[(&str, u64)], units: &'static str, text: &str, unit: &str) -> Result<u64, UnitError> {
    table.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale).ok_or_else(|| UnitError::UnknownUnit {
        text: text.to_owned(),
        unit: unit.to_owned(),
        units,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("1d1ms"), Ok(Duration::from_millis(86_400_001)));
        assert_eq!(parse_duration("3650d"), Ok(MAX_DURATION));
        for bad in ["", "5", "s", "5 s", "-5s", "1.5s", "30m1h", "1s1s", "5sec", "3651d", "1h30"] {
            assert!(parse_duration(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn sizes_are_a_number_and_a_unit() {
        assert_eq!(parse_size("0B"), Ok(0));
        assert_eq!(parse_size("4MiB"), Ok(4 << 20));
        assert_eq!(parse_size("10GB"), Ok(10_000_000_000));
        for bad in ["", "4", "4mib", "4MiB1B", "1.5GiB", "17179869184GiB", "99999999999999999999B"] {
            assert!(parse_size(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn bandwidths_are_a_number_and_a_unit_in_bits_or_bytes() {
        assert_eq!(parse_bandwidth("200Mbit/s"), parse_bandwidth("25MB/s"));
        assert_eq!(parse_bandwidth("1Gbit/s"), Ok(125_000_000));
        assert_eq!(parse_bandwidth("1MiB/s"), Ok(1 << 20));
        assert_eq!(format_bandwidth(25_000_000), "200Mbit/s");
        for bad in ["", "200", "200Mbit", "200mbit/s", "1.5Gbit/s", "1Gbit/s1B/s", "147573952590Gbit/s"] {
            assert!(parse_bandwidth(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn rates_are_a_number_and_a_time() {
        let (ten, same) = (parse_rate("10/s").unwrap(), parse_rate("600/min").unwrap());
        assert_eq!((ten, ten.period()), (EventRate { count: 10, seconds: 1 }, Some(Duration::from_millis(100))));
        assert!(!same.is_above(ten) && !ten.is_above(same) && parse_rate("601/min").unwrap().is_above(ten));
        assert_eq!([ten, same].map(format_rate), ["10/s", "600/min"]);
        assert_eq!(parse_rate("0/s").unwrap().period(), None);
        for bad in ["", "10", "/s", "10/m", "10s", "1.5/s", "10/s1", "4294967296/s"] {
            assert!(parse_rate(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_missing_unit_is_suggested() {
        let error = parse_duration("90").unwrap_err();
        assert_eq!(error.to_string(), "\"90\" has no unit");
        assert_eq!(error.hint(), "write \"90s\"; units: ms, s, m, h, d");
    }

    proptest! {
        #[test]
        fn every_duration_survives_the_round_trip(millis in 0..=MAX_MILLIS) {
            let value = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(value)), Ok(value));
        }

        #[test]
        fn every_size_and_bandwidth_survives_the_round_trip(bytes in any::<u64>(), shift in 0..64u32) {
            let bytes = bytes >> shift;
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
            prop_assert_eq!(parse_bandwidth(&format_bandwidth(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in any::<String>(), near in "[0-9.]{0,25}[a-zA-Zµ /]{0,3}[0-9]{0,3}") {
            for text in [text, near] {
                let _ = parse_duration(&text).map_err(|error| error.hint());
                let _ = parse_size(&text).map_err(|error| error.hint());
                let _ = parse_bandwidth(&text).map_err(|error| error.hint());
                let _ = parse_rate(&text).map_err(|error| error.hint());
            }
        }
    }
}
