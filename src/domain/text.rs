//! Free-form text from users, such as names, references, descriptions, reasons and metadata.

use std::fmt;

use serde_json::{Map, Value};

use super::canonical_json;

/// Maximum length of the metadata of a key or a purchase, in bytes of compact JSON.
pub const MAX_METADATA_BYTES: usize = 4096;

/// Whether a character is invisible by itself. Some of these characters join others, as in emoji,
/// so they are allowed within a text.
fn is_invisible(character: char) -> bool {
    character.is_whitespace()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a character is a control character, or a line or paragraph separator.
fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Whether a character is one of Unicode's explicit directional controls. Such characters can make
/// a text look like a different one.
fn turns_direction(character: char) -> bool {
    matches!(character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The reason why a text for people is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// After trimming, the text is empty, contains only invisible characters, or is longer than
    /// this many characters.
    #[error("must have 1 to {0} characters after trimming")]
    Length(usize),
    /// The text contains a control character, a line or paragraph separator, or a character that
    /// changes the direction of writing.
    #[error("must not contain control characters or characters that change the direction of text")]
    Control,
}

/// Checks a text for people, and trims it.
pub(super) fn checked(text: &str, max_chars: usize) -> Result<&str, TextError> {
    let text = text.trim();
    if text.chars().all(is_invisible) || text.chars().nth(max_chars).is_some() {
        return Err(TextError::Length(max_chars));
    }
    if text.chars().any(|character| is_control(character) || turns_direction(character)) {
        return Err(TextError::Control);
    }
    Ok(text)
}

/// Defines a type for texts that people read. Such a text is trimmed, contains no control
/// characters, and has a maximum length.
///
/// The doc comment is also the description in the schema. Examples may follow the maximum length.
macro_rules! text_type {
    ($(#[doc = $doc:literal])* $name:ident, $max_chars:literal $(, $example:literal)*) => {
        $(#[doc = $doc])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct $name(Box<str>);

        impl $name {
            /// Maximum number of characters.
            pub const MAX_CHARS: usize = $max_chars;

            /// Trims and checks a text.
            ///
            /// # Errors
            ///
            /// Returns [a `TextError`](crate::domain::text::TextError) if the trimmed text is
            /// empty, contains only invisible characters, has more than [`Self::MAX_CHARS`]
            /// characters, or contains a character that is not allowed.
            pub fn parse(text: &str) -> Result<Self, $crate::domain::text::TextError> {
                $crate::domain::text::checked(text, Self::MAX_CHARS).map(|text| Self(text.into()))
            }

            /// Wraps a text from the database without checking it again.
            #[must_use]
            pub fn from_stored(text: String) -> Self {
                Self(text.into())
            }

            /// Returns the trimmed text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::ops::Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        $crate::domain::schema::named!(
            $name,
            stringify!($name),
            $crate::domain::schema::text(&[$($doc),*], $name::MAX_CHARS, &[$($example),*])
        );
    };
}
pub(crate) use text_type;

text_type!(
    /// A name for people, without control characters. Surrounding white space is trimmed.
    Name,
    100
);

text_type!(
    /// The caller's own id of a purchase, hold, credit or refund, such as an order number.
    Reference,
    200
);

text_type!(
    /// A description for people.
    Description,
    500
);

text_type!(
    /// The reason for revoking a key.
    Reason,
    200
);

/// The caller's own JSON object. The service stores it and returns its members in the order in
/// which they were sent. Its numbers are 64-bit integers or doubles.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Metadata(Map<String, Value>);

/// The reason why a JSON object is refused as metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The object's compact JSON is longer than [`MAX_METADATA_BYTES`].
    #[error("must have at most {} bytes as compact JSON", MAX_METADATA_BYTES)]
    TooLarge,
    /// A string or a member's name contains the character U+0000.
    #[error("must not contain the character U+0000")]
    Nul,
    /// A number is a double with a magnitude of 2^53 or more, so it may have lost digits when it
    /// was parsed.
    #[error("must not contain a number of more than 64 bits. Send it as a string")]
    Number,
}

impl Metadata {
    /// Checks an object and wraps it.
    ///
    /// # Errors
    ///
    /// [`MetadataError::TooLarge`] if the compact JSON is longer than [`MAX_METADATA_BYTES`],
    /// [`MetadataError::Nul`] if a string contains U+0000, and [`MetadataError::Number`] if a
    /// number is a double with a magnitude of 2^53 or more.
    pub fn new(object: Map<String, Value>) -> Result<Self, MetadataError> {
        let value = Value::Object(object);
        let text = canonical_json::to_string(&value);
        if text.len() > MAX_METADATA_BYTES {
            return Err(MetadataError::TooLarge);
        }
        // SQL functions for JSON cannot process such a string.
        if has_nul(&value) {
            return Err(MetadataError::Nul);
        }
        if has_large_number(&value) {
            return Err(MetadataError::Number);
        }
        let Value::Object(object) = value else { unreachable!("the value is an object") };
        Ok(Self(object))
    }

    /// Wraps a value from the database without checking it again. A value that is not an object
    /// becomes the empty object.
    #[must_use]
    pub fn from_stored(value: Value) -> Self {
        match value {
            Value::Object(object) => Self(object),
            _ => Self::default(),
        }
    }

    /// Returns a copy of the object as a JSON value.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

impl serde::Serialize for Metadata {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&self.0, serializer)
    }
}

super::schema::named!(
    Metadata,
    "Metadata",
    utoipa::openapi::ObjectBuilder::new()
        .description(Some(format!(
            "The caller's own JSON object. It has at most {MAX_METADATA_BYTES} bytes as compact \
             JSON, and at most 126 levels of objects and lists, itself included. Numbers are \
             integers of 64 bits, or doubles with a magnitude below 2^53. Send other numbers as \
             strings. Strings and member names do not contain the character U+0000."
        )))
        .additional_properties(Some(utoipa::openapi::schema::AdditionalProperties::FreeForm(true)))
);

/// Writes compact JSON with the members in the order in which they were sent. The store binds this
/// text instead of a JSON value, because Postgres would convert a JSON parameter to jsonb, which
/// sorts the members and has no -0.
impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_value())
    }
}

