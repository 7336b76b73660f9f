//! What the contract promises beyond its types, checked on everything that comes out of a component.

use secrecy::ExposeSecret;

use crate::contract::{
    Attribute, Description, Destination, Fields, ItemPage, OneTimeCode, Resolved, Settings, Verified,
};
use crate::egress::ApprovedDestination;
use crate::error::ProviderError;

const MAX_ITEMS: usize = 10_000;
const MAX_PAGE_TOKEN_BYTES: usize = 4_096;
const MAX_REVISION_BYTES: usize = 256;
const MAX_NAME_CHARS: usize = 64;
/// A label, a help text, a title: enough for a person, too little to do harm in a list or a form.
const MAX_TEXT_CHARS: usize = 2_000;
/// Settings, destinations and attributes of a description.
const MAX_LIST: usize = 100;

type Check = Result<(), String>;

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// The first bytes of a component (the preamble of the component model's binary format: magic number, version, layer). A file of another kind is told
/// apart here, in words for whoever has named the wrong one.
pub(crate) fn preamble(component: &[u8]) -> Check {
    let is_wasm = component.starts_with(b"\0asm");
    ensure(is_wasm, || "the file does not begin as WebAssembly does; is it the right one?".into())?;
    ensure(component.get(6..8) == Some(&[1, 0]), || {
        "it is a core module; componentise it, for example with `wasm-tools component new`".into()
    })
}

fn is_name(text: &str, extra: &[char]) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME_CHARS
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || extra.contains(&c))
}

fn short(text: &str, what: &str) -> Check {
    ensure(text.chars().count() <= MAX_TEXT_CHARS, || format!("{what} has more than {MAX_TEXT_CHARS} characters"))
}

fn attributes(attributes: &[Attribute]) -> Check {
    ensure(attributes.len() <= MAX_LIST, || format!("there are more than {MAX_LIST} attributes"))?;
    attributes.iter().try_for_each(|a| short(&a.name, "an attribute").and(short(&a.value, "an attribute")))
}

pub(crate) fn description(d: &Description) -> Check {
    ensure(is_name(&d.provider_type, &['-']), || {
        "`provider-type` must be 1 to 64 lower-case letters, digits and `-`".into()
    })?;
    ensure(
        is_name(&d.reference_scheme, &['+', '.', '-'])
            && d.reference_scheme.starts_with(|c: char| c.is_ascii_lowercase()),
        || "`reference-scheme` must be lower-case letters, digits, `+`, `.` and `-`, starting with a letter".into(),
    )?;
    for (name, text) in [("display-name", &d.display_name), ("version", &d.version)] {
        ensure(!text.trim().is_empty() && text.chars().count() <= MAX_NAME_CHARS, || {
            format!("`{name}` must have 1 to 64 characters")
        })?;
    }
    ensure(d.reference_format.chars().count() <= MAX_TEXT_CHARS, || "`reference-format` is too long".into())?;
    for (name, length) in
        [("settings", d.settings.len()), ("destinations", d.destinations.len()), ("attributes", d.attributes.len())]
    {
        ensure(length <= MAX_LIST, || format!("`{name}` has more than {MAX_LIST} entries"))?;
    }
    for (position, setting) in d.settings.iter().enumerate() {
        let name = &setting.name;
        ensure(is_name(name, &['_']), || {
            "the name of a setting must be 1 to 64 lower-case letters, digits and `_`".into()
        })?;
        ensure(d.settings.iter().take(position).all(|other| other.name != *name), || {
            format!("the setting `{name}` is there twice")
        })?;
        ensure(!(setting.secret && setting.default.is_some()), || {
            format!("the secret setting `{name}` has a default")
        })?;
        for text in [Some(&setting.label), Some(&setting.help), setting.pattern.as_ref(), setting.default.as_ref()]
            .into_iter()
            .flatten()
        {
            ensure(text.chars().count() <= MAX_TEXT_CHARS, || format!("a text of the setting `{name}` is too long"))?;
        }
    }
    for destination in &d.destinations {
        match destination {
            Destination::Fixed(text) => {
                text.parse::<ApprovedDestination>().map_err(|error| error.to_string())?;
            }
            Destination::FromSetting(name) => {
                ensure(d.settings.iter().any(|s| s.name == *name), || {
                    format!("a destination comes from the setting `{name}`, which does not exist")
                })?;
            }
        }
    }
    Ok(())
}

pub(crate) fn verified(v: &Verified) -> Check {
    ensure(v.vault_count > 0, || "a connection that reads no vault is an error, not an answer".into())?;
    short(&v.account, "`account`")?;
    attributes(&v.attributes)?;
    ensure(v.writable_vault_count.is_none_or(|writable| writable <= v.vault_count), || {
        "more vaults can be written than read".into()
    })
}

