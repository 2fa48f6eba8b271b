//! Sessions and links end when their admin key is revoked, when their account is suspended, and
//! when the tenant or an operator ends them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tollgate::{
    domain::{account::ExternalId, audit::Origin, id::AdminKeyId, session_token::SessionToken},
    entropy,
    http::ServerLimits,
    state::Limits,
    store::FormClaim,
};

use super::{
    visitor::{Site, Visitor, visitor_on_another_node},
    wallet::Wallet,
};
use crate::harness::{
    Call, OTHER_WALLET, TestTenant, WALLET,
    listener::{Listening, SlowRequest, exchange, listen},
    within_patience,
};

const LOGIN: &str = "/dashboard/tronagg/login";
const SIGNED_OUT: &str = "/dashboard/signed-out";
const KEYS: &str = "/dashboard/keys";

/// An admin key of TronAgg that can create links.
struct Maker {
    text: String,
    id: AdminKeyId,
}

async fn maker(site: &Site) -> Maker {
    let tronagg = &site.app.tronagg;
    let text = tronagg.admin_key_with(&site.app, &["dashboard", "keys", "audit"]).await;
    let keys = site.app.store.list_admin_keys(&tronagg.tenant).await.expect("a list");
    Maker { text, id: keys[0].id }
}

impl Maker {
    async fn link(&self, site: &Site, account: &str) -> String {
        let call = Call::new("POST", "/v1/dashboard-links").bearer(&self.text);
        let made = site.api(call.json(json!({"account": account}))).await.expect(201);
        made.text("/url").strip_prefix(site.url).expect("it is at the public URL").to_owned()
    }

    async fn revoke(&self, site: &Site) {
        let tenant = &site.app.tronagg.tenant;
        let revoked = site.app.store.revoke_admin_key(tenant, self.id, &Origin::cli()).await;
        revoked.expect("the key is revoked");
    }
}

async fn signed_in_by_wallet(site: &Site) -> Visitor {
    let mut owner = site.visitor();
    let page = owner.submit(LOGIN, LOGIN, &[("address", WALLET)]).await.expect(200);
    let signature = Wallet::first().sign(&page.message());
    let fields = [("signature", signature.as_str())];
    owner.send_form(&page, &format!("{LOGIN}/verify"), &fields).await.expect_redirect(KEYS);
    owner
}

async fn set_status(site: &Site, status: &str) {
    let call = site.app.tronagg.call("PATCH", &format!("/v1/accounts/{WALLET}"));
    site.api(call.json(json!({"status": status}))).await.expect(200);
}

async fn end_over_the_api(site: &Site, tenant: &TestTenant, account: &str) {
    let path = format!("/v1/accounts/{account}/dashboard-sessions");
    let ended = site.api(tenant.call("DELETE", &path)).await.expect(204);
    assert!(ended.body.is_empty(), "{ended:?}");
}

/// Asserts that the session has ended on both nodes.
async fn assert_ended(site: &Site, visitor: &mut Visitor) {
    let mut elsewhere = visitor_on_another_node(site).await;
    elsewhere.cookies.clone_from(&visitor.cookies);
    visitor.get(KEYS).await.expect_redirect(SIGNED_OUT);
    elsewhere.get(KEYS).await.expect_redirect(SIGNED_OUT);
}

/// Reads the newest audit event of the tenant.
async fn newest_event(site: &Site) -> Value {
    let call = site.app.tronagg.call("GET", "/v1/audit-events?limit=1");
    site.api(call).await.expect(200).data()[0].clone()
}

