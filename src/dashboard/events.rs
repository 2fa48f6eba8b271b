//! Audit events, in words for the account's owner.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    key_fields,
    pages::security_log::EventRow,
    session::Visitor,
    views::{key_url, purchases_url},
};
use crate::{
    domain::{
        amount::{Currency, short_decimal},
        audit::{ActorKind, AuditAction, AuditTarget},
        dashboard::{DashboardRight, SignInWay},
        id::KeyId,
        timestamp::Timestamp,
    },
    store::{ApiKey, AuditEvent},
    web::{format, links::Link},
};

/// The names of keys. Audit events contain only ids.
pub struct Names {
    names: BTreeMap<KeyId, String>,
    /// Whether the session may open the pages of keys.
    opens_keys: bool,
}

impl Names {
    pub fn of(visitor: &Visitor, keys: &[ApiKey]) -> Self {
        Self {
            names: keys.iter().map(|key| (key.id, key.settings.name.to_string())).collect(),
            opens_keys: visitor.may(DashboardRight::Keys),
        }
    }

    /// Returns an empty set of names, so links show ids.
    pub fn none(visitor: &Visitor) -> Self {
        Self::of(visitor, &[])
    }

    /// Returns a link with the name or the shortened id. The link opens the page of the key, or the
    /// key's purchases if the session may not open that page.
    pub fn link(&self, key_id: KeyId) -> Link {
        let name = self.names.get(&key_id).cloned();
        let label = name.unwrap_or_else(|| format::shortened(&key_id.to_string()));
        let url = if self.opens_keys { key_url(key_id) } else { purchases_url(key_id) };
        Link { label, url }
    }
}

/// Converts an event into a table row.
pub fn row(visitor: &Visitor, event: AuditEvent, names: &Names) -> EventRow {
    let is_own = event.actor == ActorKind::AccountOwner;
    EventRow {
        at: format::moment(event.created_at, None),
        what: what(event.action).to_owned(),
        details: details(event.action, &event.detail, visitor.currency()),
        key: key_of(&event).map(|key_id| names.link(key_id)),
        // Not "You": an intruder may have used the owner's session.
        who: if is_own { "Account owner".to_owned() } else { visitor.platform().to_owned() },
        own: is_own,
        // Customers must not see the addresses of the platform's servers.
        address: event.address.filter(|_| is_own),
    }
}

/// Returns the key that an event concerns. It is the target of the event, or the key that placed
/// the voided hold.
fn key_of(event: &AuditEvent) -> Option<KeyId> {
    let of_hold = || event.detail["key_id"].as_str().and_then(|id| id.parse().ok());
    event.target.and_then(AuditTarget::api_key).or_else(of_hold)
}

fn what(action: AuditAction) -> &'static str {
    match action {
        AuditAction::AccountCreate => "Account created",
        AuditAction::AccountSuspend => "Account suspended",
        AuditAction::AccountActivate => "Account reactivated",
        AuditAction::AccountChange => "Account changed",
        AuditAction::AccountCredit => "Balance topped up",
        AuditAction::PurchaseRefund => "Purchase refunded",
        AuditAction::HoldVoid => "Hold voided",
        AuditAction::ApiKeyCreate => "Key created",
        AuditAction::ApiKeyChange => "Key changed",
        AuditAction::ApiKeyRevoke => "Key revoked",
        AuditAction::ApiKeyRotate => "Key rotated",
        AuditAction::DashboardLinkCreate => "Dashboard link created",
        AuditAction::SessionOpen => "Signed in",
        AuditAction::SessionClose => "Signed out",
        AuditAction::SessionCloseAll => "All sessions ended",
        // These events belong to no account, so no owner sees them.
        AuditAction::TenantCreate
        | AuditAction::TenantSuspend
        | AuditAction::TenantResume
        | AuditAction::PlanCreate
        | AuditAction::PlanChange
        | AuditAction::PlanDelete
        | AuditAction::TenantLimitsChange
        | AuditAction::AdminKeyCreate
        | AuditAction::AdminKeyRevoke
        | AuditAction::DashboardChange => "Other event",
    }
}

