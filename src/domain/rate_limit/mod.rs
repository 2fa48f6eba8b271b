//! Rate limits: how many calls a key, an account or a tenant may make in a window of time.

mod limit;
mod list;
mod owner_limits;
mod state;
#[cfg(feature = "server")]
mod tenant_limits;
#[cfg(all(test, feature = "server"))]
mod tests;
mod values;

pub use limit::{RateLimit, RateLimitError};
pub use list::{MAX_RATE_LIMITS, RateLimits};
pub use owner_limits::OwnerLimits;
pub use state::{LimitLevel, LimitState};
#[cfg(feature = "server")]
pub use tenant_limits::{TenantLimits, TenantLimitsChange};
pub use values::{
    CallLimit, Cost, LimitName, LimitNameError, MAX_CALLS, MAX_COST, MAX_LIMIT_NAME_LENGTH,
    MAX_WINDOW_SECONDS, OutOfRange, WindowSeconds,
};
