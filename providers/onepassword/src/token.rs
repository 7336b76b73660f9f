//! The service account token (`ops_...`): everything that a sign-in needs, in one line of text.
//!
//! It is base64 of a JSON object. Four mistakes are distinguished before any request is made: the
//! text is something else; something that was copied along stands around the token; the token was
//! cut off or altered; it belongs to a server that this provider does not talk to. The fifth, a
//! token that 1Password no longer accepts, is known only to the server.
//!
//! All white space is removed, because line breaks are often pasted with a token (base64 itself has
//! none). `userAuth` is ignored in favour of the server's answer, and `throttleSecret` may be
//! missing: there are tokens without either.

use keyway_sdk::{Error, Settings, encoding::decode_base64_lenient, url::Url};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    encoding::decode_hex,
    envelope::{SymmetricJwk, SymmetricKey},
    throttle::ThrottleSecret,
};

/// The name of the setting.
pub(crate) const SETTING: &str = "token";
const PREFIX: &str = "ops_";
/// The id under which the master unlock key opens envelopes, whatever id the token gives.
pub(crate) const MASTER_KEY_ID: &str = "mp";
/// The sign-in domains; tokens name a host below one of these.
pub(crate) const DOMAINS: [&str; 3] = ["1password.com", "1password.ca", "1password.eu"];
/// Longer texts are not tokens (a real one has about 850 characters).
const MAX_BYTES: usize = 16 * 1024;

/// A parsed token. Its secrets are wiped when dropped.
pub(crate) struct Token {
    /// `https://` and a host below one of [`DOMAINS`], without port or path.
    pub(crate) server: Url,
    /// The name of the account, in lower case.
    pub(crate) email: String,
    /// The format of the secret key, two characters (`A3`).
    pub(crate) key_format: String,
    /// The public part of the secret key, six characters.
    pub(crate) key_id: String,
    /// The private exponent of SRP.
    pub(crate) srp_x: Zeroizing<[u8; 32]>,
    /// The master unlock key: opens the first keyset.
    pub(crate) master_key: SymmetricKey,
    /// Signs throttling tokens.
    pub(crate) throttle: Option<ThrottleSecret>,
    /// The server's id for this device.
    pub(crate) device_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    sign_in_address: String,
    email: String,
    secret_key: Zeroizing<String>,
    srp_x: Zeroizing<String>,
    muk: SymmetricJwk,
    #[serde(default)]
    throttle_secret: Option<ThrottleContent>,
    device_uuid: String,
}

#[derive(Deserialize)]
struct ThrottleContent {
    seed: Zeroizing<String>,
    uuid: String,
}

impl Token {
    /// Parses the token of a connection. Makes no request; of the token, messages contain at most
    /// the sign-in address.
    pub(crate) fn from_settings(settings: &Settings) -> Result<Self, Error> {
        Self::parse(settings.get(SETTING).unwrap_or_default())
    }

    /// Like [`Self::from_settings`].
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_BYTES {
            return Err(not_a_token("It is far too long to be one."));
        }
        let mut clean = Zeroizing::new(String::with_capacity(text.len()));
        clean.extend(text.chars().filter(|c| !c.is_whitespace() && *c != BYTE_ORDER_MARK));
        if clean.is_empty() {
            return Err(invalid(
                "The service account token is missing. It starts with ops_ and is shown once, when the service \
                 account is created.",
            ));
        }
        if let Some(what) = surroundings(&clean) {
            return Err(invalid(format!("{what} this service account token. Enter the token alone, from ops_ on.")));
        }
        let Some(encoded) = clean.strip_prefix(PREFIX) else { return Err(not_a_token(guess_product(&clean))) };
        let json = decode_base64_lenient(encoded).ok_or_else(incomplete)?;
        let content: Content = serde_json::from_slice(&json).map_err(|_| incomplete())?;
        Self::from_content(content)
    }

    fn from_content(content: Content) -> Result<Self, Error> {
        let mut secret_key = Zeroizing::new(String::with_capacity(content.secret_key.len()));
        secret_key.extend(content.secret_key.chars().filter(|c| *c != '-').map(|c| c.to_ascii_uppercase()));
        let (Some(key_format), Some(key_id)) = (secret_key.get(..2), secret_key.get(2..8)) else {
            return Err(incomplete());
        };
        let throttle = match content.throttle_secret {
            Some(secret) => Some(ThrottleSecret::new(decode_hex(&secret.seed).map_err(|_| incomplete())?, secret.uuid)),
            None => None,
        };
        // The device's id becomes part of a path and a header.
        let is_device_id =
            |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if content.email.is_empty() || !is_device_id(&content.device_uuid) {
            return Err(incomplete());
        }
        Ok(Self {
            server: server(&content.sign_in_address)?,
            email: content.email.to_lowercase(),
            key_format: key_format.to_owned(),
            key_id: key_id.to_owned(),
            srp_x: decode_hex(&content.srp_x).map_err(|_| incomplete())?,
            master_key: content.muk.into_key(Some(MASTER_KEY_ID)).map_err(|_| incomplete())?,
            throttle,
            device_id: content.device_uuid,
        })
    }

    /// The server's name, for messages and for signatures.
    pub(crate) fn host(&self) -> &str {
        self.server.host_str().unwrap_or_default()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("server", &self.host()).finish_non_exhaustive()
    }
}

