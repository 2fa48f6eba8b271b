use axum::http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::domain::rate_limit::{CallLimit, LimitLevel, LimitName, LimitState, WindowSeconds};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The fields `RateLimit-Policy` and `RateLimit` of a response, as
/// draft-ietf-httpapi-ratelimit-headers-10 defines them.
pub type RateLimitFields = [(HeaderName, HeaderValue); 2];

/// The part of an item that names the limit.
#[derive(Clone)]
pub(crate) struct ItemName(Box<[u8]>);

impl ItemName {
    /// Returns the name of a limit in quotes, with its level.
    pub fn new(level: LimitLevel, name: &LimitName) -> Self {
        Self(format!("\"{}{name}\"", level.prefix()).into_bytes().into())
    }
}

/// What the fields show of the state of a limit. [`LimitState`] describes the members.
#[derive(Clone, Copy)]
pub(crate) struct ShownLimit<'a> {
    pub name: &'a ItemName,
    pub calls: CallLimit,
    pub window: WindowSeconds,
    pub remaining: u32,
    pub resets_in: Option<u32>,
}

/// The field `RateLimit-Policy` of some limits. A clone shares its text.
#[derive(Clone)]
pub(crate) struct PolicyField(HeaderValue);

impl PolicyField {
    /// Builds the field, with one item per limit.
    pub fn new<'a>(limits: impl IntoIterator<Item = ShownLimit<'a>>) -> Self {
        let limits: ShownLimits<'a> = limits.into_iter().collect();
        Self(field(&limits, |limit| [(b";q=", limit.calls.get()), (b";w=", limit.window.get())]))
    }
}

type ShownLimits<'a> = SmallVec<[ShownLimit<'a>; 4]>;

/// Returns the fields of these limits. `policy` is their policy field, if it is known. Returns none
/// if there is no limit.
pub(crate) fn rate_limit_fields<'a>(
    policy: Option<&PolicyField>,
    limits: impl IntoIterator<Item = ShownLimit<'a>>,
) -> Option<RateLimitFields> {
    let mut limits: ShownLimits<'a> = limits.into_iter().collect();
    if limits.is_empty() {
        return None;
    }
    let policy = policy.cloned();
    let policy = policy.unwrap_or_else(|| PolicyField::new(limits.iter().copied()));
    // Some clients read only the first item, so it is the limit with the smallest remaining part.
    limits.sort_by(|one, other| {
        let parts = |one: &ShownLimit<'_>, other: &ShownLimit<'_>| {
            u64::from(one.remaining) * u64::from(other.calls.get())
        };
        parts(one, other).cmp(&parts(other, one))
    });
    let limit = field(&limits, |limit| {
        [(b";r=", limit.remaining), (b";t=", limit.resets_in.unwrap_or(limit.window.get()))]
    });
    Some([(POLICY, policy.0), (LIMIT, limit)])
}

/// Returns the fields of limits with these states. Returns none if there is no limit.
pub(super) fn fields_of_states(states: &[LimitState]) -> Option<RateLimitFields> {
    let names: Vec<ItemName> =
        states.iter().map(|state| ItemName::new(state.level, &state.name)).collect();
    let shown = states.iter().zip(&names).map(|(state, name)| ShownLimit {
        name,
        calls: state.calls,
        window: state.window,
        remaining: state.remaining,
        resets_in: state.resets_in,
    });
    rate_limit_fields(None, shown)
}

/// The length of the separator and of two parameters.
const MAX_REST_OF_ITEM: usize = 2 + 2 * 13;

/// Builds a field with one item per limit. `parameters` returns the names and numbers of an item.
fn field(
    limits: &[ShownLimit<'_>],
    parameters: impl Fn(&ShownLimit<'_>) -> [(&'static [u8; 3], u32); 2],
) -> HeaderValue {
    let length = limits.iter().map(|limit| limit.name.0.len() + MAX_REST_OF_ITEM).sum();
    // Every response to a limited key has such a field, so the buffer never grows.
    let mut text = Vec::with_capacity(length);
    for limit in limits {
        if !text.is_empty() {
            text.extend_from_slice(b", ");
        }
        text.extend_from_slice(&limit.name.0);
        for (parameter, number) in parameters(limit) {
            text.extend_from_slice(parameter);
            text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
    }
    HeaderValue::from_bytes(&text).expect("names and numbers are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rate_limit::RateLimit;

    fn state(level: LimitLevel, limit: &str) -> LimitState {
        LimitState::unused(level, &limit.parse::<RateLimit>().expect("a limit"))
    }

    #[test]
    fn fields_list_the_limit_with_the_smallest_remaining_part_first() {
        let states = [
            state(LimitLevel::Account, "default=5000/60").running(4100, 37),
            state(LimitLevel::Key, "default=1000/60").running(12, 37),
            state(LimitLevel::Key, "orders=10/1@purchases:write"),
        ];
        let fields = fields_of_states(&states).expect("two fields");
        let [(policy, policies), (limit, limits)] = &fields;
        assert_eq!([policy.as_str(), limit.as_str()], ["ratelimit-policy", "ratelimit"]);
        let expected = "\"account:default\";q=5000;w=60, \"default\";q=1000;w=60, \
                        \"orders\";q=10;w=1";
        assert_eq!(policies, expected);
        let expected = "\"default\";r=12;t=37, \"account:default\";r=4100;t=37, \
                        \"orders\";r=10;t=1";
        assert_eq!(limits, expected);
        assert!(fields_of_states(&[]).is_none());
    }
}
