//! A platform's dashboard settings, and the message that an account's owner signs to sign in.

use std::fmt;

use super::{
    account::AccountFormat,
    key_clients::ClientAddresses,
    permission::{Permission, PermissionSet},
    session_token::SessionToken,
    tenant::Tenant,
    text::text_type,
    text_enum::text_enum,
    timestamp::Timestamp,
};
pub use crate::domain::{
    accent::{AccentColor, AccentColorError, DARK_SURFACE, LIGHT_SURFACE, Palette, Rgb, Shades},
    logo::{Logo, LogoError, LogoHash, LogoMediaType, LogoRef, MAX_LOGO_BYTES, MalformedLogoHash},
    web_origin::{MAX_RETURN_URL, ReturnUrl, ReturnUrlError, WebOrigin, WebOriginError},
};

text_type!(
    /// The name of a platform, as people read it.
    DisplayName,
    60,
    "TronAgg"
);

/// Maximum number of origins in a platform's [`ReturnOrigins`].
pub const MAX_RETURN_ORIGINS: usize = 20;

/// Lifetime of a dashboard link in seconds, from one second to one day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkSeconds(i32);

/// The lifetime is not positive or is longer than a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be from 1 to {}", LinkSeconds::MAX)]
pub struct LinkSecondsError;

impl LinkSeconds {
    /// One day in seconds.
    pub const MAX: i32 = 86_400;

    /// The maximum lifetime of a link.
    pub const DAY: Self = Self(Self::MAX);

    /// Returns the number of seconds, from 1 to [`Self::MAX`].
    #[must_use]
    pub fn get(self) -> i32 {
        self.0
    }
}

/// The default is five minutes.
impl Default for LinkSeconds {
    fn default() -> Self {
        Self(300)
    }
}

impl fmt::Display for LinkSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl TryFrom<i64> for LinkSeconds {
    type Error = LinkSecondsError;

    fn try_from(seconds: i64) -> Result<Self, LinkSecondsError> {
        match i32::try_from(seconds) {
            Ok(seconds @ 1..=Self::MAX) => Ok(Self(seconds)),
            _ => Err(LinkSecondsError),
        }
    }
}

super::schema::named!(
    LinkSeconds,
    "LinkSeconds",
    super::schema::int32()
        .description(Some("Seconds until a dashboard link expires."))
        .minimum(Some(1))
        .maximum(Some(LinkSeconds::MAX))
        .default(Some(LinkSeconds::default().get().into()))
);

/// Builds the URL of the dashboard link with this token, for a service at `public_url`.
#[must_use]
pub fn link_url(public_url: &WebOrigin, token: &SessionToken) -> String {
    format!("{public_url}/dashboard/enter?token={}", token.expose())
}

/// Time in seconds within which a user has to sign a sign-in message.
pub const SIGN_IN_SECONDS: i64 = 5 * 60;

/// Time in seconds after which a session without requests expires.
pub const IDLE_SECONDS: i64 = 30 * 60;

/// Maximum lifetime of a session, in seconds.
pub const SESSION_SECONDS: i64 = 12 * 60 * 60;

/// The dashboard settings of one tenant. A tenant that has not set any gets the default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DashboardSettings {
    /// The platform's name on the pages. If it is `None`, the pages show the slug.
    pub name: Option<DisplayName>,
    /// The platform's accent colour. If it is `None`, the pages use their default colour.
    pub color: Option<AccentColor>,
    /// The platform's logo. If it is `None`, the pages show no logo.
    pub logo: Option<LogoRef>,
    /// The origins to which the dashboard may link back. The list is empty by default.
    pub return_origins: ReturnOrigins,
    /// Whether the owner of a wallet may sign in. Off by default.
    pub wallet_sign_in: WalletSignIn,
    /// Whether the owner of an account may lower the rate limits of its keys. `false` by default.
    pub owner_rate_limits: bool,
    /// Which addresses of clients the service stores for the keys of the tenant.
    pub client_addresses: ClientAddresses,
}

impl DashboardSettings {
    /// Returns the platform's name for people: the display name, or else the tenant's slug.
    #[must_use]
    pub fn shown_name<'a>(&'a self, tenant: &'a Tenant) -> &'a str {
        self.name.as_ref().map_or(tenant.slug.as_str(), DisplayName::as_str)
    }
}

