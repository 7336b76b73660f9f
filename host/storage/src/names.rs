//! Enums whose variants have names in data: in the database, over HTTP, on the command line.

/// Defines an enum with a name for each variant. `or` precedes the error for a text that names none
/// of them.
macro_rules! names {
    ($(#[$enum_meta:meta])* pub enum $enum:ident $(or $unknown:path)? {
        $($(#[$meta:meta])* $variant:ident = $name:literal,)*
    }) => {
        $(#[$enum_meta])*
        pub enum $enum {
            $($(#[$meta])* $variant,)*
        }

        impl $enum {
            /// All variants.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// Its name in data.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The variant of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|one| one.name() == name)
            }
        }

        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        $(impl std::str::FromStr for $enum {
            type Err = $crate::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::from_name(text).ok_or($unknown)
            }
        })?
    };
}
pub(crate) use names;
