//! A credit (a top-up) as it is asked for.

use serde_json::json;

use super::{
    amount::Amount,
    idempotency::{Fingerprint, IdempotentOperation},
    text::Reference,
};

/// A top-up that is asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct NewCredit {
    pub amount: Amount,
    pub reference: Option<Reference>,
}

impl NewCredit {
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
