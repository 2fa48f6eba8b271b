//! Closed sets of values. Each set is an enum with one text for each variant. The parser, the
//! serializer, the error message and the schema in the OpenAPI document use the same list.

use std::fmt;

/// The text is not a value of a closed set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownText(&'static [&'static str]);

impl UnknownText {
    /// Creates the error for a set. Pass all texts of the set.
    #[must_use]
    pub const fn new(texts: &'static [&'static str]) -> Self {
        Self(texts)
    }
}

/// Writes, for example, `must be day, month or total`.
impl fmt::Display for UnknownText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be ")?;
        for (index, text) in self.0.iter().enumerate() {
            let separator = match index {
                0 => "",
                _ if index + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{separator}{text}")?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownText {}

/// Defines an enum and its texts.
///
/// The doc comment of the enum is also the description in its schema. The name may be followed by
/// an attribute, such as `[non_exhaustive]`, and by the default: `: Default(Variant)`.
macro_rules! text_enum {
    (
        $(#[doc = $doc:literal])*
        $vis:vis enum $name:ident $([$attribute:ident])? $(: Default($default:ident))? {
            $($(#[doc = $variant_doc:literal])* $variant:ident = $text:literal,)+
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        $(#[$attribute])?
        $vis enum $name {
            $($(#[doc = $variant_doc])* $variant,)+
        }

        impl $name {
            /// Every variant, in the order of definition.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The text of every variant, in the order of definition.
            pub const TEXTS: &'static [&'static str] = &[$($text),+];

            /// Returns the text of this variant.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::domain::text_enum::UnknownText;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.iter().find(|value| value.as_str() == text);
                found.copied().ok_or($crate::domain::text_enum::UnknownText::new(Self::TEXTS))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        $(impl Default for $name {
            fn default() -> Self {
                Self::$default
            }
        })?

        #[cfg(feature = "server")]
        $crate::domain::schema::named!(
            $name,
            stringify!($name),
            $crate::domain::schema::one_of(&[$($doc),*], $name::TEXTS)
        );
    };
}
pub(crate) use text_enum;

#[cfg(test)]
mod tests {
    text_enum! {
        /// A set with a default variant.
        enum Letter: Default(Beta) {
            Alpha = "alpha",
            /// The default variant.
            Beta = "beta",
            Gamma = "gamma",
        }
    }

    text_enum! {
        enum Pair {
            One = "one",
            Two = "two",
        }
    }

    #[test]
    fn error_for_an_unknown_text_lists_the_texts_of_the_set() {
        assert_eq!("beta".parse(), Ok(Letter::default()));
        let error = "Alpha".parse::<Letter>().expect_err("another case");
        assert_eq!(error.to_string(), "must be alpha, beta or gamma");
        let error = "".parse::<Pair>().expect_err("empty");
        assert_eq!(error.to_string(), "must be one or two");
    }

    #[test]
    fn value_is_displayed_and_serialized_as_its_text() {
        assert_eq!(Pair::Two.to_string(), "two");
        assert_eq!(serde_json::to_value(Pair::ALL).expect("JSON"), serde_json::json!(Pair::TEXTS));
        assert_eq!(Letter::ALL, [Letter::Alpha, Letter::Beta, Letter::Gamma]);
    }

    #[cfg(feature = "server")]
    mod sets {
        use std::{fmt::Display, str::FromStr};

        use serde_json::{Value, json};
        use utoipa::{PartialSchema, ToSchema};

        use super::super::UnknownText;
        use crate::domain::{
            account::{AccountFormat, AccountStatus},
            audit::{ActorKind, AuditAction},
            dashboard::{LogoMediaType, SignInWay, WalletSignIn},
            hold::{HoldLimit, HoldStatus, VoidReason},
            idempotency::IdempotentOperation,
            ledger_entry::{EntryKind, SortOrder},
            lifecycle::{KeyStatus, KeyStatusFilter},
            permission::Permission,
            spend_limit::SpendPeriod,
            tenant::Environment,
            usage::{Granularity, UsageOutcome},
            verification::{Denial, VerificationCode},
        };

        fn check<T>(name: &str, all: &[T], texts: &[&str])
        where
            T: ToSchema + PartialSchema + Display + FromStr<Err = UnknownText> + serde::Serialize,
        {
            assert_eq!(T::name(), name);
            for (value, text) in all.iter().zip(texts) {
                assert_eq!(value.to_string(), *text);
                let parsed: T = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
                assert_eq!(parsed.to_string(), *text);
            }
            let schema = serde_json::to_value(T::schema()).expect("JSON");
            assert_eq!(schema["type"], "string", "{name}");
            assert_eq!(schema["enum"], json!(texts), "{name}");
            assert_eq!(schema["enum"], serde_json::to_value(all).expect("JSON"), "{name}");
            let described = schema["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(described || schema["description"] == Value::Null, "{name}");
        }

        #[test]
        fn every_set_parses_its_own_texts_and_lists_them_in_its_schema() {
            macro_rules! check_all {
                ($($set:ident),+ $(,)?) => {
                    $(check(stringify!($set), $set::ALL, $set::TEXTS);)+
                };
            }
            check_all!(
                AccountFormat,
                AccountStatus,
                ActorKind,
                AuditAction,
                Denial,
                EntryKind,
                Environment,
                Granularity,
                HoldLimit,
                HoldStatus,
                IdempotentOperation,
                KeyStatus,
                KeyStatusFilter,
                LogoMediaType,
                Permission,
                SignInWay,
                SortOrder,
                SpendPeriod,
                UsageOutcome,
                VerificationCode,
                VoidReason,
                WalletSignIn,
            );
        }
    }
}