/// Returns a line for each member of an event's detail that is useful to the owner.
fn details(action: AuditAction, detail: &Value, currency: &Currency) -> Vec<String> {
    let Some(members) = detail.as_object() else { return Vec::new() };
    let line = |(name, value): (&String, &Value)| match action {
        AuditAction::ApiKeyChange | AuditAction::AccountChange => changed(name, value, currency),
        _ => member(name, value, currency),
    };
    members.iter().filter_map(line).collect()
}

fn member(name: &str, value: &Value, currency: &Currency) -> Option<String> {
    if value.is_null() {
        return None;
    }
    let label = match name {
        "way" => return value.as_str()?.parse::<SignInWay>().ok().map(way).map(str::to_owned),
        "grace_seconds" => return value.as_i64().map(grace),
        "enabled" => return value.as_bool().map(enabled).map(str::to_owned),
        "voided_holds" => {
            return value.as_array().map(|holds| format!("Holds voided: {}", holds.len()));
        }
        "amount" | "voided_amount" => {
            let amount = amount(value.as_str()?, currency);
            return Some(format!("{}: {amount}", label(name)?));
        }
        // Amounts include the currency, and the key's page links to the other key.
        "currency" | "rotated_to" | "rotated_from" => return None,
        _ => label(name)?,
    };
    Some(format!("{label}: {}", shown(value, currency)))
}

/// Returns a line with the old and the new value of a setting of a key or of the account.
fn changed(name: &str, value: &Value, currency: &Currency) -> Option<String> {
    let label = label(name)?;
    match (value.get("from"), value.get("to")) {
        (_, Some(Value::Bool(now))) => Some(enabled(*now).to_owned()),
        (Some(from), Some(to)) => {
            Some(format!("{label}: {} → {}", shown(from, currency), shown(to, currency)))
        }
        _ => Some(format!("{label}: {}", shown(value, currency))),
    }
}

fn label(name: &str) -> Option<&'static str> {
    if let Some(setting) = key_fields::label(name) {
        return Some(setting);
    }
    Some(match name {
        "hint" => "Key",
        "reason" => "Reason",
        "repeated_because" => "Reason for repeating",
        "old_key_dies_at" => "Old key expires",
        "amount" => "Amount",
        "voided_amount" => "Amount released",
        "reference" => "Reference",
        "return_origin" => "Return site",
        "sessions" => "Sessions ended",
        "links" => "Unused dashboard links deleted",
        _ => return None,
    })
}

fn way(way: SignInWay) -> &'static str {
    match way {
        SignInWay::DashboardLink => "With a dashboard link",
        SignInWay::Wallet => "With a wallet",
    }
}

fn enabled(enabled: bool) -> &'static str {
    if enabled { "Enabled" } else { "Disabled" }
}

fn grace(seconds: i64) -> String {
    match seconds {
        0 => "Grace period: none".to_owned(),
        1..86_400 => format!("Grace period: {} minutes", seconds / 60),
        _ => format!("Grace period: {} hours", seconds / 3_600),
    }
}

/// Adds the currency to a stored decimal string: `5 TRX`.
fn amount(decimal: &str, currency: &Currency) -> String {
    format!("{} {}", short_decimal(decimal), currency.code())
}

fn shown(value: &Value, currency: &Currency) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::String(text) => match Timestamp::parse(text) {
            Ok(at) => format::moment(at, None).words,
            Err(_) => text.clone(),
        },
        Value::Array(items) => {
            let separator = if items.iter().any(Value::is_object) { ", " } else { " " };
            items.iter().map(|item| shown(item, currency)).collect::<Vec<_>>().join(separator)
        }
        Value::Object(members) => match (value["amount"].as_str(), value["period"].as_str()) {
            (Some(decimal), Some("total")) => format!("{} in total", amount(decimal, currency)),
            (Some(decimal), Some(period)) => format!("{} per {period}", amount(decimal, currency)),
            _ => rate_limit(value).unwrap_or_else(|| owner_limits(members)),
        },
        other => other.to_string(),
    }
}

