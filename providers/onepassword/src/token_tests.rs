use super::*;
use crate::{encoding::b64u, vectors::vectors};
use keyway_sdk::{
    ErrorCode,
    encoding::{BASE64, HEXLOWER},
};
use serde_json::{Value, json};

fn vector() -> &'static str {
    vectors()["token"].as_str().unwrap()
}

/// The vector's token with changed content.
fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut content = vectors()["tokenJson"].clone();
    change(&mut content);
    format!("ops_{}", b64u(content.to_string().as_bytes()))
}

fn refusal(text: &str) -> String {
    let Err(Error { code: ErrorCode::InvalidSettings, setting, message, .. }) = Token::parse(text) else {
        panic!("it was accepted")
    };
    assert_eq!(setting.as_deref(), Some("token"));
    assert!(text.len() < 12 || !message.contains(text), "the message repeats the token: {message}");
    message
}

fn assert_is_the_vectors(token: &Token) {
    let content = &vectors()["tokenJson"];
    assert_eq!(token.server.as_str(), "https://my.1password.com/");
    assert_eq!(token.host(), "my.1password.com");
    assert_eq!(token.email, content["email"].as_str().unwrap());
    assert_eq!((token.key_format.as_str(), token.key_id.as_str()), ("A3", "ABCDEF"));
    assert_eq!(HEXLOWER.encode(token.srp_x.as_slice()), content["srpX"].as_str().unwrap());
    assert_eq!(token.master_key.id(), "mp");
    assert_eq!(HEXLOWER.encode(token.master_key.bytes()), vectors()["keys"]["muk"].as_str().unwrap());
    assert_eq!(token.device_id, content["deviceUuid"].as_str().unwrap());
    assert!(token.throttle.is_some());
}

#[test]
fn the_vectors_token_is_taken_apart() {
    assert_is_the_vectors(&Token::parse(vector()).unwrap());
}

#[test]
fn white_space_and_either_base64_alphabet_do_no_harm() {
    let (start, end) = vector().split_at(300);
    let json = vectors()["tokenJson"].to_string();
    for text in [
        format!(" \t{}\r\n", vector()),
        format!("{start}\n    {end}"),
        format!("\u{feff}{}", vector()),
        format!("ops_{}", BASE64.encode(json.as_bytes())),
        format!("ops_{}", b64u(json.as_bytes())),
    ] {
        assert_is_the_vectors(&Token::parse(&text).unwrap());
    }
}

#[test]
fn an_empty_token_says_what_is_missing() {
    for text in ["", "  ", "\n"] {
        assert!(refusal(text).contains("is missing"), "{text:?}");
    }
}

#[test]
fn something_else_says_that_tokens_start_with_ops_and_what_it_looks_like() {
    for (text, guess) in [
        ("hunter2-hunter2", ""),
        ("OPS_eyJzaWduSW5B", ""),
        ("eyJhbGciOiJFUzI1NiIsImtpZCI6", "1Password Connect"),
        ("A3-ABCDEF-234567-ABCDE-FGHJK-LMNPQ-RSTVW", "Secret Key"),
        ("op://vault/item/password", "reference"),
        ("hvs.CAESIJ", "HashiCorp Vault"),
        ("dp.st.prd.abc", "Doppler"),
        ("0.48c78342-1635-48a6-accd-afbe01336365.C0tMmQqHnAp1h0gL8bngprlPOYutt0:B3h5D+YgLvFiQhWkIq6Bow==", "Bitwarden"),
        ("github_pat_11ABC", "GitHub"),
        ("AKIAIOSFODNN7EXAMPLE", "AWS"),
    ] {
        let message = refusal(text);
        assert!(message.contains("start with ops_") && message.contains(guess), "{message}");
    }
    assert!(refusal(&"x".repeat(20_000)).contains("too long"));
}

#[test]
fn a_token_that_was_copied_with_something_around_it_says_what_that_is() {
    let token = vector();
    for (text, what) in [
        (format!("\"{token}\""), "Quotation marks"),
        (format!("'{token}'\n"), "Quotation marks"),
        (format!("\u{201c}{token}\u{201d}"), "Quotation marks"),
        (format!("{token}\""), "Quotation marks"),
        (format!("OP_SERVICE_ACCOUNT_TOKEN={token}"), "A name"),
        (format!("export TOKEN=\"{token}\""), "A name"),
        (format!("{{\"token\": \"{token}\"}}"), "A name"),
        (format!("\u{200b}{token}"), "zero-width"),
        (format!("{}\u{200d}{}", &token[..300], &token[300..]), "zero-width"),
        (format!("Bearer {token}"), "Bearer"),
        (format!("Authorization: bearer {token}"), "Bearer"),
        (format!("{token},"), "comma"),
        (format!("token {token}"), "Something else"),
        ("NAME=ops_abc".to_owned(), "A name"),
    ] {
        let message = refusal(&text);
        assert!(message.contains(what) && message.contains("Enter the token alone"), "{what}: {message}");
        assert!(!message.contains(&token[4..40]), "{message}");
    }
    assert!(!refusal("drops_shipping").contains("alone"), "no token is in it");
}

