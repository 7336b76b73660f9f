//! `verify` and `check_write_access`: what the credentials can do.

use std::collections::BTreeMap;

use keyway_sdk::{Attribute, Error, ErrorCode, Result, Verified, WriteAccess, http::Method};
use serde::{Deserialize, Serialize};

use crate::{client::Client, engine::Engine, kv, login::TokenData, mounts, one_time, reference::SecretPath, renewal};

#[derive(Deserialize)]
struct LookedUp {
    data: TokenData,
}

/// Checks the token, and that it can read something.
pub(crate) fn verify(client: &mut Client<'_>) -> Result<Verified> {
    let token = match client.get("auth/token/lookup-self", &[]) {
        Ok(answer) => Some(answer.json::<LookedUp>()?.data),
        // A token without the policy `default` may not look at itself.
        Err(error) if error.code == ErrorCode::PermissionDenied => None,
        Err(error) => return Err(error),
    };
    let mounts = mounts::all(client)?;
    let count = u32::try_from(mounts.len()).unwrap_or(u32::MAX);
    if count == 0 {
        return Err(Error::permission_denied(
            "These credentials can see no mount of a KV or TOTP engine. Add a policy that allows reading one, and check the namespace.",
        ));
    }
    if let Some(token) = &token {
        renewal::schedule(client, token)?;
    }
    let server = client.config.server().to_owned();
    let expires = token.as_ref().and_then(|token| token.expire_time.clone());
    Ok(Verified {
        account: match token {
            Some(token) if !token.display_name.is_empty() => format!("{} at {server}", token.display_name),
            _ => server,
        },
        vault_count: Some(count),
        attributes: expires.map(|time| Attribute::new("token-expires", time)).into_iter().collect(),
        ..Verified::default()
    })
}

#[derive(Serialize)]
struct Paths<'a> {
    paths: [&'a str; 1],
}

#[derive(Deserialize)]
struct Capabilities {
    data: BTreeMap<String, Vec<String>>,
}

/// Asks the server what the policies allow for this secret.
pub(crate) fn check_write(client: &mut Client<'_>, path: &SecretPath) -> Result<WriteAccess> {
    let secret = kv::read(client, path)?;
    if secret.mount.engine == Engine::Totp {
        return Ok(WriteAccess::Denied(one_time::NO_LOGIN.to_owned()));
    }
    secret.content(client)?;
    let data = kv::data_path(&secret.mount, path);
    let asked = client.call(Method::Post, "sys/capabilities-self", &[], Some(&Paths { paths: [&data] }));
    let answer = asked.map_err(|error| match error.code {
        ErrorCode::PermissionDenied => Error::permission_denied(
            "These credentials may not ask what they may do. Add the policy 'default', or allow update on \
             sys/capabilities-self.",
        ),
        _ => error,
    })?;
    let Capabilities { data: of_paths } = answer.json()?;
    let allowed = of_paths.get(&data).ok_or_else(|| answer.unexpected("without the capabilities of the path"))?;
    let may = |what: &str| allowed.iter().any(|capability| capability == what);
    let needed = match secret.mount.engine {
        Engine::Kv2 => "patch or update",
        _ => "update",
    };
    if may("root") || may("update") || secret.mount.engine == Engine::Kv2 && may("patch") {
        return Ok(WriteAccess::Granted);
    }
    Ok(WriteAccess::Denied(format!(
        "The policies of these credentials only allow reading this secret. Allow {needed} on '{data}'."
    )))
}
