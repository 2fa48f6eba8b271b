//! The request for a credit: a top-up of a balance.

use serde_json::json;

use super::{
    amount::Amount,
    idempotency::{Fingerprint, IdempotentOperation},
    text::Reference,
};

/// A request to top up the balance of an account.
#[derive(Clone, PartialEq, Debug)]
pub struct NewCredit {
    /// The amount to add to the balance.
    pub amount: Amount,
    /// The caller's own id of the credit, such as an order number.
    pub reference: Option<Reference>,
}

impl NewCredit {
    /// The fingerprint of all fields. It identifies a retry: a request that has the idempotency key
    /// of an earlier credit and another fingerprint is refused.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(
            IdempotentOperation::Credit,
            &json!({
                "amount": self.amount.minor_units(),
                "reference": self.reference.as_ref().map(Reference::as_str),
            }),
        )
    }
}
