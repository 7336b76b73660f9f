//! How a provider describes itself. Everything here is public.

/// A provider's description of itself: what [`describe`](crate::SecretProvider::describe) returns.
///
/// It is the same every time and needs no network and no settings. [`Description::new`] fills in
/// what most providers leave empty, so that the rest lists only what this provider has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// The machine-readable name of this kind of connection: lower-case letters, digits and `-`, 1
    /// to 64 characters, for example `1password`. Unique among the providers of one host.
    pub provider_type: String,
    /// The name to show, for example `1Password`.
    pub display_name: String,
    /// The provider's own version, for example `env!("CARGO_PKG_VERSION")`.
    pub version: String,
    /// The address of its documentation: an `https` URL.
    pub documentation_url: Option<String>,
    /// The scheme of its references without `://`, for example `op`: lower-case letters, digits,
    /// `+`, `.` and `-`, starting with a letter.
    pub reference_scheme: String,
    /// The format of a reference, to show to people, for example `op://<vaultId>/<itemId>`.
    pub reference_format: String,
    /// What a person must enter to connect, in the order to ask for it.
    pub settings: Vec<SettingSpec>,
    /// Settings of which one set is needed.
    pub setting_groups: Vec<SettingGroup>,
    /// Where the provider needs to connect to; see [`Description::destination`]. The host refuses
    /// requests to anywhere else.
    pub destinations: Vec<String>,
    /// How many requests the server allows, by plan; the first is the default. Empty when it sets
    /// no limits.
    pub rate_limits: Vec<RateLimitTier>,
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

    /// Sets the scheme of references (without `://`) and their format, to show to people.
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

    /// Sets the address of its documentation: an `https` URL.
    #[must_use]
    pub fn documentation(mut self, url: impl Into<String>) -> Self {
        self.documentation_url = Some(url.into());
        self
    }

    /// Adds a group of settings: exactly one of these sets must be entered, and nothing of the
    /// others. At most one set may require nothing; it applies when nothing is entered.
    ///
    /// ```
    /// # use keyway_sdk::{Alternative, Description, SettingSpec};
    /// Description::new("vault", "Vault", "1.0.0")
    ///     .setting(SettingSpec::secret("token", "Token").optional())
    ///     .setting(SettingSpec::text("role_id", "Role id").optional())
    ///     .setting(SettingSpec::secret("secret_id", "Secret id").optional())
    ///     .one_of(
    ///         "How to log in",
    ///         [
    ///             Alternative::new("Token").required(["token"]),
    ///             Alternative::new("AppRole").required(["role_id", "secret_id"]),
    ///             Alternative::new("The agent of this machine"),
    ///         ],
    ///     );
    /// ```
    #[must_use]
    pub fn one_of(mut self, label: impl Into<String>, sets: impl IntoIterator<Item = Alternative>) -> Self {
        let alternatives = sets.into_iter().collect();
        self.setting_groups.push(SettingGroup { label: label.into(), alternatives, attributes: Vec::new() });
        self
    }

    /// Adds a destination:
    ///
    /// * `scheme://host[:port]` without a path. The scheme is `https` or `http`; the host is a DNS
    ///   name, or `*.` and a DNS name, which stands for any name below it but not that name itself.
    /// * The same with `{setting}` inside the host, except in its last two labels:
    ///   `https://secretsmanager.{region}.amazonaws.com`.
    /// * `{setting}`: the setting's value is a URL (its path is ignored) or a host name (then
    ///   `https` is assumed). [`Settings::url`](crate::Settings::url) reads it in the same way.
    /// * `{setting.member}`: the same for a member of a JSON setting, for example
    ///   `{key_file.token_uri}`.
    #[must_use]
    pub fn destination(mut self, destination: impl Into<String>) -> Self {
        self.destinations.push(destination.into());
        self
    }

    /// Adds the destination that a setting names: `{setting}` of [`Description::destination`].
    #[must_use]
    pub fn destination_from_setting(self, setting: impl AsRef<str>) -> Self {
        self.destination(format!("{{{}}}", setting.as_ref()))
    }

    /// Adds a plan of the server with its limits. The first is the default.
    #[must_use]
    pub fn rate_limits(mut self, tier: RateLimitTier) -> Self {
        self.rate_limits.push(tier);
        self
    }

    /// Sets what it can do beyond `verify` and `resolve`.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Adds an attribute worth knowing.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push(Attribute::new(name, value));
        self
    }
}

