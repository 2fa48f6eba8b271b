//! The request for a purchase, and the fingerprint that identifies its retries.

use serde_json::json;

use super::{
    amount::Amount,
    idempotency::{Fingerprint, IdempotentOperation},
    text::{Description, Metadata, Reference},
};

/// A request for a purchase, before the ledger accepts or declines it.
#[derive(Clone, PartialEq, Debug)]
pub struct NewPurchase {
    /// The price. The ledger takes it from the balance.
    pub amount: Amount,
    /// The buyer's own id of the purchase. It need not be unique.
    pub reference: Option<Reference>,
    /// A description of the purchased item, for people.
    pub description: Option<Description>,
    /// The buyer's own data, which the service does not interpret. Empty by default.
    pub metadata: Metadata,
}

impl NewPurchase {
    /// Computes the fingerprint of the request's content. The fingerprint depends neither on the
    /// route nor on the account's key that sends the request.
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
