use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Identifies the window of a rate limit in a recall. Two windows may have the same tag, so a node
/// may return calls that no recall asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WindowTag(pub u64);

/// Returns the tag of the window of a rate limit. All nodes compute the same tag.
pub(super) fn window_tag(account: Uuid, holder: Uuid, name: &str) -> WindowTag {
    let mut hasher = Sha256::new();
    hasher.update(account);
    hasher.update(holder);
    hasher.update(name);
    let digest: [u8; 32] = hasher.finalize().into();
    let (first, _) = digest.split_first_chunk().expect("32 bytes have a prefix of 8 bytes");
    WindowTag(u64::from_be_bytes(*first))
}
