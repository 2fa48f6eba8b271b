//! The fields of a key in the forms that create and change it.

use super::{
    pages::{key_detail::Fact, key_views::Access},
    views::limit_words,
};
use crate::{
    domain::{
        allowed_ips::{AllowedIps, MAX_NETWORKS, parse_network},
        amount::{Amount, Currency},
        key_settings::{KeyChange, KeySettings},
        lifecycle::{Expiry, ExpiryError},
        plan::PlanViolation,
        rate_limit::{LimitName, OwnerLimits},
        scope::{MAX_SCOPES, Scope, ScopeError, ScopeSet},
        spend_limit::{SpendLimit, SpendPeriod},
        tenant::Tenant,
        text::{Metadata, Name},
        timestamp::Timestamp,
    },
    web::{
        days::{DAY_SECONDS, parse_end_of_day},
        format,
        forms::Form,
    },
};

/// The lifetimes that the form offers, in days.
pub const LIFETIMES: [i64; 4] = [30, 90, 180, 365];

/// The beginning of the names of fields for rate limits. The name of the limit follows.
const LIMIT_FIELD: &str = "calls-";

/// The field with the networks from which the key may be used.
pub const NETWORKS: &str = "allowed_ips";

/// The checkboxes that add the address of the browser, and networks from which the key was used.
pub const ADDED_NETWORK: &str = "add_network";

/// The parsed fields of a key form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyInput {
    pub name: Name,
    pub scopes: ScopeSet,
    pub expires: Expires,
    pub spend_limit: Option<SpendLimit>,
    pub allowed_ips: Option<AllowedIps>,
}

/// The expiry that the owner chose in the form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expires {
    /// Keeps the expiry of an existing key.
    Keep,
    Never,
    At(Expiry),
}

#[derive(Debug, thiserror::Error)]
enum ExpiresError {
    #[error("choose when the key expires")]
    Choice,
    #[error(transparent)]
    Expiry(#[from] ExpiryError),
}

impl KeyInput {
    /// Reads all fields, or returns `None` and adds the errors to the form. `may_keep` allows the
    /// choice that keeps the current expiry.
    pub fn read(form: &mut Form, now: Timestamp, tenant: &Tenant, may_keep: bool) -> Option<Self> {
        let name = form.read("name", Name::parse);
        let scopes = read_scopes(form);
        let expires = read_expires(form, now, may_keep);
        let spend_limit = read_limit(form, tenant);
        let allowed_ips = read_networks(form);
        let fields =
            Self { name: name?, scopes: scopes?, expires: expires?, spend_limit, allowed_ips };
        form.is_right().then_some(fields)
    }
}

impl From<KeyInput> for KeyChange {
    fn from(input: KeyInput) -> Self {
        Self {
            name: Some(input.name),
            scopes: Some(input.scopes),
            expiry: match input.expires {
                Expires::Keep => None,
                Expires::Never => Some(None),
                Expires::At(expiry) => Some(Some(expiry)),
            },
            spend_limit: Some(input.spend_limit),
            allowed_ips: Some(input.allowed_ips),
            ..Self::default()
        }
    }
}

impl From<KeyInput> for KeySettings {
    /// Converts the input into the settings of a new key.
    fn from(input: KeyInput) -> Self {
        Self {
            name: input.name,
            scopes: input.scopes,
            expires_at: match input.expires {
                Expires::At(expiry) => Some(expiry.timestamp()),
                Expires::Never | Expires::Keep => None,
            },
            enabled: true,
            spend_limit: input.spend_limit,
            rate_limits: None,
            owner_limits: OwnerLimits::default(),
            allowed_ips: input.allowed_ips,
            metadata: Metadata::default(),
        }
    }
}

/// Adds an error for each rule of the account's plan that the input breaks, at its field.
pub fn against_plan(form: &mut Form, violations: &[PlanViolation]) {
    let scopes = if form.text("access") == "custom" { "scopes" } else { "access" };
    for violation in violations {
        match violation {
            PlanViolation::Scope { scope, .. } => {
                form.wrong(scopes, format!("your plan does not allow the scope {scope}"));
            }
            PlanViolation::Expiry { latest, .. } => {
                let latest = format::moment(*latest, None).words;
                form.wrong("expires", format!("your plan requires an expiry by {latest}"));
            }
            PlanViolation::WithoutNetworks { latest, .. } => {
                let latest = format::moment(*latest, None).words;
                form.wrong(
                    "expires",
                    format!(
                        "your plan requires an expiry by {latest}, because the key can write and \
                         may be used from any address. Choose an earlier expiry or enter allowed \
                         networks"
                    ),
                );
            }
        }
    }
}

/// Describes the settings that the form changes.
pub fn settings_in_words(settings: &KeySettings, currency: &Currency) -> String {
    let access = Access::of(settings.scopes.to_strings());
    let scopes = access.scopes.iter().map(String::as_str);
    let access = std::iter::once(access.label).chain(scopes).collect::<Vec<_>>().join(" ");
    let expires =
        settings.expires_at.map_or_else(|| "never".to_owned(), |at| format::moment(at, None).words);
    let limit = settings.spend_limit;
    let limit = limit.map_or_else(|| "none".to_owned(), |limit| limit_words(limit, currency));
    let networks = settings.allowed_ips.as_ref().map(|networks| networks.to_strings().join(", "));
    let networks = networks.as_deref().unwrap_or("any address");
    format!(
        "name “{}”; access: {access}; expires: {expires}; spend limit: {limit}; allowed networks: \
         {networks}",
        settings.name
    )
}

/// Returns a form with the settings of a key.
pub fn filled(settings: &KeySettings, currency: &Currency) -> Form {
    let (access, scopes) = access_fields(&settings.scopes);
    let limit = settings.spend_limit;
    let amount = limit.map(|limit| currency.format(limit.amount.minor_units()).short().to_owned());
    let period = limit.map_or("month", |limit| limit.period.as_str());
    let networks = settings.allowed_ips.as_ref().map(AllowedIps::to_strings);
    Form::filled([
        ("name", settings.name.to_string()),
        ("access", access.to_owned()),
        ("scopes", scopes),
        ("expires", "keep".to_owned()),
        ("limit_amount", amount.unwrap_or_default()),
        ("limit_period", period.to_owned()),
        (NETWORKS, networks.unwrap_or_default().join("\n")),
    ])
}

/// Returns the label of a setting, by its member in an audit event or its field in a form.
pub fn label(name: &str) -> Option<&'static str> {
    Some(match name {
        "name" => "Name",
        "access" => "Access",
        "scopes" => "Scopes",
        "expires" | "expires_at" => "Expires",
        "expires_on" => "Last day",
        "enabled" => "Enabled",
        "spend_limit" | "limit_amount" | "limit_period" => "Spend limit",
        "rate_limits" => "Rate limits",
        "owner_rate_limits" => "Lower rate limits",
        NETWORKS | ADDED_NETWORK => "Allowed networks",
        "metadata" => "Metadata",
        _ => return None,
    })
}

