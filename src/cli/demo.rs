use std::sync::Arc;

use clap::Args;

use super::serve::Service;
use crate::{
    config::{DatabaseArgs, ServerArgs},
    domain::{
        account::{AccountFormat, ExternalId},
        amount::{Amount, Currency},
        api_key::{KeyPrefix, KeyText},
        audit::Origin,
        credit::NewCredit,
        idempotency::IdempotencyKey,
        permission::PermissionSet,
        scope::ScopeSet,
        tenant::{Environment, MaxKeys, Slug, Tenant, TenantPolicy},
        text::{Name, Reference},
    },
    entropy,
    store::{Refusal, Store, StoreError},
};

/// Name of the admin keys of the demo. Each start creates new ones, because the texts of the old
/// ones are not stored.
const ADMIN_KEY_NAME: &str = "demo";

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
    environment: Environment,
    prefix: &'static str,
    currency: &'static str,
    decimals: u8,
    account_format: AccountFormat,
    default_scope: &'static str,
    account: &'static str,
    balance: &'static str,
    /// The variable that holds its admin key.
    variable: &'static str,
}

const EXAMPLES: [Example; 3] = [
    Example {
        slug: "tronagg",
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
        let store = &service.database.store;
        // The service has no session yet, so it does not receive acknowledgements by itself.
        let hearing = service.database.hear_acknowledgements().await;
        let mut exports = Vec::new();
        for example in &EXAMPLES {
            let key = example.make(store).await?;
            exports.push(format!("export {}={}", example.variable, key.expose()));
        }
        drop(hearing);
        print_walk(service.address()?, service.has_docs(), &exports);
        service.run().await
    }
}

impl Example {
    /// Creates what does not exist yet. Returns the admin key of this start.
    async fn make(&self, store: &Store) -> anyhow::Result<KeyText> {
        let origin = Origin::cli();
        let admin_key = entropy::new_key(&KeyPrefix::admin())?;
        let slug: Slug = self.slug.parse()?;
        let tenant = match store.find_tenant(&slug, self.environment).await {
            Err(StoreError::Refused(Refusal::NotFound)) => {
                let (policy, name) = (self.policy()?, Name::parse(ADMIN_KEY_NAME)?);
                store
                    .create_tenant(&slug, self.environment, policy, &admin_key, &name, &origin)
                    .await?
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

    fn policy(&self) -> anyhow::Result<TenantPolicy> {
        Ok(TenantPolicy {
            prefix: KeyPrefix::parse(self.prefix)?,
            max_keys: MaxKeys::try_from(5).map_err(anyhow::Error::msg)?,
            currency: Currency::new(self.currency, self.decimals)?,
            account_format: self.account_format,
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

fn print_walk(address: std::net::SocketAddr, has_docs: bool, exports: &[String]) {
    // A service that listens on all addresses is reached over the loopback address.
    let host =
        if address.ip().is_unspecified() { "127.0.0.1".into() } else { address.ip().to_string() };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let url = format!("http://{host}:{}", address.port());
    let docs = if has_docs { format!("    API documentation: {url}/docs") } else { String::new() };
    let account = EXAMPLES[0].account;
    println!(
        r#"
Tollgate is ready: {url}{docs}

Paste the lines below into another terminal. First, the admin keys of this start:

{exports}

# Create a key for an account of TronAgg. Its text is shown only once.
CREATED=$(curl -sS -X POST {url}/v1/accounts/{account}/keys -H "Authorization: Bearer $TRONAGG_ADMIN_KEY" -H 'Content-Type: application/json' -d '{{"name": "my first bot"}}'); echo "$CREATED"
export TRONAGG_API_KEY=$(echo "$CREATED" | sed 's/.*"key":"\([^"]*\)".*/\1/') KEY_ID=$(echo "$CREATED" | sed 's/.*"id":"\([^"]*\)".*/\1/')

# Read the account and its balance with the key.
curl -sS {url}/v1/me -H "X-API-Key: $TRONAGG_API_KEY"; echo

# Make a purchase. A retry with the same Idempotency-Key does not buy twice.
curl -sS -X POST {url}/v1/purchases -H "X-API-Key: $TRONAGG_API_KEY" -H 'Idempotency-Key: order-1' -H 'Content-Type: application/json' -d '{{"amount": "1.5", "reference": "65000 energy"}}'; echo

# Revoke the key.
curl -sS -X POST {url}/v1/accounts/{account}/keys/$KEY_ID/revoke -H "Authorization: Bearer $TRONAGG_ADMIN_KEY"; echo

# The key is refused now: 401.
curl -sS -i {url}/v1/me -H "X-API-Key: $TRONAGG_API_KEY"; echo
"#,
        exports = exports.join("\n"),
    );
}
