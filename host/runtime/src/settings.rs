//! What a description says about settings, and whether a connection's settings comply.
//!
//! No message repeats a value: it may be a secret in the wrong field.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use secrecy::ExposeSecret;

use crate::contract::{Alternative, Description, SettingGroup, SettingKind, SettingSpec, Settings};
use crate::egress::from_setting;
use crate::error::{ErrorCode, ProviderError};

/// How much of an unknown name is repeated: it may be a secret in the wrong place.
const SHOWN_CHARS: usize = 64;

/// The longest known value, a service account token of 1Password, has about 900; a private key may
/// have a few thousand.
pub(crate) const MAX_VALUE_CHARS: usize = 64 << 10;

/// Memory of one compiled pattern. Patterns of tokens and addresses take a few KiB.
pub(crate) const MAX_PATTERN_BYTES: usize = 1 << 20;

/// The compiled patterns of a description, by the names of their settings.
pub(crate) struct Patterns(BTreeMap<String, Regex>);

impl Patterns {
    /// Compiles the patterns. The error names the one that is wrong.
    pub(crate) fn compile(description: &Description) -> Result<Self, String> {
        let mut patterns = BTreeMap::new();
        for spec in &description.settings {
            if let Some(pattern) = &spec.pattern {
                let whole = RegexBuilder::new(&format!(r"\A(?:{pattern})\z"))
                    .size_limit(MAX_PATTERN_BYTES)
                    .build()
                    .map_err(|error| {
                        format!("the pattern of the setting `{}` is not a valid regular expression: {error}", spec.name)
                    })?;
                patterns.insert(spec.name.clone(), whole);
            }
        }
        Ok(Self(patterns))
    }

    fn matches(&self, setting: &str, value: &str) -> bool {
        self.0.get(setting).is_none_or(|pattern| pattern.is_match(value))
    }
}

impl SettingKind {
    /// What a value of this kind must be, if `value` is not.
    fn violated_by(&self, value: &str) -> Option<String> {
        let expected = match self {
            Self::Text | Self::MultiLineText | Self::Other(_) => return None,
            Self::Url if from_setting(value).is_some() => return None,
            Self::Url => "an address such as https://vault.example.com".to_owned(),
            Self::Choice(options) if options.iter().any(|option| option.value == value) => return None,
            Self::Choice(options) => {
                let values: Vec<_> = options.iter().map(|option| option.value.as_str()).collect();
                format!("one of {}", values.join(", "))
            }
            Self::Boolean if matches!(value, "true" | "false") => return None,
            Self::Boolean => "true or false".to_owned(),
            Self::Json if serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok() => return None,
            Self::Json => "a JSON document, copied in full".to_owned(),
        };
        Some(expected)
    }
}

impl SettingSpec {
    /// Why this setting cannot have this value.
    pub(crate) fn refuse(&self, value: &str, patterns: &Patterns) -> Option<String> {
        if value.chars().count() > MAX_VALUE_CHARS {
            return Some(format!("{} has more than {MAX_VALUE_CHARS} characters.", self.label));
        }
        if let Some(expected) = self.kind.violated_by(value) {
            return Some(format!("{} must be {expected}.", self.label));
        }
        // Copied values often have white space around them; the provider decides about it.
        let matches = patterns.matches(&self.name, value) || patterns.matches(&self.name, value.trim());
        (!matches).then(|| format!("{} does not have the required form. {}", self.label, self.help))
    }
}

