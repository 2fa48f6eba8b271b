//! Tollgate refuses invalid input with errors that name the location of each mistake. A refused
//! request changes nothing.

use serde_json::{Value, json};

use crate::harness::{App, Call, WALLET, app::NewKey};

struct Setup {
    app: App,
    key: NewKey,
}

impl Setup {
    async fn new() -> Self {
        let app = App::start().await;
        let wallet = app.wallet("10").await;
        let key = app.key(&app.tronagg, wallet).await;
        Self { app, key }
    }

    fn create_key(&self) -> Call {
        self.app.tronagg.call("POST", &format!("/v1/accounts/{WALLET}/keys"))
    }

    fn purchase(&self) -> Call {
        self.key.call("POST", "/v1/purchases")
    }

    /// Checks that the requests of the test have not changed the database.
    async fn check_nothing_changed(&self) {
        let counts: (i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM api_keys), (SELECT count(*) FROM ledger_entries),
                    (SELECT count(*) FROM idempotency_records WHERE operation <> 'credit')",
        )
        .fetch_one(&self.app.pool)
        .await
        .expect("the query succeeds");
        assert_eq!(counts, (1, 1, 0));
        self.app.check_ledger().await;
    }
}

#[tokio::test]
async fn malformed_oversized_and_non_json_bodies_are_rejected() {
    let setup = Setup::new().await;
    for body in [
        "{",
        "[]",
        "null",
        "\"name\"",
        "{\"name\": \"a\"} x",
        "{\"name\": \"a\", \"name\": \"b\"}",
        "{\"name\": \"a\", \"metadata\": {\"x\": 1, \"x\": 2}}",
        "{\"name\": \"a\", \"expires_in\": 1e999}",
        "\u{feff}{}",
        "name=a",
    ] {
        let answer = setup.app.send(setup.create_key().body("application/json", body)).await;
        answer.expect_problem(400, "malformed_body");
    }
    let invalid_utf8 = setup.create_key().body("application/json", &b"{\"name\": \"\xff\"}"[..]);
    setup.app.send(invalid_utf8).await.expect_problem(400, "malformed_body");
    let deep = format!("{{\"metadata\": {}1{}}}", "[".repeat(5000), "]".repeat(5000));
    let answer = setup.app.send(setup.create_key().body("application/json", deep)).await;
    answer.expect_problem(400, "malformed_body");
    let large = json!({"name": "a", "metadata": {"x": "y".repeat(20_000)}});
    let answer = setup.app.send(setup.create_key().json(large)).await;
    answer.expect_problem(413, "body_too_large");
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/xml"] {
        let answer = setup.app.send(setup.create_key().body(media_type, "{}")).await;
        answer.expect_problem(415, "unsupported_media_type");
    }
    let with_charset = setup.create_key().body("Application/JSON; charset=utf-8", "{}");
    setup.app.send(with_charset).await.expect_problem(422, "validation_failed");
    setup.check_nothing_changed().await;
}

#[tokio::test]
async fn invalid_key_fields_are_rejected_with_their_json_pointers() {
    let setup = Setup::new().await;
    let too_many_scopes: Vec<String> = (0..33).map(|number| format!("r{number}:read")).collect();
    let too_large = json!({"x": "y".repeat(4096)});
    for (body, locations) in [
        (json!({}), vec!["/name"]),
        (json!({"name": ""}), vec!["/name"]),
        (json!({"name": "   "}), vec!["/name"]),
        (json!({"name": "x".repeat(101)}), vec!["/name"]),
        (json!({"name": "a\u{0}b"}), vec!["/name"]),
        (json!({"name": "a\nb"}), vec!["/name"]),
        (json!({"name": "a\u{9b}b"}), vec!["/name"]),
        (json!({"name": 1}), vec!["/name"]),
        (json!({"name": null}), vec!["/name"]),
        (json!({"name": "a", "scopes": "read"}), vec!["/scopes"]),
        (json!({"name": "a", "scopes": []}), vec!["/scopes"]),
        (json!({"name": "a", "scopes": ["READ"]}), vec!["/scopes/0"]),
        (json!({"name": "a", "scopes": ["read", "a:b:read"]}), vec!["/scopes/1"]),
        (json!({"name": "a", "scopes": too_many_scopes}), vec!["/scopes"]),
        (json!({"name": "a", "metadata": too_large}), vec!["/metadata"]),
        (json!({"name": "a", "metadata": "x"}), vec!["/metadata"]),
        (json!({"name": "a", "metadata": {"x": "\u{0}"}}), vec!["/metadata"]),
        (json!({"name": "a", "owner": "b", "~/": 1}), vec!["/owner", "/~0~1"]),
        (
            json!({"name": "", "scopes": ["x"], "expires_in": "1h", "metadata": 1, "z": 0}),
            vec!["/name", "/scopes/0", "/expires_in", "/metadata", "/z"],
        ),
    ] {
        let answer = setup.app.send(setup.create_key().json(body.clone())).await;
        let answer = answer.expect_problem(422, "validation_failed");
        assert_eq!(answer.errors_at(), locations, "{body}");
    }
    setup.check_nothing_changed().await;
}

