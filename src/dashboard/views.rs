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
    fn page_links_to_the_next_page_only_if_more_items_follow() {
        let mut items = vec![1, 2, 3];
        assert_eq!(cut(&mut items, 3), None);
        assert_eq!(cut(&mut items, 2), Some(&2));
        assert_eq!(items, [1, 2]);
        assert_eq!(cut(&mut Vec::<u8>::new(), 2), None);
        assert_eq!(to_fetch(20), 21);
    }
}
