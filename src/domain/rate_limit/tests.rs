use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    CallLimit, Cost, LimitLevel, LimitName, LimitNameError, LimitState, MAX_CALLS, MAX_COST,
    MAX_RATE_LIMITS, MAX_WINDOW_SECONDS, OutOfRange, OwnerLimits, RateLimit, RateLimitError,
    RateLimits, TenantLimits, TenantLimitsChange, WindowSeconds,
};
use crate::domain::scope::{Scope, ScopeError};

fn limit(text: &str) -> RateLimit {
    text.parse().expect("a good rate limit")
}

fn list(texts: &[&str]) -> RateLimits {
    RateLimits::new(texts.iter().map(|text| limit(text)).collect()).expect("a good list")
}

fn scope(text: &str) -> Scope {
    text.parse().expect("a good scope")
}

fn texts(limits: &[RateLimit]) -> Vec<String> {
    limits.iter().map(ToString::to_string).collect()
}

fn any_limit() -> impl Strategy<Value = RateLimit> {
    let calls = 1..=i64::from(MAX_CALLS);
    let window = 1..=i64::from(MAX_WINDOW_SECONDS);
    let scope = proptest::option::of("((orders|a_1):)?(read|write)");
    ("[a-z][a-z0-9_-]{0,31}", calls, window, scope).prop_map(|(name, calls, window, scope)| {
        RateLimit {
            name: name.parse().expect("a good name"),
            calls: calls.try_into().expect("a good number"),
            window: window.try_into().expect("a good length"),
            scope: scope.map(|text| text.parse().expect("a good scope")),
        }
    })
}

fn any_list() -> impl Strategy<Value = RateLimits> {
    proptest::collection::vec(any_limit(), 0..=MAX_RATE_LIMITS)
        .prop_filter_map("two limits have the same name", |limits| RateLimits::new(limits).ok())
}

/// Returns the JSON that the database returns after it has stored this JSON.
fn stored(value: &Value) -> Value {
    serde_json::from_str(&value.to_string()).expect("the text is JSON")
}

#[test]
fn names_outside_the_grammar_are_refused() {
    let long = "a".repeat(33);
    for bad in ["", "Default", "1a", "_a", "-a", "a b", "a:b", "a=b", "é", &long] {
        assert_eq!(bad.parse::<LimitName>(), Err(LimitNameError), "{bad:?}");
    }
    for good in ["a", "default", "per-minute_2", &long[1..]] {
        assert_eq!(good.parse::<LimitName>().map(|name| name.to_string()), Ok(good.to_owned()));
    }
}

#[test]
fn numbers_outside_their_range_are_refused_with_the_range() {
    type Parser = fn(i64) -> Result<u32, OutOfRange>;
    let parsers: [(u32, Parser); 3] = [
        (MAX_CALLS, |number| CallLimit::try_from(number).map(CallLimit::get)),
        (MAX_WINDOW_SECONDS, |number| WindowSeconds::try_from(number).map(WindowSeconds::get)),
        (MAX_COST, |number| Cost::try_from(number).map(Cost::get)),
    ];
    for (max, parse) in parsers {
        assert_eq!(parse(1), Ok(1));
        assert_eq!(parse(i64::from(max)), Ok(max));
        for bad in [i64::MIN, -1, 0, i64::from(max) + 1, i64::MAX] {
            assert_eq!(parse(bad), Err(OutOfRange { max }), "{bad}");
        }
    }
    assert_eq!(OutOfRange { max: MAX_COST }.to_string(), "must be from 1 to 10000");
}

#[test]
fn cost_in_a_query_has_only_digits() {
    assert_eq!("1".parse(), Ok(Cost::ONE));
    assert_eq!("10000".parse::<Cost>().map(Cost::get), Ok(MAX_COST));
    for bad in ["", "0", "-1", "+1", " 1", "1.0", "10001", "99999999999999999999"] {
        assert_eq!(bad.parse::<Cost>(), Err(OutOfRange { max: MAX_COST }), "{bad:?}");
    }
}

#[test]
fn window_is_a_number_of_seconds_or_a_number_with_a_unit() {
    for (text, seconds) in
        [("a=5/7", 7), ("a=5/7s", 7), ("a=5/2m", 120), ("a=5/3h", 10_800), ("a=5/31d", 2_678_400)]
    {
        let limit = limit(text);
        assert_eq!((limit.calls.get(), limit.window.get()), (5, seconds), "{text}");
        assert_eq!(limit.scope, None);
    }
    assert_eq!(limit("a=5/1m@orders:write").scope, Some(scope("orders:write")));
}

#[test]
fn error_names_the_wrong_part_of_a_rate_limit() {
    use RateLimitError::{Calls, Grammar, Name, Window};
    let calls = || Calls(OutOfRange { max: MAX_CALLS });
    let window = || Window(OutOfRange { max: MAX_WINDOW_SECONDS });
    for (text, error) in [
        ("", Grammar),
        ("a", Grammar),
        ("a=5", Grammar),
        ("a=/5", Grammar),
        ("a=5/", Grammar),
        ("a=5/m", Grammar),
        ("a=5/1w", Grammar),
        ("a=5/1é", Grammar),
        ("a=-5/1", Grammar),
        ("a=5/+1", Grammar),
        ("=5/1", Name(LimitNameError)),
        ("A=5/1", Name(LimitNameError)),
        ("a=0/1", calls()),
        ("a=10000001/1", calls()),
        ("a=99999999999999999999/1", calls()),
        ("a=5/0", window()),
        ("a=5/32d", window()),
        ("a=5/999999999999d", window()),
        ("a=5/99999999999999999999d", window()),
        ("a=5/1@", RateLimitError::Scope(ScopeError::Grammar)),
        ("a=5/1@x", RateLimitError::Scope(ScopeError::Grammar)),
    ] {
        assert_eq!(text.parse::<RateLimit>(), Err(error), "{text:?}");
    }
}

