//! CSV downloads. Reads the lines in batches while it sends the response, so that memory use does
//! not grow with the file.

use std::{error::Error, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;

use crate::{
    domain::{api_key::KeyHash, session_token::SessionToken, tenant::Tenant},
    store::{Store, StoreError, of_request},
    web::csv::record,
};

/// Maximum number of lines in a batch.
pub const LINES_AT_ONCE: i64 = 1000;

/// The unread lines of a file.
pub trait CsvLines: Send + 'static {
    /// Reads the next lines. Returns an empty text at the end of the file.
    fn read(
        &mut self,
        store: &Store,
        tenant: &Tenant,
    ) -> impl Future<Output = Result<String, StoreError>> + Send;
}

/// The credential with which a client requested the file.
pub enum Credential {
    AdminKey(KeyHash),
    Session(SessionToken),
}

/// A file that the service is sending.
pub struct CsvDownload<L> {
    pub store: Arc<Store>,
    pub tenant: Arc<Tenant>,
    /// The service cuts off the download when this credential becomes invalid.
    pub credential: Credential,
    pub lines: L,
}

/// The reason why a download is cut off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the admin key was revoked or the session ended")]
    CredentialOver,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Credential {
    /// Whether the credential is still valid. Permissions never change, so they need no second
    /// check.
    async fn is_live(&self, store: &Store) -> Result<bool, StoreError> {
        Ok(match self {
            Self::AdminKey(hash) => {
                store.verify_admin_key(hash).await?.is_some_and(|key| key.is_accepted())
            }
            Self::Session(token) => {
                store.dashboard_session(token).await?.is_some_and(|session| session.is_open())
            }
        })
    }
}

impl<L: CsvLines> CsvDownload<L> {
    /// Sends the file. Its first line contains the column names.
    pub fn respond(self, file_name: &str, columns: &[&str]) -> Response {
        let names: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let first = Bytes::from(record(&names));
        let parts = stream::try_unfold((self, Some(first)), async |(mut download, first)| {
            let part = match first {
                Some(first) => Some(first),
                None => download.next().await?,
            };
            Ok::<_, Broken>(part.map(|part| (part, (download, None))))
        });
        let disposition = HeaderValue::try_from(format!("attachment; filename=\"{file_name}\""));
        let headers = [
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("text/csv; charset=utf-8; header=present"),
            ),
            (
                header::CONTENT_DISPOSITION,
                disposition.expect("all file names are constants of visible ASCII"),
            ),
        ];
        (headers, Body::from_stream(parts)).into_response()
    }

    /// Returns the next lines, or `None` at the end of the file.
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        // The handler has returned, so the task no longer knows the tenant. The tenant is needed
        // because the service assigns database connections round-robin by tenant.
        let lines = of_request(Some(self.tenant.id), self.read()).await;
        let lines = lines.inspect_err(|broken| {
            // The response has begun, so the service can only abort the connection. The log line of
            // the request still reports success.
            let tenant = self.tenant.slug.as_str();
            match broken {
                Broken::CredentialOver => tracing::info!(tenant, "an export was cut off: {broken}"),
                Broken::Store(error) => {
                    tracing::error!(tenant, error = error as &dyn Error, "an export was cut off");
                }
            }
        })?;
        Ok((!lines.is_empty()).then(|| lines.into()))
    }

    async fn read(&mut self) -> Result<String, Broken> {
        if !self.credential.is_live(&self.store).await? {
            return Err(Broken::CredentialOver);
        }
        Ok(self.lines.read(&self.store, &self.tenant).await?)
    }
}
