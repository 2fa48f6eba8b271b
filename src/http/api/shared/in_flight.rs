//! Bounds the requests of one API key that use the shared connections to the database.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{
    auth::{Principal, Problem, ProblemCode},
    web::in_flight::{HeldUntilSent, InFlight},
};

/// Lets the request pass unless the key has as many in flight as it may have. A request is in flight
/// until its response has been handed to the socket. Stands behind the gate.
pub async fn bound(
    State(in_flight): State<InFlight>,
    principal: Principal,
    request: Request,
    next: Next,
) -> Response {
    let Some(entered) = in_flight.enter(principal.key_id.uuid()) else {
        return too_many(&in_flight).into_response();
    };
    let mut response = next.run(request).await;
    HeldUntilSent::attach(&mut response, entered);
    response
}

fn too_many(in_flight: &InFlight) -> Problem {
    let detail = format!(
        "The API key has {} requests in flight, which is the maximum. Wait for a response before \
         you send the next request.",
        in_flight.max()
    );
    Problem::new(ProblemCode::TooManyInFlight, detail).retry_after(1)
}
