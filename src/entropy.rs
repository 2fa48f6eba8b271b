//! Randomness from the operating system's CSPRNG: the one place that takes it.

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

/// Ids whose randomness is fetched at once.
const IDS_AT_ONCE: usize = 64;

/// The operating system gave no randomness. Nothing can be made up in its place.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no randomness")]
pub struct EntropyError(#[from] SysError);

/// A key that nobody has seen.
pub fn new_key(prefix: &KeyPrefix) -> Result<KeyText, EntropyError> {
    let mut random = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(random.as_mut_slice())?;
    Ok(KeyText::generate(prefix, &random))
}

/// A token of the dashboard that nobody has seen.
pub fn new_session_token() -> Result<SessionToken, EntropyError> {
    let mut random = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(random.as_mut_slice())?;
    Ok(SessionToken::generate(&random))
}

/// What makes a new id differ from all others. Ids are no secrets: the operating system is asked for
/// many at once, since every request needs two.
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
        Ok(unused.pop().expect("there are many"))
    })
}

/// A random pause of half to one and a half times this length, so that nodes that lost the database
/// at the same time do not reconnect at the same time.
pub fn jittered(pause: Duration) -> Duration {
    let mut random = [u8::MAX / 2];
    // Without randomness the pause has its full length.
    let _ = SysRng.try_fill_bytes(&mut random);
    pause / 2 + pause * u32::from(random[0]) / u32::from(u8::MAX)
}

/// What tells a node apart from all others.
pub fn node_id() -> Result<NodeId, EntropyError> {
    let mut random = [0; 16];
    SysRng.try_fill_bytes(&mut random)?;
    Ok(NodeId::from_uuid(uuid::Builder::from_random_bytes(random).into_uuid()))
}
