use axum::{
    body::Bytes,
    http::{HeaderName, HeaderValue},
};
use smallvec::SmallVec;

use crate::domain::rate_limit::{
    CallLimit, LimitLevel, LimitName, LimitState, MAX_LIMIT_NAME_LENGTH, WindowSeconds,
};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The fields `RateLimit-Policy` and `RateLimit` of a response.
pub type RateLimitFields = [(HeaderName, HeaderValue); 2];

/// What the fields show of the state of a limit. [`LimitState`] describes the members.
#[derive(Clone, Copy)]
pub(crate) struct ShownLimit<'a> {
    pub level: LimitLevel,
    pub name: &'a LimitName,
    pub calls: CallLimit,
    pub window: WindowSeconds,
    pub remaining: u32,
    pub resets_in: Option<u32>,
}

impl<'a> From<&'a LimitState> for ShownLimit<'a> {
    fn from(state: &'a LimitState) -> Self {
        let LimitState { level, name, calls, window, remaining, resets_in, .. } = state;
        Self {
            level: *level,
            name,
            calls: *calls,
            window: *window,
            remaining: *remaining,
            resets_in: *resets_in,
        }
    }
}

/// Returns the fields of these limits, as draft-ietf-httpapi-ratelimit-headers-10 defines them.
/// Returns none if there is no limit.
pub(crate) fn rate_limit_fields<'a>(
    limits: impl IntoIterator<Item = ShownLimit<'a>>,
) -> Option<RateLimitFields> {
    let mut limits: SmallVec<[ShownLimit<'a>; 4]> = limits.into_iter().collect();
    if limits.is_empty() {
        return None;
    }
    // Every response has these fields, so they share a buffer that never grows.
    let mut text = Vec::with_capacity(limits.len() * 2 * MAX_ITEM_LENGTH);
    for limit in &limits {
        let parameters = [(b";q=", limit.calls.get()), (b";w=", limit.window.get())];
        push_item(&mut text, 0, limit, parameters);
    }
    let policy_length = text.len();
    // Some clients read only the first item, so it is the limit with the smallest remaining part.
    limits
        .sort_by_key(|limit| u64::from(limit.remaining) * 1_000_000 / u64::from(limit.calls.get()));
    for limit in &limits {
        let resets_in = limit.resets_in.unwrap_or(limit.window.get());
        let parameters = [(b";r=", limit.remaining), (b";t=", resets_in)];
        push_item(&mut text, policy_length, limit, parameters);
    }
    let mut text = Bytes::from(text);
    let policy = text.split_to(policy_length);
    let value = |text: Bytes| {
        HeaderValue::from_maybe_shared(text).expect("names and numbers are visible ASCII")
    };
    Some([(POLICY, value(policy)), (LIMIT, value(text))])
}

/// The length of the separator, the quotes, the level, the longest name and two parameters.
const MAX_ITEM_LENGTH: usize = 2 + 2 + 8 + MAX_LIMIT_NAME_LENGTH + 2 * 13;

/// Adds an item to the field that begins at this position.
fn push_item(
    text: &mut Vec<u8>,
    field: usize,
    limit: &ShownLimit<'_>,
    parameters: [(&[u8; 3], u32); 2],
) {
    if text.len() > field {
        text.extend_from_slice(b", ");
    }
    text.push(b'"');
    text.extend_from_slice(limit.level.prefix().as_bytes());
    text.extend_from_slice(limit.name.as_str().as_bytes());
    text.push(b'"');
    for (parameter, number) in parameters {
        text.extend_from_slice(parameter);
        text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }
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
        let fields = rate_limit_fields(states.iter().map(ShownLimit::from)).expect("two fields");
        let [(policy, policies), (limit, limits)] = &fields;
        assert_eq!([policy.as_str(), limit.as_str()], ["ratelimit-policy", "ratelimit"]);
        let expected = "\"account:default\";q=5000;w=60, \"default\";q=1000;w=60, \
                        \"orders\";q=10;w=1";
        assert_eq!(policies, expected);
        let expected = "\"default\";r=12;t=37, \"account:default\";r=4100;t=37, \
                        \"orders\";r=10;t=1";
        assert_eq!(limits, expected);
        assert!(rate_limit_fields([]).is_none());
    }
}
