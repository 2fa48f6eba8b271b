use axum::body::{Body, Bytes};
use http_body_util::{
    BodyExt as _, Either, Full,
    combinators::{BoxBody, UnsyncBoxBody},
};

/// A response body that the gate can write its own refusals into.
///
/// axum's [`Body`] implements this trait. So do the bodies of `http_body_util` that contain bytes:
/// [`Full`], [`BoxBody`], [`UnsyncBoxBody`], and [`Either`] if its left body implements the trait.
///
/// For a service whose body is of another type, put
/// `tower_http::map_response_body::MapResponseBodyLayer` between the gate and the service. It
/// converts the bodies, for example into axum's:
///
/// ```
/// use std::convert::Infallible;
///
/// use axum::{
///     body::{Body, Bytes},
///     http::{Request, Response},
/// };
/// use http_body_util::Empty;
/// use tollgate::auth::{ApiKeyLayer, KeyVerifier};
/// use tower::{Service, ServiceBuilder};
/// use tower_http::map_response_body::MapResponseBodyLayer;
///
/// fn gated<V: KeyVerifier>(
///     gate: ApiKeyLayer<V>,
/// ) -> impl Service<Request<Body>, Response = Response<Body>> {
///     let inner = tower::service_fn(|_: Request<Body>| async {
///         Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
///     });
///     ServiceBuilder::new().layer(gate).layer(MapResponseBodyLayer::new(Body::new)).service(inner)
/// }
/// ```
///
/// If the body is your own type, you can implement the trait instead:
///
/// ```
/// use axum::body::{Body, Bytes};
/// use tollgate::auth::RefusalBody;
///
/// struct MyBody(Body);
///
/// impl RefusalBody for MyBody {
///     fn from_bytes(bytes: Bytes) -> Self {
///         Self(bytes.into())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the gate cannot write its refusals into the response body `{Self}`",
    label = "the response body of this service is not a `RefusalBody`",
    note = "put `tower_http::map_response_body::MapResponseBodyLayer` between the gate and the \
            service to convert the body, for example into `axum::body::Body`",
    note = "or implement `RefusalBody` if the body is your own type"
)]
pub trait RefusalBody {
    /// Creates a body that consists of these bytes.
    fn from_bytes(bytes: Bytes) -> Self;
}

impl RefusalBody for Body {
    fn from_bytes(bytes: Bytes) -> Self {
        bytes.into()
    }
}

impl RefusalBody for Full<Bytes> {
    fn from_bytes(bytes: Bytes) -> Self {
        Self::new(bytes)
    }
}

impl<E: 'static> RefusalBody for BoxBody<Bytes, E> {
    fn from_bytes(bytes: Bytes) -> Self {
        Full::new(bytes).map_err(|never| match never {}).boxed()
    }
}

impl<E: 'static> RefusalBody for UnsyncBoxBody<Bytes, E> {
    fn from_bytes(bytes: Bytes) -> Self {
        Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
    }
}

/// A refusal becomes the left body.
impl<L: RefusalBody, R> RefusalBody for Either<L, R> {
    fn from_bytes(bytes: Bytes) -> Self {
        Self::Left(L::from_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;

    use super::*;

    #[tokio::test]
    async fn refusal_becomes_the_left_body_of_an_either() {
        let body = Either::<Full<Bytes>, Empty<Bytes>>::from_bytes(Bytes::from_static(b"refused"));
        assert!(matches!(body, Either::Left(_)), "{body:?}");
        assert_eq!(body.collect().await.expect("a body").to_bytes(), "refused");
    }
}