#[tokio::test]
async fn key_name_and_metadata_of_maximum_size_are_accepted() {
    let setup = Setup::new().await;
    let body = json!({"name": "é".repeat(100), "metadata": {"x": "y".repeat(4088)}});
    setup.app.send(setup.create_key().json(body)).await.expect(201);
}

#[tokio::test]
async fn metadata_with_more_than_126_nesting_levels_is_rejected() {
    let setup = Setup::new().await;
    let create = |levels: usize| {
        // The metadata object itself counts as one level.
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        let body = format!("{{\"name\": \"a\", \"metadata\": {{\"x\": {open}{close}}}}}");
        setup.create_key().body("application/json", body)
    };
    let answer = setup.app.send(create(127)).await.expect_problem(400, "malformed_body");
    let detail = answer.json["detail"].as_str().expect("the member is a string");
    assert!(detail.contains("nests objects and lists too deeply"), "{detail}");
    setup.check_nothing_changed().await;
    setup.app.send(create(126)).await.expect(201);
}

#[tokio::test]
async fn invalid_purchase_amounts_are_rejected() {
    let setup = Setup::new().await;
    for amount in [
        json!(1),
        json!(1.5),
        json!(null),
        json!(["1"]),
        json!(""),
        json!("-1"),
        json!("+1"),
        json!("1e3"),
        json!("1E-3"),
        json!("0x10"),
        json!("1,5"),
        json!(" 1"),
        json!("01"),
        json!("1."),
        json!(".5"),
        json!("NaN"),
        json!("Infinity"),
        json!("0"),
        json!("0.000000"),
        json!("0.0000001"),
        json!("1.0000000"),
        json!("9223372036854.775808"),
        json!("99999999999999999999"),
        json!("1".repeat(10_000)),
    ] {
        let call = setup.purchase().idempotency_key("k").json(json!({"amount": amount}));
        let answer = setup.app.send(call).await.expect_problem(422, "validation_failed");
        assert_eq!(answer.errors_at(), ["/amount"], "{amount}");
    }
    setup.check_nothing_changed().await;
}

#[tokio::test]
async fn invalid_purchase_fields_are_rejected_with_their_json_pointers() {
    let setup = Setup::new().await;
    for (body, locations) in [
        (json!({}), vec!["/amount"]),
        (json!({"amount": "1", "reference": ""}), vec!["/reference"]),
        (json!({"amount": "1", "reference": "x".repeat(201)}), vec!["/reference"]),
        (json!({"amount": "1", "reference": "a\u{0}"}), vec!["/reference"]),
        (json!({"amount": "1", "description": "x".repeat(501)}), vec!["/description"]),
        (json!({"amount": "1", "metadata": [1]}), vec!["/metadata"]),
        (json!({"amount": "1", "currency": "TRX"}), vec!["/currency"]),
        (json!({"amount": "1", "key_id": "x", "account": "y"}), vec!["/key_id", "/account"]),
    ] {
        let answer = setup.app.send(setup.purchase().json(body.clone())).await;
        assert_eq!(
            answer.expect_problem(422, "validation_failed").errors_at(),
            locations,
            "{body}"
        );
    }
    setup.check_nothing_changed().await;
}

