//! Keys of the TOTP engine: one-time codes that the server makes, without their secrets.

use keyway_sdk::{Attribute, OneTimeCode, Resolved, Result, Selection, http::Answer, secrecy::SecretString};
use serde::Deserialize;

use crate::{client::Client, engine::Mount, reference::SecretPath};

/// The kind of an item, in lists.
pub(crate) const CATEGORY: &str = "one-time-password";
/// Why an item has no login fields.
pub(crate) const NO_LOGIN: &str = "A key of the TOTP engine has no user name and no password, only codes.";

/// The engine has none. A change of a key is not noticed.
const REVISION: &str = "unversioned";

#[derive(Deserialize)]
struct CodeAnswer {
    data: Code,
}

#[derive(Deserialize)]
struct Code {
    code: SecretString,
    /// Only of OpenBao, as is the period, in the form of Go: `1m0s`.
    expire_time: Option<u64>,
    period: Option<String>,
}

#[derive(Deserialize)]
struct KeyAnswer {
    data: Key,
}

#[derive(Deserialize)]
struct Key {
    period: u32,
}

/// The code in this answer.
pub(crate) fn resolve(
    client: &mut Client<'_>,
    mount: &Mount,
    path: &SecretPath,
    answer: &Answer,
    selection: &Selection,
) -> Result<Resolved> {
    let Code { code, expire_time, period } = answer.json::<CodeAnswer>()?.data;
    let mut resolved = Resolved {
        revision: REVISION.to_owned(),
        attributes: vec![Attribute::new(crate::content::NOT_A_LOGIN, NO_LOGIN)],
        ..Resolved::default()
    };
    if selection.one_time_code {
        let period = match period.as_deref().and_then(seconds) {
            Some(period) => period,
            None => period_of(client, mount, path).unwrap_or(30),
        };
        // Codes begin at multiples of the period (RFC 6238).
        let now = client.now();
        let ends_at = expire_time.unwrap_or_else(|| now - now % u64::from(period) + u64::from(period));
        resolved.one_time_code = Some(Ok(OneTimeCode::new(code, ends_at, period)));
    }
    Ok(resolved)
}

/// What Vault says only about the key. The policies may not allow it.
fn period_of(client: &mut Client<'_>, mount: &Mount, path: &SecretPath) -> Option<u32> {
    let name = path.below(&mount.path)?;
    let answer = client.get(&format!("{}keys/{name}", mount.path), &[]).ok()?;
    Some(answer.json::<KeyAnswer>().ok()?.data.period).filter(|period| *period > 0)
}

/// The seconds of a whole duration in the form of Go, such as `1m0s`. `None` for none at all.
fn seconds(duration: &str) -> Option<u32> {
    let (mut total, mut number) = (0_u32, None::<u32>);
    for character in duration.chars() {
        let unit = match character {
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            _ => {
                let digit = character.to_digit(10)?;
                number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
                continue;
            }
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    (number.is_none() && total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_in_the_form_of_go_is_read() {
        for (text, expected) in [
            ("30s", Some(30)),
            ("1m0s", Some(60)),
            ("1h1m1s", Some(3_661)),
            ("0s", None),
            ("", None),
            ("30", None),
            ("1.5s", None),
            ("9999999999s", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
