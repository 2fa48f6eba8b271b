//! Converts stored data into the texts of the pages.

use super::pages::{
    key_views::{KeyHead, KeyState},
    purchases::{PurchaseRow, PurchaseTable},
};
use crate::{
    domain::{
        amount::Currency,
        id::KeyId,
        lifecycle::KeyStatus,
        rate_limit::{CallLimit, WindowSeconds},
        spend_limit::{SpendLimit, SpendPeriod},
        tenant::Tenant,
        timestamp::Timestamp,
    },
    state::AppState,
    store::{ApiKey, Purchase},
    web::format,
};

/// The pages warn about a key that expires within this many seconds: a week.
const SOON_SECONDS: i64 = 7 * 86_400;

/// Returns the URL of a key's page.
pub fn key_url(key_id: KeyId) -> String {
    format!("/dashboard/keys/{key_id}")
}

/// Returns the URL of the page with the purchases of a key.
pub fn purchases_url(key_id: KeyId) -> String {
    format!("{}/purchases", key_url(key_id))
}

pub fn key_head(key: &ApiKey) -> KeyHead {
    KeyHead {
        key_id: key.id.to_string(),
        name: key.settings.name.to_string(),
        hint: key.hint.clone(),
        url: key_url(key.id),
    }
}

/// Returns the state of a key. `suspended` says whether the account is suspended.
pub fn key_state(key: &ApiKey, suspended: bool) -> KeyState {
    match key.status {
        KeyStatus::Revoked => KeyState::Revoked,
        KeyStatus::Expired => KeyState::Expired,
        KeyStatus::Live if suspended => KeyState::Suspended,
        KeyStatus::Live if !key.settings.enabled => KeyState::Disabled,
        KeyStatus::Live if key.rotated_to.is_some() => KeyState::RotatedOut,
        KeyStatus::Live => KeyState::Active,
    }
}

/// Whether the key is live and expires within a week.
pub fn expires_soon(key: &ApiKey, now: Timestamp) -> bool {
    let in_a_week = now.plus_seconds(SOON_SECONDS);
    key.status == KeyStatus::Live
        && key
            .settings
            .expires_at
            .is_some_and(|end| in_a_week.is_none_or(|in_a_week| end <= in_a_week))
}

/// Describes a spend limit, such as "10 TRX per day (UTC)".
pub fn limit_words(limit: SpendLimit, currency: &Currency) -> String {
    let period = match limit.period {
        SpendPeriod::Day => "per day (UTC)",
        SpendPeriod::Month => "per month (UTC)",
        SpendPeriod::Total => "in total",
    };
    format!("{} {period}", format::amount(limit.amount.minor_units(), currency))
}

/// Describes the number of calls of a rate limit, such as "1,000 calls".
pub fn calls_words(calls: CallLimit) -> String {
    let noun = if calls.get() == 1 { "call" } else { "calls" };
    format!("{} {noun}", format::count(i64::from(calls.get())))
}

/// Describes the window of a rate limit in the largest unit that divides it, such as "per minute"
/// or "per 90 seconds".
pub fn window_words(window: WindowSeconds) -> String {
    let seconds = window.get();
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let exact = units.into_iter().find(|(length, _)| seconds.is_multiple_of(*length));
    let (length, unit) = exact.expect("every window is a whole number of seconds");
    match seconds / length {
        1 => format!("per {unit}"),
        number => format!("per {} {unit}s", format::count(i64::from(number))),
    }
}

/// Returns a table of purchases. An empty table shows `empty`, and `next_url` links to older
/// purchases.
pub fn purchase_table(
    purchases: Vec<(i64, Purchase)>,
    currency: &Currency,
    empty: &str,
    next_url: Option<String>,
) -> PurchaseTable {
    let rows = purchases.into_iter().map(|(_, purchase)| purchase_row(purchase, currency));
    PurchaseTable { rows: rows.collect(), empty: empty.to_owned(), next_url }
}

fn purchase_row(purchase: Purchase, currency: &Currency) -> PurchaseRow {
    let refunded = purchase.refunded;
    PurchaseRow {
        id: purchase.id.to_string(),
        at: format::moment(purchase.created_at, None),
        amount: format::amount(purchase.amount, currency),
        refunded: (refunded > 0).then(|| format::amount(refunded, currency)),
        reference: purchase.reference.map(|reference| reference.to_string()),
        description: purchase.description.map(|description| description.to_string()),
        balance_after: format::amount(purchase.balance_after, currency),
    }
}

/// Returns the environment variable for the keys of a tenant, such as `TRONAGG_API_KEY`.
pub fn env_name(tenant: &Tenant) -> String {
    variable_of(tenant.slug.as_str())
}

/// Replaces `-`, which the name of a variable cannot contain.
fn variable_of(slug: &str) -> String {
    format!("{}_API_KEY", slug.to_ascii_uppercase().replace('-', "_"))
}

/// Returns the URL of the example request: `GET /v1/me`.
pub fn example_url(state: &AppState) -> String {
    format!("{}/v1/me", state.public_url())
}

/// Truncates fetched items to one page. Returns the last item of the page if more items follow.
pub fn cut<T>(fetched: &mut Vec<T>, length: usize) -> Option<&T> {
    let more = fetched.len() > length;
    fetched.truncate(length);
    fetched.last().filter(|_| more)
}

/// Returns how many items to fetch for a page: one more than the page shows, to see whether more
/// follow.
pub fn to_fetch(length: usize) -> i64 {
    i64::try_from(length + 1).expect("pages are short")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_variable_is_named_after_the_slug() {
        assert_eq!(variable_of("tronagg"), "TRONAGG_API_KEY");
        assert_eq!(variable_of("trade-tally2"), "TRADE_TALLY2_API_KEY");
    }

    #[test]
    fn window_of_a_rate_limit_is_described_in_the_largest_exact_unit() {
        for (seconds, words) in [
            (1, "per second"),
            (59, "per 59 seconds"),
            (60, "per minute"),
            (90, "per 90 seconds"),
            (120, "per 2 minutes"),
            (3_600, "per hour"),
            (3_660, "per 61 minutes"),
            (7_201, "per 7,201 seconds"),
            (86_400, "per day"),
            (90_000, "per 25 hours"),
            (2_678_400, "per 31 days"),
        ] {
            let window = WindowSeconds::try_from(seconds).expect("a window");
            assert_eq!(window_words(window), words);
        }
        let words = |calls: i64| calls_words(CallLimit::try_from(calls).expect("a number"));
        assert_eq!([words(1), words(1_000)], ["1 call", "1,000 calls"]);
    }

    #[test]
    fn page_links_to_the_next_page_only_if_more_items_follow() {
        let mut items = vec![1, 2, 3];
        assert_eq!(cut(&mut items, 3), None);
        assert_eq!(cut(&mut items, 2), Some(&2));
        assert_eq!(items, [1, 2]);
        assert_eq!(cut(&mut Vec::<u8>::new(), 2), None);
        assert_eq!(to_fetch(20), 21);
    }
}
