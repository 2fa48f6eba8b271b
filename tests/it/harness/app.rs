//! The service in memory: the router on a database of its own, with tenants in it.

use std::sync::Arc;

use axum::Router;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use sqlx::PgPool;
use tollgate::{
    auth::ClientAddress,
    dashboard,
    domain::{
        account::AccountFormat,
        amount::Currency,
        api_key::KeyPrefix,
        audit::Origin,
        dashboard::WebOrigin,
        permission::PermissionSet,
        scope::ScopeSet,
        tenant::{Environment, MaxKeys, Tenant, TenantPolicy},
        text::Name,
    },
    entropy,
    http::router,
    money::Money,
    node::{Node, NodeSettings},
    state::{AppState, Limits},
    store::{LedgerCheck, Store},
    usage::UsageBuffer,
};
use tower::ServiceExt as _;

use super::{Answer, Call, WALLET, cluster, eventually};

pub struct App {
    pub router: Router,
    pub store: Arc<Store>,
    pub node: Node,
    pub usage: Arc<UsageBuffer>,
    pub money: Money,
    /// Beside the service: to look at what it stored, and to set up what it would not.
    pub pool: PgPool,
    pub tronagg: TestTenant,
    pub tradetally: TestTenant,
    pub url: String,
}

/// A tenant and an admin key of it that may do everything.
pub struct TestTenant {
    pub tenant: Arc<Tenant>,
    pub admin_key: String,
}

impl App {
    pub async fn start() -> Self {
        Self::on(&cluster::fresh_database().await).await
    }

    /// On a database that may have the tenants already.
    pub async fn on(url: &str) -> Self {
        let store = Store::connect(&cluster::pool_settings(url)).await.expect("it can be reached");
        let store = Arc::new(store);
        let tronagg =
            TestTenant::make(&store, "tronagg", "ta_", "TRX", 6, AccountFormat::Tron, "write");
        let tronagg = tronagg.await;
        let tradetally = TestTenant::make(
            &store,
            "tradetally",
            "tt_live_",
            "USD",
            2,
            AccountFormat::Any,
            "read",
        );
        let tradetally = tradetally.await;
        let pool = PgPool::connect_lazy(url).expect("a URL");
        let node = start_node(Arc::clone(&store)).await;
        let state = state_of(node.clone(), Limits::default());
        let (usage, money) = (Arc::clone(state.usage()), state.money().clone());
        let router = service(state);
        Self { router, store, node, usage, money, pool, tronagg, tradetally, url: url.to_owned() }
    }

    /// The router of another node on the same database: nothing but that is shared.
    pub async fn another_node(&self) -> Router {
        let store = Store::connect(&cluster::pool_settings(&self.url)).await;
        let store = Arc::new(store.expect("it can be reached"));
        service(state_of(start_node(store).await, Limits::default()))
    }

    /// Sends a request through all layers.
    pub async fn send(&self, call: Call) -> Answer {
        let mut request = call.into_request();
        let address = ClientAddress("192.0.2.7".parse().expect("an address"));
        request.extensions_mut().insert(address);
        let response = self.router.clone().oneshot(request).await.expect("it never fails");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Answer::new(parts.status.as_u16(), parts.headers, body.to_vec())
    }

    /// Writes what keys were used for through this router, which in a service is done in time.
    pub async fn flush_usage(&self) {
        self.usage.flush(&self.store).await.expect("it is written");
    }

