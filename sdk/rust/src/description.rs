//! What a provider says about itself, before anything else is called. Everything here is public.

/// The provider in its own words: what [`describe`](crate::SecretProvider::describe) returns.
///
/// The same every time; it needs no network and no settings. [`Description::new`] fills what most providers leave
/// empty, so that the rest reads as a list of what this one has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// What connections of this kind are called in data: lower-case letters, digits and `-`, 1 to 64 characters, for
    /// example `1password`. Unique among the providers of one host.
    pub provider_type: String,
    /// What people call it, for example `1Password`.
    pub display_name: String,
    /// The provider's own version; `env!("CARGO_PKG_VERSION")` serves.
    pub version: String,
    /// The scheme of its references without `://`, for example `op`: lower-case letters, digits, `+`, `.` and `-`, starting with a letter.
    pub reference_scheme: String,
    /// How a reference looks, for people, for example `op://<vaultId>/<itemId>`.
    pub reference_format: String,
    /// What a person must enter to connect, in the order to ask for it.
    pub settings: Vec<SettingSpec>,
    /// Where the provider needs to connect to. The host refuses requests to anywhere else.
    pub destinations: Vec<Destination>,
    /// What it can do beyond `verify` and `resolve`.
    pub capabilities: Capabilities,
    /// Anything else worth knowing.
    pub attributes: Vec<Attribute>,
}

impl Description {
    /// A description with a type, a name and a version, and nothing else.
    pub fn new(provider_type: impl Into<String>, display_name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            provider_type: provider_type.into(),
            display_name: display_name.into(),
            version: version.into(),
            ..Self::default()
        }
    }

    /// The scheme of references (without `://`) and how one looks, for people.
    #[must_use]
    pub fn reference(mut self, scheme: impl Into<String>, format: impl Into<String>) -> Self {
        self.reference_scheme = scheme.into();
        self.reference_format = format.into();
        self
    }

    /// Adds a setting to ask for.
    #[must_use]
    pub fn setting(mut self, spec: SettingSpec) -> Self {
        self.settings.push(spec);
        self
    }

    /// Adds a destination, see [`Destination::Fixed`].
    #[must_use]
    pub fn destination(mut self, pattern: impl Into<String>) -> Self {
        self.destinations.push(Destination::Fixed(pattern.into()));
        self
    }

    /// Adds the destination that a setting names, see [`Destination::FromSetting`].
    #[must_use]
    pub fn destination_from_setting(mut self, setting: impl Into<String>) -> Self {
        self.destinations.push(Destination::FromSetting(setting.into()));
        self
    }

    /// Sets what it can do beyond `verify` and `resolve`.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Adds something else worth knowing.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push(Attribute::new(name, value));
        self
    }
}

/// One thing to ask a person for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingSpec {
    /// Unique among this provider's settings: lower-case letters, digits and `_`, 1 to 64 characters.
    pub name: String,
    /// For the form, for example `Service account token`.
    pub label: String,
    /// A sentence about where to find it. May be empty.
    pub help: String,
    /// Whether the value is a secret: stored encrypted, never shown again but for its last four characters, and blotted
    /// out wherever the component prints it.
    pub secret: bool,
    /// Whether connecting without it is refused.
    pub required: bool,
    /// A regular expression (RE2 syntax, for the whole value) that a host may check while the person types. The
    /// provider checks for itself in any case.
    pub pattern: Option<String>,
    /// What the value is when the person leaves the field empty. Never for a secret.
    pub default: Option<String>,
}

impl SettingSpec {
    /// A required setting that is a secret, for example a token.
    pub fn secret(name: impl Into<String>, label: impl Into<String>) -> Self {
        Self { secret: true, ..Self::text(name, label) }
    }

    /// A required setting that is not a secret, for example an address.
    pub fn text(name: impl Into<String>, label: impl Into<String>) -> Self {
        Self { name: name.into(), label: label.into(), required: true, ..Self::default() }
    }

    /// Says where to find it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// It may be left empty.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    /// It may be left empty, and is this then.
    #[must_use]
    pub fn default_value(mut self, value: impl Into<String>) -> Self {
        self.required = false;
        self.default = Some(value.into());
        self
    }

    /// What the whole value must match, in RE2 syntax.
    #[must_use]
    pub fn pattern(mut self, pattern: impl Into<String>) -> Self {
        self.pattern = Some(pattern.into());
        self
    }
}

/// Somewhere the provider needs to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Destination {
    /// `scheme://host` or `scheme://host:port`, where the scheme is `https` or `http`. The host is a DNS name, or `*.`
    /// and a DNS name, which stands for any name below it but not that name itself. No path.
    Fixed(String),
    /// Taken from the setting of that name, whose value is a URL (its path is ignored) or a host name (then `https` is
    /// meant). [`Settings::url`](crate::Settings::url) reads it in the same way.
    FromSetting(String),
}

/// What a provider can do beyond `verify` and `resolve`. A capability that is not set must not be implemented, and the
/// other way round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `list_items`.
    pub list_items: bool,
    /// `write` and `check_write_access`.
    pub write: bool,
    /// `resolve` can return one-time codes.
    pub one_time_codes: bool,
}

/// A name and a value that are not in the contract yet. Hosts show them to people or ignore them. Never secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attribute {
    /// Lower case, words separated by `-`, for example `favourite`.
    pub name: String,
    /// Free text.
    pub value: String,
}

impl Attribute {
    /// An attribute.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}
