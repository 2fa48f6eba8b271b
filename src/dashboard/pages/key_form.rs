//! The form that creates or changes a key.

use askama::Template;

use super::{frame::Frame, key_views::KeyHead};
use crate::{
    domain::{lifecycle::MAX_LIFETIME_SECONDS, timestamp::Timestamp},
    web::{
        days::DAY_SECONDS,
        fields::{Choice, Field},
        format::{self, TimeView},
        forms::Form,
    },
};

/// `/dashboard/keys/new` and `/dashboard/keys/{key_id}/edit`
#[derive(Template)]
#[template(path = "dashboard/key_form.html")]
pub struct KeyFormPage {
    pub frame: Frame,
    /// The existing key. `None` in the form of a new key.
    pub key: Option<KeyHead>,
    /// The URL that receives the form.
    pub action: String,
    /// The URL of the link "Cancel".
    pub cancel_url: String,
    /// The single-use token in the form of a new key.
    pub form: Option<String>,
    /// The digest of the current settings in the form of an existing key.
    pub seen: Option<String>,
    pub fields: KeyFields,
    /// The code of the currency, such as `TRX`.
    pub currency: String,
    /// The number of keys that count toward the cap, for "You have 3 of 5 keys". `None` if it is
    /// unknown, and in the form of an existing key.
    pub live_count: Option<usize>,
    pub max_keys: usize,
}

/// A checkbox that adds a network to the allowed networks.
pub struct UsedNetwork {
    pub network: String,
    /// The time of the last use.
    pub last: TimeView,
    pub selected: bool,
}

/// The fields with their input.
pub struct KeyFields {
    pub name: Field,
    /// The chosen access: `read`, `write` or `custom`.
    pub access: String,
    pub access_error: Option<String>,
    /// The custom scopes, separated by spaces.
    pub scopes: Field,
    /// Each label includes the day of the expiry in UTC.
    pub expires: Vec<Choice>,
    pub expires_error: Option<String>,
    /// The last day on which the key works, as `YYYY-MM-DD`, or empty.
    pub expires_on: Field,
    /// The earliest day that `expires_on` accepts, as `YYYY-MM-DD`.
    pub expires_min: String,
    /// The latest day that `expires_on` accepts, as `YYYY-MM-DD`.
    pub expires_max: String,
    /// The amount of the spend limit, as a decimal string, or empty.
    pub limit_amount: Field,
    pub limit_period: Vec<Choice>,
    pub limit_period_error: Option<String>,
    /// The networks from which the key may be used, one in each line, or empty.
    pub networks: Field,
    /// The address of the browser. `None` if it is unknown.
    pub own_address: Option<Choice>,
    /// The networks from which the key was used, except those that it already allows.
    pub used_networks: Vec<UsedNetwork>,
}

impl KeyFields {
    /// Returns the fields with the input of a form. `keep` is the label of the choice that keeps
    /// the current expiry. `own_address` and `used_networks` are the checkboxes that add networks.
    pub fn new(
        form: &Form,
        now: Timestamp,
        keep: Option<&str>,
        own_address: Option<Choice>,
        used_networks: Vec<UsedNetwork>,
    ) -> Self {
        Self {
            name: form.field("name"),
            access: form.text("access").to_owned(),
            access_error: form.error("access"),
            scopes: Field {
                value: form.all("scopes").collect::<Vec<_>>().join(" "),
                error: form.error("scopes"),
            },
            expires: expiry_choices(form.text("expires"), now, keep),
            expires_error: form.error("expires"),
            expires_on: form.field("expires_on"),
            expires_min: format::day_input(now),
            expires_max: last_day(now),
            limit_amount: form.field("limit_amount"),
            limit_period: period_choices(form.text("limit_period")),
            limit_period_error: form.error("limit_period"),
            networks: form.field("allowed_ips"),
            own_address,
            used_networks,
        }
    }
}

/// Returns the choices of the field `expires`. Each label includes the day of the expiry in UTC.
///
/// `keep` is the label of the choice that keeps the current expiry, such as "Keep current (never)".
/// A new key has no such choice.
fn expiry_choices(chosen: &str, now: Timestamp, keep: Option<&str>) -> Vec<Choice> {
    let kept = keep.map(|words| Choice::new("keep", words, chosen));
    let days = [30, 90, 180, 365].map(|days| {
        let end = now.plus_seconds(days * 86_400).unwrap_or(now);
        let label = format!("{days} days, until {} (UTC)", format::day_words(end));
        Choice::new(days.to_string(), label, chosen)
    });
    let others = [Choice::new("date", "On a date", chosen), Choice::new("never", "Never", chosen)];
    kept.into_iter().chain(days).chain(others).collect()
}

/// Returns the last valid expiry day in the format of date fields. The end of this day is within
/// the maximum lifetime.
pub fn last_day(now: Timestamp) -> String {
    let latest = now.plus_seconds(MAX_LIFETIME_SECONDS - DAY_SECONDS);
    format::day_input(latest.unwrap_or(now))
}

/// Returns the choices of the field `limit_period`.
fn period_choices(chosen: &str) -> Vec<Choice> {
    vec![
        Choice::new("day", "Per day (UTC)", chosen),
        Choice::new("month", "Per month (UTC)", chosen),
        Choice::new("total", "In total", chosen),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_choices_show_their_last_day_and_one_is_selected() {
        let now = Timestamp::parse("2026-11-25T21:40:05Z").expect("a time");
        let choices = expiry_choices("90", now, None);
        assert_eq!(choices[1].label, "90 days, until 23 Feb 2027 (UTC)");
        assert_eq!(choices.iter().filter(|choice| choice.selected).count(), 1);
        assert_eq!(choices.len(), 6);
        let kept = expiry_choices("keep", now, Some("Keep current (never)"));
        assert_eq!((kept.len(), kept[0].value.as_str(), kept[0].selected), (7, "keep", true));
    }
}