#[test]
fn list_has_at_most_eight_limits_with_different_names() {
    let named = |number: usize| limit(&format!("n{number}=1/1"));
    assert!(RateLimits::new((0..8).map(named).collect()).is_ok());
    assert_eq!(RateLimits::new((0..9).map(named).collect()), Err(RateLimitError::TooMany));
    let repeated = RateLimits::new(vec![named(1), named(2), limit("n1=2/2")]);
    assert_eq!(repeated, Err(RateLimitError::DuplicateName(named(1).name)));
}

#[test]
fn limit_replaces_the_default_of_the_same_name_and_other_defaults_are_added() {
    let defaults = list(&["default=10/60", "burst=5/1"]);
    let own = list(&["writes=3/60@write", "default=20/30"]);
    let applied = own.or_defaults(&defaults);
    assert_eq!(texts(&applied), ["writes=3/60s@write", "default=20/30s", "burst=5/1s"]);
    let none = RateLimits::default();
    assert_eq!(none.or_defaults(&defaults), defaults.iter().cloned().collect::<Vec<_>>());
    assert_eq!(own.or_defaults(&none), own.iter().cloned().collect::<Vec<_>>());
}

#[test]
fn owner_can_only_lower_the_number_of_calls() {
    let mut owner = OwnerLimits::default();
    assert!(owner.is_empty());
    for (name, calls) in [("default", 7_i64), ("burst", 6), ("absent", 1)] {
        let calls = CallLimit::try_from(calls).expect("a good number");
        owner.set(name.parse().expect("a good name"), Some(calls));
    }
    let limits = list(&["default=10/60@write", "burst=5/1", "other=9/1"]);
    let lowered = owner.lower(limits.iter().cloned().collect());
    assert_eq!(texts(&lowered), ["default=7/60s@write", "burst=5/1s", "other=9/1s"]);
    let name: LimitName = "default".parse().expect("a good name");
    owner.set(name.clone(), None);
    assert_eq!(owner.get(&name), None);
    assert_eq!(owner.to_value(), json!({"absent": 1, "burst": 6}));
    assert_eq!(OwnerLimits::from_stored(&owner.to_value()), Ok(owner));
}

#[test]
fn limit_with_a_scope_counts_the_calls_that_ask_for_what_the_scope_implies() {
    let asked = [scope("orders:read"), scope("invoices:write")];
    for (text, expected) in [
        ("a=1/1", true),
        ("a=1/1@write", true),
        ("a=1/1@read", true),
        ("a=1/1@orders:write", true),
        ("a=1/1@orders:read", true),
        ("a=1/1@invoices:read", false),
        ("a=1/1@purchases:write", false),
    ] {
        assert_eq!(limit(text).counts(&asked), expected, "{text}");
    }
    assert!(limit("a=1/1").counts(&[]));
    assert!(!limit("a=1/1@write").counts(&[]));
}

#[test]
fn stored_value_that_is_not_a_list_of_rate_limits_is_refused() {
    let good = json!({"name": "a", "limit": 1, "window_seconds": 1, "scope": null});
    let with = |name: &str, value: Value| {
        let mut limit = good.clone();
        limit[name] = value;
        json!([limit])
    };
    assert_eq!(RateLimits::from_stored(&json!([good])), Ok(list(&["a=1/1"])));
    for bad in [
        Value::Null,
        json!({}),
        json!([1]),
        json!([{"name": "a"}]),
        with("name", json!("A")),
        with("limit", json!(0)),
        with("limit", json!("1")),
        with("window_seconds", json!(1.5)),
        with("scope", json!("x")),
    ] {
        assert_eq!(RateLimits::from_stored(&bad), Err(RateLimitError::Stored), "{bad}");
    }
    for bad in [json!([]), json!({"a": 0}), json!({"a": "1"})] {
        assert_eq!(OwnerLimits::from_stored(&bad), Err(RateLimitError::Stored), "{bad}");
    }
}

#[test]
fn label_names_the_holder_of_the_limit() {
    let label = |level| LimitState::unused(level, &limit("default=1/1")).label();
    assert_eq!(label(LimitLevel::Key), "default");
    assert_eq!(label(LimitLevel::Account), "account:default");
    assert_eq!(label(LimitLevel::Tenant), "tenant:default");
}

#[test]
fn change_of_a_tenant_keeps_the_other_lists() {
    let old = TenantLimits {
        own: list(&["all=9/1"]),
        keys: list(&["default=5/1"]),
        ..Default::default()
    };
    let change = TenantLimitsChange { keys: Some(list(&["default=6/1"])), ..Default::default() };
    let new = change.applied_to(&old);
    assert_eq!(new, TenantLimits { keys: list(&["default=6/1"]), ..old.clone() });
    let [from, to] = [&old, &new].map(|limits| limits.keys.to_value());
    let expected = json!({"key_rate_limits": {"from": from, "to": to}});
    assert_eq!(Value::Object(old.differences(&new)), expected);
    assert!(!change.is_empty());
    assert!(TenantLimitsChange::default().is_empty());
}

proptest! {
    #[test]
    fn rate_limit_survives_a_round_trip_through_the_command_line(original in any_limit()) {
        prop_assert_eq!(limit(&original.to_string()), original);
    }

    #[test]
    fn list_survives_a_round_trip_through_the_database(list in any_list()) {
        prop_assert_eq!(RateLimits::from_stored(&stored(&list.to_value())), Ok(list));
    }
}
