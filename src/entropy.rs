//! Random bytes from the operating system's CSPRNG. No other module reads from it.

use std::{cell::RefCell, time::Duration};

use rand::{
    TryRng as _,
    rngs::{SysError, SysRng},
};
use zeroize::Zeroizing;

use crate::domain::{
    api_key::{KeyPrefix, KeyText},
    id::{IdEntropy, NodeId},
    session_token::SessionToken,
};

/// Number of ids for which one call reads random bytes.
const IDS_AT_ONCE: usize = 64;

/// The operating system provided no random bytes. There is no fallback to another source.
#[derive(Debug, thiserror::Error)]
#[error("the operating system provided no random bytes")]
pub struct EntropyError(#[from] SysError);

/// Creates a random API key or admin key.
pub fn new_key(prefix: &KeyPrefix) -> Result<KeyText, EntropyError> {
    let mut random = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(random.as_mut_slice())?;
    Ok(KeyText::generate(prefix, &random))
}

/// Creates a random token for the dashboard.
pub fn new_session_token() -> Result<SessionToken, EntropyError> {
    let mut random = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(random.as_mut_slice())?;
    Ok(SessionToken::generate(&random))
}

/// Creates the random part of an id. Ids are not secret, so one call to the operating system
/// fetches the random bytes for many ids. Every request needs two ids.
pub fn for_id() -> Result<IdEntropy, EntropyError> {
    thread_local! {
        static UNUSED: RefCell<Vec<IdEntropy>> = const { RefCell::new(Vec::new()) };
    }
    UNUSED.with_borrow_mut(|unused| {
        if let Some(random) = unused.pop() {
            return Ok(random);
        }
        let mut random = [0; IDS_AT_ONCE * size_of::<IdEntropy>()];
        SysRng.try_fill_bytes(&mut random)?;
        let (chunks, _) = random.as_chunks();
        unused.extend_from_slice(chunks);
        Ok(unused.pop().expect("the buffer was just filled"))
    })
}

/// Returns a random duration between half and one and a half times `pause`. With this jitter, nodes
/// that lose the database at the same time reconnect at different times.
pub fn jittered(pause: Duration) -> Duration {
    let mut random = [u8::MAX / 2];
    // Without randomness, the pause keeps its full length.
    let _ = SysRng.try_fill_bytes(&mut random);
    pause / 2 + pause * u32::from(random[0]) / u32::from(u8::MAX)
}

/// Creates a random id for this node.
pub fn node_id() -> Result<NodeId, EntropyError> {
    let mut random = [0; 16];
    SysRng.try_fill_bytes(&mut random)?;
    Ok(NodeId::from_uuid(uuid::Builder::from_random_bytes(random).into_uuid()))
}
