//! Dates as HTTP writes them.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds since 1970; 0 for anything before.
pub(super) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// `Sun, 22 Nov 2026 07:59:17 GMT` for a number of seconds since 1970.
pub(super) fn http_date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut left = days;
    let mut year = 1970;
    let (month, day) = loop {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = if leap { 366 } else { 365 };
        if left < length {
            break month_and_day(left, leap);
        }
        left -= length;
        year += 1;
    };
    format!(
        "{}, {day:02} {month} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[usize::try_from(days % 7).unwrap_or(0)],
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

fn month_and_day(mut left: u64, leap: bool) -> (&'static str, u64) {
    let lengths = [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    for (name, length) in MONTHS.iter().zip(lengths) {
        if left < length {
            return (name, left + 1);
        }
        left -= length;
    }
    ("Dec", 31)
}
