//! Randomness from the operating system's CSPRNG. Only this module reads it.

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

/// Number of ids whose randomness is read in one call.
const IDS_AT_ONCE: usize = 64;

/// The operating system provided no random bytes. No other source may replace them.
#[derive(Debug, thiserror::Error)]
#[error("the operating system provided no random bytes")]
pub struct EntropyError(#[from] SysError);

/// A new random API key or admin key.
pub fn new_key(prefix: &KeyPrefix) -> Result<KeyText, EntropyError> {
    let mut random = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(random.as_mut_slice())?;
    Ok(KeyText::generate(prefix, &random))
}

/// A new random token for the dashboard.
pub fn new_session_token() -> Result<SessionToken, EntropyError> {
    let mut random = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(random.as_mut_slice())?;
    Ok(SessionToken::generate(&random))
}

/// The random part of a new id. Ids are not secret, so one call to the operating system fetches the
/// random bytes for many ids. Every request needs two.
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

/// A random duration between half and one and a half times `pause`. Nodes that lose the database at
/// the same time then reconnect at different times.
pub fn jittered(pause: Duration) -> Duration {
    let mut random = [u8::MAX / 2];
    // Without randomness, the pause keeps its full length.
    let _ = SysRng.try_fill_bytes(&mut random);
    pause / 2 + pause * u32::from(random[0]) / u32::from(u8::MAX)
}

/// A random id of this node.
pub fn node_id() -> Result<NodeId, EntropyError> {
    let mut random = [0; 16];
    SysRng.try_fill_bytes(&mut random)?;
    Ok(NodeId::from_uuid(uuid::Builder::from_random_bytes(random).into_uuid()))
}
