//! `resolve`, `list_fields` and `write`: one secret of a KV engine.

use std::collections::BTreeMap;

use keyway_sdk::{
    Changes, Error, ErrorCode, FieldSpec, Resolved, Result, Selection,
    http::{Answer, Method},
    secrecy::ExposeSecret,
};
use serde::Serialize;

use crate::{
    client::{Client, may_be_outdated},
    content::{Content, Value, fingerprint, written},
    engine::{Engine, Mount},
    errors, mounts, one_time,
    reference::SecretPath,
};

/// How often a change without an expected revision is tried again after another client's.
const MAX_ATTEMPTS: u32 = 5;

/// Reads the requested fields.
pub(crate) fn resolve(client: &mut Client<'_>, path: &SecretPath, selection: &Selection) -> Result<Resolved> {
    let secret = read(client, path)?;
    if secret.mount.engine == Engine::Totp {
        return one_time::resolve(client, &secret.mount, path, &secret.answer, selection);
    }
    let now = client.now();
    Ok(secret.content(client)?.resolve(&client.config.keys, selection, now))
}

/// The further fields.
pub(crate) fn list_fields(client: &mut Client<'_>, path: &SecretPath) -> Result<Vec<FieldSpec>> {
    let secret = read(client, path)?;
    if secret.mount.engine == Engine::Totp {
        return Ok(Vec::new());
    }
    Ok(secret.content(client)?.fields(&client.config.keys))
}

/// An answer with a secret, where it is.
pub(crate) struct Secret {
    answer: Answer,
    /// The path of its data on the server.
    data: String,
    pub(crate) mount: Mount,
}

impl Secret {
    pub(crate) fn content(&self, client: &Client<'_>) -> Result<Content<'_>> {
        match Content::read(self.answer.body(), self.mount.engine, client.config.stable_secret()) {
            Ok(Some(content)) => Ok(content),
            Ok(None) if self.mount.engine == Engine::Totp => Err(Error::unsupported(one_time::NO_LOGIN)),
            Ok(None) => Err(deleted()),
            Err(_) => Err(self.answer.unexpected("with something else than a secret")),
        }
    }
}

/// The path of the data of a secret.
pub(crate) fn data_path(mount: &Mount, path: &SecretPath) -> String {
    let below = path.below(&mount.path).unwrap_or_default();
    match mount.engine {
        Engine::Kv1 => format!("{}{below}", mount.path),
        Engine::Kv2 => format!("{}data/{below}", mount.path),
        Engine::Totp => format!("{}code/{below}", mount.path),
    }
}

/// Reads a secret. If it is not there, the mount may have been replaced by one of another version.
pub(crate) fn read(client: &mut Client<'_>, path: &SecretPath) -> Result<Secret> {
    let was_known = client.mounts().iter().any(|mount| path.below(&mount.path).is_some());
    let mount = mounts::find(client, path)?;
    match read_in(client, path, mount.clone()) {
        Err(error) if was_known && may_be_outdated(&error) => {
            let now = mounts::ask(client, path)?;
            if now == mount { Err(error) } else { read_in(client, path, now) }
        }
        result => result,
    }
}

fn read_in(client: &mut Client<'_>, path: &SecretPath, mount: Mount) -> Result<Secret> {
    let data = data_path(&mount, path);
    let answer = client.send::<()>(Method::Get, &data, &[], None)?;
    if answer.status() == 400 && mount.engine == Engine::Totp {
        return Err(Error::not_found("There is no such key in this mount of the TOTP engine. Check the reference."));
    }
    // The server describes a deleted version with the status of a missing one.
    if answer.status() == 404
        && mount.engine == Engine::Kv2
        && matches!(Content::read(answer.body(), mount.engine, b""), Ok(None))
    {
        return Err(deleted());
    }
    let answer = errors::check(answer, &client.config.address)?;
    Ok(Secret { answer, data, mount })
}

fn deleted() -> Error {
    Error::not_found("The latest version of this secret was deleted. Undelete it, or write a new one.")
}

#[derive(Serialize)]
struct Versioned<D> {
    data: D,
    options: Options,
}

#[derive(Serialize)]
struct Options {
    cas: u64,
}

/// Changes user name and password, and nothing else.
///
/// In version 2 the server compares the version and writes in one step. In version 1 it cannot.
pub(crate) fn write(
    client: &mut Client<'_>,
    path: &SecretPath,
    changes: &Changes,
    expected: Option<&str>,
) -> Result<String> {
    let mut attempt = 1;
    loop {
        let secret = read(client, path)?;
        let content = secret.content(client)?;
        if expected.is_some_and(|expected| expected != content.revision) {
            return Err(Error::conflict("The secret was changed since it was read. Nothing was written."));
        }
        if changes.is_empty() {
            return Ok(content.revision);
        }
        let keys = &client.config.keys;
        let mut new = BTreeMap::new();
        for (names, value) in [(&keys.username, &changes.username), (&keys.password, &changes.password)] {
            if let Some(value) = value {
                new.insert(content.key_to_write(names)?, value.expose_secret());
            }
        }
        let result = match content.version {
            Some(cas) => write_version(client, &secret.data, &content, &new, Options { cas }),
            None => replace(client, &secret.data, &content, &new),
        };
        match result {
            Err(error) if error.code == ErrorCode::Conflict && expected.is_none() && attempt < MAX_ATTEMPTS => {
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// Version 2: a patch of the changed keys. Where patching is not allowed or does not exist, the
/// whole secret is written; the version makes sure that nothing else has changed.
fn write_version(
    client: &mut Client<'_>,
    data: &str,
    content: &Content<'_>,
    new: &BTreeMap<&str, &str>,
    options: Options,
) -> Result<String> {
    let cas = options.cas;
    let answer = match client.call(Method::Patch, data, &[], Some(&Versioned { data: new, options })) {
        Err(error) if matches!(error.code, ErrorCode::PermissionDenied | ErrorCode::Unsupported) => {
            let whole = Versioned { data: content.merged(new), options: Options { cas } };
            client.call(Method::Post, data, &[], Some(&whole))?
        }
        result => result?,
    };
    let version = written(answer.body()).ok_or_else(|| answer.unexpected("to a write without the new version"))?;
    Ok(version.revision())
}

/// Version 1: the whole secret is replaced.
fn replace(client: &mut Client<'_>, data: &str, content: &Content<'_>, new: &BTreeMap<&str, &str>) -> Result<String> {
    let whole: BTreeMap<&str, Value<'_>> = content.merged(new);
    client.call(Method::Post, data, &[], Some(&whole))?;
    let values = whole.iter().map(|(key, value)| (*key, value.text()));
    Ok(fingerprint(client.config.stable_secret(), values))
}