impl SettingGroup {
    /// Why these settings do not choose one of its alternatives.
    fn refuse(&self, description: &Description, settings: &Settings) -> Option<(Option<String>, String)> {
        let given = |name: &String| settings.get(name).is_some_and(|value| !value.expose_secret().is_empty());
        let label = |name: &String| {
            let spec = description.settings.iter().find(|spec| spec.name == *name);
            spec.map_or_else(|| name.clone(), |spec| spec.label.clone())
        };
        let sets = || {
            let set = |set: &Alternative| match set.required.as_slice() {
                [] => "nothing".to_owned(),
                names => names.iter().map(label).collect::<Vec<_>>().join(" and "),
            };
            self.alternatives.iter().map(set).collect::<Vec<_>>().join(", or ")
        };
        let begun: Vec<_> = self.alternatives.iter().filter(|set| set.names().any(given)).collect();
        match begun.as_slice() {
            [] if self.alternatives.iter().any(|set| set.required.is_empty()) => None,
            [] => Some((None, format!("{}: enter {}.", self.label, sets()))),
            [set] => set.required.iter().find(|name| !given(name)).map(|missing| {
                (Some(missing.clone()), format!("{} is missing. {}: enter {}.", label(missing), self.label, sets()))
            }),
            _ => Some((None, format!("{}: enter only one of these: {}.", self.label, sets()))),
        }
    }
}

impl Description {
    /// Checks that these settings can be passed to the provider.
    pub(crate) fn check_settings(&self, settings: &Settings, patterns: &Patterns) -> Result<(), ProviderError> {
        // First, because a misspelt name also means a missing one.
        for (name, _) in settings.iter() {
            if !self.settings.iter().any(|spec| spec.name == name) {
                let name: String = name.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
                let known = self.settings.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ");
                let known = if known.is_empty() { "no setting at all".to_owned() } else { known };
                let message = format!("{} has no setting `{name}`; it has {known}.", self.display_name);
                return Err(ProviderError::invalid_setting(name, message));
            }
        }
        for spec in &self.settings {
            let value = settings.get(&spec.name).map(|value| value.expose_secret()).filter(|value| !value.is_empty());
            let wrong = match value {
                Some(value) => spec.refuse(value, patterns),
                None if spec.required && spec.default.is_none() => {
                    Some(format!("{} is missing. {}", spec.label, spec.help))
                }
                None => None,
            };
            if let Some(message) = wrong {
                return Err(ProviderError::invalid_setting(&spec.name, message.trim_end()));
            }
        }
        for group in &self.setting_groups {
            if let Some((setting, message)) = group.refuse(self, settings) {
                return Err(ProviderError { setting, ..ProviderError::new(ErrorCode::InvalidSettings, message) });
            }
        }
        Ok(())
    }

    /// The settings as the provider receives them: empty ones removed, defaults filled in.
    pub(crate) fn effective_settings(&self, settings: &Settings) -> Settings {
        let mut effective = Settings::new();
        for (name, value) in settings.iter().filter(|(_, value)| !value.expose_secret().is_empty()) {
            effective.set(name, value.clone());
        }
        for spec in &self.settings {
            if let Some(default) = &spec.default
                && effective.get(&spec.name).is_none()
            {
                effective.set(&spec.name, default.clone());
            }
        }
        effective
    }

    /// Whether this setting's value must stay out of logs. True for a setting that the provider
    /// does not know.
    pub fn is_secret(&self, name: &str) -> bool {
        self.settings.iter().find(|spec| spec.name == name).is_none_or(|spec| spec.secret)
    }

