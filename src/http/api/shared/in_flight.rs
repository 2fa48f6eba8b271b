//! Limits how many requests of one API key may use the shared database connections concurrently.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{
    auth::{Principal, Problem, ProblemCode},
    web::in_flight::{HeldUntilSent, InFlight},
};

/// Refuses the request if the key already has the maximum number of requests in flight. A request
/// is in flight until its response has been handed to the socket. This layer must be inside the
/// gate's layer.
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