text_enum! {
    /// Whether owners of wallets may sign in, and whether a sign-in may create an account.
    pub enum WalletSignIn: Default(Off) {
        /// No user may sign in with a wallet.
        Off = "off",
        /// The owner of a wallet may sign in to an existing account.
        Existing = "existing",
        /// The owner of a wallet may sign in. If the account does not exist, it is created.
        Create = "create",
    }
}

text_enum! {
    /// How a user opened a session.
    pub enum SignInWay {
        /// The user followed a link that the platform created for the account.
        DashboardLink = "dashboard_link",
        /// The user signed a message with the wallet of the account.
        Wallet = "wallet",
    }
}

/// The right to use a part of the dashboard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DashboardRight {
    /// The pages and buttons for keys and holds.
    Keys,
    /// The balance, the statement, purchases and the security log.
    Audit,
}

/// The parts of the dashboard that a session may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DashboardRights {
    keys: bool,
    audit: bool,
}

impl DashboardRights {
    /// All rights. A wallet sign-in and a link from the command line grant them.
    pub const ALL: Self = Self { keys: true, audit: true };

    /// Returns the rights of a link that an admin key with these permissions creates. In the API,
    /// the permission `keys` does not cover holds. The right [`DashboardRight::Keys`] does, because
    /// an owner who may revoke a key may also void its holds.
    #[must_use]
    pub fn of_maker(permissions: &PermissionSet) -> Self {
        Self { keys: permissions.has(Permission::Keys), audit: permissions.has(Permission::Audit) }
    }

    /// Whether the session has this right. No right implies another.
    #[must_use]
    pub fn has(self, right: DashboardRight) -> bool {
        match right {
            DashboardRight::Keys => self.keys,
            DashboardRight::Audit => self.audit,
        }
    }
}

impl WalletSignIn {
    /// Whether a tenant with this account format may have this setting. A wallet can sign in only
    /// if accounts are TRON addresses.
    #[must_use]
    pub fn fits(self, format: AccountFormat) -> bool {
        self == Self::Off || format == AccountFormat::Tron
    }
}

/// The origins to which the dashboard may link back: at most [`MAX_RETURN_ORIGINS`], without
/// duplicates.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReturnOrigins(Vec<WebOrigin>);

/// The list contains more than [`MAX_RETURN_ORIGINS`] origins, duplicates included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have at most {} origins", MAX_RETURN_ORIGINS)]
pub struct TooManyOrigins;

impl ReturnOrigins {
    /// Creates a list in the given order, without duplicates.
    ///
    /// # Errors
    ///
    /// [`TooManyOrigins`] if there are more than [`MAX_RETURN_ORIGINS`] origins, duplicates
    /// included.
    pub fn new(origins: Vec<WebOrigin>) -> Result<Self, TooManyOrigins> {
        if origins.len() > MAX_RETURN_ORIGINS {
            return Err(TooManyOrigins);
        }
        let mut distinct = Vec::with_capacity(origins.len());
        for origin in origins {
            if !distinct.contains(&origin) {
                distinct.push(origin);
            }
        }
        Ok(Self(distinct))
    }

    /// Whether the list contains the origin of the URL, with the same scheme, host and port.
    #[must_use]
    pub fn allow(&self, url: &ReturnUrl) -> bool {
        self.0.contains(url.origin())
    }

    /// Returns the origins as text, in their order, such as `https://a.example`.
    #[must_use]
    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(WebOrigin::to_string).collect()
    }
}

impl serde::Serialize for ReturnOrigins {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

/// A schema that refers to the schema of [`WebOrigin`], so that the document contains both.
impl utoipa::PartialSchema for ReturnOrigins {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::schema::ArrayBuilder::new()
            .items(utoipa::openapi::Ref::from_schema_name(<WebOrigin as utoipa::ToSchema>::name()))
            .description(Some("The origins to which the dashboard may link back."))
            .max_items(Some(MAX_RETURN_ORIGINS))
            .into()
    }
}

impl utoipa::ToSchema for ReturnOrigins {
    fn name() -> std::borrow::Cow<'static, str> {
        std::borrow::Cow::Borrowed("ReturnOrigins")
    }

    fn schemas(all: &mut super::schema::Schemas) {
        all.push(super::schema::entry::<WebOrigin>());
    }
}

/// The message that the owner of a wallet signs to sign in. `Display` writes it byte for byte.
#[derive(Clone, Copy, Debug)]
pub struct SignInMessage<'a> {
    /// The origin of the sign-in page.
    pub public_url: &'a WebOrigin,
    /// The name of the platform, on one line.
    pub platform: &'a str,
    /// The TRON address that the caller claims to own.
    pub address: &'a str,
    /// The random text that makes this message valid for one sign-in.
    pub nonce: &'a str,
    /// The time by the database's clock when the nonce was created. The message expires
    /// [`SIGN_IN_SECONDS`] later.
    pub issued_at: Timestamp,
}

