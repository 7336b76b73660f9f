//! The plaintexts of an item: reads and changes them for the knobs and for the description of the
//! emulator's content.
//!
//! A change made here behaves like one made by another client: it keeps all members, but not the
//! text's layout.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The built-in fields of an item, where present.
#[derive(Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct Fields {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) otpauth: Option<String>,
}

/// A change by [`Knobs::change_item`](crate::Knobs::change_item); what is absent stays unchanged.
/// Has no `Debug`; is `Clone` because a test's values are made up.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ItemChange {
    /// The title.
    pub title: Option<String>,
    /// The built-in user name field; added if the item has none.
    pub username: Option<String>,
    /// The built-in password field; added if the item has none.
    pub password: Option<String>,
    /// The one-time password, an `otpauth://` URL or a bare secret. Empty removes it.
    pub otpauth: Option<String>,
    /// The notes.
    pub notes: Option<String>,
    /// Moves the item to the archive, to the recently deleted, or back.
    pub state: Option<ItemState>,
}

/// The state of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemState {
    /// In its vault.
    Active,
    /// In the archive.
    Archived,
    /// Among the recently deleted.
    Deleted,
}

const CONCEALED: &str = "concealed";
const TOTP_PREFIX: &str = "TOTP_";

/// Reads the built-in fields from an item's details.
pub(crate) fn fields(details: &Value) -> Fields {
    let built_in = |name: &str| {
        let fields = details.get("fields")?.as_array()?;
        fields.get(position(fields, name)?)?.get("value")?.as_str().map(str::to_owned)
    };
    let otpauth = || {
        let sections = details.get("sections")?.as_array()?;
        let mut fields = sections.iter().filter_map(|section| section.get("fields")?.as_array()).flatten();
        fields.find(|field| is_totp(field))?.get("v")?.as_str().map(str::to_owned)
    };
    Fields { username: built_in("username"), password: built_in("password"), otpauth: otpauth() }
}

/// The position of a built-in field, found by its designation, otherwise by its id.
fn position(fields: &[Value], name: &str) -> Option<usize> {
    let text = |field: &Value, member: &str| field.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
    let designated = fields.iter().position(|field| text(field, "designation") == name);
    designated
        .or_else(|| fields.iter().position(|field| text(field, "designation").is_empty() && text(field, "id") == name))
}

/// Applies `change` to an item's two plaintexts.
pub(crate) fn apply(change: &ItemChange, overview: &mut Value, details: &mut Value) {
    if let Some(title) = &change.title {
        set(overview, "title", json!(title));
    }
    if let Some(username) = &change.username {
        set(overview, "ainfo", json!(username));
        set_built_in(details, "username", "T", username);
    }
    if let Some(password) = &change.password {
        set_built_in(details, "password", "P", password);
    }
    if let Some(notes) = &change.notes {
        set(details, "notesPlain", json!(notes));
    }
    if let Some(otpauth) = &change.otpauth {
        set_otpauth(details, otpauth);
    }
}

/// The plaintexts of a new login item.
pub(crate) fn login(title: &str, url: &str, fields: &Fields, tags: &[String]) -> (Value, Value) {
    let mut overview = json!({
        "title": title, "ainfo": fields.username.as_deref().unwrap_or("—"), "ps": 100, "pbe": 98.5, "pgrng": true,
    });
    if !url.is_empty() {
        set(&mut overview, "url", json!(url));
        set(&mut overview, "URLs", json!([{ "l": "website", "u": url }]));
    }
    if !tags.is_empty() {
        set(&mut overview, "tags", json!(tags));
    }
    let mut details = json!({ "fields": [], "sections": [], "passwordHistory": [], "notesPlain": "" });
    let change = ItemChange {
        username: fields.username.clone(),
        password: fields.password.clone(),
        otpauth: fields.otpauth.clone(),
        ..ItemChange::default()
    };
    let mut unused = json!({});
    apply(&change, &mut unused, &mut details);
    (overview, details)
}

fn is_totp(field: &Value) -> bool {
    let text = |name: &str| field.get(name).and_then(Value::as_str).unwrap_or_default();
    text("k") == CONCEALED && text("n").starts_with(TOTP_PREFIX)
}

fn set(object: &mut Value, name: &str, value: Value) {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

fn edit_list(object: &mut Value, name: &str, edit: impl FnOnce(&mut Vec<Value>)) {
    let mut list = match object.get_mut(name).map(Value::take) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    edit(&mut list);
    set(object, name, Value::Array(list));
}

fn set_built_in(details: &mut Value, name: &str, kind: &str, value: &str) {
    edit_list(details, "fields", |fields| match position(fields, name).and_then(|position| fields.get_mut(position)) {
        Some(field) => set(field, "value", json!(value)),
        None => {
            fields.push(json!({ "type": kind, "id": name, "name": name, "designation": name, "value": value }));
        }
    });
}

fn set_otpauth(details: &mut Value, otpauth: &str) {
    edit_list(details, "sections", |sections| {
        for section in sections.iter_mut().filter(|section| section.get("fields").is_some()) {
            edit_list(section, "fields", |fields| fields.retain(|field| !is_totp(field)));
        }
        if !otpauth.is_empty() {
            let name = format!("{TOTP_PREFIX}emulator");
            let field = json!({ "k": CONCEALED, "n": name, "t": "one-time password", "v": otpauth });
            sections.push(json!({ "name": "add more", "title": "", "fields": [field] }));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Fields {
        Fields {
            username: Some("alice".into()),
            password: Some("secret".into()),
            otpauth: Some("JBSWY3DPEHPK3PXP".into()),
        }
    }

    #[test]
    fn a_new_login_has_the_fields_it_was_made_with() {
        let (overview, details) = login("Example", "https://example.com", &alice(), &[]);
        assert_eq!(fields(&details), alice());
        assert_eq!((&overview["title"], &overview["ainfo"]), (&json!("Example"), &json!("alice")));
    }

    #[test]
    fn a_change_touches_nothing_but_what_it_names() {
        let (mut overview, mut details) = login("Example", "https://example.com", &alice(), &[]);
        let before = (overview.clone(), details.clone());
        apply(&ItemChange::default(), &mut overview, &mut details);
        assert_eq!((&overview, &details), (&before.0, &before.1));
        apply(&ItemChange { password: Some("new".into()), ..ItemChange::default() }, &mut overview, &mut details);
        assert_eq!(fields(&details), Fields { password: Some("new".into()), ..alice() });
        assert_eq!(overview, before.0);
    }

    #[test]
    fn an_empty_one_time_password_removes_it() {
        let (mut overview, mut details) = login("Example", "", &alice(), &[]);
        apply(&ItemChange { otpauth: Some(String::new()), ..ItemChange::default() }, &mut overview, &mut details);
        assert_eq!(fields(&details).otpauth, None);
    }

    #[test]
    fn fields_without_a_designation_are_built_in_by_their_ids_only() {
        let mut details = json!({
            "fields": [
                { "type": "T", "id": "username", "name": "j_user", "value": "this one" },
                { "type": "P", "id": "pass", "name": "password", "value": "not this one" },
            ],
            "sections": [{ "fields": [{ "k": "concealed", "n": "password", "t": "password", "v": "nor this" }] }],
        });
        assert_eq!(fields(&details), Fields { username: Some("this one".into()), ..Fields::default() });
        let change = ItemChange { username: Some("another".into()), ..ItemChange::default() };
        apply(&change, &mut json!({}), &mut details);
        assert_eq!(details["fields"].as_array().unwrap().len(), 2);
        assert_eq!(fields(&details).username.as_deref(), Some("another"));
    }
}