#[tokio::test]
async fn links_and_sessions_end_when_the_admin_key_that_created_them_is_revoked() {
    let site = Site::start().await;
    site.app.wallet("5").await;
    site.set_dashboard(&site.app.tronagg, json!({"wallet_sign_in": "existing"})).await.expect(200);
    let maker = maker(&site).await;
    let mut attacker = site.owner_by_link(&maker.link(&site, WALLET).await).await;
    let unused = maker.link(&site, WALLET).await;
    let asked = maker.link(&site, WALLET).await;
    let mut hesitant = site.visitor();
    let page = hesitant.get(&asked).await.expect(200);
    let mut by_another_key = site.owner(&site.app.tronagg, WALLET).await;
    let mut by_wallet = signed_in_by_wallet(&site).await;

    maker.revoke(&site).await;
    assert_ended(&site, &mut attacker).await;
    for mut visitor in [site.visitor(), visitor_on_another_node(&site).await] {
        visitor.get(&unused).await.expect(410);
        assert!(visitor.cookies.is_empty(), "{:?}", visitor.cookies);
    }
    hesitant.send_form(&page, "/dashboard/enter", &[]).await.expect(410);
    assert!(hesitant.cookies.is_empty(), "{:?}", hesitant.cookies);
    by_another_key.get(KEYS).await.expect(200);
    by_wallet.get(KEYS).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_an_admin_key_aborts_its_running_exports() {
    let site = Site::start().await;
    site.app.wallet("5").await;
    // An export reads the entries in chunks. These entries do not fit into one chunk.
    site.app.add_credits(2500).await;
    let maker = maker(&site).await;
    let owner = site.owner_by_link(&maker.link(&site, WALLET).await).await;
    let server = listen(&site.app, Limits::default(), ServerLimits::default()).await;
    let address = server.address;
    let get = |path: &str, header: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\nConnection: close\r\n\r\n")
    };
    let requests = [
        get(
            &format!("/v1/accounts/{WALLET}/ledger.csv"),
            &format!("Authorization: Bearer {}", maker.text),
        ),
        get("/dashboard/balance.csv", &format!("Cookie: tollgate_session={}", owner.session())),
    ];
    // In HTTP/1.1, a complete response ends with this chunk.
    let last_chunk = "\r\n0\r\n\r\n";
    for request in &requests {
        let export = exchange(address, request.as_bytes()).await;
        assert!(export.starts_with("HTTP/1.1 200 OK\r\n"), "{export}");
        assert!(export.ends_with(last_chunk), "{export}");
        assert!(export.matches(",credit,").count() > 2000, "{export}");
    }

    let mut lock = site.app.pool.begin().await.expect("a transaction");
    let credits = "LOCK TABLE credits IN ACCESS EXCLUSIVE MODE";
    sqlx::query(credits).execute(&mut *lock).await.expect("the lock is acquired");
    // An HTTP/1.0 client treats the regular close of a connection as the end of the response. So
    // the service must reset the connection.
    let old = requests[0].replace("HTTP/1.1", "HTTP/1.0");
    let old = tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(old.as_bytes()).await.expect("the request is sent");
        stream.read_to_end(&mut Vec::new()).await
    });
    let mut exports = JoinSet::new();
    for request in requests {
        exports.spawn(async move { exchange(address, request.as_bytes()).await });
    }
    // All exports have checked their credential, and wait for the first thousand lines.
    site.app.wait_until_blocked(3).await;
    maker.revoke(&site).await;
    lock.commit().await.expect("the commit succeeds");
    for export in within_patience("both exports end", exports.join_all()).await {
        assert!(export.starts_with("HTTP/1.1 200 OK\r\n"), "{export}");
        assert!(!export.ends_with(last_chunk), "{export}");
        assert!(export.matches(",credit,").count() <= 1000, "{export}");
    }
    let old = within_patience("the old client's export ends", old).await.expect("no panic");
    let error = old.expect_err("the connection is reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    site.app.check_ledger().await;
}

#[tokio::test]
async fn form_creates_no_key_after_the_admin_key_of_its_session_is_revoked() {
    let site = Site::start().await;
    site.app.wallet("0").await;
    let key = site.app.key(&site.app.tronagg, WALLET).await;
    let maker = maker(&site).await;
    let mut owner = site.owner_by_link(&maker.link(&site, WALLET).await).await;
    let session = SessionToken::parse(owner.session()).expect("a token").hash().session_id();
    let new = "/dashboard/keys/new";
    let page = owner.get(new).await.expect(200);
    maker.revoke(&site).await;
    let fields = [("name", "a"), ("access", "read"), ("expires", "never")];
    owner.send_form(&page, new, &fields).await.expect(401);
    // The store refuses the form even if the handler read the session before the revocation.
    let form = entropy::new_session_token().expect("randomness");
    let claim = FormClaim { session, form: &form };
    let (tenant, origin) = (&site.app.tronagg.tenant, Origin::cli());
    let format = tenant.policy.account_format;
    let account = ExternalId::parse(WALLET, format).expect("an id");
    let text = entropy::new_key(&tenant.policy.prefix).expect("randomness");
    let handle = site.app.store.account(tenant, &account, &origin);
    let id = key.id.parse().expect("an id");
    let settings =
        site.app.store.find_api_key(tenant, &account, id).await.expect("the key exists").settings;
    handle
        .create_api_key_by_form(&claim, &text, &settings)
        .await
        .expect_err("the session has ended");
}

