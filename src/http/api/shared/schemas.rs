//! Schemas that only parameters and problems use. The routes do not collect them, because no body
//! refers to them.

use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use crate::domain::{ledger_entry::SortOrder, lifecycle::KeyStatusFilter, permission::Permission};

/// By name, for the components of the document.
pub fn schemas() -> Vec<(String, RefOr<Schema>)> {
    vec![entry::<KeyStatusFilter>(), entry::<SortOrder>(), entry::<Permission>()]
}

fn entry<T: ToSchema>() -> (String, RefOr<Schema>) {
    (T::name().into_owned(), T::schema())
}
