//! Formats times, amounts and ids for the pages.

use askama::{Template, filters::HtmlSafe};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

use crate::domain::{amount::Currency, timestamp::Timestamp};

const ISO: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const UTC: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
const MOMENT: &[BorrowedFormatItem<'_>] =
    format_description!("[day padding:none] [month repr:short] [year], [hour]:[minute] UTC");
const DAY: &[BorrowedFormatItem<'_>] =
    format_description!("[day padding:none] [month repr:short] [year]");
const INPUT: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const HOUR: &[BorrowedFormatItem<'_>] = format_description!("[hour]:00 UTC");

/// The number of characters that a shortened id keeps at its start and at its end.
const KEPT: (usize, usize) = (6, 4);

/// A `<time>` element in UTC. The page's script rewrites it to the user's time zone.
///
/// [`moment`] and [`day`] create it.
#[derive(Template, Clone, PartialEq, Eq, Debug)]
#[template(path = "web/time.html")]
pub struct TimeView {
    /// The machine-readable time: `2026-11-25T21:40:05Z`.
    pub iso: String,
    /// The tooltip: `2026-11-25 21:40:05 UTC`.
    pub utc: String,
    /// The visible text: `25 Nov 2026, 21:40 UTC`, or `25 Nov 2026`.
    pub words: String,
    /// Whether the page shows only the day.
    pub day_only: bool,
    /// The distance from now, such as `in 3 days` or `2 hours ago`. The page shows it after the
    /// time.
    pub relative: Option<String>,
}

impl HtmlSafe for TimeView {}

/// Formats a time to the minute: `25 Nov 2026, 21:40 UTC`. With `now`, adds the distance from now.
pub fn moment(at: Timestamp, now: Option<Timestamp>) -> TimeView {
    view(at, write(at, MOMENT), false, now)
}

/// Formats the day of a time: `25 Nov 2026`. With `now`, adds the distance from now.
pub fn day(at: Timestamp, now: Option<Timestamp>) -> TimeView {
    view(at, write(at, DAY), true, now)
}

/// Formats a UTC day for the label of an option: `25 Nov 2026`.
pub fn day_words(at: Timestamp) -> String {
    write(at, DAY)
}

/// Formats a UTC day for a date input: `2026-11-25`.
pub fn day_input(at: Timestamp) -> String {
    write(at, INPUT)
}

/// Formats the hour of a time, for a chart: `21:00 UTC`.
pub fn hour_words(at: Timestamp) -> String {
    write(at, HOUR)
}

/// Formats the distance from `now` in whole units, rounded down: "in 3 days", "2 hours ago", "just
/// now".
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = (at.unix_micros() - now.unix_micros()) / 1_000_000;
    let distance = seconds.unsigned_abs();
    let (count, unit) = match distance {
        0..60 if seconds > 0 => return "in less than a minute".into(),
        0..60 => return "just now".into(),
        60..3_600 => (distance / 60, "minute"),
        3_600..86_400 => (distance / 3_600, "hour"),
        86_400..5_184_000 => (distance / 86_400, "day"),
        5_184_000..63_072_000 => (distance / 2_592_000, "month"),
        _ => (distance / 31_536_000, "year"),
    };
    let plural = if count == 1 { "" } else { "s" };
    if seconds > 0 {
        format!("in {count} {unit}{plural}")
    } else {
        format!("{count} {unit}{plural} ago")
    }
}

/// Shortens an id in its middle: `TQn9Y2…bLSE`. Keeps a short id unchanged.
pub fn shortened(id: &str) -> String {
    let (head, tail) = KEPT;
    let count = id.chars().count();
    if count <= head + tail + 2 {
        return id.to_owned();
    }
    let start: String = id.chars().take(head).collect();
    let end: String = id.chars().skip(count - tail).collect();
    format!("{start}…{end}")
}

/// Formats a count with thousands separators: `1,204`.
pub fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        text.push('−');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats minor units with the currency: `1.5 TRX`.
pub fn amount(minor_units: i64, currency: &Currency) -> String {
    format!("{} {}", currency.format(minor_units).short(), currency.code())
}

/// Formats minor units with a sign and the currency: `+5 TRX`, `−1.5 TRX`.
pub fn signed_amount(minor_units: i64, currency: &Currency) -> String {
    let text = amount(minor_units, currency);
    match text.strip_prefix('-') {
        Some(size) => format!("−{size}"),
        None => format!("+{text}"),
    }
}

fn view(at: Timestamp, words: String, day_only: bool, now: Option<Timestamp>) -> TimeView {
    TimeView {
        iso: write(at, ISO),
        utc: write(at, UTC),
        words,
        day_only,
        relative: now.map(|now| relative(at, now)),
    }
}

fn write(at: Timestamp, format: &[BorrowedFormatItem<'_>]) -> String {
    OffsetDateTime::from(at)
        .format(format)
        .expect("a UTC time contains every component of the formats")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    #[test]
    fn time_contains_a_text_for_people_and_a_machine_readable_value() {
        let view = moment(at("2026-11-05T21:40:05.123Z"), None);
        assert_eq!(view.iso, "2026-11-05T21:40:05Z");
        assert_eq!(view.utc, "2026-11-05 21:40:05 UTC");
        assert_eq!(view.words, "5 Nov 2026, 21:40 UTC");
        assert_eq!(view.relative, None);
        assert_eq!(day(at("2026-11-05T21:40:05Z"), None).words, "5 Nov 2026");
        assert_eq!(day_input(at("2026-11-05T21:40:05Z")), "2026-11-05");
        assert_eq!(hour_words(at("2026-11-05T21:40:05Z")), "21:00 UTC");
    }

    #[test]
    fn relative_times_are_written_in_words() {
        let now = at("2026-11-05T12:00:00Z");
        for (moment, words) in [
            ("2026-11-05T12:00:00Z", "just now"),
            ("2026-11-05T11:59:01Z", "just now"),
            ("2026-11-05T12:00:30Z", "in less than a minute"),
            ("2026-11-05T11:59:00Z", "1 minute ago"),
            ("2026-11-05T10:00:00Z", "2 hours ago"),
            ("2026-11-05T13:00:00Z", "in 1 hour"),
            ("2026-11-08T12:00:00Z", "in 3 days"),
            ("2026-12-31T12:00:00Z", "in 56 days"),
            ("2027-02-05T12:00:00Z", "in 3 months"),
            ("2020-11-05T12:00:00Z", "6 years ago"),
        ] {
            assert_eq!(relative(at(moment), now), words, "{moment}");
        }
    }

    #[test]
    fn long_ids_are_shortened_in_the_middle() {
        assert_eq!(shortened("TQn9Y2khEsLJW1ChVWFMSMeRDow5KcbLSE"), "TQn9Y2…bLSE");
        assert_eq!(shortened("user-42"), "user-42");
        assert_eq!(shortened(&"a".repeat(12)), "a".repeat(12));
        assert_eq!(shortened(&"a".repeat(13)).chars().count(), 11);
    }

    #[test]
    fn counts_contain_thousands_separators() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567"), (-1_204, "−1,204")]
        {
            assert_eq!(count(number), text);
        }
        assert_eq!(count(i64::MIN), "−9,223,372,036,854,775,808");
    }

    #[test]
    fn amounts_contain_their_currency_and_a_sign_if_requested() {
        let trx = Currency::new("TRX", 6).expect("a currency");
        assert_eq!(amount(1_500_000, &trx), "1.5 TRX");
        assert_eq!(signed_amount(5_000_000, &trx), "+5 TRX");
        assert_eq!(signed_amount(-1_500_000, &trx), "−1.5 TRX");
    }

    #[test]
    fn time_is_escaped_and_machine_readable() {
        let time = TimeView {
            iso: "2026-11-25T21:40:05Z".into(),
            utc: "2026-11-25 21:40:05 UTC".into(),
            words: "25 Nov 2026, 21:40 UTC".into(),
            day_only: false,
            relative: Some("in <3> days".into()),
        };
        let html = time.to_string();
        assert!(html.contains(r#"<time datetime="2026-11-25T21:40:05Z""#), "{html}");
        assert!(html.contains("in &#60;3&#62; days"), "{html}");
    }
}
