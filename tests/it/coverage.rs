//! Calls every route without a credential and with the credential of another tenant. If a route
//! requires an admin key, the tests also use an admin key without the required permission. A test
//! fails if this file contains no line for a route of the OpenAPI document.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Answer, App, Call, OTHER_WALLET, WALLET, app::NewKey};

/// The credential that a route requires.
#[derive(Clone, Copy, PartialEq)]
enum Asks {
    Nothing,
    ApiKey,
    AdminKey(&'static str),
}

/// The response to a caller with a credential of another tenant or account.
enum Stranger {
    /// The 404 response for an unknown resource.
    NotFound,
    /// A response that contains no data of the tenant, that is, neither its account nor its ids.
    SeesNothing,
    /// A new resource that belongs to the caller, and not to the tenant.
    CreatesItsOwn,
    /// The path names the tenant. A caller of another tenant gets the 401 response for an unknown
    /// key. A caller of another account gets a response that contains no data of this account.
    UnauthorizedUnlessOfTheTenant,
}

/// The owner of the stranger's credential.
#[derive(Clone, Copy, PartialEq)]
enum Owner {
    AnotherTenant,
    AnotherAccount,
}

struct Route {
    method: &'static str,
    template: &'static str,
    asks: Asks,
    stranger: Stranger,
    body: Option<Value>,
}

fn routes() -> Vec<Route> {
    use Asks::{AdminKey, ApiKey, Nothing};
    use Stranger::{CreatesItsOwn, NotFound, SeesNothing, UnauthorizedUnlessOfTheTenant};
    let route =
        |method, template, asks, stranger| Route { method, template, asks, stranger, body: None };
    let with_body = |route: Route, body: Value| Route { body: Some(body), ..route };
    let name = json!({"name": "a"});
    vec![
        route("GET", "/", Nothing, SeesNothing),
        route("GET", "/livez", Nothing, SeesNothing),
        route("GET", "/readyz", Nothing, SeesNothing),
        route("GET", "/v1/authorize/{tenant}/{environment}", ApiKey, UnauthorizedUnlessOfTheTenant),
        route("GET", "/v1/me", ApiKey, SeesNothing),
        with_body(route("POST", "/v1/purchases", ApiKey, CreatesItsOwn), json!({"amount": "1"})),
        route("GET", "/v1/purchases", ApiKey, SeesNothing),
        route("GET", "/v1/purchases/{id}", ApiKey, NotFound),
        with_body(route("POST", "/v1/holds", ApiKey, CreatesItsOwn), json!({"amount": "1"})),
        route("GET", "/v1/holds", ApiKey, SeesNothing),
        route("GET", "/v1/holds/{id}", ApiKey, NotFound),
        route("POST", "/v1/holds/{id}/capture", ApiKey, NotFound),
        route("POST", "/v1/holds/{id}/void", ApiKey, NotFound),
        route("GET", "/v1/accounts", AdminKey("accounts"), SeesNothing),
        route("GET", "/v1/accounts/{account}", AdminKey("accounts"), NotFound),
        with_body(
            route("PATCH", "/v1/accounts/{account}", AdminKey("accounts"), NotFound),
            json!({"status": "suspended"}),
        ),
        with_body(
            route("POST", "/v1/accounts/{account}/credits", AdminKey("credits"), NotFound),
            json!({"amount": "1"}),
        ),
        with_body(
            route("POST", "/v1/accounts/{account}/keys", AdminKey("keys"), NotFound),
            name.clone(),
        ),
        route("GET", "/v1/accounts/{account}/keys", AdminKey("keys"), NotFound),
        route("GET", "/v1/accounts/{account}/keys/{key_id}", AdminKey("keys"), NotFound),
        with_body(
            route("PATCH", "/v1/accounts/{account}/keys/{key_id}", AdminKey("keys"), NotFound),
            name,
        ),
        route("GET", "/v1/accounts/{account}/keys/{key_id}/usage", AdminKey("keys"), NotFound),
        route("GET", "/v1/accounts/{account}/keys/{key_id}/clients", AdminKey("audit"), NotFound),
        route("POST", "/v1/accounts/{account}/keys/{key_id}/revoke", AdminKey("keys"), NotFound),
        route("POST", "/v1/accounts/{account}/keys/{key_id}/rotate", AdminKey("keys"), NotFound),
        route("GET", "/v1/accounts/{account}/purchases", AdminKey("audit"), NotFound),
        route("GET", "/v1/accounts/{account}/holds", AdminKey("audit"), NotFound),
        route("POST", "/v1/accounts/{account}/holds/{id}/void", AdminKey("credits"), NotFound),
        route(
            "POST",
            "/v1/accounts/{account}/purchases/{id}/refunds",
            AdminKey("credits"),
            NotFound,
        ),
        route("GET", "/v1/accounts/{account}/purchases/{id}/refunds", AdminKey("audit"), NotFound),
        route("GET", "/v1/accounts/{account}/ledger", AdminKey("audit"), NotFound),
        route("GET", "/v1/accounts/{account}/ledger.csv", AdminKey("audit"), NotFound),
        route("GET", "/v1/accounts/{account}/balance", AdminKey("audit"), NotFound),
        route("GET", "/v1/audit-events", AdminKey("audit"), SeesNothing),
        with_body(
            route("POST", "/v1/keys/verify", AdminKey("verify"), SeesNothing),
            json!({"key": "ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}),
        ),
        with_body(
            route("POST", "/v1/dashboard-links", AdminKey("dashboard"), NotFound),
            json!({"account": WALLET}),
        ),
        route(
            "DELETE",
            "/v1/accounts/{account}/dashboard-sessions",
            AdminKey("dashboard"),
            NotFound,
        ),
        route("GET", "/v1/dashboard-settings", AdminKey("accounts"), SeesNothing),
        with_body(
            route("PATCH", "/v1/dashboard-settings", AdminKey("accounts"), SeesNothing),
            json!({"name": "a"}),
        ),
        route("GET", "/v1/limits", AdminKey("accounts"), SeesNothing),
        with_body(
            route("PATCH", "/v1/limits", AdminKey("accounts"), SeesNothing),
            json!({"key_rate_limits": [{"name": "a", "limit": 1_000_000, "window_seconds": 1}]}),
        ),
        route("GET", "/v1/plans", AdminKey("policy"), SeesNothing),
        route("GET", "/v1/plans/{plan}", AdminKey("policy"), NotFound),
        with_body(
            route("PATCH", "/v1/plans/{plan}", AdminKey("policy"), NotFound),
            json!({"max_keys": 1}),
        ),
        route("DELETE", "/v1/plans/{plan}", AdminKey("policy"), NotFound),
        route("PUT", "/v1/plans/{plan}", AdminKey("policy"), CreatesItsOwn),
        // This line is last, because afterwards the caller has an account with this id.
        route("PUT", "/v1/accounts/{account}", AdminKey("accounts"), CreatesItsOwn),
    ]
}

/// A tenant with resources, and two strangers that must not reach them: another tenant, and another
/// account of the tenant.
struct World {
    app: App,
    key: NewKey,
    purchase_id: String,
    hold_id: String,
    stranger_key: NewKey,
    neighbour_key: NewKey,
}

impl World {
    async fn new() -> Self {
        let app = App::start().await;
        let wallet = app.wallet("10").await;
        let key = app.key(&app.tronagg, wallet).await;
        let purchase_id = app.send(key.buy("1")).await.expect(201).text("/id").to_owned();
        let hold = key.call("POST", "/v1/holds").json(json!({"amount": "1"}));
        let hold_id = app.send(hold).await.expect(201).text("/id").to_owned();
        app.account(&app.tradetally, "stranger", "10").await;
        let write = json!({"name": "a", "scopes": ["write"]});
        let stranger_key = app.key_with(&app.tradetally, "stranger", write).await;
        app.account(&app.tronagg, OTHER_WALLET, "10").await;
        let neighbour_key = app.key(&app.tronagg, OTHER_WALLET).await;
        app.send(app.tronagg.call("PUT", "/v1/plans/gold")).await.expect(201);
        Self { app, key, purchase_id, hold_id, stranger_key, neighbour_key }
    }

    /// Builds a request for the tenant's resources, without a credential.
    fn call(&self, route: &Route) -> Call {
        let path = route
            .template
            .replace("{tenant}", "tronagg")
            .replace("{environment}", "live")
            .replace("{account}", WALLET)
            .replace("{key_id}", &self.key.id)
            .replace("{plan}", "gold")
            .replace("/holds/{id}", &format!("/holds/{}", self.hold_id))
            .replace("{id}", &self.purchase_id);
        let call = Call::new(route.method, &path).idempotency_key("k");
        match &route.body {
            Some(body) => call.json(body.clone()),
            None => call,
        }
    }

    /// Reads every row of the tenant's account, and the tenant's rate limits and plans, so that a test
    /// can detect changes.
    async fn state(&self) -> Vec<String> {
        sqlx::query_scalar(
            "WITH own AS (SELECT a.* FROM accounts a JOIN tenants t USING (tenant_id)
                          WHERE a.external_id = $1 AND t.slug = 'tronagg')
             SELECT own::text FROM own
             UNION ALL SELECT k::text FROM api_keys k JOIN own USING (account_id)
             UNION ALL SELECT e::text FROM ledger_entries e JOIN own USING (account_id)
             UNION ALL SELECT h::text FROM holds h JOIN own USING (account_id)
             UNION ALL SELECT l::text FROM tenant_limits l JOIN tenants t USING (tenant_id)
                       WHERE t.slug = 'tronagg'
             UNION ALL SELECT p::text FROM plans p JOIN tenants t USING (tenant_id)
                       WHERE t.slug = 'tronagg'",
        )
        .bind(WALLET)
        .fetch_all(&self.app.pool)
        .await
        .expect("the query succeeds")
    }
}

#[test]
fn every_documented_route_has_an_access_rule() {
    let document: Value =
        serde_json::to_value(tollgate::http::openapi_document()).expect("the text is JSON");
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("the value is an object") {
        for method in item.as_object().expect("the value is an object").keys() {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let covered: BTreeSet<_> =
        routes().iter().map(|route| (route.method.to_owned(), route.template.to_owned())).collect();
    assert_eq!(covered, documented);
    for route in routes() {
        let operation = &document["paths"][route.template][route.method.to_lowercase()];
        let scheme = match route.asks {
            Asks::Nothing => json!([]),
            Asks::ApiKey => json!([{"api_key": documented_scopes(operation)}]),
            Asks::AdminKey(permission) => json!([{"admin_key": [permission]}]),
        };
        assert_eq!(operation["security"], scheme, "{} {}", route.method, route.template);
    }
}

/// Lists the scopes that an operation requires of an API key, according to the document.
fn documented_scopes(operation: &Value) -> Vec<String> {
    let scopes = operation["security"][0]["api_key"].as_array().expect("the value is a list");
    scopes.iter().map(|scope| scope.as_str().expect("the scope is a string").to_owned()).collect()
}

#[tokio::test]
async fn api_key_without_the_documented_scope_is_refused_on_every_route() {
    let world = World::new().await;
    let document: Value =
        serde_json::to_value(tollgate::http::openapi_document()).expect("the document is JSON");
    let app = &world.app;
    let other_scope = json!({"name": "a", "scopes": ["orders:write"]});
    let other = app.key_with(&app.tronagg, WALLET, other_scope).await;
    let mut refused = 0;
    for route in routes().iter().filter(|route| route.asks == Asks::ApiKey) {
        let operation = &document["paths"][route.template][route.method.to_lowercase()];
        let call = world.call(route).header("X-API-Key", &other.text);
        let answer = app.send(call).await;
        match &documented_scopes(operation)[..] {
            [] => drop(answer.expect(200)),
            [scope] => {
                let answer = answer.expect_problem(403, "insufficient_scope");
                assert_eq!(answer.json["required_scope"], *scope, "{}", route.template);
                refused += 1;
            }
            several => panic!("{} has several scopes: {several:?}", route.template),
        }
    }
    assert!(refused > 5, "{refused}");
}

#[tokio::test]
async fn every_route_refuses_requests_without_its_credential() {
    let world = World::new().await;
    let before = world.state().await;
    let unknown = format!("tg_admin_{}", "A".repeat(43));
    for route in routes() {
        let call = || world.call(&route);
        let attempts = match route.asks {
            Asks::Nothing => continue,
            Asks::ApiKey => vec![
                (call(), "missing_api_key"),
                (call().bearer(&world.app.tronagg.admin_key), "invalid_api_key"),
                (call().header("X-API-Key", "ta_nonsense"), "invalid_api_key"),
            ],
            Asks::AdminKey(_) => vec![
                (call(), "missing_admin_key"),
                (call().header("X-API-Key", &world.key.text), "missing_admin_key"),
                (call().header("X-API-Key", &world.app.tronagg.admin_key), "missing_admin_key"),
                (call().bearer(&world.key.text), "invalid_admin_key"),
                (call().bearer("tg_admin_nonsense"), "invalid_admin_key"),
                (call().bearer(&unknown), "invalid_admin_key"),
                (call().bearer(&unknown).bearer(&world.app.tronagg.admin_key), "missing_admin_key"),
            ],
        };
        for (call, code) in attempts {
            world.app.send(call).await.expect_problem(401, code);
        }
    }
    assert_eq!(world.state().await, before);
}

#[tokio::test]
async fn admin_key_without_the_required_permission_is_refused_on_every_route() {
    let world = World::new().await;
    let before = world.state().await;
    let all = ["accounts", "keys", "verify", "credits", "audit", "dashboard", "policy"];
    for route in routes() {
        let Asks::AdminKey(permission) = route.asks else { continue };
        let other_permissions: Vec<&str> =
            all.into_iter().filter(|other| *other != permission).collect();
        let admin_key = world.app.tronagg.admin_key_with(&world.app, &other_permissions).await;
        let answer = world.app.send(world.call(&route).bearer(&admin_key)).await;
        let answer = answer.expect_problem(403, "insufficient_permission");
        assert_eq!(answer.json["required_permission"], permission, "{}", route.template);
    }
    assert_eq!(world.state().await, before);
}

#[tokio::test]
async fn no_route_shows_or_changes_data_of_another_tenant_or_account() {
    let world = World::new().await;
    let before = world.state().await;
    for route in routes() {
        let call = world.call(&route);
        let calls = match route.asks {
            Asks::Nothing => vec![(Owner::AnotherTenant, call)],
            Asks::ApiKey => vec![
                (Owner::AnotherTenant, call.clone().header("X-API-Key", &world.stranger_key.text)),
                (Owner::AnotherAccount, call.header("X-API-Key", &world.neighbour_key.text)),
            ],
            Asks::AdminKey(_) => {
                vec![(Owner::AnotherTenant, call.bearer(&world.app.tradetally.admin_key))]
            }
        };
        for (owner, call) in calls {
            check_stranger(&world, &route, owner, world.app.send(call).await);
        }
        assert_eq!(world.state().await, before, "{} {}", route.method, route.template);
    }
    world.app.check_ledger().await;
}

fn check_stranger(world: &World, route: &Route, owner: Owner, answer: Answer) {
    match route.stranger {
        Stranger::UnauthorizedUnlessOfTheTenant if owner == Owner::AnotherTenant => {
            answer.expect_problem(401, "invalid_api_key");
        }
        Stranger::NotFound => {
            let answer = answer.expect_problem(404, "not_found");
            assert_eq!(
                answer.json["detail"],
                "No such resource, or it belongs to another account."
            );
        }
        Stranger::SeesNothing | Stranger::UnauthorizedUnlessOfTheTenant => {
            let answer = answer.expect(200);
            let shown = format!("{answer:?}");
            for secret in [WALLET, &world.key.id, &world.purchase_id, &world.hold_id] {
                assert!(!shown.contains(secret), "{} shows {secret}: {shown}", route.template);
            }
        }
        Stranger::CreatesItsOwn => {
            answer.expect(201);
        }
    }
}

#[tokio::test]
async fn key_id_under_another_account_returns_404() {
    let world = World::new().await;
    let admin = &world.app.tronagg;
    // Each path names the key together with the other account.
    for (method, suffix) in
        [("GET", ""), ("PATCH", ""), ("GET", "/usage"), ("POST", "/revoke"), ("POST", "/rotate")]
    {
        let path = format!("/v1/accounts/{OTHER_WALLET}/keys/{}{suffix}", world.key.id);
        world.app.send(admin.call(method, &path)).await.expect_problem(404, "not_found");
    }
    let path = format!("/v1/accounts/{OTHER_WALLET}/purchases?key_id={}", world.key.id);
    let answer = world.app.send(admin.call("GET", &path)).await.expect(200);
    assert_eq!(answer.data(), Vec::<Value>::new());
    let path = format!("/v1/accounts/{OTHER_WALLET}/holds?key_id={}", world.key.id);
    let answer = world.app.send(admin.call("GET", &path)).await.expect(200);
    assert_eq!(answer.data(), Vec::<Value>::new());
    let path = format!("/v1/accounts/{OTHER_WALLET}/holds/{}/void", world.hold_id);
    world.app.send(admin.call("POST", &path)).await.expect_problem(404, "not_found");
    world.app.send(world.key.call("GET", "/v1/me")).await.expect(200);
}

#[tokio::test]
async fn revoked_admin_key_is_refused_immediately() {
    let world = World::new().await;
    let app = &world.app;
    let key = app.tronagg.admin_key_with(app, &["accounts"]).await;
    let list = || Call::new("GET", "/v1/accounts").bearer(&key);
    app.send(list()).await.expect(200);
    let keys = app.store.list_admin_keys(&app.tronagg.tenant).await.expect("the query succeeds");
    let origin = tollgate::domain::audit::Origin::cli();
    app.store
        .revoke_admin_key(&app.tronagg.tenant, keys[0].id, &origin)
        .await
        .expect("the key is revoked");
    app.send(list()).await.expect_problem(401, "invalid_admin_key");
}
