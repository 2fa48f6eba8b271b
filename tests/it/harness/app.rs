//! Runs the service in memory, as a router with its own database and two tenants.

use std::sync::Arc;

use axum::{Router, body::Body, http::Request};
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
        tenant::{Environment, MaxKeys, Slug, Tenant, TenantPolicy},
        text::Name,
    },
    entropy,
    http::{docs, router, start},
    money::Money,
    node::{Node, NodeSettings},
    state::{AppState, Limits},
    store::{LedgerCheck, NewTenant, Store},
    usage::UsageBuffer,
};
use tower::ServiceExt as _;

use super::{Answer, Call, WALLET, cluster, eventually};

/// The address from which [`App::send`] sends requests.
pub const CLIENT: &str = "192.0.2.7";

pub struct App {
    pub router: Router,
    pub store: Arc<Store>,
    pub node: Node,
    pub usage: Arc<UsageBuffer>,
    pub money: Money,
    /// A pool for direct SQL. Tests use it to read stored rows, and to create rows that the service
    /// would not create.
    pub pool: PgPool,
    pub tronagg: TestTenant,
    pub tradetally: TestTenant,
    pub url: String,
}

/// Sends a request to a node. Returns its response.
pub async fn respond(node: &Router, request: Request<Body>) -> Answer {
    let response = node.clone().oneshot(request).await.expect("the router is infallible");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("the body can be read").to_bytes();
    Answer::new(parts.status.as_u16(), parts.headers, body.to_vec())
}

/// A tenant, and an admin key of this tenant with every permission.
pub struct TestTenant {
    pub tenant: Arc<Tenant>,
    pub admin_key: String,
}

impl App {
    pub async fn start() -> Self {
        Self::on(&cluster::fresh_database().await).await
    }

    /// Starts the service on an existing database. Creates each tenant that does not exist.
    pub async fn on(url: &str) -> Self {
        let store =
            Store::connect(&cluster::pool_settings(url)).await.expect("the database is reachable");
        let store = Arc::new(store);
        let live = Environment::Live;
        let tronagg = ("tronagg", live);
        let tronagg =
            TestTenant::make(&store, tronagg, "ta_", "TRX", 6, AccountFormat::Tron, "write");
        let tronagg = tronagg.await;
        let tradetally = TestTenant::make(
            &store,
            ("tradetally", live),
            "tt_live_",
            "USD",
            2,
            AccountFormat::Any,
            "read",
        );
        let tradetally = tradetally.await;
        let pool = PgPool::connect_lazy(url).expect("the URL is valid");
        let node = start_node(Arc::clone(&store)).await;
        let state = state_of(node.clone(), Limits::default());
        let (usage, money) = (Arc::clone(state.usage()), state.money().clone());
        let router = service(state);
        Self { router, store, node, usage, money, pool, tronagg, tradetally, url: url.to_owned() }
    }

    /// Creates a tenant for TronAgg's test environment. Its accounts may have the ids of accounts
    /// in the live environment.
    pub async fn tronagg_test(&self) -> TestTenant {
        let tenant = ("tronagg", Environment::Test);
        let format = AccountFormat::Tron;
        TestTenant::make(&self.store, tenant, "tx_", "TRX", 6, format, "write").await
    }

    /// Starts another node and returns its router. The nodes share only the database.
    pub async fn another_node(&self) -> Router {
        let store = Store::connect(&cluster::pool_settings(&self.url)).await;
        let store = Arc::new(store.expect("the database is reachable"));
        service(state_of(start_node(store).await, Limits::default()))
    }

    /// Sends a request through all layers of the router.
    pub async fn send(&self, call: Call) -> Answer {
        self.send_request(call.into_request()).await
    }

    /// Sends a request with any kind of body, such as a body that never ends.
    pub async fn send_request(&self, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(client_address(CLIENT));
        self.respond(request).await
    }