/// Describes a rate limit: `default: 1000 per 60 s`.
fn rate_limit(limit: &Value) -> Option<String> {
    let (name, calls) = (limit["name"].as_str()?, limit["limit"].as_u64()?);
    let seconds = limit["window_seconds"].as_u64()?;
    let scope = limit["scope"].as_str().map(|scope| format!(" for {scope}")).unwrap_or_default();
    Some(format!("{name}: {calls} per {seconds} s{scope}"))
}

/// Describes the numbers of calls that the owner has chosen: `default: 10, orders: 5`.
fn owner_limits(limits: &Map<String, Value>) -> String {
    let limits = limits.iter().map(|(name, calls)| format!("{name}: {calls}"));
    limits.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the lines of an event whose account uses TRX.
    fn lines(action: AuditAction, detail: &Value) -> Vec<String> {
        details(action, detail, &Currency::new("TRX", 6).expect("a currency"))
    }

    #[test]
    fn change_lists_old_and_new_values() {
        let detail = json!({
            "name": {"from": "a", "to": "b"},
            "scopes": {"from": ["read"], "to": ["read", "orders:write"]},
            "expires_at": {"from": null, "to": "2027-01-01T00:00:00.000000Z"},
            "enabled": {"from": true, "to": false},
            "spend_limit": {"from": null, "to": {"amount": "5.000000", "period": "day"}},
            "metadata": "changed",
        });
        assert_eq!(
            lines(AuditAction::ApiKeyChange, &detail),
            [
                "Name: a → b",
                "Scopes: read → read orders:write",
                "Expires: none → 1 Jan 2027, 00:00 UTC",
                "Disabled",
                "Spend limit: none → 5 TRX per day",
                "Metadata: changed",
            ]
        );
    }

    #[test]
    fn changed_rate_limits_are_listed_in_words() {
        let old = json!([{"name": "default", "limit": 9, "window_seconds": 60, "scope": null}]);
        let new = json!([
            {"name": "default", "limit": 1000, "window_seconds": 60, "scope": null},
            {"name": "orders", "limit": 5, "window_seconds": 1, "scope": "orders:write"},
        ]);
        let detail = json!({
            "rate_limits": {"from": old, "to": new},
            "owner_rate_limits": {"from": null, "to": {"default": 10, "orders": 2}},
        });
        assert_eq!(
            lines(AuditAction::ApiKeyChange, &detail),
            [
                "Rate limits: default: 9 per 60 s → default: 1000 per 60 s, orders: 5 per 1 s for \
                 orders:write",
                "Lower rate limits: none → default: 10, orders: 2",
            ]
        );
        let detail = json!({"rate_limits": {"from": old, "to": []}});
        assert_eq!(
            lines(AuditAction::AccountChange, &detail),
            ["Rate limits: default: 9 per 60 s → none"]
        );
    }

    #[test]
    fn details_without_meaning_for_the_owner_are_omitted() {
        let detail = json!({"reason": null, "unknown": "x", "way": "wallet"});
        assert_eq!(lines(AuditAction::SessionOpen, &detail), ["With a wallet"]);
        assert_eq!(
            lines(AuditAction::ApiKeyRevoke, &json!({"reason": "compromised"})),
            ["Reason: compromised"]
        );
        let detail =
            json!({"reason": null, "voided_holds": ["x", "y"], "voided_amount": "5.000000"});
        assert_eq!(
            lines(AuditAction::ApiKeyRevoke, &detail),
            ["Holds voided: 2", "Amount released: 5 TRX"]
        );
        assert_eq!(
            lines(AuditAction::ApiKeyRotate, &json!({"grace_seconds": 86_400, "rotated_to": "x"})),
            ["Grace period: 24 hours"]
        );
        assert_eq!(
            lines(AuditAction::ApiKeyCreate, &json!({"rotated_from": "x", "enabled": false})),
            ["Disabled"]
        );
        assert_eq!(lines(AuditAction::AccountCreate, &json!("text")), [""; 0]);
    }
}
