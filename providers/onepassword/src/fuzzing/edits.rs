//! Changes of an item whose details and overview are any text.

use keyway_sdk::Changes;
use serde_json::Value;

use crate::{
    edit,
    login_fields::{Builtin, LOGIN, LoginFields, PASSWORD},
};

const NOW: u64 = 1_800_000_000;

/// A change sets the values that were asked for, notes the password before, and leaves the rest of
/// the item as it was. The same change again changes nothing.
pub fn edit(details: &str, overview: &str, is_login: bool, username: Option<&str>, password: Option<&str>) {
    let category = if is_login { LOGIN } else { PASSWORD };
    let changes = Changes { username: username.map(Into::into), password: password.map(Into::into) };
    let Ok(before) = LoginFields::find(details, category) else {
        assert!(edit::edit(details, overview, category, &changes, NOW).is_err(), "what is not an item");
        return;
    };
    let Ok(Some(edited)) = edit::edit(details, overview, category, &changes, NOW) else { return };
    let after = LoginFields::find(&edited.details, category).expect("it is still an item");
    for (which, new) in [(Builtin::Username, username), (Builtin::Password, password)] {
        let expected = new.map(str::to_owned).or_else(|| before.value(which).map(|old| old.as_str().to_owned()));
        assert_eq!(after.value(which).as_ref().map(|value| value.as_str()), expected.as_deref(), "{which:?}");
    }
    assert_eq!(after.totps(), before.totps());
    let again =
        edit::edit(&edited.details, edited.overview.as_ref().map_or(overview, |text| text), category, &changes, NOW);
    assert!(again.is_ok_and(|again| again.is_none()), "the same again");
    // Where serde_json reads the text in a way of its own, or not at all, there is nothing to
    // compare.
    if details.contains("$serde_json") || overview.contains("$serde_json") {
        return;
    }
    let old_password = before.value(Builtin::Password).filter(|old| !old.is_empty() && password != Some(old.as_str()));
    if let Ok(old) = serde_json::from_str(details) {
        let new = serde_json::from_str(&edited.details).expect("JSON that was JSON before");
        compare(old, new, password.and(old_password.as_ref().map(|old| old.as_str())), [username, password]);
    }
    if let (Ok(mut old), Some(new)) = (serde_json::from_str::<Value>(overview), edited.overview) {
        let mut new: Value = serde_json::from_str(&new).expect("JSON that was JSON before");
        let subtitle = username.map(|name| if name.is_empty() { "—" } else { name });
        assert_eq!(take(&mut new, "ainfo").as_ref().and_then(Value::as_str), subtitle);
        take(&mut old, "ainfo");
        assert_eq!(old, new);
    }
}

/// Takes away what may differ, and compares the rest.
fn compare(mut old: Value, mut new: Value, old_password: Option<&str>, values: [Option<&str>; 2]) {
    if let Some(old_password) = old_password {
        let mut history = list(take(&mut new, "passwordHistory"));
        assert_eq!(history.remove(0), serde_json::json!({"value": old_password, "time": NOW}));
        assert_eq!(history, list(take(&mut old, "passwordHistory")));
    }
    let member = [take(&mut old, "password"), take(&mut new, "password")];
    let mut changed = usize::from(member[0] != member[1]);
    assert!(changed == 0 || member[1].as_ref().and_then(Value::as_str) == values[1]);
    let (old_fields, new_fields) = (take(&mut old, "fields"), take(&mut new, "fields"));
    if old_fields != new_fields {
        let (old_fields, new_fields) = (list(old_fields), list(new_fields));
        assert!(new_fields.len() >= old_fields.len());
        for (index, mut new) in new_fields.into_iter().enumerate() {
            match old_fields.get(index).cloned() {
                Some(old) if old == new => {}
                Some(mut old) => {
                    take(&mut old, "value");
                    let value = take(&mut new, "value");
                    assert!(value.is_some_and(|value| values.contains(&value.as_str())));
                    assert_eq!(old, new);
                    changed += 1;
                }
                None => {
                    assert!(new["designation"] == "username" || new["designation"] == "password");
                    changed += 1;
                }
            }
        }
    }
    assert!(changed <= values.iter().flatten().count(), "{changed} places changed");
    assert_eq!(old, new);
}

fn take(object: &mut Value, name: &str) -> Option<Value> {
    object.as_object_mut()?.remove(name)
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(elements)) => elements,
        None | Some(Value::Null) => Vec::new(),
        Some(other) => vec![other],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_hold_for_items_of_every_kind() {
        for details in [
            "",
            "{}",
            r#"{"fields":[{"designation":"password","value":"o"},{"id":"username"}],"x":1e2}"#,
            r#"{"password":"o","passwordHistory":[{"value":"older","time":1}]}"#,
            r#"{"fields":null,"passwordHistory":null,"sections":[{"fields":[{"n":"TOTP_1","k":"concealed","v":"x"}]}]}"#,
            r#"{"fields":[7,null,{"designation":"password","designation":"password","value":"o"}]}"#,
        ] {
            for (username, password) in [(Some("u"), Some("p")), (None, Some("")), (Some("o"), None), (None, None)] {
                for is_login in [true, false] {
                    edit(details, r#"{"title":"t","ainfo":"o"}"#, is_login, username, password);
                }
            }
        }
    }
}