    /// Sends a request of a client at this address.
    pub async fn send_from(&self, address: &str, call: Call) -> Answer {
        let mut request = call.into_request();
        request.extensions_mut().insert(client_address(address));
        self.respond(request).await
    }

    /// Sends a request of a client whose address the service does not know.
    pub async fn send_without_address(&self, call: Call) -> Answer {
        self.respond(call.into_request()).await
    }

    async fn respond(&self, request: Request<Body>) -> Answer {
        respond(&self.router, request).await
    }

    /// Writes the usage counts of this router. A running service does this every few seconds.
    pub async fn flush_usage(&self) {
        self.usage.flush(&self.store).await.expect("the usage is written");
    }

    /// Creates an account of TronAgg with a balance of `balance` TRX. Returns its id.
    pub async fn wallet(&self, balance: &str) -> &'static str {
        self.account(&self.tronagg, WALLET, balance).await;
        WALLET
    }

    /// Creates an account with this balance. The balance `"0"` needs no credit.
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

    /// Adds credits of the smallest amount to every account that has ledger entries. It fills the
    /// columns that the service fills.
    pub async fn add_credits(&self, number: i64) {
        for statement in [
            "INSERT INTO ledger_entries (account_id, seq, kind, amount, balance_after, cause_id,
                                         created_at)
             SELECT account_id, last_seq + n, 'credit', 1, balance + n, gen_random_uuid(),
                    last_entry_at
             FROM accounts CROSS JOIN generate_series(1, $1) AS n WHERE last_seq > 0",
            "INSERT INTO credits (account_id, credit_id, seq, amount, created_at)
             SELECT e.account_id, e.cause_id, e.seq, e.amount, e.created_at
             FROM ledger_entries e JOIN accounts a USING (account_id)
             WHERE e.seq > a.last_seq AND a.last_seq + $1 >= e.seq",
            "UPDATE accounts SET balance = balance + $1, last_seq = last_seq + $1
             WHERE last_seq > 0",
        ] {
            let written = sqlx::query(statement).bind(number).execute(&self.pool).await;
            written.expect("the rows are written");
        }
    }

    /// Creates a key of the account with the tenant's default scopes.
    pub async fn key(&self, tenant: &TestTenant, account: &str) -> NewKey {
        self.key_with(tenant, account, json!({"name": "a key"})).await
    }

    /// Sets the expiry of a key to a time just after its creation, which the service does not
    /// allow.
    pub async fn expire(&self, key: &NewKey) {
        sqlx::query(
            "UPDATE api_keys SET expires_at = created_at + interval '1 microsecond'
             WHERE hint = $1",
        )
        .bind(format!("{}…{}", &key.text[..7], &key.text[42..]))
        .execute(&self.pool)
        .await
        .expect("the expiry is set");
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

    /// Requests the balance of the account with the tenant's admin key.
    pub async fn balance(&self, tenant: &TestTenant, account: &str) -> String {
        let answer = self.send(tenant.call("GET", &format!("/v1/accounts/{account}"))).await;
        answer.expect(200).text("/balance/amount").to_owned()
    }

    /// Locks the rows of all accounts until the transaction is committed or dropped.
    pub async fn lock_accounts(&self) -> sqlx::Transaction<'static, sqlx::Postgres> {
        let mut tx = self.pool.begin().await.expect("the transaction begins");
        let lock = "SELECT FROM accounts FOR UPDATE";
        sqlx::query(lock).execute(&mut *tx).await.expect("Postgres grants the lock");
        tx
    }

    /// Waits until exactly `number` transactions of the service are blocked by a lock.
    pub async fn wait_until_blocked(&self, number: i64) {
        cluster::wait_until_blocked(&self.pool, number).await;
    }

    /// Checks the ledger of every account as `tollgate ledger verify` does. Every test that moves
    /// money ends with this call.
    pub async fn check_ledger(&self) {
        let mut faults = Vec::new();
        let collect_faults = |check: LedgerCheck<'_>| {
            if let LedgerCheck::Fault { account, fault } = check {
                faults.push(format!("{account}: {fault}"));
            }
        };
        self.store.check_ledger(None, collect_faults).await.expect("the ledger can be read");
        assert_eq!(faults, Vec::<String>::new());
    }
}

