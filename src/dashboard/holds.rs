//! The open holds of the account, and the page with the form that voids one.

use std::cmp::Reverse;

use axum::{
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
    response::Response,
};

use super::{
    account_keys::named_keys,
    events::Names,
    pages::{
        frame::{FormError, Frame, Nav},
        holds::{HoldRow, HoldTable, HoldsPage, VoidPage},
    },
    search::{self, Pages, Search, page_url},
    session::Visitor,
    submission::Submission,
};
use crate::{
    domain::{
        dashboard::DashboardRight,
        hold::{HoldStatus, MAX_OPEN_HOLDS, VoidReason},
        id::{HoldId, KeyId},
    },
    state::AppState,
    store::{Hold, HoldFilter, Refusal, StoreError},
    web::{
        failure::Failure,
        fields::Choice,
        format,
        forms::{Form, Query},
        links::link,
        paths::InPath,
        respond::{see_other, show, show_with},
    },
};

const PATH: &str = "/dashboard/holds";

const TITLE: &str = "Open holds";

/// The id of a hold in the path. A malformed id gets the response for an unknown id.
pub struct HoldInPath(HoldId);

impl<S: Send + Sync> FromRequestParts<S> for HoldInPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let InPath(text) = InPath::<String>::from_request_parts(parts, state).await?;
        text.parse().map(Self).map_err(|_| Failure::NotFound)
    }
}

/// `GET /dashboard/holds`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account()))]
pub async fn list(
    State(state): State<AppState>,
    visitor: Visitor,
    Query(query): Query,
) -> Result<Response, Failure> {
    if let Some(redirect) = search::without_key(PATH, &query) {
        return Ok(redirect);
    }
    let frame = if is_voided(&state, &visitor, &query).await {
        visitor.frame_after(TITLE, nav(&visitor), &query)
    } else {
        visitor.frame(TITLE, nav(&visitor))
    };
    page(&state, &visitor, &query, frame, StatusCode::OK).await
}

/// `GET /dashboard/holds/{hold_id}/void`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %hold_id))]
pub async fn ask_to_void(
    State(state): State<AppState>,
    visitor: Visitor,
    HoldInPath(hold_id): HoldInPath,
) -> Result<Response, Failure> {
    let hold = state.store().find_hold(visitor.tenant(), visitor.account(), hold_id).await?;
    if hold.status != HoldStatus::Open {
        return Ok(see_other(PATH));
    }
    let names = Names::of(&visitor, &named_keys(&state, &visitor).await?);
    let frame = visitor.frame("Void hold", nav(&visitor));
    show(&VoidPage { frame, hold: row(&visitor, hold, &names) })
}