/// Starts a service that waits an hour for a body, so that the test passes on a slow machine.
async fn listen_patiently(site: &Site) -> Listening {
    let hour = Duration::from_secs(3600);
    let limits = Limits { body_timeout: hour, request_timeout: hour, ..Limits::default() };
    listen(&site.app, limits, ServerLimits::default()).await
}

/// A form: the path of its page, the path to which the browser submits it, and its fields.
type SlowForm<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

/// Begins to submit one form of each kind. Each form would change something.
async fn begin_forms(
    site: &Site,
    server: &Listening,
    owner: &mut Visitor,
) -> Vec<(String, SlowRequest)> {
    site.set_dashboard(&site.app.tronagg, json!({"owner_rate_limits": true})).await.expect(200);
    let limits = json!([{"name": "default", "limit": 1000, "window_seconds": 60}]);
    let body = json!({"name": "a key", "rate_limits": limits});
    let key = site.app.key_with(&site.app.tronagg, WALLET, body).await;
    let disabled = site.app.key(&site.app.tronagg, WALLET).await;
    let disable = site.app.tronagg.call("PATCH", &disabled.path).json(json!({"enabled": false}));
    site.api(disable).await.expect(200);
    let hold = site.api(key.call("POST", "/v1/holds").json(json!({"amount": "1"}))).await;
    let void = format!("/dashboard/holds/{}/void", hold.expect(201).text("/id"));
    let link = site.link(&site.app.tronagg, OTHER_WALLET).await;
    let page = format!("/dashboard/keys/{}", key.id);
    let page_of_disabled = format!("/dashboard/keys/{}", disabled.id);
    let edit = format!("{page}/edit");
    let lower = format!("{page}/limits");
    let rotate = format!("{page}/rotate");
    let compromised = format!("{page}/compromised");
    let new = "/dashboard/keys/new";
    let settings = [("name", "late"), ("access", "read"), ("expires", "never")];
    let disable = format!("{page}/disable");
    let enable = format!("{page_of_disabled}/enable");
    let forms: [SlowForm<'_>; 9] = [
        (new, new, &settings),
        (&edit, &edit, &settings),
        (&lower, &lower, &[("calls-default", "1")]),
        (&page, &disable, &[]),
        (&page_of_disabled, &enable, &[]),
        (&rotate, &rotate, &[("grace", "0")]),
        (&compromised, &compromised, &[]),
        (&void, &void, &[]),
        (&link, "/dashboard/enter", &[]),
    ];
    let mut begun = Vec::new();
    for (page, action, fields) in forms {
        let form = owner.begin_form(server, page, action, fields).await;
        begun.push((action.to_owned(), form));
    }
    begun
}

/// Reads all rows that the forms could change.
async fn changeable(site: &Site) -> Vec<String> {
    let mut rows = Vec::new();
    for query in [
        "SELECT k::text FROM api_keys k ORDER BY 1",
        "SELECT h::text FROM holds h ORDER BY 1",
        "SELECT l::text FROM dashboard_links l ORDER BY 1",
    ] {
        let found = sqlx::query_scalar::<_, String>(query).fetch_all(&site.app.pool).await;
        rows.extend(found.expect("rows"));
    }
    rows
}

