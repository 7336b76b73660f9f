//! Which engine serves a path. Asked once for each mount, and remembered in the session.

use std::collections::BTreeMap;

use keyway_sdk::{Error, ErrorCode, Result};
use serde::Deserialize;

use crate::{
    client::Client,
    engine::{Engine, Mount},
    reference::SecretPath,
};

/// The paths for user interfaces, which a token may read that can do anything below the mount.
const PATH: &str = "sys/internal/ui/mounts";

#[derive(Deserialize)]
struct Described {
    #[serde(rename = "type")]
    kind: String,
    options: Option<BTreeMap<String, String>>,
    /// Absent in a list, where it is the key.
    path: Option<String>,
}

impl Described {
    fn engine(&self) -> Option<Engine> {
        let version = self.options.as_ref().and_then(|options| options.get("version"));
        match self.kind.as_str() {
            "kv" | "generic" if version.is_some_and(|version| version == "2") => Some(Engine::Kv2),
            "kv" | "generic" => Some(Engine::Kv1),
            "totp" => Some(Engine::Totp),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct One {
    data: Described,
}

#[derive(Deserialize)]
struct All {
    data: Secrets,
}

#[derive(Deserialize)]
struct Secrets {
    secret: BTreeMap<String, Described>,
}

/// The mount of this path, as remembered if it is.
pub(crate) fn find(client: &mut Client<'_>, path: &SecretPath) -> Result<Mount> {
    let known = client.mounts().iter().find(|mount| path.below(&mount.path).is_some());
    match known {
        Some(mount) => Ok(mount.clone()),
        None => ask(client, path),
    }
}

/// The mount of this path, as the server says now.
pub(crate) fn ask(client: &mut Client<'_>, path: &SecretPath) -> Result<Mount> {
    let server = client.config.server().to_owned();
    let answer = client.get(&format!("{PATH}/{}", path.as_str()), &[]).map_err(|error| match error.code {
        // The server does not tell one from the other.
        ErrorCode::PermissionDenied => Error::not_found(format!(
            "{server} has no such mount, or these credentials cannot see it. Check the beginning of the reference and \
             the setting 'namespace'."
        )),
        _ => error,
    })?;
    let One { data } = answer.json()?;
    let Some(engine) = data.engine() else {
        return Err(Error::unsupported(
            "This mount is of an engine that Keyway does not read. Choose a secret of a KV engine or a key of a TOTP engine.",
        ));
    };
    let mount = data.path.filter(|mount| mount.ends_with('/') && path.below(mount).is_some());
    let mount = Mount { path: mount.ok_or_else(|| answer.unexpected("with another mount"))?, engine };
    let mut mounts: Vec<_> = client.mounts().iter().filter(|known| known.path != mount.path).cloned().collect();
    mounts.push(mount.clone());
    client.remember_mounts(mounts)?;
    Ok(mount)
}

/// All mounts that the credentials can see and this provider can read, by path.
pub(crate) fn all(client: &mut Client<'_>) -> Result<Vec<Mount>> {
    let All { data } = client.get(PATH, &[])?.json()?;
    let mounts = data.secret.into_iter();
    let mounts: Vec<_> = mounts.filter_map(|(path, found)| Some(Mount { engine: found.engine()?, path })).collect();
    client.remember_mounts(mounts.clone())?;
    Ok(mounts)
}