#[test]
fn a_token_that_was_cut_off_or_altered_says_to_copy_it_again() {
    for length in [4, 5, 6, 7, 8, 100, 101, 102, 103, vector().len() - 1, vector().len() - 5] {
        assert!(refusal(&vector()[..length]).contains("Copy it again in full"), "{length}");
    }
    for text in [
        format!("{}!", vector()),
        format!("{}{}", vector(), vector()),
        "ops_e30".to_owned(),
        vector().replacen("ey", "xy", 1),
    ] {
        assert!(refusal(&text).contains("Copy it again in full"));
    }
}

#[test]
fn a_token_without_a_part_that_a_login_needs_is_incomplete() {
    for member in ["signInAddress", "email", "secretKey", "srpX", "muk", "deviceUuid"] {
        let text = changed(|content| {
            content.as_object_mut().unwrap().remove(member);
        });
        assert!(refusal(&text).contains("incomplete"), "{member}");
    }
    for (member, value) in [
        ("email", json!("")),
        ("secretKey", json!("A3-ABC")),
        ("srpX", json!("4f08")),
        ("srpX", json!("zz".repeat(32))),
        ("muk", json!({"alg": "A256GCM", "kty": "oct", "k": "AAAA"})),
        ("muk", json!({"alg": "A128GCM", "kty": "oct", "k": vectors()["tokenJson"]["muk"]["k"]})),
        ("throttleSecret", json!({"seed": "00", "uuid": "X"})),
        ("deviceUuid", json!("")),
        ("deviceUuid", json!("a/../b")),
    ] {
        assert!(
            refusal(&changed(|content| content[member] = value.clone())).contains("incomplete"),
            "{member} {value}"
        );
    }
}

#[test]
fn a_token_without_user_auth_and_throttle_secret_is_complete() {
    let text = changed(|content| {
        let content = content.as_object_mut().unwrap();
        content.remove("userAuth");
        content.remove("throttleSecret");
        content["muk"].as_object_mut().unwrap().retain(|name, _| ["alg", "kty", "k"].contains(&name.as_str()));
    });
    assert!(Token::parse(&text).unwrap().throttle.is_none());
    assert!(Token::parse(&changed(|content| content["throttleSecret"] = Value::Null)).unwrap().throttle.is_none());
}

#[test]
fn the_parts_are_normalised_as_the_official_client_does_it() {
    let text = changed(|content| {
        content["email"] = json!("Abcdefghijklm@1PasswordServiceAccounts.com");
        content["secretKey"] = json!("a3abcdef234567abcdefghjklmnpqrstvw");
        content["srpX"] = json!(content["srpX"].as_str().unwrap().to_uppercase());
        content["muk"]["kid"] = json!("anything");
        content["signInAddress"] = json!("https://my.1password.com/");
    });
    assert_is_the_vectors(&Token::parse(&text).unwrap());
}

#[test]
fn only_https_addresses_of_1password_are_accepted() {
    let parse = |address: &str| Token::parse(&changed(|content| content["signInAddress"] = json!(address)));
    for address in [
        "acme.1password.com",
        "https://acme.1password.eu",
        "a.b.1password.ca/",
        "acme.ent.1password.com",
        "ACME.1Password.com:443",
    ] {
        assert!(parse(address).is_ok(), "{address}");
    }
    for address in [
        "evil.com",
        "1password.com.evil.com",
        "evil1password.com",
        "1password.com",
        "my.1password.org",
        ".1password.com",
    ] {
        let Err(Error { code: ErrorCode::InvalidSettings, message, .. }) = parse(address) else { panic!("{address}") };
        assert!(message.contains("1Password") || message.contains("can't be used"), "{message}");
    }
    for address in [
        "http://my.1password.com",
        "https://my.1password.com:8443",
        "https://user@my.1password.com",
        "https://my.1password.com/api",
        "https://my.1password.com/?x",
        "https://127.0.0.1",
        "https://[::1]",
        "ftp://my.1password.com",
        "",
        "https://",
        "my.1password.com#x",
    ] {
        let Err(Error { code: ErrorCode::InvalidSettings, message, .. }) = parse(address) else { panic!("{address}") };
        assert!(message.contains("can't be used"), "{address}: {message}");
    }
}

#[test]
fn a_token_does_not_print_itself() {
    let printed = format!("{:?}", Token::parse(vector()).unwrap());
    assert_eq!(printed, r#"Token { server: "my.1password.com", .. }"#);
}
