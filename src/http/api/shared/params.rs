//! Parameters in the path and in the query.

use std::fmt::Display;

use axum::{
    extract::{FromRequestParts, Query, RawPathParams},
    http::request::Parts,
};
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::admin::Admin;
use crate::{
    auth::Problem,
    domain::{account::ExternalId, id::KeyId},
    http::problem::{not_found, validation},
};

/// The account in the path, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "the parameter, for the OpenAPI document")]
pub struct AccountPath {
    /// The tenant's own id of the account.
    #[param(min_length = 1, max_length = 128, example = "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC")]
    account: String,
}

/// The account and the key in the path, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "the parameters, for the OpenAPI document")]
pub struct KeyPath {
    /// The tenant's own id of the account.
    #[param(min_length = 1, max_length = 128, example = "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC")]
    account: String,
    /// The id of the key.
    #[param(example = "key_01h455vb4pex5vsknk084sn02q")]
    key_id: String,
}

/// The account in the path, checked against the format of the admin key's tenant.
pub struct AccountInPath(pub ExternalId);

/// The key in the path. What is no key's id names no key: 404.
pub struct KeyInPath(pub KeyId);

/// A parameter of the path as text, for ids that are not checked against a tenant.
pub async fn path_parameter(parts: &mut Parts, name: &str) -> Result<String, Problem> {
    // What is not UTF-8 names nothing.
    let params = RawPathParams::from_request_parts(parts, &()).await.map_err(|_| not_found())?;
    let found = params.iter().find(|(key, _)| *key == name);
    found.map(|(_, value)| value.to_owned()).ok_or_else(not_found)
}

impl<S: Send + Sync> FromRequestParts<S> for AccountInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let admin = Admin::from_request_parts(parts, state).await?;
        let text = path_parameter(parts, "account").await?;
        ExternalId::parse(&text, admin.tenant.policy.account_format)
            .map(Self)
            .map_err(|error| validation([wrong("account", &error)]))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for KeyInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let text = path_parameter(parts, "key_id").await?;
        text.parse().map(Self).map_err(|_| not_found())
    }
}

/// The parameters of the query that are still to be read, and what was wrong with those that were.
pub struct QueryParams {
    parameters: Vec<(String, String)>,
    errors: Vec<Value>,
}

impl QueryParams {
    /// A parameter that may be absent.
    pub fn optional<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let mut values: Vec<String> = self
            .parameters
            .extract_if(.., |(key, _)| key == name)
            .map(|(_, value)| value)
            .collect();
        let value = values.pop()?;
        if !values.is_empty() {
            self.errors.push(wrong(name, &"is given more than once"));
            return None;
        }
        match parse(&value) {
            Ok(value) => Some(value),
            Err(error) => {
                self.errors.push(wrong(name, &error));
                None
            }
        }
    }

    /// Unless anything was wrong or is left over.
    pub fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in self.parameters {
            self.errors.push(wrong(&name, &"is not known here"));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(validation(self.errors)) }
    }

    /// Unless anything was wrong; what is left over is somebody else's.
    pub fn finish_leniently(mut self) -> Result<(), Problem> {
        self.parameters.clear();
        self.finish()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for QueryParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(parameters) = Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|error| validation([json!({"parameter": "", "detail": error.body_text()})]))?;
        Ok(Self { parameters, errors: Vec::new() })
    }
}

fn wrong(name: &str, detail: &dyn Display) -> Value {
    json!({"parameter": name, "detail": detail.to_string()})
}