#[tokio::test]
async fn form_changes_nothing_if_its_session_ends_while_its_body_arrives() {
    #[derive(Clone, Copy, Debug)]
    enum End {
        Suspension,
        Api,
        AdminKey,
        SignOut,
    }
    for end in [End::Suspension, End::Api, End::AdminKey, End::SignOut] {
        let site = Site::start().await;
        site.app.wallet("5").await;
        site.app.account(&site.app.tronagg, OTHER_WALLET, "0").await;
        let server = listen_patiently(&site).await;
        let maker = maker(&site).await;
        let mut owner = site.owner_by_link(&maker.link(&site, WALLET).await).await;
        let forms = begin_forms(&site, &server, &mut owner).await;
        let before = changeable(&site).await;
        match end {
            End::Suspension => set_status(&site, "suspended").await,
            End::Api => end_over_the_api(&site, &site.app.tronagg, WALLET).await,
            End::AdminKey => maker.revoke(&site).await,
            End::SignOut => {
                let signed_out = owner.submit(KEYS, "/dashboard/logout", &[]).await;
                signed_out.expect_redirect(SIGNED_OUT);
            }
        }
        for (action, form) in forms {
            let answer = form.finish().await;
            assert_eq!(answer.status, 401, "{action} after {end:?}: {}", answer.head);
            assert!(answer.body.contains("Signed out"), "{action}: {}", answer.body);
        }
        assert_eq!(changeable(&site).await, before, "{end:?}");
        site.app.check_ledger().await;
    }
}

#[tokio::test]
async fn form_whose_body_arrives_slowly_takes_effect_in_a_live_session() {
    let site = Site::start().await;
    site.app.wallet("0").await;
    let key = site.app.key(&site.app.tronagg, WALLET).await;
    let server = listen_patiently(&site).await;
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    let page = format!("/dashboard/keys/{}", key.id);
    let form = owner.begin_form(&server, &page, &format!("{page}/disable"), &[]).await;
    assert_eq!(form.finish().await.status, 303);
    site.api(key.call("GET", "/v1/me")).await.expect_problem(401, "invalid_api_key");
}

#[tokio::test]
async fn suspending_an_account_ends_its_sessions_and_a_new_link_opens_one() {
    let site = Site::start().await;
    site.app.wallet("5").await;
    site.app.account(&site.app.tronagg, OTHER_WALLET, "0").await;
    site.set_dashboard(&site.app.tronagg, json!({"wallet_sign_in": "existing"})).await.expect(200);
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    let mut by_wallet = signed_in_by_wallet(&site).await;
    let unused = site.link(&site.app.tronagg, WALLET).await;
    let mut neighbour = site.owner(&site.app.tronagg, OTHER_WALLET).await;

    set_status(&site, "suspended").await;
    assert_ended(&site, &mut owner).await;
    assert_ended(&site, &mut by_wallet).await;
    site.visitor().get(&unused).await.expect(410);
    neighbour.get(KEYS).await.expect(200);

    let mut again = site.owner(&site.app.tronagg, WALLET).await;
    let mut wallet_again = signed_in_by_wallet(&site).await;
    for owner in [&mut again, &mut wallet_again] {
        owner.get(KEYS).await.expect(200).says("This account is suspended.");
    }
    // Neither another suspension nor the reactivation of the account ends the new session.
    set_status(&site, "suspended").await;
    set_status(&site, "active").await;
    again.get(KEYS).await.expect(200);
    wallet_again.get(KEYS).await.expect(200);
}

#[tokio::test]
async fn suspending_an_account_by_sql_ends_its_sessions() {
    let site = Site::start().await;
    site.app.wallet("0").await;
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    let suspend = "UPDATE accounts SET status = 'suspended'";
    sqlx::query(suspend).execute(&site.app.pool).await.expect("the update succeeds");
    assert_ended(&site, &mut owner).await;
}

