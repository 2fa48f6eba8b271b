//! A requested purchase, and how a repeated request for it is recognised.

use serde_json::json;

use super::{
    amount::Amount,
    idempotency::{Fingerprint, IdempotentOperation},
    text::{Description, Metadata, Reference},
};

/// A requested purchase, before it is decided.
#[derive(Clone, PartialEq, Debug)]
pub struct NewPurchase {
    /// The price, which is taken from the balance.
    pub amount: Amount,
    /// The buyer's own id of the purchase. It need not be unique.
    pub reference: Option<Reference>,
    /// What is bought, for people.
    pub description: Option<Description>,
    /// The buyer's own data, which the service does not interpret; empty by default.
    pub metadata: Metadata,
}

impl NewPurchase {
    /// Identifies the content of the request. It is the same for every route and for every key of
    /// the account.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(
            IdempotentOperation::Purchase,
            &json!({
                "amount": self.amount.minor_units(),
                "reference": self.reference.as_ref().map(Reference::as_str),
                "description": self.description.as_ref().map(Description::as_str),
                "metadata": self.metadata.to_value(),
            }),
        )
    }
}
