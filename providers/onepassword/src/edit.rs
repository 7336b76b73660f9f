//! Applies a change of user name or password to the texts of an item, with pure functions from text
//! to text.
//!
//! Invariant: the texts stay the same byte for byte (see [`crate::splice`]), except for the
//! requested values, the subtitle that repeats the user name, and the history entry of the previous
//! password.

use keyway_sdk::{Changes, Error, secrecy::ExposeSecret};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::{
    login_fields::{Builtin, LOGIN, LoginFields, PASSWORD, Spot, object},
    resolve::not_an_item,
    splice::{Splice, SpliceError, json_string},
};

/// What 1Password shows as the subtitle of an item without a user name.
const NO_SUBTITLE: &str = "—";

/// The new texts. At least one of them differs from the old one.
pub(crate) struct Edited {
    pub(crate) details: Zeroizing<String>,
    /// `None` if unchanged.
    pub(crate) overview: Option<Zeroizing<String>>,
}

/// Why items of this category cannot be changed; `None` if they can.
pub(crate) fn unsupported_category(category: &str) -> Option<&'static str> {
    match category {
        LOGIN | PASSWORD => None,
        _ => Some("Only login items can be changed, and this item is of another category. Bind a login item."),
    }
}

/// Applies the changes to the decrypted details and overview of an item. Returns `None` if both
/// fields already have the requested values. `now` is in Unix seconds.
pub(crate) fn edit(
    details: &str,
    overview: &str,
    category: &str,
    changes: &Changes,
    now: u64,
) -> Result<Option<Edited>, Error> {
    if let Some(reason) = unsupported_category(category) {
        return Err(Error::unsupported(reason.to_owned()));
    }
    if category == PASSWORD && changes.username.is_some() {
        return Err(Error::unsupported(
            "Items of the category Password have no built-in user name. Bind a login item, or change the password only.",
        ));
    }
    let found = LoginFields::find(details, category).map_err(|_| not_an_item())?;
    let differs = |which: Builtin, new: Option<&str>| {
        let old = found.value(which);
        new.filter(|new| old.as_ref().is_none_or(|old| old.as_str() != *new)).map(str::to_owned).map(Zeroizing::new)
    };
    let username = differs(Builtin::Username, changes.username.as_ref().map(|new| new.expose_secret()));
    let password = differs(Builtin::Password, changes.password.as_ref().map(|new| new.expose_secret()));
    if username.is_none() && password.is_none() {
        return Ok(None);
    }
    let overview = match &username {
        Some(username) => Some(with_subtitle(overview, username).map_err(fault)?),
        None => None,
    };
    let details =
        edit_details(details, &found, category, username.as_deref(), password.as_deref(), now).map_err(fault)?;
    Ok(Some(Edited { details, overview }))
}

fn edit_details(
    details: &str,
    found: &LoginFields<'_>,
    category: &str,
    username: Option<&String>,
    password: Option<&String>,
    now: u64,
) -> Result<Zeroizing<String>, EditError> {
    let mut splice = Splice::new(details);
    let mut new_fields = Vec::new();
    let mut new_members = Vec::new();
    for (which, new) in [(Builtin::Username, username), (Builtin::Password, password)] {
        let Some(new) = new else { continue };
        let json = json_string(new);
        match found.spot(which) {
            Some(Spot::Field { value: Some(value), .. } | Spot::Member(value)) => splice.replace(value, json)?,
            Some(Spot::Field { object, value: None }) => {
                splice.add_members(object, &[concat(&["\"value\":", &json])])?
            }
            None if category == PASSWORD => new_members.push(concat(&["\"password\":", &json])),
            None => new_fields.push(new_field(which, found, &json)),
        }
    }
    if !new_fields.is_empty() {
        match found.fields {
            Some(fields) if is_list(fields) => splice.append(fields, &new_fields)?,
            Some(fields) if is_null(fields) => splice.replace(fields, list(&new_fields))?,
            Some(_) => return Err(EditError::Shape),
            None => new_members.push(concat(&["\"fields\":", &list(&new_fields)])),
        }
    }
    if password.is_some()
        && let Some(old) = found.value(Builtin::Password).filter(|old| !old.is_empty())
    {
        let entry = concat(&["{\"value\":", &json_string(&old), ",\"time\":", &now.to_string(), "}"]);
        match found.history {
            Some(history) if is_list(history) => splice.prepend(history, &[entry])?,
            Some(history) if is_null(history) => splice.replace(history, list(&[entry]))?,
            Some(_) => return Err(EditError::Shape),
            None => new_members.push(concat(&["\"passwordHistory\":", &list(&[entry])])),
        }
    }
    splice.add_members(found.details, &new_members)?;
    Ok(splice.finish()?)
}

/// The overview with this user name as subtitle.
fn with_subtitle(overview: &str, username: &str) -> Result<Zeroizing<String>, EditError> {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow, default, deserialize_with = "crate::login_fields::present")]
        ainfo: Option<&'a RawValue>,
    }
    let whole: &RawValue = serde_json::from_str(overview).map_err(|_| EditError::Shape)?;
    let shape: Shape<'_> = object(whole).map_err(|_| EditError::Shape)?;
    let json = json_string(if username.is_empty() { NO_SUBTITLE } else { username });
    let mut splice = Splice::new(overview);
    match shape.ainfo {
        Some(ainfo) => splice.replace(ainfo, json)?,
        None => splice.add_members(whole, &[concat(&["\"ainfo\":", &json])])?,
    }
    Ok(splice.finish()?)
}

/// A built-in field as 1Password's own clients write it, with another id if its usual one is taken.
fn new_field(which: Builtin, found: &LoginFields<'_>, value: &str) -> Zeroizing<String> {
    let (kind, name) = match which {
        Builtin::Username => ("T", "username"),
        Builtin::Password => ("P", "password"),
    };
    let id = found.free_id(name);
    concat(&[
        "{\"value\":",
        value,
        ",\"id\":\"",
        &id,
        "\",\"name\":\"",
        name,
        "\",\"type\":\"",
        kind,
        "\",\"designation\":\"",
        name,
        "\"}",
    ])
}

fn list(elements: &[Zeroizing<String>]) -> Zeroizing<String> {
    let mut parts = vec!["["];
    for (n, element) in elements.iter().enumerate() {
        if n > 0 {
            parts.push(",");
        }
        parts.push(element);
    }
    parts.push("]");
    concat(&parts)
}

/// Concatenates in one allocation, so that no unwiped copy is left behind.
fn concat(parts: &[&str]) -> Zeroizing<String> {
    Zeroizing::new(parts.concat())
}

fn is_list(value: &RawValue) -> bool {
    value.get().starts_with('[')
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// Why a text cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EditError {
    /// A member has a type that 1Password never writes.
    Shape,
    Splice,
}

impl From<SpliceError> for EditError {
    fn from(_: SpliceError) -> Self {
        Self::Splice
    }
}

fn fault(error: EditError) -> Error {
    match error {
        EditError::Shape => not_an_item(),
        EditError::Splice => Error::other(
            "not-editable",
            "The item cannot be changed without risking the rest of it, so nothing was written.",
        ),
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
