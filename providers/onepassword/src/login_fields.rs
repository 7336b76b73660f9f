//! Finds the built-in login fields in an item's details.
//!
//! 1Password marks the built-in fields with a `designation`, `username` or `password`. If no field
//! has it, a field without a designation whose *id* is that word is taken, as the official client
//! does. Labels, names, and the ids of fields in sections are ignored, so a custom field named
//! "password" is not read. An item of the category Password has its password in a separate member.
//! One-time passwords are concealed fields in sections whose ids begin with `TOTP_`.
//!
//! Nothing is copied: every value is a slice of the original text, so that it can be replaced in
//! place. A part with an unexpected structure is not a login field. Only details that are not a
//! JSON object are an error.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use zeroize::Zeroizing;

/// The category Login.
pub(crate) const LOGIN: &str = "001";
/// The category Password.
pub(crate) const PASSWORD: &str = "005";
/// The prefix of the ids of one-time password fields.
const TOTP_PREFIX: &str = "TOTP_";

/// One of the built-in fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    Username,
    Password,
}

/// A field that is present.
#[derive(Clone, Copy)]
pub(crate) enum Spot<'a> {
    /// An object of `fields`, and its `value` if it has one.
    Field { object: &'a RawValue, value: Option<&'a RawValue> },
    /// The member `password` of the details themselves.
    Member(&'a RawValue),
}

/// The fields that were found. All of them borrow from the text.
pub(crate) struct LoginFields<'a> {
    /// The whole text.
    pub(crate) details: &'a RawValue,
    /// The list of built-in and web-form fields.
    pub(crate) fields: Option<&'a RawValue>,
    pub(crate) username: Option<Spot<'a>>,
    pub(crate) password: Option<Spot<'a>>,
    /// Previous passwords, newest first.
    pub(crate) history: Option<&'a RawValue>,
    /// One-time passwords that are not blank, in their order.
    totps: Vec<&'a RawValue>,
    /// The ids of all fields, including those in sections.
    ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    fields: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    sections: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    password_history: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    password: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Field<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    designation: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Section<'a> {
    #[serde(borrow)]
    fields: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct SectionField<'a> {
    #[serde(borrow)]
    n: Cow<'a, str>,
    #[serde(borrow, default)]
    k: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    v: Option<&'a RawValue>,
}

/// A member that is present, even if `null`. (`Option` alone treats `null` as absent.)
pub(crate) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> LoginFields<'a> {
    /// Finds the fields in the details of an item of this category.
    pub(crate) fn find(details: &'a str, category: &str) -> Result<Self, serde_json::Error> {
        let details: &RawValue = serde_json::from_str(details)?;
        let shape: Details<'a> = object(details)?;
        let mut found = Self {
            details,
            fields: shape.fields,
            username: None,
            password: None,
            history: shape.password_history,
            totps: Vec::new(),
            ids: Vec::new(),
        };
        let (mut username_by_id, mut password_by_id) = (None, None);
        for element in elements(shape.fields) {
            let Ok(field) = object::<Field<'a>>(element) else { continue };
            let designation = field.designation.and_then(word).unwrap_or_default();
            let id = field.id.and_then(word).unwrap_or_default();
            let spot = match (designation.as_str(), id.as_str()) {
                ("username", _) => Some(&mut found.username),
                ("password", _) => Some(&mut found.password),
                ("", "username") => Some(&mut username_by_id),
                ("", "password") => Some(&mut password_by_id),
                _ => None,
            };
            if let Some(spot) = spot {
                spot.get_or_insert(Spot::Field { object: element, value: field.value });
            }
            found.ids.push(id);
        }
        if found.password.is_none() && category == PASSWORD {
            found.password = shape.password.map(Spot::Member);
        }
        found.username = found.username.or(username_by_id);
        found.password = found.password.or(password_by_id);
        let in_sections = elements(shape.sections)
            .into_iter()
            .filter_map(|section| object::<Section<'a>>(section).ok())
            .flat_map(|section| section.fields)
            .filter_map(|field| object::<SectionField<'a>>(field).ok());
        for field in in_sections {
            if field.k == "concealed" && field.n.starts_with(TOTP_PREFIX) {
                found.totps.extend(field.v.filter(|secret| !is_blank(secret)));
            }
            found.ids.push(field.n.into_owned());
        }
        Ok(found)
    }

    /// An unused id for a new field: the official client refuses to change an item in which two
    /// fields have the same id.
    pub(crate) fn free_id(&self, wanted: &str) -> String {
        let is_free = |id: &String| !self.ids.contains(id);
        let numbered = (2..).map(|n: u32| format!("{wanted}-{n}"));
        std::iter::once(wanted.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
    }

    pub(crate) fn spot(&self, which: Builtin) -> Option<Spot<'a>> {
        match which {
            Builtin::Username => self.username,
            Builtin::Password => self.password,
        }
    }

    /// The value of the field; `None` if the item lacks it.
    pub(crate) fn value(&self, which: Builtin) -> Option<Zeroizing<String>> {
        self.spot(which).and_then(Spot::value).and_then(text)
    }

    /// The one-time passwords that are not empty.
    pub(crate) fn totps(&self) -> Vec<Zeroizing<String>> {
        self.totps.iter().filter_map(|secret| text(secret)).collect()
    }
}

impl<'a> Spot<'a> {
    /// The value as written in the text.
    pub(crate) fn value(self) -> Option<&'a RawValue> {
        match self {
            Self::Field { value, .. } => value,
            Self::Member(value) => Some(value),
        }
    }
}

