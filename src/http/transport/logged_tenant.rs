use std::sync::Arc;

use crate::domain::tenant::Tenant;

/// The tenant of a request's admin key, for the log. The layer that reads the key adds it to the
/// response's extensions, because outer layers no longer have the request.
#[derive(Clone, Debug)]
pub struct LoggedTenant(pub Arc<Tenant>);
