//! Schemas that only parameters and problems use. The routes do not collect them, because no body
//! refers to them.

use crate::domain::{
    ledger_entry::SortOrder,
    lifecycle::KeyStatusFilter,
    permission::Permission,
    schema::{Schemas, entry},
};

/// Returns the schemas by name, for the components of the document.
pub fn schemas() -> Schemas {
    vec![entry::<KeyStatusFilter>(), entry::<SortOrder>(), entry::<Permission>()]
}
