//! Enumerations whose values are stored as words.

/// Declares an enumeration with a word for each value: `as_str`, `Display`, `FromStr` and the list of `ALL` values.
macro_rules! words {
    (
        $(#[$doc:meta])* $name:ident, $error:ident;
        $($(#[$value_doc:meta])* $value:ident = $word:literal,)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$value_doc])* $value,)*
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$value),*];

            /// The word that is stored and shown.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        #[doc = concat!("A word that is no [`", stringify!($name), "`].")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        #[error("unknown word, expected one of {}", [$($word),*].join(", "))]
        pub struct $error;

        impl std::str::FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                match text {
                    $($word => Ok(Self::$value),)*
                    _ => Err($error),
                }
            }
        }
    };
}
pub(crate) use words;
