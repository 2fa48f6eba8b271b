//! Ids. The API uses TypeIDs (spec v0.3), and the code uses UUIDs: version 7, except for ids of
//! nodes.
//!
//! `key_01h455vb4pex5vsknk084sn02q` consists of a type prefix, `_`, and the 128 bits of the UUID as
//! 26 characters of Crockford base32 in lower case. The specification is
//! <https://github.com/jetify-com/typeid/tree/main/spec>.
//!
//! ```
//! use tollgate::domain::id::{KeyId, PurchaseId};
//!
//! let id: KeyId = "key_01h455vb4pex5vsknk084sn02q".parse()?;
//! assert_eq!(id.uuid().to_string(), "01890a5d-ac96-774b-bcce-b302099a8057");
//! assert_eq!(id.to_string(), "key_01h455vb4pex5vsknk084sn02q");
//!
//! assert!("key_01h455vb4pex5vsknk084sn02q".parse::<PurchaseId>().is_err());
//! # Ok::<(), tollgate::domain::id::MalformedId>(())
//! ```

use std::{fmt, str::FromStr};

use uuid::Uuid;

use super::timestamp::Timestamp;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SUFFIX_LENGTH: usize = 26;

/// The text is not an id of this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed id")]
pub struct MalformedId;

/// Eight bytes from a CSPRNG, which distinguish ids that were created in the same microsecond.
pub type IdEntropy = [u8; 8];

macro_rules! typed_id {
    ($name:ident, $prefix:literal, $what:literal) => {
        #[doc = concat!("The id of ", $what, ".")]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// The type prefix of every id of this type, without the `_`.
            pub const PREFIX: &str = $prefix;

            /// Creates an id. Ids sort by their time of creation, to the microsecond.
            #[must_use]
            pub fn new(at: Timestamp, entropy: IdEntropy) -> Self {
                Self(uuid_v7(at, entropy))
            }

            /// Creates the id with these 128 bits, for example from the database. Any UUID is
            /// accepted.
            #[must_use]
            pub fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Returns the 128 bits of the id as a UUID, without the type prefix.
            #[must_use]
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($prefix, "_"))?;
                f.write_str(&encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = MalformedId;

            fn from_str(text: &str) -> Result<Self, MalformedId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(decode)
                    .map(Self)
                    .ok_or(MalformedId)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        #[cfg(feature = "server")]
        super::schema::named!($name, stringify!($name), schema(&[$prefix], $what));
    };
}

typed_id!(TenantId, "tnt", "a tenant in one environment");
typed_id!(KeyId, "key", "an API key");
typed_id!(AdminKeyId, "adm", "an admin key");
typed_id!(PurchaseId, "pur", "a purchase");
typed_id!(CreditId, "crd", "a credit");
typed_id!(RefundId, "rfd", "a refund");
typed_id!(HoldId, "hld", "a hold");
// Clients never see these ids.
typed_id!(BatchId, "bat", "a batch of operations, which a node sends to the database together");
typed_id!(AuditEventId, "evt", "an audit event");
typed_id!(NodeId, "nod", "a node, which is one running `tollgate serve`");
typed_id!(RequestId, "req", "an HTTP request");

/// Returns the schema of an id with one of these prefixes. All prefixes must have the same length.
#[cfg(feature = "server")]
pub(super) fn schema(prefixes: &[&str], what: &str) -> utoipa::openapi::ObjectBuilder {
    let prefix = match prefixes {
        [prefix] => (*prefix).to_owned(),
        several => format!("({})", several.join("|")),
    };
    // The first character of the suffix encodes 3 bits.
    let pattern = format!("^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{{}}}$", SUFFIX_LENGTH - 1);
    let length = prefixes[0].len() + 1 + SUFFIX_LENGTH;
    super::schema::formatted("typeid", &format!("The TypeID of {what}."))
        .pattern(Some(pattern))
        .min_length(Some(length))
        .max_length(Some(length))
        .examples([format!("{}_01h455vb4pex5vsknk084sn02q", prefixes[0])])
}

/// Creates a UUIDv7 with the microseconds in the 12 bits after the version (RFC 9562 §6.2, method
/// 3).
fn uuid_v7(at: Timestamp, entropy: IdEntropy) -> Uuid {
    let micros = at.unix_micros().max(0).unsigned_abs();
    let (millis, fraction) = (micros / 1000, (micros % 1000) * 4096 / 1000);
    let high = (u128::from(millis) << 80) | (7 << 76) | (u128::from(fraction) << 64);
    let low = (u64::from_be_bytes(entropy) >> 2) | (0b10 << 62);
    Uuid::from_u128(high | u128::from(low))
}

fn encode(uuid: Uuid) -> String {
    let bits = uuid.as_u128();
    (0..SUFFIX_LENGTH)
        .rev()
        .map(|position| char::from(ALPHABET[usize::from((bits >> (position * 5)) as u8 & 31)]))
        .collect()
}

fn decode(suffix: &str) -> Option<Uuid> {
    // 26 characters encode 130 bits, so a first character above 7 would overflow.
    if suffix.len() != SUFFIX_LENGTH || suffix.as_bytes()[0] > b'7' {
        return None;
    }
    suffix
        .bytes()
        .try_fold(0_u128, |bits, byte| {
            let digit = ALPHABET.iter().position(|&letter| letter == byte)?;
            Some((bits << 5) | digit as u128)
        })
        .map(Uuid::from_u128)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_match_the_examples_of_the_typeid_specification() {
        for (uuid, suffix) in [
            ("00000000-0000-0000-0000-000000000000", "00000000000000000000000000"),
            ("00000000-0000-0000-0000-000000000001", "00000000000000000000000001"),
            ("ffffffff-ffff-ffff-ffff-ffffffffffff", "7zzzzzzzzzzzzzzzzzzzzzzzzz"),
            ("01890a5d-ac96-774b-bcce-b302099a8057", "01h455vb4pex5vsknk084sn02q"),
        ] {
            let uuid: Uuid = uuid.parse().expect("a uuid");
            assert_eq!(encode(uuid), suffix);
            assert_eq!(decode(suffix), Some(uuid));
        }
    }

    #[test]
    fn malformed_ids_are_refused() {
        for text in [
            "",
            "key_",
            "pur_01h455vb4pex5vsknk084sn02q",
            "key_01H455VB4PEX5VSKNK084SN02Q",
            "key_01h455vb4pex5vsknk084sn02",
            "key_01h455vb4pex5vsknk084sn02qq",
            "key_81h455vb4pex5vsknk084sn02q",
            "key_01h455vb4pex5vsknk084sn02l",
            "key_01h455vb4pex5vsknk084sn0é",
        ] {
            assert_eq!(text.parse::<KeyId>(), Err(MalformedId), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn id_survives_a_round_trip_through_its_text(bits: u128) {
            let id = KeyId::from_uuid(Uuid::from_u128(bits));
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn ids_sort_by_the_microsecond(
            micros in 0..253_402_300_799_000_000_i64, a: IdEntropy, b: IdEntropy
        ) {
            let at = |micros| Timestamp::from_unix_micros(micros).expect("in range");
            let earlier = KeyId::new(at(micros), a);
            let later = KeyId::new(at(micros + 1), b);
            prop_assert!(earlier < later);
            prop_assert_eq!(later.uuid().get_version_num(), 7);
        }
    }
}
