//! Destinations as a provider declares them, with placeholders for settings.
//!
//! A placeholder inside a host accepts only letters, digits and `-`, and never stands in the last
//! two labels: no value can lead out of the domain that the provider declared. A placeholder that
//! is the whole destination is an address that the user chose when connecting.

use secrecy::ExposeSecret;
use serde_json::Value;
use zeroize::Zeroize;

use super::destination::{ApprovedDestination, DestinationError, from_setting};
use crate::contract::{Description, SettingKind, Settings};

/// How many labels at the end of a host must be fixed.
const FIXED_LABELS: usize = 2;

/// A declared destination whose form was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DestinationTemplate {
    /// Without placeholders.
    Fixed(ApprovedDestination),
    /// With placeholders inside the host.
    Labels(String),
    /// The address is a setting.
    Setting(String),
    /// The address is a member of a JSON setting.
    Member { setting: String, path: Vec<String> },
}

impl DestinationTemplate {
    /// Parses a destination of this description.
    pub(crate) fn parse(text: &str, description: &Description) -> Result<Self, DestinationError> {
        let wrong = |reason: String| DestinationError::Template { destination: text.to_owned(), reason };
        let spec = |name: &str| {
            let found = description.settings.iter().find(|spec| spec.name == name);
            found.ok_or_else(|| wrong(format!("there is no setting `{name}`")))
        };
        let not_secret = |name: &str| match spec(name)?.secret {
            true => Err(wrong(format!("the setting `{name}` is secret, and destinations are shown"))),
            false => Ok(()),
        };
        let whole = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        if let Some(name) = whole.filter(|name| !name.contains(['{', '}'])) {
            let Some((setting, path)) = name.split_once('.') else {
                not_secret(name)?;
                return Ok(Self::Setting(name.to_owned()));
            };
            if spec(setting)?.kind != SettingKind::Json {
                return Err(wrong(format!("the setting `{setting}` is not of kind `json`")));
            }
            let path: Vec<_> = path.split('.').map(str::to_owned).collect();
            if path.iter().any(String::is_empty) {
                return Err(wrong("a name of a member is empty".into()));
            }
            return Ok(Self::Member { setting: setting.to_owned(), path });
        }
        if !text.contains(['{', '}']) {
            return Ok(Self::Fixed(text.parse()?));
        }
        let names = placeholders(text).ok_or_else(|| wrong("its braces do not match".into()))?;
        names.into_iter().try_for_each(not_secret)?;
        // With a harmless text in place of the values, it must be a destination.
        let filled = fill(text, |_| Ok::<_, DestinationError>("x".to_owned()))?;
        filled.parse::<ApprovedDestination>()?;
        let host = text.split_once("://").map_or(text, |(_, host)| host);
        let host = host.split_once(':').map_or(host, |(host, _)| host);
        let labels: Vec<_> = host.rsplit('.').collect();
        // A trailing dot would make an empty label, which does not count.
        if labels.iter().any(|label| label.is_empty()) {
            return Err(wrong("a label of its host is empty".into()));
        }
        if labels.len() <= FIXED_LABELS || labels.iter().take(FIXED_LABELS).any(|label| label.contains('{')) {
            return Err(wrong("the last two labels of its host must be fixed".into()));
        }
        Ok(Self::Labels(text.to_owned()))
    }

    /// The destination with these settings; `None` if it needs a setting that has no value.
    pub(crate) fn with(&self, settings: &Settings) -> Result<Option<ApprovedDestination>, DestinationError> {
        let value =
            |name: &str| settings.get(name).map(|value| value.expose_secret().trim()).filter(|value| !value.is_empty());
        match self {
            Self::Fixed(destination) => Ok(Some(destination.clone())),
            Self::Setting(name) => match value(name) {
                Some(value) => from_setting(value).map(Some).ok_or_else(|| DestinationError::Setting(name.clone())),
                None => Ok(None),
            },
            Self::Member { setting, path } => match value(setting) {
                Some(json) => member(json, path)
                    .map(Some)
                    .ok_or_else(|| DestinationError::Member { setting: setting.clone(), member: path.join(".") }),
                None => Ok(None),
            },
            Self::Labels(text) => {
                if placeholders(text).unwrap_or_default().into_iter().any(|name| value(name).is_none()) {
                    return Ok(None);
                }
                let filled = fill(text, |name| {
                    let value = value(name).unwrap_or_default();
                    let is_label = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                    if is_label { Ok(value.to_owned()) } else { Err(DestinationError::Label(name.to_owned())) }
                })?;
                filled.parse().map(Some)
            }
        }
    }
}

impl Description {
    /// The destinations that the provider asks for with these settings. Store them with the
    /// connection: if a later version of the provider asks for more, those must be approved.
    pub fn approved_destinations(&self, settings: &Settings) -> Result<Vec<ApprovedDestination>, DestinationError> {
        let settings = self.effective_settings(settings);
        let mut approved = Vec::new();
        for destination in &self.destinations {
            approved.extend(DestinationTemplate::parse(destination, self)?.with(&settings)?);
        }
        Ok(approved)
    }
}

