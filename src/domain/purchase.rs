//! A purchase as it is asked for, and how a repeated request is recognised.

use serde_json::json;

use super::{
    amount::Amount,
    idempotency::{Fingerprint, IdempotentOperation},
    text::{Description, Metadata, Reference},
};

/// A purchase that is asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct NewPurchase {
    pub amount: Amount,
    pub reference: Option<Reference>,
    pub description: Option<Description>,
    pub metadata: Metadata,
}

impl NewPurchase {
    /// The same through whichever door and with whichever of the account's keys it is asked.
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
