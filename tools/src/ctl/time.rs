//! Points in time on the command line and in tables: dates of the Gregorian calendar in UTC, without a table of time zones.

use std::time::{SystemTime, UNIX_EPOCH};

const SECOND_MS: i64 = 1000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Days from 0000-03-01 to 1970-01-01; years are counted from March, so that a leap day comes last.
const EPOCH_DAYS: i64 = 719_468;
const ERA_DAYS: i64 = 146_097;
const ERA_YEARS: i64 = 400;

/// The forms of a point in time, for `--help`.
pub const MOMENT_HELP: &str = "2026-01-31, 2026-01-31T12:30:00Z, 2026-01-31T12:30+02:00 (UTC without zone), -90s, -15m, -2h or -7d \
                               for so long ago, or milliseconds since 1970";

/// The wall clock in ms since 1970.
pub fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// Reads a point in time as ms since 1970; `now_ms` is what "ago" counts from.
pub fn parse_moment(text: &str, now_ms: i64) -> Result<i64, String> {
    let found = match text.strip_prefix('-') {
        Some(ago) => duration_ms(ago).and_then(|ago| now_ms.checked_sub(ago)),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => date_time_ms(text),
    };
    found.filter(|at| *at >= 0).ok_or_else(|| format!("'{text}' is no point in time: write {MOMENT_HELP}"))
}

/// Reads a point in time; for options.
pub fn moment(text: &str) -> Result<i64, String> {
    parse_moment(text, now_ms())
}

/// `90s`, `15m`, `2h` or `7d`.
fn duration_ms(text: &str) -> Option<i64> {
    let unit = match text.chars().last()? {
        's' => SECOND_MS,
        'm' => MINUTE_MS,
        'h' => HOUR_MS,
        'd' => DAY_MS,
        _ => return None,
    };
    number(&text[..text.len() - 1])?.checked_mul(unit)
}

fn date_time_ms(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let mut fields = date.split('-');
    let (year, month, day) = (fields.next()?, fields.next()?, fields.next()?);
    let days = days_from_date(number(year)?, number(month)?, number(day)?)?;
    let (time, zone_ms) = match rest.strip_prefix(['T', ' ']) {
        Some(rest) => split_zone(rest)?,
        None if rest.is_empty() => ("00:00", 0),
        None => return None,
    };
    Some(days * DAY_MS + time_of_day_ms(time)? - zone_ms)
}

/// The time of day, and how far its zone is ahead of UTC in ms.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let Some(at) = text.find(['+', '-']) else {
        return Some((text, 0));
    };
    let (time, zone) = text.split_at(at);
    let (hours, minutes) = zone[1..].split_once(':').unwrap_or((&zone[1..], "0"));
    let ahead = number(hours).filter(|hours| *hours < 24)? * HOUR_MS
        + number(minutes).filter(|minutes| *minutes < 60)? * MINUTE_MS;
    Some((time, if zone.starts_with('-') { -ahead } else { ahead }))
}

/// `12:30`, `12:30:45` or `12:30:45.123`.
fn time_of_day_ms(text: &str) -> Option<i64> {
    let mut fields = text.splitn(3, ':');
    let hours = number(fields.next()?).filter(|hours| *hours < 24)?;
    let minutes = number(fields.next()?).filter(|minutes| *minutes < 60)?;
    let (seconds, fraction) = match fields.next() {
        None => ("0", "0"),
        Some(seconds) => seconds.split_once('.').unwrap_or((seconds, "0")),
    };
    let seconds = number(seconds).filter(|seconds| *seconds < 60)?;
    number(fraction)?;
    let millis: i64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    Some(hours * HOUR_MS + minutes * MINUTE_MS + seconds * SECOND_MS + millis)
}

fn number(text: &str) -> Option<i64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days since 1970-01-01 of a date, if it exists.
fn days_from_date(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year > 9999 {
        return None;
    }
    let march_year = if month > 2 { year } else { year - 1 };
    let (era, year_of_era) = (march_year.div_euclid(ERA_YEARS), march_year.rem_euclid(ERA_YEARS));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * ERA_DAYS + day_of_era - EPOCH_DAYS;
    // The 31st of a shorter month has become a day of the next one.
    (date_from_days(days) == (year, month, day)).then_some(days)
}

/// Year, month and day of so many days since 1970-01-01.
fn date_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * ERA_YEARS + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// A point in time as `2026-01-31T12:30:00.000Z`.
pub fn utc_text(at_ms: i64) -> String {
    let (days, of_day) = (at_ms.div_euclid(DAY_MS), at_ms.rem_euclid(DAY_MS));
    let (year, month, day) = date_from_days(days);
    let (hours, minutes) = (of_day / HOUR_MS, of_day / MINUTE_MS % 60);
    let (seconds, millis) = (of_day / SECOND_MS % 60, of_day % SECOND_MS);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn dates_with_and_without_time_and_zone_are_read() {
        for (text, ms) in [
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400_000),
            ("2023-11-14T22:13:20Z", NOW),
            ("2023-11-14 22:13:20", NOW),
            ("2023-11-15T00:13:20+02:00", NOW),
            ("2023-11-14T17:13:20-05:00", NOW),
            ("2023-11-14T22:13:20.5Z", NOW + 500),
            ("2023-11-14T22:13", NOW - 20_000),
            ("1700000000000", NOW),
            ("-90s", NOW - 90_000),
            ("-2h", NOW - 7_200_000),
            ("-7d", NOW - 604_800_000),
        ] {
            assert_eq!(parse_moment(text, NOW), Ok(ms), "{text}");
        }
    }

    #[test]
    fn days_that_do_not_exist_and_garbage_are_refused() {
        for text in [
            "2023-11-14T17:13:20-0500",
            "",
            "soon",
            "2023-02-29",
            "2024-13-01",
            "2024-04-31",
            "2024-01-01T25:00",
            "-5",
            "-5y",
            "2024-01-01T10",
            "2024-1-1",
            "日本語日本語日本語",
        ] {
            assert!(parse_moment(text, NOW).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_is_written_and_read_again() {
        for day in -100_000..192_000 {
            let (year, month, dom) = date_from_days(day);
            assert_eq!(days_from_date(year, month, dom), Some(day));
        }
        assert_eq!(utc_text(NOW + 7), "2023-11-14T22:13:20.007Z");
        assert_eq!(utc_text(0), "1970-01-01T00:00:00.000Z");
    }
}