/// Builds the state that all handlers of a node share.
pub fn state_of(node: Node, limits: Limits) -> AppState {
    let url = WebOrigin::parse("http://127.0.0.1:8080").expect("the origin is valid");
    AppState::new(node, limits, url, true)
}

/// Builds the router of a node with the API, the dashboard, the start page and the documentation.
pub fn service(state: AppState) -> Router {
    let start = start(&state, dashboard::start_page(&state));
    let pages = dashboard::routes(&state).merge(start).merge(docs(&state));
    router(state, pages, Arc::default())
}

/// Starts a node and waits for its lease, so that the node accepts keys.
pub async fn start_node(store: Arc<Store>) -> Node {
    start_node_with(store, NodeSettings::default()).await
}

/// Starts a node with these settings and waits for its lease.
pub async fn start_node_with(store: Arc<Store>, settings: NodeSettings) -> Node {
    let node = Node::new(store, settings);
    // The task runs until the runtime of the test shuts down.
    tokio::spawn(node.clone().keep_lease(std::future::pending()));
    eventually("the node has its lease", async || node.verifier().state().holds_lease).await;
    node
}

#[derive(Clone, Debug)]
pub struct NewKey {
    pub text: String,
    pub id: String,
    /// The path of the key: `/v1/accounts/{account}/keys/{key_id}`.
    pub path: String,
}

impl NewKey {
    /// Builds a request with the key in its headers.
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
        (slug, environment): (&str, Environment),
        prefix: &str,
        currency: &str,
        decimals: u8,
        account_format: AccountFormat,
        default_scope: &str,
    ) -> Self {
        let slug: Slug = slug.parse().expect("the slug is valid");
        let key = entropy::new_key(&KeyPrefix::admin()).expect("the operating system has entropy");
        let policy = TenantPolicy {
            prefix: KeyPrefix::parse(prefix).expect("the prefix is valid"),
            currency: Currency::new(currency, decimals).expect("the currency is valid"),
            account_format,
        };
        let new = NewTenant {
            slug: slug.clone(),
            environment,
            policy,
            max_keys: MaxKeys::default(),
            default_scopes: ScopeSet::parse([default_scope]).expect("the scope is valid"),
        };
        let tenant = match store.find_tenant(&slug, environment).await {
            Ok(tenant) => {
                let name = Name::parse("again").expect("the name is valid");
                let all = PermissionSet::all();
                let origin = Origin::cli();
                let made = store.create_admin_key(&tenant, &key, &name, &all, &origin);
                made.await.expect("the store creates the row");
                tenant
            }
            Err(_) => {
                let (name, origin) =
                    (Name::parse("first").expect("the name is valid"), Origin::cli());
                let made = store.create_tenant(new, &key, &name, &origin);
                made.await.expect("the store creates the row")
            }
        };
        Self { tenant, admin_key: key.expose().to_owned() }
    }

    /// Builds a request with the admin key in its headers.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(method, path).bearer(&self.admin_key)
    }

    /// Creates an admin key of the tenant with only these permissions.
    pub async fn admin_key_with(&self, app: &App, permissions: &[&str]) -> String {
        let key = entropy::new_key(&KeyPrefix::admin()).expect("the operating system has entropy");
        let permissions = PermissionSet::parse(permissions).expect("the permissions are valid");
        let name = Name::parse("limited").expect("the name is valid");
        app.store
            .create_admin_key(&self.tenant, &key, &name, &permissions, &Origin::cli())
            .await
            .expect("the store creates the row");
        key.expose().to_owned()
    }
}

fn client_address(text: &str) -> ClientAddress {
    ClientAddress(text.parse().expect("the address is valid"))
}
