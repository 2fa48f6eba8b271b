//! The spend limits of keys.

use super::{amount::Amount, text_enum::text_enum};

/// Maximum sum of a key's purchases and open holds in a period.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "server",
    derive(utoipa::ToSchema),
    schema(as = NewSpendLimit),
    serde(deny_unknown_fields)
)]
pub struct SpendLimit {
    /// A decimal string with at most the currency's decimals, more than zero.
    pub amount: Amount,
    /// The period over which the key's spending is summed.
    pub period: SpendPeriod,
}

text_enum! {
    /// The period of a spend limit. Days and months are in UTC. `total` is the key's lifetime.
    pub enum SpendPeriod {
        /// A calendar day in UTC.
        Day = "day",
        /// A calendar month in UTC.
        Month = "month",
        /// The key's whole lifetime.
        Total = "total",
    }
}
