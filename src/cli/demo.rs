use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use tokio::time::sleep;

use super::{output::outln, serve::Service};
use crate::{
    config::{DEFAULT_LISTEN, DatabaseArgs, ServerArgs},
    domain::{
        account::{AccountFormat, ExternalId},
        amount::{Amount, Currency},
        api_key::{KeyPrefix, KeyText},
        audit::Origin,
        credit::NewCredit,
        dashboard::{DisplayName, LinkSeconds, WebOrigin, link_url},
        idempotency::IdempotencyKey,
        permission::PermissionSet,
        scope::ScopeSet,
        tenant::{Environment, MaxKeys, Slug, Tenant, TenantPolicy},
        text::{Name, Reference},
    },
    entropy,
    http::BOOK_PATH,
    store::{DashboardChange, NewTenant, Refusal, Store, StoreError},
};

/// Name of the admin keys of the demo. Each start creates new admin keys, because Tollgate does not
/// store the plaintext of old keys.
const ADMIN_KEY_NAME: &str = "demo";

/// The pause between two readiness checks.
const CHECK_AGAIN_AFTER: Duration = Duration::from_millis(20);

#[derive(Args)]
pub struct Demo {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// A platform of the demo.
struct Example {
    slug: &'static str,
    /// The name on the pages of its dashboard.
    name: &'static str,
    environment: Environment,
    prefix: &'static str,
    currency: &'static str,
    decimals: u8,
    account_format: AccountFormat,
    default_scope: &'static str,
    account: &'static str,
    balance: &'static str,
    /// The environment variable for its admin key.
    variable: &'static str,
}

const EXAMPLES: [Example; 3] = [
    Example {
        slug: "tronagg",
        name: "TronAgg",
        environment: Environment::Live,
        prefix: "ta_",
        currency: "TRX",
        decimals: 6,
        account_format: AccountFormat::Tron,
        default_scope: "write",
        account: "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC",
        balance: "100",
        variable: "TRONAGG_ADMIN_KEY",
    },
    Example {
        slug: "tradetally",
        name: "TradeTally",
        environment: Environment::Live,
        prefix: "tt_live_",
        currency: "USD",
        decimals: 2,
        account_format: AccountFormat::Any,
        default_scope: "read",
        account: "user-1",
        balance: "25",
        variable: "TRADETALLY_ADMIN_KEY",
    },
    Example {
        slug: "tradetally",
        name: "TradeTally",
        environment: Environment::Test,
        prefix: "tt_test_",
        currency: "USD",
        decimals: 2,
        account_format: AccountFormat::Any,
        default_scope: "read",
        account: "user-1",
        balance: "1000",
        variable: "TRADETALLY_TEST_ADMIN_KEY",
    },
];

impl Demo {
    pub async fn run(self) -> anyhow::Result<()> {
        let service = Service::start(&self.database, &self.server).await?;
        let store = Arc::clone(&service.database.store);
        // The service does not receive acknowledgements yet, because its node has no session.
        let hearing = service.database.hear_acknowledgements().await;
        let mut exports = Vec::new();
        for example in &EXAMPLES {
            let key = example.make(&store).await?;
            exports.push(format!("export {}={}", example.variable, key.expose()));
        }
        let public_url = service.public_url()?;
        let link = EXAMPLES[0].link(&store, &public_url).await?;
        drop(hearing);
        let text = Text {
            address: service.address()?,
            has_docs: service.has_docs(),
            exports: exports.join("\n"),
            link,
            other_link: self.other_link(&public_url)?,
        };
        // Prints the text after the service is ready, so that no log line of the start follows it.
        let print_when_ready = async move {
            while store.check_ready().await.is_err() {
                sleep(CHECK_AGAIN_AFTER).await;
            }
            if let Err(error) = text.print() {
                tracing::warn!("cannot print the curl commands and the dashboard link: {error}");
            }
        };
        service.run_beside(print_when_ready).await
    }