/// Some editors put it at the start of a file, and it is copied along.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The address of the server: https, and a name that belongs to 1Password. The sandbox blocks all
/// others anyway; checking here gives a clear reason.
fn server(address: &str) -> Result<Url, Error> {
    let unusable = || {
        invalid("The address in this service account token can't be used. Create a new service account and reconnect.")
    };
    let with_scheme = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let url = Url::parse(&with_scheme).map_err(|_| unusable())?;
    let Some(host) = url.domain() else { return Err(unusable()) };
    let known = DOMAINS
        .iter()
        .any(|domain| host.strip_suffix(domain).is_some_and(|below| below.len() > 1 && below.ends_with('.')));
    if !known {
        return Err(invalid(format!(
            "This service account token is for {host}, which is not an address of 1Password. Tokens for names below \
             1password.com, 1password.ca and 1password.eu can be used."
        )));
    }
    // `port` is none when it is the scheme's own.
    let bare = url.scheme() == "https"
        && url.port().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if bare { Ok(url) } else { Err(unusable()) }
}

/// What stands around a token that was copied with it, as the beginning of a sentence.
fn surroundings(text: &str) -> Option<&'static str> {
    let is_quote = |c: char| matches!(c, '"' | '\'' | '`' | '\u{b4}' | '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}');
    let (before, _) = text.split_once(PREFIX)?;
    if text.contains(is_invisible) {
        return Some("An invisible character, such as a zero-width space, stands before, in or after");
    }
    let name = before.trim_end_matches(is_quote);
    let ends_with_bearer =
        name.len().checked_sub(6).and_then(|at| name.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case("bearer"));
    if ends_with_bearer {
        Some("The word Bearer stands before")
    } else if name.ends_with(['=', ':']) {
        Some("A name stands before")
    } else if name.is_empty() && (!before.is_empty() || text.ends_with(is_quote)) {
        Some("Quotation marks stand around")
    } else if name.is_empty() && text.ends_with([',', ';']) {
        Some("A comma or semicolon stands after")
    } else if !name.is_empty() && text.contains(BEGINNING) {
        Some("Something else stands before")
    } else {
        None
    }
}

/// How every token begins: the prefix, and `{"` in base64.
const BEGINNING: &str = "ops_eyJ";

/// Soft hyphens, zero-width spaces and joiners, and marks of direction.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
}

/// Guesses other credentials by their prefix.
fn guess_product(text: &str) -> &'static str {
    const PRODUCTS: [(&str, &str); 9] = [
        ("eyJ", "It looks like a 1Password Connect token or another JSON Web Token."),
        ("A3-", "It looks like the Secret Key of a person's 1Password account."),
        ("op://", "It looks like a reference to an item."),
        ("hvs.", "It looks like a HashiCorp Vault token."),
        ("dp.", "It looks like a Doppler token."),
        ("0.", "It looks like a Bitwarden access token."),
        ("ghp_", "It looks like a GitHub token."),
        ("github_pat_", "It looks like a GitHub token."),
        ("AKIA", "It looks like an AWS access key."),
    ];
    PRODUCTS.iter().find(|(prefix, _)| text.starts_with(prefix)).map_or("", |(_, guess)| guess)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::invalid_setting(SETTING, message)
}

fn not_a_token(guess: &str) -> Error {
    let space = if guess.is_empty() { "" } else { " " };
    invalid(format!(
        "This is not a 1Password service account token: those start with ops_.{space}{guess} Copy the token that \
         1Password showed when the service account was created."
    ))
}

fn incomplete() -> Error {
    invalid(
        "This service account token is incomplete: part of it is missing or was changed. Copy it again in full. \
         Tokens are shown only once, so if in doubt, create a new service account and reconnect.",
    )
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