/// Returns the field with the owner's number for a rate limit.
pub fn limit_field(name: &LimitName) -> String {
    format!("{LIMIT_FIELD}{name}")
}

/// Returns the name of the rate limit whose number this field contains.
pub fn limit_of_field(field: &str) -> Option<&str> {
    field.strip_prefix(LIMIT_FIELD)
}

/// Returns the settings that a key's page lists as labels and texts. The account's networks are
/// listed only if it has some.
pub fn facts(
    settings: &KeySettings,
    networks_of_account: Option<&AllowedIps>,
    currency: &Currency,
) -> Vec<Fact> {
    let limit = settings.spend_limit.map(|limit| limit_words(limit, currency));
    let limit = limit.unwrap_or_else(|| "No limit".to_owned());
    let networks = match &settings.allowed_ips {
        Some(networks) => networks.to_strings().join(", "),
        None => "Any address".to_owned(),
    };
    let of_account = networks_of_account.map(|networks| Fact {
        label: "Allowed networks of the account",
        text: networks.to_strings().join(", "),
    });
    let facts = [
        Fact { label: "Spend limit", text: limit },
        Fact { label: "Allowed networks", text: networks },
    ];
    facts.into_iter().chain(of_account).collect()
}

/// Converts scopes into the values of the fields `access` and `scopes`.
pub fn access_fields(scopes: &ScopeSet) -> (&'static str, String) {
    match scopes.to_string().as_str() {
        "read" => ("read", String::new()),
        "write" => ("write", String::new()),
        scopes => ("custom", scopes.to_owned()),
    }
}

fn read_scopes(form: &mut Form) -> Option<ScopeSet> {
    match form.text("access") {
        access @ ("read" | "write") => ScopeSet::parse([access]).ok(),
        "custom" => {
            let texts: Vec<String> = form.all("scopes").map(str::to_owned).collect();
            let scopes = parse_scopes(&texts).map_err(|error| form.wrong("scopes", error));
            scopes.ok()
        }
        _ => {
            form.wrong("access", "choose an access level");
            None
        }
    }
}