    /// Returns a text with the command that prints another link.
    fn other_link(&self, public_url: &WebOrigin) -> anyhow::Result<String> {
        let program = std::env::args_os()
            .next()
            .context("the operating system did not pass the name of the program")?;
        let example = &EXAMPLES[0];
        let mut words = vec![quoted(&program.to_string_lossy())];
        words.extend(["dashboard", "link", example.slug, example.account].map(str::to_owned));
        if let Some(directory) = &self.database.data_dir {
            let directory = std::path::absolute(Path::new(directory))?;
            words.push("--data-dir".to_owned());
            words.push(quoted(&directory.to_string_lossy()));
        }
        // Without the flag, the command uses the URL of the default settings.
        if public_url.as_str() != format!("http://{DEFAULT_LISTEN}") {
            words.push("--public-url".to_owned());
            words.push(quoted(public_url.as_str()));
        }
        // The URL may contain a password, so the command does not repeat it.
        let condition =
            if self.database.database_url.is_some() { " with the same DATABASE_URL" } else { "" };
        Ok(format!("To get another link, run{condition}:\n\n{}", words.join(" ")))
    }
}

/// Returns the address at which clients on this machine reach a service that listens on `address`.
/// If the service listens on all addresses, clients use the loopback address.
fn address_on_this_machine(address: SocketAddr) -> SocketAddr {
    let ip = address.ip();
    let ip = if ip.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { ip };
    SocketAddr::new(ip, address.port())
}

/// Quotes a word for a shell, if necessary.
fn quoted(word: &str) -> String {
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "/.:-_".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

impl Example {
    /// Creates the tenant and the account if they do not exist, and a new admin key. Returns the
    /// admin key.
    async fn make(&self, store: &Store) -> anyhow::Result<KeyText> {
        let origin = Origin::cli();
        let admin_key = entropy::new_key(&KeyPrefix::admin())?;
        let slug: Slug = self.slug.parse()?;
        let tenant = match store.find_tenant(&slug, self.environment).await {
            Err(StoreError::Refused(Refusal::NotFound)) => {
                let name = Name::parse(ADMIN_KEY_NAME)?;
                let tenant =
                    store.create_tenant(self.new_tenant(slug)?, &admin_key, &name, &origin).await?;
                let name = Some(Some(DisplayName::parse(self.name)?));
                let change = DashboardChange { name, ..DashboardChange::default() };
                store.change_dashboard_settings(&tenant, &change, &origin).await?;
                tenant
            }
            found => {
                let tenant = found?;
                self.replace_admin_key(store, &tenant, &admin_key).await?;
                tenant
            }
        };
        let account = ExternalId::parse(self.account, self.account_format)?;
        store.account(&tenant, &account, &origin).ensure().await?;
        let credit = NewCredit {
            amount: Amount::parse(self.balance, &tenant.policy.currency)?,
            reference: Some(Reference::parse("opening balance")?),
        };
        let once = IdempotencyKey::parse("demo-opening-balance")?;
        store.account(&tenant, &account, &origin).credit(&credit, &once).await?;
        Ok(admin_key)
    }

    /// Creates a dashboard link for the account. The link is valid for a day.
    async fn link(&self, store: &Store, public_url: &WebOrigin) -> anyhow::Result<String> {
        let tenant = store.find_tenant(&self.slug.parse()?, self.environment).await?;
        let account = ExternalId::parse(self.account, self.account_format)?;
        let (token, origin) = (entropy::new_session_token()?, Origin::cli());
        let handle = store.account(&tenant, &account, &origin);
        // Ends the links and sessions of earlier starts. The demo has already revoked the admin
        // keys of those starts.
        handle.end_dashboard_sessions().await?;
        handle.create_dashboard_link(&token, None, LinkSeconds::DAY).await?;
        Ok(link_url(public_url, &token))
    }

    fn new_tenant(&self, slug: Slug) -> anyhow::Result<NewTenant> {
        Ok(NewTenant {
            slug,
            environment: self.environment,
            policy: TenantPolicy {
                prefix: KeyPrefix::parse(self.prefix)?,
                currency: Currency::new(self.currency, self.decimals)?,
                account_format: self.account_format,
            },
            max_keys: MaxKeys::default(),
            default_scopes: ScopeSet::parse([self.default_scope])?,
        })
    }

    async fn replace_admin_key(
        &self,
        store: &Store,
        tenant: &Arc<Tenant>,
        key: &KeyText,
    ) -> anyhow::Result<()> {
        let origin = Origin::cli();
        for old in store.list_admin_keys(tenant).await? {
            if old.name == ADMIN_KEY_NAME && old.revoked_at.is_none() {
                store.revoke_admin_key(tenant, old.id, &origin).await?;
            }
        }
        let name = Name::parse(ADMIN_KEY_NAME)?;
        store.create_admin_key(tenant, key, &name, &PermissionSet::all(), &origin).await?;
        Ok(())
    }
}

/// The text that the demo prints for its user.
struct Text {
    address: SocketAddr,
    has_docs: bool,
    exports: String,
    link: String,
    other_link: String,
}

impl Text {
    fn print(&self) -> anyhow::Result<()> {
        let Self { address, has_docs, exports, link, other_link } = self;
        let url = format!("http://{}", address_on_this_machine(*address));
        let docs = if *has_docs {
            format!("\nDocumentation: {url}{BOOK_PATH}\nAPI reference: {url}/docs\n")
        } else {
            String::new()
        };
        let account = EXAMPLES[0].account;
        outln!(
            r#"
Tollgate is ready: {url}
{docs}
To try the API, paste these lines into another terminal. The first lines set the new admin keys.

{exports}

# Create an API key for an account of TronAgg. The key is shown only once.
CREATED=$(curl -sS -X POST {url}/v1/accounts/{account}/keys -H "Authorization: Bearer $TRONAGG_ADMIN_KEY" -H 'Content-Type: application/json' -d '{{"name": "my first bot"}}'); echo "$CREATED"
export TRONAGG_API_KEY=$(echo "$CREATED" | sed 's/.*"key":"\([^"]*\)".*/\1/') KEY_ID=$(echo "$CREATED" | sed 's/.*"id":"\([^"]*\)".*/\1/')

# Read the account and its balance with the key.
curl -sS {url}/v1/me -H "X-API-Key: $TRONAGG_API_KEY"; echo

# Make a purchase. A retry with the same Idempotency-Key does not buy twice.
curl -sS -X POST {url}/v1/purchases -H "X-API-Key: $TRONAGG_API_KEY" -H 'Idempotency-Key: demo-1' -H 'Content-Type: application/json' -d '{{"amount": "1.5", "reference": "65000 energy"}}'; echo

# Revoke the key.
curl -sS -X POST {url}/v1/accounts/{account}/keys/$KEY_ID/revoke -H "Authorization: Bearer $TRONAGG_ADMIN_KEY"; echo

# Tollgate now refuses the key with 401.
curl -sS -i {url}/v1/me -H "X-API-Key: $TRONAGG_API_KEY"; echo

The link below opens the dashboard of the account {account}. It works once, within 24 hours.
{other_link}

Open the dashboard: {link}
"#
        )
    }
}
