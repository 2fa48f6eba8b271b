use std::sync::Arc;

use crate::domain::tenant::Tenant;

/// Whose admin key a request carried, for the log. The layer that reads the key puts it into the
/// response's extensions: outside of that layer the request is gone.
#[derive(Clone, Debug)]
pub struct LoggedTenant(pub Arc<Tenant>);