/// Parses scopes that are separated by spaces or commas. An error names the invalid scope.
fn parse_scopes(texts: &[String]) -> Result<ScopeSet, String> {
    let mut scopes = Vec::new();
    for word in texts.iter().flat_map(|text| words(text)) {
        let scope = word.parse::<Scope>();
        scopes.push(scope.map_err(|error| format!("“{}”: {error}", cut(word)))?);
    }
    if scopes.is_empty() {
        return Err("enter at least one scope, such as purchases:read".to_owned());
    }
    if scopes.len() > MAX_SCOPES {
        return Err(ScopeError::Count.to_string());
    }
    ScopeSet::new(scopes).map_err(|error| error.to_string())
}

/// Reads the networks, which are separated by spaces, commas or new lines, and the chosen
/// checkboxes. Without a network, any address is allowed.
fn read_networks(form: &mut Form) -> Option<AllowedIps> {
    let texts =
        [NETWORKS, ADDED_NETWORK].map(|field| form.all(field).collect::<Vec<_>>().join(" "));
    let mut networks = Vec::new();
    for word in texts.iter().flat_map(|text| words(text)) {
        match parse_network(word) {
            Ok(network) if networks.contains(&network) => {}
            Ok(network) => networks.push(network),
            Err(error) => {
                form.wrong(NETWORKS, format!("“{}”: {error}", cut(word)));
                return None;
            }
        }
    }
    if networks.is_empty() {
        return None;
    }
    if networks.len() > MAX_NETWORKS {
        form.wrong(NETWORKS, format!("enter at most {MAX_NETWORKS} networks"));
        return None;
    }
    AllowedIps::new(networks).map_err(|error| form.wrong(NETWORKS, error.to_string())).ok()
}

/// Returns the words that spaces, commas or new lines separate.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', '\t', '\r', '\n']).filter(|word| !word.is_empty())
}

/// Returns the beginning of a word, for an error message.
fn cut(word: &str) -> String {
    word.chars().take(60).collect()
}

fn read_expires(form: &mut Form, now: Timestamp, may_keep: bool) -> Option<Expires> {
    match form.text("expires") {
        "keep" if may_keep => Some(Expires::Keep),
        "never" => Some(Expires::Never),
        "date" => {
            let day = form.read("expires_on", parse_end_of_day)?;
            form.read("expires_on", |_| Expiry::at(day, now)).map(Expires::At)
        }
        _ => form.read("expires", |text| {
            let days = text.parse().ok().filter(|days| LIFETIMES.contains(days));
            let days: i64 = days.ok_or(ExpiresError::Choice)?;
            let expiry = Expiry::after_seconds(days * DAY_SECONDS, now)?;
            Ok::<_, ExpiresError>(Expires::At(expiry))
        }),
    }
}