    /// All texts of the description that people may read.
    pub(crate) fn public_text(&self) -> String {
        let mut texts = vec![self.display_name.as_str(), &self.provider_type, &self.reference_format];
        for spec in &self.settings {
            texts.extend([spec.name.as_str(), &spec.label, &spec.help]);
            if let SettingKind::Choice(options) = &spec.kind {
                texts.extend(options.iter().flat_map(|option| [option.value.as_str(), &option.label]));
            }
        }
        texts.extend(self.rate_limits.iter().map(|tier| tier.label.as_str()));
        texts.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::ChoiceOption;

    fn spec(name: &str, kind: SettingKind) -> SettingSpec {
        SettingSpec { name: name.into(), label: format!("The {name}"), kind, ..SettingSpec::default() }
    }

    fn check(description: &Description, settings: &[(&str, &str)]) -> Result<(), ProviderError> {
        let patterns = Patterns::compile(description).unwrap();
        let mut given = Settings::new();
        settings.iter().for_each(|(name, value)| given.set(*name, *value));
        description.check_settings(&given, &patterns)
    }

    #[test]
    fn a_value_of_another_kind_is_refused_and_not_repeated() {
        let option = |value: &str| ChoiceOption { value: value.into(), ..ChoiceOption::default() };
        let choice = SettingKind::Choice(vec![option("v1"), option("v2")]);
        for (kind, good, bad, expected) in [
            (choice, "v2", "hunter2", "The x must be one of v1, v2."),
            (SettingKind::Boolean, "true", "hunter2", "The x must be true or false."),
            (SettingKind::Url, "vault.example.com:8200", "ftp://hunter2", "The x must be an address"),
            (SettingKind::Json, "{\"a\":1}", "{\"hunter2", "The x must be a JSON document"),
        ] {
            let description = Description { settings: vec![spec("x", kind)], ..Description::default() };
            assert_eq!(check(&description, &[("x", good)]), Ok(()));
            let error = check(&description, &[("x", bad)]).unwrap_err();
            assert_eq!((error.code.clone(), error.setting.as_deref()), (ErrorCode::InvalidSettings, Some("x")));
            assert!(error.message.starts_with(expected) && !error.message.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_whole_value_must_match_the_pattern() {
        let token = SettingSpec { pattern: Some("ops_[a-z]+".into()), ..spec("token", SettingKind::Text) };
        let description = Description { settings: vec![token], ..Description::default() };
        assert_eq!(check(&description, &[("token", "ops_abc")]), Ok(()));
        assert_eq!(check(&description, &[("token", " ops_abc\n")]), Ok(()), "white space around it was copied along");
        for wrong in ["ops_", "xops_abc", "ops_abc def", "ops_abc|x"] {
            assert!(check(&description, &[("token", wrong)]).is_err(), "{wrong}");
        }
    }

    fn group(alternatives: &[(&[&str], &[&str])]) -> Description {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let alternatives: Vec<_> = alternatives
            .iter()
            .map(|(required, optional)| Alternative {
                required: owned(required),
                optional: owned(optional),
                ..Alternative::default()
            })
            .collect();
        let names = alternatives.iter().flat_map(Alternative::names);
        Description {
            settings: names.map(|name| spec(name, SettingKind::Text)).collect(),
            setting_groups: vec![SettingGroup {
                label: "How to log in".into(),
                alternatives,
                ..SettingGroup::default()
            }],
            ..Description::default()
        }
    }

    #[test]
    fn an_alternative_may_have_optional_settings_and_one_may_need_nothing_at_all() {
        let description = group(&[(&["key_id", "key"], &["session"]), (&["profile"], &[]), (&[], &[])]);
        for good in [
            &[][..],
            &[("key_id", "x"), ("key", "y")],
            &[("key_id", "x"), ("key", "y"), ("session", "z")],
            &[("profile", "x")],
        ] {
            assert_eq!(check(&description, good), Ok(()), "{good:?}");
        }
        let missing = check(&description, &[("session", "z")]).unwrap_err();
        assert_eq!(missing.setting.as_deref(), Some("key_id"), "an optional setting chooses its alternative");
        assert!(missing.message.ends_with("enter The key_id and The key, or The profile, or nothing."), "{missing}");
        assert!(check(&description, &[("session", "z"), ("profile", "x")]).unwrap_err().message.contains("only one"));
    }

    #[test]
    fn of_a_group_exactly_one_set_must_be_complete() {
        let description = group(&[(&["token"], &[]), (&["role", "secret_id"], &[])]);
        assert_eq!(check(&description, &[("token", "x")]), Ok(()));
        assert_eq!(check(&description, &[("role", "x"), ("secret_id", "y")]), Ok(()));
        let message = |settings: &[(&str, &str)]| check(&description, settings).unwrap_err().message;
        assert_eq!(message(&[]), "How to log in: enter The token, or The role and The secret_id.");
        assert_eq!(message(&[("token", "")]), message(&[]));
        assert!(message(&[("role", "x")]).starts_with("The secret_id is missing."));
        assert!(message(&[("role", "x"), ("token", "y")]).contains("only one of these"));
    }
}
