use axum::body::{Body, Bytes};
use http_body_util::{
    BodyExt as _, Full,
    combinators::{BoxBody, UnsyncBoxBody},
};

/// A response body that the gate can write its own refusals into.
///
/// axum's [`Body`] is one, and so are the bodies of `http_body_util` that hold bytes. A service with a
/// body of its own implements it in one line:
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
pub trait RefusalBody {
    /// A body of these bytes.
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