/// Whether a value contains a double with a magnitude of 2^53 or more. Such a double may be an
/// integer that lost digits when it was parsed.
fn has_large_number(value: &Value) -> bool {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => {
            number.is_f64() && number.as_f64().is_none_or(|number| number.abs() >= EXACT)
        }
        Value::Array(items) => items.iter().any(has_large_number),
        Value::Object(object) => object.values().any(has_large_number),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(object) => {
            object.iter().any(|(name, value)| name.contains('\0') || has_nul(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(value: Value) -> Result<Metadata, MetadataError> {
        if has_large_number(&value) {
            return Err(MetadataError::Number);
        }
        let Value::Object(object) = value else { panic!("an object") };
        Metadata::new(object)
    }

    #[test]
    fn names_are_trimmed_and_have_a_maximum_length() {
        assert_eq!(Name::parse("  bot 1 \n").expect("good").as_str(), "bot 1");
        assert!(Name::parse(&"é".repeat(100)).is_ok());
        assert_eq!(Name::parse(&"é".repeat(101)), Err(TextError::Length(100)));
        assert_eq!(Name::parse(" \t "), Err(TextError::Length(100)));
        for text in [
            "\u{200b}",
            "\u{200d}\u{feff}",
            "\u{3164}",
            "\u{2800}",
            "\u{e0041}",
            "\u{115f}\u{1160}",
        ] {
            assert_eq!(Name::parse(text), Err(TextError::Length(100)), "{text:?}");
        }
        assert!(Name::parse("👩\u{200d}💻 bot").is_ok());
        for text in
            ["a\u{0}b", "a\nb", "a\u{7f}b", "a\u{85}b", "a\u{2028}b", "a\u{202e}b", "a\u{2066}b"]
        {
            assert_eq!(Name::parse(text), Err(TextError::Control), "{text:?}");
        }
    }

    #[test]
    fn metadata_has_a_maximum_size_and_contains_no_nul() {
        assert!(metadata(json!({"a": "x".repeat(4096 - 8)})).is_ok());
        assert_eq!(metadata(json!({"a": "x".repeat(4096 - 7)})), Err(MetadataError::TooLarge));
        assert_eq!(metadata(json!({"a": ["b\u{0}"]})), Err(MetadataError::Nul));
        assert_eq!(metadata(json!({"a\u{0}": 1})), Err(MetadataError::Nul));
        assert_eq!(metadata(json!({"a": [1e20]})), Err(MetadataError::Number));
        let large = serde_json::from_str(r#"{"a": 90071992547409931234}"#).expect("JSON");
        assert_eq!(metadata(large), Err(MetadataError::Number));
        assert!(metadata(json!({"a": [u64::MAX, i64::MIN, 1.5e15, -0.0]})).is_ok());
    }
}
