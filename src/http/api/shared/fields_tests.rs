use serde_json::json;

use super::fields::{Fields, MAX_LEVELS, Patch, boolean, parse, text, texts};

fn fields(body: &str) -> Fields {
    let members = parse(body.as_bytes()).expect("an object");
    Fields::new(members, String::new())
}

#[test]
fn bodies_that_are_not_a_json_object_are_refused() {
    for body in
        ["[]", "1", "nul", "{", "{\"a\":1,\"a\":2}", "{\"a\":{\"b\":1,\"b\":1}}", "\u{feff}{}"]
    {
        let problem = parse(body.as_bytes()).expect_err(body);
        assert_eq!(problem.code(), "malformed_body", "{body}");
    }
}

#[test]
fn body_that_nests_too_deeply_is_refused_with_the_limit() {
    let nested = |lists: usize| {
        parse(format!("{{\"a\": {}{}}}", "[".repeat(lists), "]".repeat(lists)).as_bytes())
    };
    assert!(nested(MAX_LEVELS - 1).is_ok());
    for lists in [MAX_LEVELS, 1000] {
        let problem = nested(lists).expect_err("too many levels").to_value();
        assert_eq!(problem["code"], "malformed_body");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains("Send at most 127 levels"), "{detail}");
    }
}

#[test]
fn all_invalid_members_are_reported_together() {
    let mut fields = fields(r#"{"b": 1, "c": {"d": null, "x~/y": 0}, "list": ["a", 2], "z": 0}"#);
    let a = fields.required("a", boolean);
    let b = fields.optional("b", text(str::parse::<i64>));
    let c = fields.object("c", |inner| inner.required("d", boolean));
    let list = fields.optional("list", texts(|text| Ok::<_, String>(text.to_owned())));
    assert_eq!((a, b, c, list), (None, None, None, None));
    let problem = fields.finish(Some(())).expect_err("several invalid members").to_value();
    assert_eq!(
        problem["errors"],
        json!([
            {"pointer": "/a", "detail": "is required"},
            {"pointer": "/b", "detail": "must be a string, not a number"},
            {"pointer": "/c/d", "detail": "must be true or false, not null"},
            {"pointer": "/c/x~0~1y", "detail": "is unknown"},
            {"pointer": "/list/1", "detail": "must be a string, not a number"},
            {"pointer": "/z", "detail": "is unknown"},
        ])
    );
}

#[test]
fn unknown_member_is_refused_with_the_nearest_member_of_its_object() {
    let mut fields = fields(
        r#"{"nam": 1, "expire_in": 1, "amount": 1, "limit": {"amuont": 1, "expires_in": 1}}"#,
    );
    fields.optional("name", boolean);
    fields.patch("expires_in", boolean);
    fields.object("limit", |limit| limit.optional("amount", boolean));
    let problem = fields.finish(Some(())).expect_err("unknown members").to_value();
    assert_eq!(
        problem["errors"],
        json!([
            {"pointer": "/limit/amuont", "detail": "is unknown. Did you mean amount?"},
            {"pointer": "/limit/expires_in", "detail": "is unknown"},
            {"pointer": "/nam", "detail": "is unknown. Did you mean name?"},
            {"pointer": "/expire_in", "detail": "is unknown. Did you mean expires_in?"},
            {"pointer": "/amount", "detail": "is unknown"},
        ])
    );
}

#[test]
fn misspelled_member_of_a_patch_is_refused_with_the_nearest_member() {
    let mut fields = fields(r#"{"spend_limits": 1, "statuss": 1}"#);
    fields.patch_object("spend_limit", |limit| limit.required("amount", boolean));
    fields.change("status", boolean);
    let problem = fields.finish(Some(())).expect_err("unknown members").to_value();
    let details =
        ["spend_limit", "status"].map(|closest| format!("is unknown. Did you mean {closest}?"));
    assert_eq!(problem["errors"][0]["detail"], details[0]);
    assert_eq!(problem["errors"][1]["detail"], details[1]);
}

#[test]
fn patch_distinguishes_an_absent_member_from_null() {
    let mut fields = fields(r#"{"b": null, "c": true}"#);
    assert_eq!(fields.patch("a", boolean), Patch::Keep);
    assert_eq!(fields.patch("b", boolean), Patch::Clear);
    assert_eq!(fields.patch("c", boolean), Patch::Set(true));
}

#[test]
fn all_errors_in_a_list_of_objects_are_reported_with_their_positions() {
    let read = |fields: &mut Fields| fields.objects("list", |item| item.required("a", boolean));
    let mut good = fields(r#"{"list": [{"a": true}, {"a": false}]}"#);
    assert_eq!(read(&mut good), Some(vec![true, false]));
    for (body, errors) in [
        (r#"{"list": {}}"#, vec![("/list", "must be a list of objects, not an object")]),
        (r#"{"list": [{"a": 1}, "x"]}"#, vec![("/list/1", "must be an object, not a string")]),
        (
            r#"{"list": [{"a": 1}, {"a": true}, {"other": 1}]}"#,
            vec![
                ("/list/0/a", "must be true or false, not a number"),
                ("/list/2/a", "is required"),
                ("/list/2/other", "is unknown"),
            ],
        ),
    ] {
        let mut fields = fields(body);
        assert_eq!(read(&mut fields), None);
        let problem = fields.finish(Some(())).expect_err("invalid items").to_value();
        let error = |(pointer, detail)| json!({"pointer": pointer, "detail": detail});
        let expected: Vec<_> = errors.into_iter().map(error).collect();
        assert_eq!(problem["errors"], json!(expected), "{body}");
    }
}