#[tokio::test]
async fn admin_key_with_the_permission_dashboard_can_end_all_sessions_of_an_account() {
    let site = Site::start().await;
    site.app.wallet("0").await;
    site.app.account(&site.app.tronagg, OTHER_WALLET, "0").await;
    site.set_dashboard(&site.app.tronagg, json!({"wallet_sign_in": "existing"})).await.expect(200);
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    let mut by_wallet = signed_in_by_wallet(&site).await;
    let unused = site.link(&site.app.tronagg, WALLET).await;
    let mut neighbour = site.owner(&site.app.tronagg, OTHER_WALLET).await;

    end_over_the_api(&site, &site.app.tronagg, WALLET).await;
    assert_ended(&site, &mut owner).await;
    assert_ended(&site, &mut by_wallet).await;
    site.visitor().get(&unused).await.expect(410);
    neighbour.get(KEYS).await.expect(200);
    let event = newest_event(&site).await;
    assert_eq!(event["action"], "session.close_all");
    assert_eq!((&event["actor"], &event["account"]), (&json!("admin_key"), &json!(WALLET)));
    assert_eq!(event["detail"], json!({"sessions": 2, "links": 1}));

    // A second call succeeds, but writes no audit event.
    end_over_the_api(&site, &site.app.tronagg, WALLET).await;
    assert_eq!(newest_event(&site).await, event);
    site.owner(&site.app.tronagg, WALLET).await.get(KEYS).await.expect(200);
    let unknown = "/v1/accounts/user-7/dashboard-sessions";
    site.api(site.app.tradetally.call("DELETE", unknown)).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn operator_ends_all_sessions_of_one_tenant_and_no_others() {
    let site = Site::start().await;
    site.app.wallet("0").await;
    site.app.account(&site.app.tronagg, OTHER_WALLET, "0").await;
    site.app.account(&site.app.tradetally, "user-1", "0").await;
    let mut first = site.owner(&site.app.tronagg, WALLET).await;
    let mut second = site.owner(&site.app.tronagg, OTHER_WALLET).await;
    let unused = site.link(&site.app.tronagg, OTHER_WALLET).await;
    let mut elsewhere = site.owner(&site.app.tradetally, "user-1").await;
    let (tenant, origin) = (&site.app.tronagg.tenant, Origin::cli());
    let ended = site.app.store.end_dashboard_sessions_of_tenant(tenant, &origin).await;
    assert_eq!(ended.expect("the sessions end"), 2);
    assert_ended(&site, &mut first).await;
    assert_ended(&site, &mut second).await;
    site.visitor().get(&unused).await.expect(410);
    elsewhere.get(KEYS).await.expect(200);
    assert_eq!(newest_event(&site).await["actor"], "cli");
    let ended = site.app.store.end_dashboard_sessions_of_tenant(tenant, &origin).await;
    assert_eq!(ended.expect("no session is left"), 0);
}

#[tokio::test]
async fn link_that_is_used_during_the_suspension_of_its_account_opens_no_session() {
    for suspend_first in [false, true] {
        let site = Site::start().await;
        site.app.wallet("0").await;
        let link = site.link(&site.app.tronagg, WALLET).await;
        let mut visitor = site.visitor();
        let page = visitor.get(&link).await.expect(200);
        let lock = site.app.lock_accounts().await;
        let use_link = async {
            visitor.send_form(&page, "/dashboard/enter", &[]).await;
            visitor
        };
        let suspend = set_status(&site, "suspended");
        let (mut visitor, ()) = if suspend_first {
            let both = async { tokio::join!(once_blocked(&site, 1, use_link), suspend) };
            tokio::join!(both, release_at(&site, lock, 2)).0
        } else {
            let both = async { tokio::join!(use_link, once_blocked(&site, 1, suspend)) };
            tokio::join!(both, release_at(&site, lock, 2)).0
        };
        visitor.get(KEYS).await.expect_redirect(SIGNED_OUT);
    }
}

#[tokio::test]
async fn link_that_is_used_during_the_revocation_of_its_admin_key_opens_no_session() {
    let site = Site::start().await;
    site.app.wallet("0").await;
    let maker = maker(&site).await;
    let link = maker.link(&site, WALLET).await;
    let mut visitor = site.visitor();
    let page = visitor.get(&link).await.expect(200);
    let lock = site.app.lock_accounts().await;
    let use_link = async {
        visitor.send_form(&page, "/dashboard/enter", &[]).await;
        visitor
    };
    // The service checks the link before the revocation, and marks the link as used after the
    // revocation.
    let revoke = async {
        site.app.wait_until_blocked(1).await;
        maker.revoke(&site).await;
        lock.commit().await.expect("the commit succeeds");
    };
    let (mut visitor, ()) = tokio::join!(use_link, revoke);
    visitor.get(KEYS).await.expect_redirect(SIGNED_OUT);
}

/// Waits until exactly `number` transactions wait for the lock, and then runs an operation.
async fn once_blocked<T>(site: &Site, number: i64, operation: impl Future<Output = T>) -> T {
    site.app.wait_until_blocked(number).await;
    operation.await
}

/// Waits until exactly `number` transactions wait for the lock, and then releases it.
async fn release_at(site: &Site, lock: sqlx::Transaction<'static, sqlx::Postgres>, number: i64) {
    site.app.wait_until_blocked(number).await;
    lock.commit().await.expect("the commit succeeds");
}