/// One setting to ask a person for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingSpec {
    /// Unique among this provider's settings: lower-case letters, digits and `_`, 1 to 64
    /// characters.
    pub name: String,
    /// The label in a form, for example `Service account token`.
    pub label: String,
    /// A sentence about where to find it. May be empty.
    pub help: String,
    /// What can be entered. The host refuses values of another kind.
    pub kind: SettingKind,
    /// Whether the value is a secret: stored encrypted, never shown again except for its last four
    /// characters, and redacted wherever the component prints it.
    pub secret: bool,
    /// Whether the setting must be present.
    pub required: bool,
    /// A regular expression (RE2 syntax) for the whole value. The host refuses values that do not
    /// match.
    pub pattern: Option<String>,
    /// The value used when the field is left empty. Never for a secret.
    pub default: Option<String>,
    /// Anything else worth showing in the form.
    pub attributes: Vec<Attribute>,
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

    /// A required setting with any number of lines, for example a certificate.
    pub fn multi_line(name: impl Into<String>, label: impl Into<String>) -> Self {
        Self { kind: SettingKind::MultiLineText, ..Self::text(name, label) }
    }

    /// A required setting that is a URL or a host name; [`Settings::url`](crate::Settings::url)
    /// reads it.
    pub fn url(name: impl Into<String>, label: impl Into<String>) -> Self {
        Self { kind: SettingKind::Url, ..Self::text(name, label) }
    }

    /// A required setting that is one of these values, each with its label.
    pub fn choice<'a>(
        name: impl Into<String>,
        label: impl Into<String>,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let option = |(value, label): (&str, &str)| ChoiceOption {
            value: value.to_owned(),
            label: label.to_owned(),
            attributes: Vec::new(),
        };
        Self { kind: SettingKind::Choice(options.into_iter().map(option).collect()), ..Self::text(name, label) }
    }

    /// A setting that is `true` or `false`, and `false` when it is left empty.
    pub fn boolean(name: impl Into<String>, label: impl Into<String>) -> Self {
        Self { kind: SettingKind::Boolean, ..Self::text(name, label) }.default_value("false")
    }

    /// A required JSON document that is a secret, for example the key file of a service account.
    pub fn secret_json(name: impl Into<String>, label: impl Into<String>) -> Self {
        Self { kind: SettingKind::Json, ..Self::secret(name, label) }
    }

    /// Sets a sentence about where to find it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// Allows it to be left empty.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    /// Allows it to be left empty, which then means this value.
    #[must_use]
    pub fn default_value(mut self, value: impl Into<String>) -> Self {
        self.required = false;
        self.default = Some(value.into());
        self
    }

    /// Sets a pattern, in RE2 syntax, that the whole value must match.
    #[must_use]
    pub fn pattern(mut self, pattern: impl Into<String>) -> Self {
        self.pattern = Some(pattern.into());
        self
    }
}

/// What can be entered into a setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingKind {
    /// One line.
    #[default]
    Text,
    /// Any number of lines.
    MultiLineText,
    /// A URL, or a host name, for which `https` is assumed.
    Url,
    /// One of these.
    Choice(Vec<ChoiceOption>),
    /// `true` or `false`.
    Boolean,
    /// A JSON document, usually chosen as a file.
    Json,
}

/// One option of a choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChoiceOption {
    /// What the provider receives.
    pub value: String,
    /// What a person sees.
    pub label: String,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// Settings of which exactly one set must be entered; see [`Description::one_of`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingGroup {
    /// The label in a form.
    pub label: String,
    /// The sets.
    pub alternatives: Vec<Alternative>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// One set of settings of a [`SettingGroup`]. A set that requires nothing applies when nothing is
/// entered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alternative {
    /// The label in a form, for example `Access key`.
    pub label: String,
    /// Names of the settings that it needs.
    pub required: Vec<String>,
    /// Names of the settings that may be omitted.
    pub optional: Vec<String>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

impl Alternative {
    /// A set that requires nothing yet.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), ..Self::default() }
    }

    /// Adds settings that it needs, by name.
    #[must_use]
    pub fn required<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.required.extend(names.into_iter().map(str::to_owned));
        self
    }

    /// Adds settings that may be omitted, by name.
    #[must_use]
    pub fn optional<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.optional.extend(names.into_iter().map(str::to_owned));
        self
    }
}

/// How many requests the server allows under one of its plans.
///
/// ```
/// # use keyway_sdk::{LimitScope, RateLimitTier, RequestKind};
/// RateLimitTier::new("free", "Acme Free")
///     .limit(100, 60, RequestKind::All, LimitScope::Credential)
///     .limit(5_000, 86_400, RequestKind::All, LimitScope::Account);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateLimitTier {
    /// Unique: lower-case letters, digits and `-`, for example `business`.
    pub name: String,
    /// The name to show.
    pub label: String,
    /// The limits, which all apply at the same time.
    pub limits: Vec<RateLimit>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

impl RateLimitTier {
    /// A plan with its name and label, and no limits yet.
    pub fn new(name: impl Into<String>, label: impl Into<String>) -> Self {
        Self { name: name.into(), label: label.into(), ..Self::default() }
    }

    /// Adds a limit: `max_requests` in `window_seconds`, for these requests and this scope.
    #[must_use]
    pub fn limit(mut self, max_requests: u32, window_seconds: u32, requests: RequestKind, scope: LimitScope) -> Self {
        self.limits.push(RateLimit { max_requests, window_seconds, requests, scope, attributes: Vec::new() });
        self
    }
}

/// How many requests the server allows in a window of time. The host counts each request before it
/// is sent, in a rolling window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// At least 1.
    pub max_requests: u32,
    /// The length of the window: 1 to 86,400.
    pub window_seconds: u32,
    /// Which requests count.
    pub requests: RequestKind,
    /// Which requests count together.
    pub scope: LimitScope,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// Which requests a [`RateLimit`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestKind {
    /// Requests that read: all that are not writes.
    Reads,
    /// Requests that change something: during `write`, those with a method other than `GET`, `HEAD`
    /// and `OPTIONS`.
    Writes,
    /// Every request.
    All,
}

/// Which requests a [`RateLimit`] counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitScope {
    /// Each credential separately.
    Credential,
    /// All credentials of an account together (see
    /// [`Verified::account_key`](crate::Verified::account_key)).
    Account,
}

/// What a provider can do beyond `verify` and `resolve`. Set a capability exactly if its functions
/// are implemented.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `list_items`.
    pub list_items: bool,
    /// `write` and `check_write_access`.
    pub write: bool,
    /// `resolve` can return one-time codes.
    pub one_time_codes: bool,
    /// `write` is atomic: the server itself compares the revision and writes in one step. A
    /// provider that reads, compares and writes leaves it unset, and users are told. Needs `write`.
    pub conditional_writes: bool,
}

/// A name and a value that the contract does not define yet. Hosts show them to people or ignore
/// them. Never secret.
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