/// The names in braces; `None` if the braces do not match.
fn placeholders(text: &str) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, tail) = after.split_once('}')?;
        if before.contains('}') || name.contains('{') {
            return None;
        }
        names.push(name);
        rest = tail;
    }
    (!rest.contains('}')).then_some(names)
}

/// The text with each placeholder replaced by its value.
fn fill<E>(text: &str, mut value: impl FnMut(&str) -> Result<String, E>) -> Result<String, E> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, tail) = after.split_once('}').unwrap_or((after, ""));
        filled.push_str(before);
        filled.push_str(&value(name)?);
        rest = tail;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn member(json: &str, path: &[String]) -> Option<ApprovedDestination> {
    let mut document: Value = serde_json::from_str(json).ok()?;
    let found = path.iter().try_fold(&document, |value, name| value.get(name)).and_then(Value::as_str);
    let destination = found.and_then(from_setting);
    wipe(&mut document);
    destination
}

/// Wipes a JSON value: a key file holds a private key.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::SettingSpec;

    fn description(destination: &str) -> Description {
        let spec = |name: &str, kind, secret| SettingSpec { name: name.into(), kind, secret, ..SettingSpec::default() };
        Description {
            settings: vec![
                spec("region", SettingKind::Text, false),
                spec("address", SettingKind::Url, false),
                spec("key_file", SettingKind::Json, true),
                spec("token", SettingKind::Text, true),
            ],
            destinations: vec![destination.into()],
            ..Description::default()
        }
    }

    fn approved(destination: &str, name: &str, value: &str) -> Result<Vec<String>, DestinationError> {
        let approved = description(destination).approved_destinations(&Settings::new().with(name, value))?;
        Ok(approved.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_value_takes_the_place_of_a_label_or_a_part_of_one() {
        let template = "https://secretsmanager.{region}.amazonaws.com";
        assert_eq!(
            approved(template, "region", "eu-central-1").unwrap(),
            ["https://secretsmanager.eu-central-1.amazonaws.com"]
        );
        assert_eq!(
            approved("https://{region}-api.example.com:8443", "region", "eu").unwrap(),
            ["https://eu-api.example.com:8443"]
        );
        assert!(approved(template, "region", "").unwrap().is_empty(), "a setting without a value asks for nothing");
    }

    #[test]
    fn no_value_leaves_the_domain() {
        for value in ["evil.example/", "evil.example", "a/b", "a@b", "a:1", "a#", "*", "a b", "ä", "{token}", "a\\"] {
            let error = approved("https://x.{region}.amazonaws.com", "region", value).unwrap_err();
            assert_eq!(error, DestinationError::Label("region".into()), "{value}");
        }
    }

    #[test]
    fn the_last_two_labels_are_fixed() {
        for template in [
            "https://{region}.com",
            "https://{region}",
            "https://a.{region}.com",
            "https://a.b.{region}",
            "https://{region}:80",
            "https://{region}.com.",
            "https://a..{region}.example.com",
        ] {
            assert!(approved(template, "region", "x").is_err(), "{template}");
        }
    }

    #[test]
    fn a_template_of_an_unknown_or_secret_setting_is_refused() {
        let error = |template: &str| approved(template, "region", "x").unwrap_err().to_string();
        assert!(error("https://{regoin}.example.com").contains("there is no setting `regoin`"));
        assert!(error("{regoin}").contains("there is no setting `regoin`"));
        assert!(error("{token}").contains("`token` is secret"));
        assert!(error("https://{token}.example.com").contains("`token` is secret"));
        assert!(error("{region.uri}").contains("not of kind `json`"));
        assert!(error("https://{region.example.com").contains("braces"));
        assert!(error("https://a}.{region}.example.com").contains("braces"));
    }

    #[test]
    fn an_address_comes_from_a_setting_or_a_member_of_a_json_setting() {
        assert_eq!(approved("{address}", "address", "vault.example.com/v1").unwrap(), ["https://vault.example.com"]);
        assert_eq!(approved("{address}", "address", "ftp://x"), Err(DestinationError::Setting("address".into())));
        let json = r#"{"token_uri":"https://oauth2.example.com/token","deep":{"uri":"a.example.com"},"n":1}"#;
        assert_eq!(approved("{key_file.token_uri}", "key_file", json).unwrap(), ["https://oauth2.example.com"]);
        assert_eq!(approved("{key_file.deep.uri}", "key_file", json).unwrap(), ["https://a.example.com"]);
        for path in ["{key_file.missing}", "{key_file.n}", "{key_file.deep}"] {
            assert!(matches!(approved(path, "key_file", json), Err(DestinationError::Member { .. })), "{path}");
        }
        assert!(matches!(approved("{key_file.x}", "key_file", "no json"), Err(DestinationError::Member { .. })));
    }
}
