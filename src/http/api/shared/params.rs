//! Path and query parameters.

use std::{fmt::Display, str::FromStr};

use axum::{
    extract::{FromRequestParts, Query, RawPathParams},
    http::request::Parts,
};
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::{admin::Admin, fields::not_known};
use crate::{
    auth::Problem,
    domain::{
        account::ExternalId,
        id::{HoldId, KeyId, PurchaseId},
    },
    http::problem::{MAX_ERRORS, not_found, validation},
};

/// The account in the path, checked against the format of the admin key's tenant.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct AccountPath {
    /// The tenant's own id for the account.
    pub account: ExternalId,
}

/// The account and the key in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct KeyPath {
    /// The tenant's own id for the account.
    pub account: ExternalId,
    /// The id of the key.
    pub key_id: KeyId,
}

/// The account and the purchase in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct AccountPurchasePath {
    /// The tenant's own id for the account.
    pub account: ExternalId,
    /// The id of the purchase.
    pub id: PurchaseId,
}

/// The account and the hold in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct AccountHoldPath {
    /// The tenant's own id for the account.
    pub account: ExternalId,
    /// The id of the hold.
    pub id: HoldId,
}

/// Returns a path parameter, or `None` if it is not UTF-8.
async fn path_parameter(parts: &mut Parts, name: &str) -> Result<Option<String>, Problem> {
    let params = match RawPathParams::from_request_parts(parts, &()).await {
        Ok(params) => params,
        // The error names the parameter only in its text.
        Err(error) if error.body_text().ends_with(&format!("`{name}`")) => return Ok(None),
        Err(_) => return Err(not_found()),
    };
    let found = params.iter().find(|(key, _)| *key == name);
    found.map(|(_, value)| Some(value.to_owned())).ok_or_else(not_found)
}

/// Parses an id in the path. A malformed id results in a 404.
pub async fn path_id<T: FromStr>(parts: &mut Parts, name: &str) -> Result<T, Problem> {
    let text = path_parameter(parts, name).await?.ok_or_else(not_found)?;
    text.parse().map_err(|_| not_found())
}

impl<S: Send + Sync> FromRequestParts<S> for AccountPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let admin = Admin::from_request_parts(parts, state).await?;
        let Some(text) = path_parameter(parts, "account").await? else {
            return Err(validation([wrong("account", &"must be percent-encoded UTF-8")]));
        };
        ExternalId::parse(&text, admin.tenant.policy.account_format)
            .map(|account| Self { account })
            .map_err(|error| validation([wrong("account", &error)]))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for KeyPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let AccountPath { account } = AccountPath::from_request_parts(parts, state).await?;
        Ok(Self { account, key_id: path_id(parts, "key_id").await? })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AccountPurchasePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let AccountPath { account } = AccountPath::from_request_parts(parts, state).await?;
        Ok(Self { account, id: path_id(parts, "id").await? })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AccountHoldPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let AccountPath { account } = AccountPath::from_request_parts(parts, state).await?;
        Ok(Self { account, id: path_id(parts, "id").await? })
    }
}

/// The unread query parameters, and the errors found so far.
pub struct QueryParams {
    parameters: Vec<(String, String)>,
    /// The names of the parameters that the request may have.
    known: Vec<&'static str>,
    errors: Vec<Value>,
}

impl QueryParams {
    /// Reads an optional parameter.
    pub fn optional<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.known.push(name);
        let mut values: Vec<String> = self
            .parameters
            .extract_if(.., |(key, _)| key == name)
            .map(|(_, value)| value)
            .collect();
        let value = values.pop()?;
        if !values.is_empty() {
            self.errors.push(wrong(name, &"is sent more than once"));
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

    /// Returns a problem if there are errors or unknown parameters.
    pub fn finish(mut self) -> Result<(), Problem> {
        // The response omits further errors.
        for (name, _) in self.parameters.iter().take(MAX_ERRORS) {
            self.errors.push(wrong(name, &not_known(name, &self.known)));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(validation(self.errors)) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for QueryParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(parameters) = Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|error| validation([json!({"parameter": "", "detail": error.body_text()})]))?;
        Ok(Self { parameters, known: Vec::new(), errors: Vec::new() })
    }
}

fn wrong(name: &str, detail: &dyn Display) -> Value {
    json!({"parameter": name, "detail": detail.to_string()})
}