#[tokio::test]
async fn invalid_idempotency_keys_are_rejected() {
    let setup = Setup::new().await;
    let buy = || setup.purchase().json(json!({"amount": "1"}));
    let too_long = "x".repeat(129);
    for value in ["\"\"", "a b", "\"open", "\"a\"b", "\"a b\"", too_long.as_str()] {
        let answer = setup.app.send(buy().idempotency_key(value)).await;
        let answer = answer.expect_problem(422, "validation_failed");
        assert_eq!(answer.errors_at(), ["Idempotency-Key"], "{value}");
    }
    for value in [&b"\xff"[..], "é".as_bytes(), b""] {
        let answer = setup.app.send(buy().raw_header("Idempotency-Key", value)).await;
        assert_eq!(
            answer.expect_problem(422, "validation_failed").errors_at(),
            ["Idempotency-Key"]
        );
    }
    let two = buy().idempotency_key("a").idempotency_key("b");
    let answer = setup.app.send(two).await.expect_problem(422, "validation_failed");
    assert_eq!(answer.errors_at(), ["Idempotency-Key"]);
    // The response reports an invalid idempotency key together with the errors of the body.
    let both = setup.purchase().idempotency_key("a b").json(json!({"amount": 1}));
    let answer = setup.app.send(both).await.expect_problem(422, "validation_failed");
    assert_eq!(answer.errors_at(), ["/amount", "Idempotency-Key"]);
    setup.check_nothing_changed().await;
}