/// Parses an object with these members. (serde alone also accepts a list of the values.)
pub(crate) fn object<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Result<T, serde_json::Error> {
    if !value.get().starts_with('{') {
        return Err(serde::de::Error::custom("not an object"));
    }
    serde_json::from_str(value.get())
}

/// The elements of a list; empty for anything else.
fn elements(list: Option<&RawValue>) -> Vec<&RawValue> {
    list.and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default()
}

fn is_blank(value: &RawValue) -> bool {
    text(value).is_none_or(|text| text.trim().is_empty())
}

/// A string that is not secret; `None` for anything else.
fn word(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// A string; `None` for anything else.
fn text(value: &RawValue) -> Option<Zeroizing<String>> {
    serde_json::from_str(value.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::vectors;

    fn values(details: &str, category: &str) -> [Option<String>; 3] {
        let found = LoginFields::find(details, category).unwrap();
        [found.value(Builtin::Username), found.value(Builtin::Password), found.totps().into_iter().next()]
            .map(|value| value.map(|value| value.as_str().to_owned()))
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_vectors_item_has_all_three() {
        let details = vectors()["keys"]["itemDetails"].to_string();
        let totp = "otpauth://totp/Example:alice@example.com?secret=JBSWY3DPEHPK3PXP&issuer=Example&algorithm=SHA1&digits=6&period=30";
        assert_eq!(values(&details, LOGIN), [some("alice@example.com"), some("p4ss-wörd \"1\""), some(totp)]);
    }

    #[test]
    fn a_field_without_a_designation_is_built_in_by_its_id() {
        let details = r#"{"fields":[
            {"type":"T","id":"username","name":"j_user","value":"u"},
            {"type":"P","id":"password","name":"j_pass","designation":"","value":"p"}]}"#;
        assert_eq!(values(details, LOGIN), [some("u"), some("p"), None]);
        let details = r#"{"fields":[
            {"id":"username","value":"by id"},{"id":"password","designation":null,"value":"by id"},
            {"id":"x","designation":"username","value":"designated"},
            {"id":7,"designation":"password","value":"designated"}]}"#;
        assert_eq!(values(details, LOGIN), [some("designated"), some("designated"), None]);
        let details = r#"{"password":"member","fields":[{"id":"password","value":"by id"}]}"#;
        assert_eq!(values(details, PASSWORD)[1], some("member"));
    }

    #[test]
    fn names_labels_and_ids_in_sections_make_no_field_built_in() {
        let details = r#"{"fields":[
            {"type":"T","id":"Username","name":"username","value":"form field"},
            {"type":"P","id":"password","name":"password","designation":"other","value":"form field"},
            {"type":"P","id":"p","name":"password","designation":null,"value":"form field"}],
          "sections":[{"name":"s","title":"","fields":[{"n":"password","t":"password","k":"concealed","v":"custom"}]}],
          "password":"member of another category"}"#;
        assert_eq!(values(details, LOGIN), [None, None, None]);
    }

    #[test]
    fn of_two_fields_with_one_designation_the_first_counts() {
        let details =
            r#"{"fields":[{"designation":"username","value":"one"},{"designation":"username","value":"two"}]}"#;
        assert_eq!(values(details, LOGIN)[0], some("one"));
    }

    #[test]
    fn empty_is_not_absent() {
        let details = r#"{"fields":[{"designation":"username","value":""},{"designation":"password"}]}"#;
        assert_eq!(values(details, LOGIN), [some(""), None, None]);
        let details = r#"{"fields":[{"designation":"username","value":null},{"designation":"password","value":7}]}"#;
        assert_eq!(values(details, LOGIN), [None, None, None]);
    }

    #[test]
    fn the_category_password_has_its_password_in_a_member_of_its_own() {
        assert_eq!(values(r#"{"password":"p"}"#, PASSWORD), [None, some("p"), None]);
        assert_eq!(values(r#"{"password":"p"}"#, "003"), [None, None, None]);
        let both = r#"{"password":"p","fields":[{"designation":"password","value":"q"}]}"#;
        assert_eq!(values(both, PASSWORD)[1], some("q"));
    }

    #[test]
    fn a_one_time_password_is_a_concealed_field_with_its_kind_of_id() {
        let section = |n: &str, k: &str, v: &str| {
            format!(r#"{{"sections":[{{}},{{"fields":[{{"n":"{n}","k":"{k}","v":{v}}}]}}]}}"#)
        };
        assert_eq!(values(&section("TOTP_1", "concealed", "\"JBSW\""), LOGIN)[2], some("JBSW"));
        for (n, k, v) in [
            ("totp_1", "concealed", "\"JBSW\""),
            ("one-time password", "concealed", "\"JBSW\""),
            ("TOTP_1", "string", "\"JBSW\""),
            ("TOTP_1", "concealed", "\" \""),
            ("TOTP_1", "concealed", "null"),
        ] {
            assert_eq!(values(&section(n, k, v), LOGIN)[2], None, "{n} {k} {v}");
        }
    }

    #[test]
    fn an_empty_one_time_password_does_not_count_and_the_others_keep_their_order() {
        let field = |v: &str| format!(r#"{{"n":"TOTP_{v}","k":"concealed","v":"{v}"}}"#);
        let fields = [field(" "), field("JBSW"), field("SECOND")].join(",");
        let details = format!(r#"{{"sections":[{{"fields":[{fields}]}}]}}"#);
        let totps = LoginFields::find(&details, LOGIN).unwrap().totps();
        assert_eq!(totps.iter().map(|totp| totp.as_str()).collect::<Vec<_>>(), ["JBSW", "SECOND"]);
    }

    #[test]
    fn what_other_clients_left_behind_is_no_obstacle() {
        for details in [
            "{}",
            r#"{"fields":null,"sections":null,"passwordHistory":null}"#,
            r#"{"fields":{},"sections":7}"#,
            r#"{"fields":[null,7,"x",[],["username","x"],{}],"sections":[null,{"fields":null},{"fields":[null,{}]}]}"#,
        ] {
            assert_eq!(values(details, LOGIN), [None, None, None], "{details}");
        }
        for details in ["", "[]", "null", "{\"fields\":", "{} x"] {
            assert!(LoginFields::find(details, LOGIN).is_err(), "{details}");
        }
    }
}