/// `POST /dashboard/holds/{hold_id}/void`: voids a hold. The form also works while the account is
/// suspended, because a void gives no key more access.
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %hold_id))]
pub async fn void(
    State(state): State<AppState>,
    HoldInPath(hold_id): HoldInPath,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Failure> {
    match visitor.handle(&state).void_hold(hold_id, VoidReason::AccountOwner).await {
        Ok(_) => Ok(see_other(&link(PATH, &[("done", "voided"), ("hold", &hold_id.to_string())]))),
        Err(StoreError::Refused(Refusal::HoldNotOpen { status })) => {
            let text = if status == HoldStatus::Captured {
                "A program already used this hold for a purchase, so you cannot void it."
            } else {
                "This hold has expired, so its amount is already available."
            };
            let errors = vec![FormError { field: None, label: None, text: text.to_owned() }];
            let frame = Frame { errors, ..visitor.frame(TITLE, nav(&visitor)) };
            page(&state, &visitor, &Form::default(), frame, StatusCode::CONFLICT).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the navigation entry of holds: the balance, or the keys if the session may not see the
/// balance.
fn nav(visitor: &Visitor) -> Nav {
    if visitor.may(DashboardRight::Audit) { Nav::Balance } else { Nav::Keys }
}

/// Whether the hold that a redirect names is voided. Anyone can create a link that claims this.
async fn is_voided(state: &AppState, visitor: &Visitor, query: &Form) -> bool {
    if query.text("done") != "voided" {
        return false;
    }
    let Ok(hold_id) = query.text("hold").parse::<HoldId>() else { return false };
    let hold = state.store().find_hold(visitor.tenant(), visitor.account(), hold_id).await;
    hold.is_ok_and(|hold| hold.status == HoldStatus::Voided)
}

async fn page(
    state: &AppState,
    visitor: &Visitor,
    query: &Form,
    frame: Frame,
    status: StatusCode,
) -> Result<Response, Failure> {
    let (tenant, account) = (visitor.tenant(), visitor.account());
    let key_id = query.text("key").parse::<KeyId>().ok();
    let filter = HoldFilter { status: Some(HoldStatus::Open), key_id };
    let mut holds =
        state.store().list_holds(tenant, account, &filter, None, i64::from(MAX_OPEN_HOLDS)).await?;
    let names = Names::of(visitor, &named_keys(state, visitor).await?);
    let (search, sort) = (Search::of(query), HoldSort::of(query));
    let form = (holds.len() > search::SHORT || search.is_active()).then(|| {
        let label = "Search by reference, ID or key";
        search::form(query, &search, PATH, label, &["key"], sort.choices())
    });
    let empty = if holds.is_empty() { "No open holds." } else { "No holds match." };
    holds.retain(|hold| is_found(&search, hold, &names));
    sort.apply(&mut holds);
    let (previous, next) = Pages::of(query, search::LENGTH).cut(&mut holds);
    let to_page = |number| page_url(PATH, query, &["key", "q", "sort"], number);
    let table = HoldTable {
        rows: holds.into_iter().map(|hold| row(visitor, hold, &names)).collect(),
        of_one_key: false,
        empty: empty.to_owned(),
        previous_url: previous.map(to_page),
        next_url: next.map(to_page),
    };
    show_with(status, &HoldsPage { frame, search: form, table })
}

fn is_found(search: &Search, hold: &Hold, names: &Names) -> bool {
    let (id, key) = (hold.id.to_string(), names.link(hold.key_id));
    let reference = hold.reference.as_ref().map(|reference| reference.as_str());
    search.matches(reference.into_iter().chain([id.as_str(), key.label.as_str()]))
}

/// The orders of the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum HoldSort {
    /// The newest hold first.
    Placed,
    /// The hold that expires soonest first.
    Expiry,
    /// The largest hold first.
    Amount,
}

impl HoldSort {
    const ALL: [(Self, &str, &str); 3] = [
        (Self::Placed, "", "Newest first"),
        (Self::Expiry, "expiry", "Expires soonest"),
        (Self::Amount, "amount", "Largest amount"),
    ];

    fn of(query: &Form) -> Self {
        search::chosen(&Self::ALL, query)
    }

    fn choices(self) -> Vec<Choice> {
        search::choices(&Self::ALL, self)
    }

    /// Sorts holds, which must be in the order of [`Self::Placed`].
    fn apply(self, holds: &mut [Hold]) {
        match self {
            Self::Placed => {}
            Self::Expiry => holds.sort_by_key(|hold| hold.expires_at),
            Self::Amount => holds.sort_by_key(|hold| Reverse(hold.amount)),
        }
    }
}

/// Returns the URL of the open holds of one key.
pub fn url_of_key(key_id: KeyId) -> String {
    link(PATH, &[("key", &key_id.to_string())])
}

/// Converts a hold into a table row.
pub fn row(visitor: &Visitor, hold: Hold, names: &Names) -> HoldRow {
    HoldRow {
        id: hold.id.to_string(),
        placed: format::moment(hold.created_at, None),
        expires: format::moment(hold.expires_at, Some(visitor.now())),
        amount: format::amount(hold.amount, visitor.currency()),
        reference: hold.reference.map(|reference| reference.to_string()),
        key: names.link(hold.key_id),
    }
}
