//! The request for a credit, which tops up a balance.

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
    /// Computes the fingerprint of all fields, which identifies a retry. A request with the
    /// idempotency key of an earlier credit and a different fingerprint is refused.
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