/// Reads the spend limit. Without an amount there is no limit, and the period is ignored.
fn read_limit(form: &mut Form, tenant: &Tenant) -> Option<SpendLimit> {
    let currency = &tenant.policy.currency;
    let amount = form.optional("limit_amount", |text| Amount::parse(text.trim(), currency))?;
    let period = form.read("limit_period", str::parse::<SpendPeriod>)?;
    Some(SpendLimit { amount, period })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{super::pages::key_form::last_day, *};
    use crate::domain::{
        account::AccountFormat,
        amount::Currency,
        api_key::KeyPrefix,
        id::TenantId,
        tenant::{Environment, TenantPolicy},
    };

    fn tenant() -> Tenant {
        Tenant {
            id: TenantId::from_uuid(Uuid::from_u128(1)),
            slug: "tronagg".parse().expect("a slug"),
            environment: Environment::Live,
            policy: TenantPolicy {
                prefix: KeyPrefix::parse("ta_").expect("a prefix"),
                currency: Currency::new("TRX", 6).expect("a currency"),
                account_format: AccountFormat::Any,
            },
        }
    }

    fn now() -> Timestamp {
        Timestamp::parse("2026-11-25T21:40:00Z").expect("a time")
    }

    fn read(text: &str) -> (Option<KeyInput>, Form) {
        let mut form = Form::parse(text.as_bytes());
        let fields = KeyInput::read(&mut form, now(), &tenant(), false);
        (fields, form)
    }

    #[test]
    fn complete_form_becomes_the_settings_of_a_key() {
        let (fields, form) = read(
            "name=+bot+1+&access=custom&scopes=purchases:read,+orders:write&scopes=a:read\
             &expires=date&expires_on=2026-12-31&limit_amount=+1.5&limit_period=month",
        );
        let fields = fields.unwrap_or_else(|| panic!("{:?}", form.errors()));
        assert_eq!(fields.name.as_str(), "bot 1");
        assert_eq!(fields.scopes.to_string(), "a:read orders:write purchases:read");
        let Expires::At(expiry) = fields.expires else { panic!("{:?}", fields.expires) };
        assert_eq!(expiry.timestamp().to_string(), "2027-01-01T00:00:00.000000Z");
        let limit = fields.spend_limit.expect("a limit");
        assert_eq!((limit.amount.minor_units(), limit.period), (1_500_000, SpendPeriod::Month));
    }

    #[test]
    fn offered_lifetimes_are_days_from_now() {
        let (fields, _) = read("name=a&access=read&scopes=ignored!&expires=30&limit_period=day");
        let fields = fields.expect("valid fields");
        let Expires::At(expiry) = fields.expires else { panic!("{:?}", fields.expires) };
        assert_eq!(expiry.timestamp().to_string(), "2026-12-25T21:40:00.000000Z");
        assert_eq!((fields.scopes.to_string().as_str(), fields.spend_limit), ("read", None));
        let (fields, _) = read("name=a&access=write&expires=never");
        assert_eq!(fields.expect("valid fields").expires, Expires::Never);
    }

    #[test]
    fn every_invalid_field_has_an_error() {
        let limit = |rest: &str| format!("name=a&access=read&expires=never&limit_amount={rest}");
        let cases: [(&str, &[&str]); 12] = [
            ("", &["name", "access", "expires"]),
            ("name=a&access=admin&expires=31", &["access", "expires"]),
            ("name=a&access=read&expires=keep", &["expires"]),
            ("name=a&access=custom&expires=never", &["scopes"]),
            ("name=a&access=custom&scopes=Orders:read&expires=never", &["scopes"]),
            ("name=a&access=read&expires=date", &["expires_on"]),
            ("name=a&access=read&expires=date&expires_on=2026-11-24", &["expires_on"]),
            ("name=a&access=read&expires=date&expires_on=2099-01-01", &["expires_on"]),
            (&limit("1,5&limit_period=day"), &["limit_amount"]),
            (&limit("0&limit_period=day"), &["limit_amount"]),
            (&limit("1&limit_period=year"), &["limit_period"]),
            (&limit("1"), &["limit_period"]),
        ];
        for (text, wrong) in cases {
            let (fields, form) = read(text);
            let invalid = form.errors().iter().filter_map(|error| error.field.as_deref());
            let invalid: Vec<_> = invalid.collect();
            assert_eq!((fields, &invalid[..]), (None, wrong), "{text}");
        }
    }

    #[test]
    fn every_setting_and_every_invalid_field_has_a_label() {
        let (fields, form) = read("access=custom&expires=date&limit_amount=x");
        assert!(fields.is_none() && form.errors().len() > 3);
        let invalid = form.errors().iter().filter_map(|error| error.field.as_deref());
        let (fields, _) = read("name=a&access=read&expires=never");
        let settings = KeySettings::from(fields.expect("valid fields"));
        let audited = settings.audited(&Currency::new("TRX", 6).expect("a currency"));
        let names: Vec<&str> = audited.keys().map(String::as_str).chain(invalid).collect();
        let without: Vec<&&str> = names.iter().filter(|name| label(name).is_none()).collect();
        assert!(without.is_empty(), "no label for {without:?}");
    }

    #[test]
    fn today_is_accepted_as_the_expiry_day() {
        let (fields, _) = read("name=a&access=read&expires=date&expires_on=2026-11-25");
        assert!(fields.is_some());
    }

    #[test]
    fn last_offered_expiry_day_is_accepted_and_the_next_is_not() {
        for now in ["2026-11-25T21:40:00Z", "2026-11-25T00:00:00Z", "2026-11-25T23:59:59.999999Z"] {
            let now = Timestamp::parse(now).expect("a time");
            let last = last_day(now);
            let next = parse_end_of_day(&last).expect("a day");
            for (day, accepted) in [(last, true), (format::day_input(next), false)] {
                let text = format!("name=a&access=read&expires=date&expires_on={day}");
                let mut form = Form::parse(text.as_bytes());
                let fields = KeyInput::read(&mut form, now, &tenant(), false);
                assert_eq!(fields.is_some(), accepted, "{day} at {now}");
            }
        }
    }

    #[test]
    fn existing_key_can_keep_its_expiry() {
        let mut form = Form::parse(b"name=a&access=read&expires=keep");
        let fields = KeyInput::read(&mut form, now(), &tenant(), true).expect("valid fields");
        assert_eq!(fields.expires, Expires::Keep);
    }

    #[test]
    fn single_read_or_write_scope_is_its_own_choice_and_other_scopes_are_custom() {
        let fields = |scopes: &[&str]| {
            access_fields(&ScopeSet::parse(scopes.iter().copied()).expect("good scopes"))
        };
        assert_eq!(fields(&["read"]), ("read", String::new()));
        assert_eq!(fields(&["write"]), ("write", String::new()));
        assert_eq!(fields(&["read", "a:write"]), ("custom", "read a:write".to_owned()));
    }
}