#[tokio::test]
async fn invalid_list_parameters_are_rejected_by_name() {
    let setup = Setup::new().await;
    let lists = [
        "/v1/accounts".to_owned(),
        format!("/v1/accounts/{WALLET}/keys"),
        format!("/v1/accounts/{WALLET}/purchases"),
        format!("/v1/accounts/{WALLET}/ledger"),
        "/v1/audit-events".to_owned(),
    ];
    for list in &lists {
        for (query, parameter) in [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=-1", "limit"),
            ("limit=1e1", "limit"),
            ("limit=", "limit"),
            ("limit=99999999999999999999", "limit"),
            ("limit=1&limit=2", "limit"),
            ("cursor=", "cursor"),
            ("cursor=abc", "cursor"),
            ("cursor=%00", "cursor"),
            ("cursor=%FF", "cursor"),
            ("cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "cursor"),
            ("page=2", "page"),
        ] {
            let call = setup.app.tronagg.call("GET", &format!("{list}?{query}"));
            let answer = setup.app.send(call).await.expect_problem(422, "validation_failed");
            assert_eq!(answer.errors_at(), [parameter], "{list}?{query}");
        }
    }
    let path = format!("/v1/accounts/{WALLET}/keys?status=dead&limit=x&cursor=y&z=1");
    let answer = setup.app.send(setup.app.tronagg.call("GET", &path)).await;
    let answer = answer.expect_problem(422, "validation_failed");
    assert_eq!(answer.errors_at(), ["status", "limit", "cursor", "z"]);
}

#[tokio::test]
async fn unknown_paths_and_ids_return_404() {
    let setup = Setup::new().await;
    let admin = |method: &str, path: &str| setup.app.tronagg.call(method, path);
    for call in [
        admin("GET", &format!("/v1/accounts/{WALLET}/keys/x")),
        admin("GET", &format!("/v1/accounts/{WALLET}/keys/%00")),
        admin("GET", &format!("/v1/accounts/{WALLET}/keys/%FF")),
        admin("GET", &format!("/v1/accounts/{WALLET}/keys/pur_01h455vb4pex5vsknk084sn02q")),
        admin("GET", &format!("/v1/accounts/{WALLET}/keys/key_01h455vb4pex5vsknk084sn02q")),
        setup.key.call("GET", "/v1/purchases/x"),
        setup.key.call("GET", "/v1/purchases/%00"),
        Call::new("GET", "/v1"),
        Call::new("GET", "/v1/me/"),
        Call::new("GET", "/v2/me"),
        Call::new("GET", "/%00"),
        Call::new("GET", "//v1/me"),
        Call::new("GET", "/docs/nope"),
    ] {
        setup.app.send(call).await.expect_problem(404, "not_found");
    }
}

#[tokio::test]
async fn error_about_an_unknown_path_names_the_nearest_route_and_never_repeats_the_path() {
    let setup = Setup::new().await;
    let detail = async |call: Call| {
        let answer = setup.app.send(call).await.expect_problem(404, "not_found");
        answer.text("/detail").to_owned()
    };
    let no_route = "The service has no such path. The OpenAPI document lists all paths.";
    for (call, nearest) in [
        (setup.key.call("POST", "/v1/purchase"), "POST /v1/purchases"),
        (setup.key.call("POST", "/purchases"), "POST /v1/purchases"),
        (setup.key.call("GET", "/v1/me/"), "GET /v1/me"),
        (
            setup.app.tronagg.call("POST", &format!("/v1/account/{WALLET}/keys")),
            "POST /v1/accounts/{account}/keys",
        ),
        (Call::new("GET", "/livez/"), "GET /livez"),
        (Call::new("GET", "/dashbord"), "GET /dashboard"),
        (Call::new("GET", "/doc"), "GET /docs"),
    ] {
        let expected = format!(
            "The service has no such path. Did you mean {nearest}? The OpenAPI document lists all \
             paths."
        );
        assert_eq!(detail(call).await, expected);
    }
    for path in ["/v1", "/nothing/here", "/v1/orders"] {
        assert_eq!(detail(Call::new("GET", path)).await, no_route, "{path}");
    }
    let long = format!("/v1/purchase/{}", "x".repeat(300));
    assert_eq!(detail(Call::new("GET", &long)).await, no_route);
    let with_key = detail(Call::new("GET", &format!("/v1/purchase/{}", setup.key.text))).await;
    assert!(with_key.contains("Did you mean GET /v1/purchases/{id}?"), "{with_key}");
    assert!(!with_key.contains(&setup.key.text), "{with_key}");
}

#[tokio::test]
async fn error_about_an_unknown_member_or_parameter_names_the_nearest_known_name() {
    let setup = Setup::new().await;
    let list = format!("/v1/accounts/{WALLET}/ledger");
    let query = |query: &str| setup.app.tronagg.call("GET", &format!("{list}?{query}"));
    let limit = json!({"name": "a", "spend_limit": {"amount": "1", "period": "day", "amonut": 1}});
    for (call, location, detail) in [
        (
            setup.create_key().json(json!({"name": "a", "expires_inn": 60})),
            "/expires_inn",
            "is unknown. Did you mean expires_in?",
        ),
        (setup.create_key().json(limit), "/spend_limit/amonut", "is unknown. Did you mean amount?"),
        (
            setup.purchase().json(json!({"amount": "1", "currency": "TRX"})),
            "/currency",
            "is unknown",
        ),
        (query("key=1"), "key", "is unknown"),
        (query("limits=1"), "limits", "is unknown. Did you mean limit?"),
        (query("keyid=1"), "keyid", "is unknown. Did you mean key_id?"),
        (query("order=up"), "order", "must be asc or desc"),
    ] {
        let answer = setup.app.send(call).await.expect_problem(422, "validation_failed");
        assert_eq!(answer.errors_at(), [location]);
        assert_eq!(answer.text("/errors/0/detail"), detail, "{location}");
    }
    setup.check_nothing_changed().await;
}

#[tokio::test]
async fn malformed_account_id_in_the_path_is_rejected_on_every_route() {
    let setup = Setup::new().await;
    let admin = |method: &str, path: &str| setup.app.tronagg.call(method, path);
    for account in ["%00", "%FF", "%ff%fe", "not-a-wallet"] {
        let account = format!("/v1/accounts/{account}");
        for call in [
            admin("PUT", &account),
            admin("GET", &account),
            admin("PATCH", &account).json(json!({"status": "active"})),
            admin("POST", &format!("{account}/keys")).json(json!({"name": "a"})),
            admin("GET", &format!("{account}/keys/key_01h455vb4pex5vsknk084sn02q")),
            admin("GET", &format!("{account}/ledger")),
        ] {
            let answer = setup.app.send(call).await.expect_problem(422, "validation_failed");
            assert_eq!(answer.errors_at(), ["account"], "{account}");
        }
    }
    setup.check_nothing_changed().await;
}

#[tokio::test]
async fn unsupported_methods_return_405_with_an_allow_header() {
    let setup = Setup::new().await;
    for (method, path, allowed) in [
        ("DELETE", "/v1/me", "GET,HEAD"),
        ("PUT", "/v1/purchases", "POST"),
        ("DELETE", "/v1/accounts", "GET,HEAD"),
        ("GET", "/v1/keys/verify", "POST"),
        ("BREW", "/livez", "GET,HEAD"),
    ] {
        let answer = setup.app.send(Call::new(method, path)).await;
        let answer = answer.expect_problem(405, "method_not_allowed");
        let allow = answer.header("allow").expect("RFC 9110 requires it");
        assert!(allow.contains(allowed), "{method} {path}: {allow}");
    }
}

#[tokio::test]
async fn response_lists_at_most_fifty_validation_errors() {
    let setup = Setup::new().await;
    let body: serde_json::Map<String, Value> =
        (0..1000).map(|number| (format!("m{number}"), json!(0))).collect();
    let answer = setup.app.send(setup.create_key().json(body.into())).await;
    assert_eq!(answer.expect_problem(422, "validation_failed").errors_at().len(), 50);
}