pub(crate) fn item_page(page: &ItemPage) -> Check {
    ensure(page.items.len() <= MAX_ITEMS, || format!("a page has more than {MAX_ITEMS} items"))?;
    ensure(page.next.as_ref().is_none_or(|next| next.len() <= MAX_PAGE_TOKEN_BYTES), || {
        format!("`next` has more than {MAX_PAGE_TOKEN_BYTES} bytes")
    })?;
    ensure(page.items.iter().all(|item| !item.reference.is_empty() && !item.id.is_empty()), || {
        "an item has no id or no reference".into()
    })?;
    for item in &page.items {
        for text in [&item.id, &item.title, &item.vault_id, &item.vault_name, &item.reference, &item.category] {
            short(text, "a text of an item")?;
        }
        attributes(&item.attributes)?;
    }
    Ok(())
}

pub(crate) fn revision(revision: &str) -> Check {
    ensure(!revision.is_empty() && revision.len() <= MAX_REVISION_BYTES, || {
        format!("a revision must have 1 to {MAX_REVISION_BYTES} bytes")
    })
}

fn one_time_code(code: &OneTimeCode) -> Check {
    let digits = code.code.expose_secret();
    ensure((6..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()), || {
        "a one-time code must have 6 to 8 digits".into()
    })?;
    ensure(code.period_seconds > 0, || "a one-time code must be good for a time".into())
}

/// Checks the answer and drops what was not asked for.
pub(crate) fn resolved(r: &mut Resolved, asked: Fields) -> Check {
    if !asked.username {
        r.username = None;
    }
    if !asked.password {
        r.password = None;
    }
    if !asked.one_time_code {
        r.one_time_code = None;
    }
    revision(&r.revision)?;
    r.one_time_code.as_ref().map_or(Ok(()), one_time_code)
}

impl Description {
    /// Whether these settings can be passed to the provider: everything required is there and nothing is unknown. Whether they are right
    /// only the provider can tell (`verify`).
    pub fn check_settings(&self, settings: &Settings) -> Result<(), ProviderError> {
        let invalid =
            |name: &str, message: String| ProviderError::InvalidSettings { setting: Some(name.to_owned()), message };
        // First, because a misspelt name is also a missing one.
        for (name, _) in settings.iter() {
            if !self.settings.iter().any(|spec| spec.name == name) {
                // Not the whole of it: it may be a secret in the wrong place.
                let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
                let known = self.settings.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ");
                let known = if known.is_empty() { "no setting at all".to_owned() } else { known };
                let message = format!("{} has no setting `{name}`; it has {known}.", self.display_name);
                return Err(invalid(&name, message));
            }
        }
        for spec in &self.settings {
            let given = settings.get(&spec.name).is_some_and(|value| !value.expose_secret().is_empty());
            if spec.required && !given && spec.default.is_none() {
                return Err(invalid(
                    &spec.name,
                    format!("{} is missing. {}", spec.label, spec.help).trim_end().to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// The settings as the provider gets them: without the empty ones, with the defaults of those that are missing.
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

    /// Whether the value of this setting is to be kept out of logs. A setting that the provider does not know is.
    pub fn is_secret(&self, name: &str) -> bool {
        self.settings.iter().find(|spec| spec.name == name).is_none_or(|spec| spec.secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Item;

    fn page(title: &str, attributes: usize) -> ItemPage {
        let text = || "x".to_owned();
        let attribute = Attribute { name: text(), value: text() };
        let item = Item {
            id: text(),
            title: title.to_owned(),
            vault_id: text(),
            vault_name: text(),
            reference: text(),
            category: text(),
            attributes: vec![attribute; attributes],
        };
        ItemPage { items: vec![item], next: None }
    }

    #[test]
    fn texts_of_items_and_accounts_are_bounded() {
        assert_eq!(item_page(&page(&"x".repeat(MAX_TEXT_CHARS), MAX_LIST)), Ok(()));
        assert!(item_page(&page(&"x".repeat(MAX_TEXT_CHARS + 1), 0)).is_err());
        assert!(item_page(&page("x", MAX_LIST + 1)).is_err());
        let account =
            |account: String| Verified { account, vault_count: 1, writable_vault_count: None, attributes: Vec::new() };
        assert_eq!(verified(&account("a@example.com".into())), Ok(()));
        assert!(verified(&account("x".repeat(MAX_TEXT_CHARS + 1))).is_err());
    }
}
