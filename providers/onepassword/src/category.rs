//! The categories of items (`templateUuid`), and which of them have login fields.

use crate::login_fields::{LOGIN, PASSWORD};

/// The word for a category with login fields, as lists show it; `None` for the others.
pub(crate) fn listed_as(category: &str) -> Option<&'static str> {
    match category {
        LOGIN => Some("login"),
        PASSWORD => Some("password"),
        _ => None,
    }
}

/// Why an item of this category has no login fields; `None` if it has.
pub(crate) fn not_a_login(category: &str) -> Option<String> {
    if listed_as(category).is_some() {
        return None;
    }
    let what = match category {
        "002" => "a credit card",
        "003" => "a secure note",
        "004" => "an identity",
        "006" => "a document",
        "100" => "a software license",
        "101" => "a bank account",
        "102" => "a database",
        "109" => "a wireless router",
        "110" => "a server",
        "111" => "an email account",
        "112" => "an API credential",
        "114" => "an SSH key",
        _ => "of another category than Login",
    };
    Some(format!(
        "The item is {what}, and such items have no login fields. Copy its values into an item of the category Login, \
         and bind that."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_logins_and_passwords_have_login_fields() {
        assert_eq!((listed_as("001"), listed_as("005"), listed_as("112")), (Some("login"), Some("password"), None));
        assert_eq!((not_a_login("001"), not_a_login("005")), (None, None));
        assert!(not_a_login("112").unwrap().starts_with("The item is an API credential, "));
        assert!(not_a_login("999").unwrap().starts_with("The item is of another category than Login, "));
    }
}