    /// An account of TronAgg with a balance of `balance` TRX.
    pub async fn wallet(&self, balance: &str) -> &'static str {
        self.account(&self.tronagg, WALLET, balance).await;
        WALLET
    }

    /// An account with a balance; `"0"`: none.
    pub async fn account(&self, tenant: &TestTenant, account: &str, balance: &str) {
        let made = self.send(tenant.call("PUT", &format!("/v1/accounts/{account}"))).await;
        assert!(matches!(made.status, 200 | 201), "{made:?}");
        if balance != "0" {
            let credit = tenant
                .call("POST", &format!("/v1/accounts/{account}/credits"))
                .header("Idempotency-Key", &format!("opening-{account}"))
                .json(json!({"amount": balance}));
            self.send(credit).await.expect(201);
        }
    }

    /// A key of the account with the tenant's default scopes.
    pub async fn key(&self, tenant: &TestTenant, account: &str) -> NewKey {
        self.key_with(tenant, account, json!({"name": "a key"})).await
    }

    /// Lets a key expire a moment after it was made, which the service would not do.
    pub async fn expire(&self, key: &NewKey) {
        sqlx::query(
            "UPDATE api_keys SET expires_at = created_at + interval '1 microsecond'
             WHERE hint = $1",
        )
        .bind(format!("{}…{}", &key.text[..7], &key.text[42..]))
        .execute(&self.pool)
        .await
        .expect("it is made to expire");
    }

    pub async fn key_with(&self, tenant: &TestTenant, account: &str, body: Value) -> NewKey {
        let call = tenant.call("POST", &format!("/v1/accounts/{account}/keys")).json(body);
        let created = self.send(call).await.expect(201);
        NewKey {
            text: created.text("/key").to_owned(),
            id: created.text("/id").to_owned(),
            path: format!("/v1/accounts/{account}/keys/{}", created.text("/id")),
        }
    }

    /// What is left on the account, as the tenant sees it.
    pub async fn balance(&self, tenant: &TestTenant, account: &str) -> String {
        let answer = self.send(tenant.call("GET", &format!("/v1/accounts/{account}"))).await;
        answer.expect(200).text("/balance/amount").to_owned()
    }

    /// Holds the rows of all accounts, until it is committed or dropped.
    pub async fn lock_accounts(&self) -> sqlx::Transaction<'static, sqlx::Postgres> {
        let mut tx = self.pool.begin().await.expect("a transaction");
        let lock = "SELECT FROM accounts FOR UPDATE";
        sqlx::query(lock).execute(&mut *tx).await.expect("the lock");
        tx
    }

    /// Waits until so many of the service's transactions wait for a lock.
    pub async fn wait_until_blocked(&self, number: i64) {
        let all_blocked = async || {
            let blocked: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'",
            )
            .fetch_one(&self.pool)
            .await
            .expect("a number");
            blocked == number
        };
        eventually("they wait for the lock", all_blocked).await;
    }

    /// That the money of every account adds up, as `tollgate ledger verify` checks it. To be called
    /// after every test that moves money.
    pub async fn check_ledger(&self) {
        let mut faults = Vec::new();
        let tell = |said: LedgerCheck<'_>| {
            if let LedgerCheck::Fault { account, fault } = said {
                faults.push(format!("{account}: {fault}"));
            }
        };
        self.store.check_ledger(None, tell).await.expect("the ledger can be read");
        assert_eq!(faults, Vec::<String>::new());
    }
}

/// What the handlers of a node share.
pub fn state_of(node: Node, limits: Limits) -> AppState {
    let url = WebOrigin::parse("http://127.0.0.1:8080").expect("an origin");
    AppState::new(node, limits, url)
}

/// All that a node answers.
pub fn service(state: AppState) -> Router {
    let pages = dashboard::routes(&state);
    router(state, pages)
}

/// A node that answers out of its cache, as a service does that runs.
async fn start_node(store: Arc<Store>) -> Node {
    let node = Node::new(store, NodeSettings::default());
    // It ends with the test's runtime.
    tokio::spawn(node.clone().keep_lease(std::future::pending()));
    eventually("it has its lease", async || node.verifier().state().holds_lease).await;
    node
}

/// A key that was just created.
#[derive(Clone, Debug)]
pub struct NewKey {
    pub text: String,
    pub id: String,
    /// `/v1/accounts/{account}/keys/{key_id}`
    pub path: String,
}

impl NewKey {
    /// A request that carries the key.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(method, path).header("X-API-Key", &self.text)
    }

    pub fn buy(&self, amount: &str) -> Call {
        self.call("POST", "/v1/purchases").json(json!({"amount": amount}))
    }
}

impl TestTenant {
    async fn make(
        store: &Store,
        slug: &str,
        prefix: &str,
        currency: &str,
        decimals: u8,
        account_format: AccountFormat,
        default_scope: &str,
    ) -> Self {
        let slug = slug.parse().expect("a slug");
        let key = entropy::new_key(&KeyPrefix::admin()).expect("entropy");
        let policy = TenantPolicy {
            prefix: KeyPrefix::parse(prefix).expect("a prefix"),
            max_keys: MaxKeys::try_from(5).expect("a cap"),
            currency: Currency::new(currency, decimals).expect("a currency"),
            account_format,
            default_scopes: ScopeSet::parse([default_scope]).expect("a scope"),
        };
        let live = Environment::Live;
        let tenant = match store.find_tenant(&slug, live).await {
            Ok(tenant) => {
                let name = Name::parse("again").expect("a name");
                let all = PermissionSet::all();
                let origin = Origin::cli();
                let made = store.create_admin_key(&tenant, &key, &name, &all, &origin);
                made.await.expect("an admin key");
                tenant
            }
            Err(_) => {
                let (name, origin) = (Name::parse("first").expect("a name"), Origin::cli());
                let made = store.create_tenant(&slug, live, policy, &key, &name, &origin);
                made.await.expect("a tenant")
            }
        };
        Self { tenant, admin_key: key.expose().to_owned() }
    }

    /// A request that carries the admin key.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(method, path).bearer(&self.admin_key)
    }

    /// An admin key of the tenant with these permissions alone.
    pub async fn admin_key_with(&self, app: &App, permissions: &[&str]) -> String {
        let key = entropy::new_key(&KeyPrefix::admin()).expect("entropy");
        let permissions = PermissionSet::parse(permissions).expect("permissions");
        let name = Name::parse("limited").expect("a name");
        app.store
            .create_admin_key(&self.tenant, &key, &name, &permissions, &Origin::cli())
            .await
            .expect("an admin key");
        key.expose().to_owned()
    }
}
