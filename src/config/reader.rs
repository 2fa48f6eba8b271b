//! Reads values, and collects their errors.

use std::{net::SocketAddr, time::Duration};

use super::error::ConfigError;

pub const ADDRESS_FORMS: &str = "an address and a port, such as 127.0.0.1:8080 or [::]:8080";
const DURATION_FORMS: &str = "a whole number with the unit ms, s or m, such as 500ms or 15s, at \
                              most 60m";

/// Collects the messages about invalid values.
#[derive(Default)]
pub struct Reader {
    pub errors: Vec<String>,
}

impl Reader {
    /// Returns `None` if the value is absent, and `Some(None)` if it is invalid.
    pub fn value<T>(
        &mut self,
        name: &str,
        value: Option<&str>,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<Option<T>> {
        let value = value.map(str::trim)?;
        let parsed = parse(value);
        if parsed.is_none() {
            self.errors.push(format!("{name} is {value:?}: it must be {allowed}"));
        }
        Some(parsed)
    }

    pub fn number<T: TryFrom<u64> + TryInto<u64> + Copy>(
        &mut self,
        name: &str,
        value: Option<&str>,
        range: std::ops::RangeInclusive<u64>,
        default: T,
    ) -> Option<T> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        let parse = |text: &str| {
            let number = text.parse().ok().filter(|number| range.contains(number))?;
            T::try_from(number).ok()
        };
        self.value(name, value, &allowed, parse).unwrap_or(Some(default))
    }

    pub fn duration(
        &mut self,
        name: &str,
        value: Option<&str>,
        default: Duration,
    ) -> Option<Duration> {
        self.value(name, value, DURATION_FORMS, read_duration).unwrap_or(Some(default))
    }

    /// Reads a duration of at most `max_seconds`.
    pub fn duration_up_to(
        &mut self,
        name: &str,
        value: Option<&str>,
        max_seconds: u64,
        default: Duration,
    ) -> Option<Duration> {
        let allowed = format!(
            "a whole number with the unit ms or s, such as 500ms or 1s, at most {max_seconds}s"
        );
        let max = Duration::from_secs(max_seconds);
        let parse = |text: &str| read_duration(text).filter(|duration| *duration <= max);
        self.value(name, value, &allowed, parse).unwrap_or(Some(default))
    }

    pub fn finish<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => Err(ConfigError(self.errors)),
        }
    }
}

/// Parses an IP address and a port.
pub fn read_address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

fn read_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match &text[digits..] {
        "ms" => number,
        "s" => number.checked_mul(1000)?,
        "m" => number.checked_mul(60_000)?,
        _ => return None,
    };
    (1..=3_600_000).contains(&millis).then(|| Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_is_a_positive_whole_number_with_a_unit_up_to_an_hour() {
        assert_eq!(read_duration("1500ms"), Some(Duration::from_millis(1500)));
        assert_eq!(read_duration("2m"), Some(Duration::from_secs(120)));
        for wrong in ["", "5", "s", "0s", "-1s", "1.5s", "61m", "99999999999999999999s"] {
            assert_eq!(read_duration(wrong), None, "{wrong:?}");
        }
    }
}