impl fmt::Display for SignInMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expires_at = self.issued_at.plus_seconds(SIGN_IN_SECONDS).ok_or(fmt::Error)?;
        writeln!(
            f,
            "{} asks you to sign in to {} with your TRON account:\n{}\n",
            self.public_url.host(),
            self.platform,
            self.address
        )?;
        f.write_str(
            "Signing proves that the account is yours. It costs nothing and moves no funds.\n\n",
        )?;
        write!(
            f,
            "URI: {}\nNonce: {}\nIssued At: {}\nExpires At: {expires_at}",
            self.public_url, self.nonce, self.issued_at
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn return_urls_need_a_registered_origin_and_the_number_of_origins_is_limited() {
        let origin = |text: &str| WebOrigin::parse(text).expect(text);
        let url = |text: &str| ReturnUrl::parse(text).expect(text);
        let origins = vec![origin("https://a.example"), origin("https://A.example:443")];
        let origins = ReturnOrigins::new(origins).expect("few");
        assert_eq!(origins.to_strings(), ["https://a.example"]);
        assert!(origins.allow(&url("https://a.example/account?tab=keys")));
        for text in ["https://b.example/", "https://a.example:8443/", "https://x.a.example/"] {
            assert!(!origins.allow(&url(text)), "{text}");
        }
        assert!(!ReturnOrigins::default().allow(&url("https://a.example/")));
        let many = (1..=21).map(|n| origin(&format!("https://a{n}.example"))).collect::<Vec<_>>();
        assert!(ReturnOrigins::new(many[..20].to_vec()).is_ok());
        assert_eq!(ReturnOrigins::new(many), Err(TooManyOrigins));
    }

    #[test]
    fn link_grants_no_right_that_its_admin_key_lacks() {
        let rights = |permissions: &[&str]| {
            let permissions = PermissionSet::parse(permissions).expect("permissions");
            let rights = DashboardRights::of_maker(&permissions);
            (rights.has(DashboardRight::Keys), rights.has(DashboardRight::Audit))
        };
        assert_eq!(rights(&["dashboard"]), (false, false));
        assert_eq!(rights(&["dashboard", "keys"]), (true, false));
        assert_eq!(rights(&["dashboard", "audit"]), (false, true));
        assert_eq!(rights(&["accounts", "verify", "credits"]), (false, false));
        let all = PermissionSet::all();
        assert_eq!(DashboardRights::of_maker(&all), DashboardRights::ALL);
    }

    #[test]
    fn lifetime_of_a_link_is_one_second_to_one_day() {
        for seconds in [1_i64, 300, 86_400] {
            let read = LinkSeconds::try_from(seconds).expect("within the limits");
            assert_eq!(i64::from(read.get()), seconds);
        }
        for seconds in [i64::MIN, -1, 0, 86_401, i64::MAX] {
            assert_eq!(LinkSeconds::try_from(seconds), Err(LinkSecondsError), "{seconds}");
        }
    }

    #[test]
    fn wallet_sign_in_needs_tron_addresses_as_account_ids() {
        for &policy in WalletSignIn::ALL {
            assert!(policy.fits(AccountFormat::Tron));
            assert_eq!(policy.fits(AccountFormat::Any), policy == WalletSignIn::Off);
        }
    }

    #[test]
    fn sign_in_message_consists_of_exactly_the_specified_text() {
        let public_url = WebOrigin::parse("https://keys.example.com:8443").expect("an origin");
        let message = SignInMessage {
            public_url: &public_url,
            platform: "TronAgg",
            address: "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC",
            nonce: "n0nce",
            issued_at: Timestamp::parse("2026-11-25T21:40:05Z").expect("a time"),
        };
        assert_eq!(
            message.to_string(),
            "keys.example.com:8443 asks you to sign in to TronAgg with your TRON account:\n\
             TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC\n\
             \n\
             Signing proves that the account is yours. It costs nothing and moves no funds.\n\
             \n\
             URI: https://keys.example.com:8443\n\
             Nonce: n0nce\n\
             Issued At: 2026-11-25T21:40:05.000000Z\n\
             Expires At: 2026-11-25T21:45:05.000000Z"
        );
    }
}
