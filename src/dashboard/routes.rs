//! All routes of the dashboard, and their layers.

use std::sync::Arc;

use axum::{
    Extension, Router, middleware,
    routing::{get, post},
};
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    assets, balance, brand, change_key, compromise, entry, failures, holds, key_detail, key_limits,
    keys, new_key, purchases, rotate, security_log,
    session::{self, Needs},
    sign_in,
};
use crate::{
    domain::dashboard::DashboardRight,
    state::AppState,
    web::{
        failure,
        guard::{self, Protection},
        in_flight::InFlight,
    },
};

/// Returns the routes under `/dashboard` with their layers. The layers that all requests of the
/// service share, such as request ids, limits and the log, surround them.
pub fn routes(state: &AppState) -> Router {
    let public_url = Arc::new(state.public_url().clone());
    let timeout = state.limits().request_timeout;
    let protection = Protection { secure: public_url.is_secure(), render_failure: failures::page };
    let protect = middleware::from_fn_with_state(protection, guard::protect);
    let in_flight = InFlight::new(state.limits().in_flight);
    let pages = needing(Needs::Session, &in_flight, ways_in())
        .merge(needing(Needs::Right(DashboardRight::Audit), &in_flight, account_pages()))
        .merge(needing(Needs::Right(DashboardRight::Keys), &in_flight, key_pages()))
        .merge(public_files())
        .method_not_allowed_fallback(failure::no_such_method)
        .fallback(failure::no_such_page)
        // The innermost layer comes first. A form from another origin reaches no handler.
        .layer(middleware::from_fn_with_state(public_url, guard::refuse_foreign_forms))
        // Responds to a panic with a page.
        .layer(CatchPanicLayer::custom(failure::panicked))
        // Responds to a timeout with a page.
        .layer(middleware::from_fn_with_state(timeout, guard::answer_in_time))
        // Renders the page of a failure, and sets the headers of every response.
        .layer(protect.clone())
        .with_state(state.clone());
    Router::new()
        .nest("/dashboard", pages)
        // The nested router does not match this path.
        .route("/dashboard/", get(entry::home_with_slash).layer(protect))
}

/// Returns routes that accept only sessions with these rights. A handler that takes a `Visitor`
/// accepts no session unless this function has wrapped its route.
fn needing(needs: Needs, in_flight: &InFlight, routes: Router<AppState>) -> Router<AppState> {
    let in_flight = middleware::from_fn_with_state(in_flight.clone(), session::bound);
    routes.route_layer(in_flight).route_layer(Extension(needs))
}

/// Returns the routes for sign-in and sign-out. Forms without a session are checked against the
/// cookie of their page.
fn ways_in() -> Router<AppState> {
    Router::new()
        .route("/", get(entry::home))
        .route("/enter", get(entry::enter).post(entry::confirm))
        .route("/signed-out", get(entry::signed_out))
        .route("/logout", post(entry::log_out))
        .route("/logout-everywhere", post(entry::log_out_everywhere))
        .route("/{tenant}/login", get(sign_in::ask).post(sign_in::start))
        .route("/{tenant}/login/verify", post(sign_in::verify))
        .route("/{tenant}/test/login", get(sign_in::ask).post(sign_in::start))
        .route("/{tenant}/test/login/verify", post(sign_in::verify))
}

/// Returns the routes for the balance, the purchases and the security log. Each handler takes a
/// `Visitor` or a `Submission`, which require a session.
fn account_pages() -> Router<AppState> {
    Router::new()
        .route("/balance", get(balance::get))
        .route("/balance.csv", get(balance::export))
        .route("/log", get(security_log::get))
        .route("/keys/{key_id}/purchases", get(purchases::list))
        .route("/keys/{key_id}/purchases.csv", get(purchases::export))
}

/// Returns the routes for the keys and the holds of the account. Each of these handlers requires a
/// session, too.
fn key_pages() -> Router<AppState> {
    Router::new()
        .route("/keys", get(keys::list))
        .route("/keys/new", get(new_key::ask).post(new_key::create))
        .route("/keys/{key_id}", get(key_detail::get))
        .route("/keys/{key_id}/edit", get(change_key::ask).post(change_key::change))
        .route("/keys/{key_id}/limits", get(key_limits::ask).post(key_limits::lower))
        .route("/keys/{key_id}/disable", post(keys::disable))
        .route("/keys/{key_id}/enable", post(keys::enable))
        .route("/keys/{key_id}/rotate", get(rotate::ask).post(rotate::rotate))
        .route("/keys/{key_id}/revoke", get(keys::ask_to_revoke).post(keys::revoke))
        .route("/holds", get(holds::list))
        .route("/holds/{hold_id}/void", get(holds::ask_to_void).post(holds::void))
        .route("/keys/{key_id}/compromised", get(compromise::ask).post(compromise::revoke))
}

/// Returns the routes for files that browsers may cache, because they contain no data of an
/// account.
fn public_files() -> Router<AppState> {
    Router::new()
        .route("/assets/{hash}/{file}", get(assets::get))
        .route("/accent/{file}", get(brand::accent))
        .route("/logo/{tenant_id}/{hash}", get(brand::logo))
}
