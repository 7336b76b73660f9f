//! `list_items`: the paths of all secrets, without reading one.
//!
//! OpenBao lists a whole mount with one request (`scan`). Vault lists one folder at a time, and so
//! does OpenBao for policies that allow `list` and not `scan`. Then folders are listed in the order
//! of their paths, a bounded number for each page, and a page begins with the folders above the
//! last path of the page before. So the token of a page is that path, and stays good whatever
//! changes meanwhile.

use std::time::Duration;

use keyway_sdk::{Error, ErrorCode, Item, ItemPage, Result};
use serde::{Deserialize, Serialize};

use crate::{
    client::Client,
    engine::{Engine, Mount},
    mounts, one_time,
    reference::SecretPath,
};

/// The items of a page. A host accepts 10,000.
const PAGE_ITEMS: usize = 5_000;
/// The requests for a page, so that a page does not take the time of a whole call.
const PAGE_REQUESTS: usize = 50;
/// No new request with less time than this.
const MIN_TIME: Duration = Duration::from_secs(10);

/// Where a page begins.
#[derive(Serialize, Deserialize)]
struct Next {
    /// After the first page of a mount: its paths up to this one have been listed.
    after: String,
    mount: String,
    /// Whether this mount has to be listed folder by folder.
    walk: bool,
}

#[derive(Deserialize)]
struct Listed {
    data: ListedKeys,
}

#[derive(Deserialize)]
struct ListedKeys {
    keys: Vec<String>,
}

/// A page of items.
pub(crate) fn list(client: &mut Client<'_>, page: Option<&str>) -> Result<ItemPage> {
    let from: Option<Next> = match page.map(serde_json::from_str) {
        None => None,
        Some(Ok(next)) => Some(next),
        Some(Err(_)) => return Err(Error::other("invalid-page", "This is not the next page of a list. List again.")),
    };
    let mut places = places(client)?;
    places.sort_by_key(Place::root);
    // A folder of the settings may be inside another one.
    places.dedup_by(|inner, outer| inner.root().starts_with(&outer.root()));
    let mut lister = Lister { client, items: Vec::new(), requests: 0, walk: false };
    let mut denied = None;
    for place in &places {
        let root = place.root();
        let mut after = "";
        if let Some(from) = &from {
            match root.as_str().cmp(from.mount.as_str()) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => after = &from.after,
                std::cmp::Ordering::Greater => {}
            }
        }
        if lister.is_spent() {
            let next = serde_json::to_string(&Next { after: after.to_owned(), mount: root, walk: false }).ok();
            return Ok(ItemPage { items: lister.items, next, ..ItemPage::default() });
        }
        // Keys of the TOTP engine are in no folders.
        lister.walk =
            place.mount.engine == Engine::Totp || from.as_ref().is_some_and(|from| from.walk && from.mount == root);
        match lister.place(place, after) {
            Ok(None) => {}
            Ok(Some(after)) => {
                let next = Next { after, mount: root, walk: lister.walk };
                let next = serde_json::to_string(&next).ok();
                return Ok(ItemPage { items: lister.items, next, ..ItemPage::default() });
            }
            Err(error) if error.code == ErrorCode::PermissionDenied => {
                lister.client.warn("a mount or folder is not listed: no policy allows list on it");
                denied = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match denied {
        // Nothing to be seen at all.
        Some(error) if lister.items.is_empty() && from.is_none() => Err(error),
        _ => Ok(ItemPage { items: lister.items, ..ItemPage::default() }),
    }
}

/// A folder to list, with all below it.
struct Place {
    mount: Mount,
    /// Empty for the whole mount, else with a slash at its end.
    folder: String,
}

impl Place {
    fn root(&self) -> String {
        format!("{}{}", self.mount.path, self.folder)
    }
}

fn places(client: &mut Client<'_>) -> Result<Vec<Place>> {
    let mounts = mounts::all(client)?;
    if client.config.folders.is_empty() {
        return Ok(mounts.into_iter().map(|mount| Place { mount, folder: String::new() }).collect());
    }
    let mut places = Vec::new();
    for folder in &client.config.folders {
        let folder = format!("{folder}/");
        match mounts.iter().find(|mount| folder.starts_with(&mount.path)) {
            Some(mount) => {
                let below = folder.strip_prefix(&mount.path).unwrap_or_default().to_owned();
                places.push(Place { mount: mount.clone(), folder: below });
            }
            None => client.warn("a folder of the setting 'folders' is in no mount that the credentials can see"),
        }
    }
    Ok(places)
}

struct Lister<'c, 'a> {
    client: &'c mut Client<'a>,
    items: Vec<Item>,
    requests: usize,
    walk: bool,
}

impl Lister<'_, '_> {
    /// Whether the rest is left to the next page.
    fn is_spent(&self) -> bool {
        self.requests >= PAGE_REQUESTS || self.client.host().clock.time_left() < MIN_TIME
    }

    /// Lists a place after this path. Returns the last path if the page is full.
    fn place(&mut self, place: &Place, after: &str) -> Result<Option<String>> {
        if !self.walk {
            match self.keys(place, &place.folder, "scan") {
                Ok(mut keys) => {
                    keys.sort_unstable();
                    return Ok(self.add(place, &place.folder, &keys, after));
                }
                Err(error) if matches!(error.code, ErrorCode::PermissionDenied | ErrorCode::Unsupported) => {}
                Err(error) => return Err(error),
            }
            self.walk = true;
        }
        self.folder(place, &place.folder, after)
    }

    /// Lists a folder and those below it, in the order of their paths.
    fn folder(&mut self, place: &Place, folder: &str, after: &str) -> Result<Option<String>> {
        let mut keys = self.keys(place, folder, "list")?;
        keys.sort_unstable();
        for key in &keys {
            let path = format!("{folder}{key}");
            // Every path of this folder is before `after`.
            if path.as_str() < after && !after.starts_with(&path) {
                continue;
            }
            if !key.ends_with('/') {
                if let Some(last) = self.add(place, folder, std::slice::from_ref(key), after) {
                    return Ok(Some(last));
                }
                continue;
            }
            // The folders above the last path only lead to the next one, so they do not count.
            if !after.starts_with(&path) && self.is_spent() {
                // The folder itself: all before it has been listed.
                return Ok(Some(path));
            }
            match self.folder(place, &path, after) {
                Ok(None) => {}
                Err(error) if error.code == ErrorCode::PermissionDenied => {
                    self.client.warn("a folder is not listed: no policy allows list on it");
                }
                result => return result,
            }
        }
        Ok(None)
    }

    /// Adds the secrets after this path. Returns the last one if the page is full.
    fn add(&mut self, place: &Place, folder: &str, keys: &[String], after: &str) -> Option<String> {
        for key in keys {
            let title = format!("{folder}{key}");
            if title.as_str() <= after {
                continue;
            }
            let mount = &place.mount.path;
            let Some(path) = SecretPath::new(format!("{mount}{title}")) else {
                self.client.warn("a secret is not listed: its path cannot be a reference");
                continue;
            };
            let vault = mount.trim_end_matches('/');
            self.items.push(Item {
                id: title.clone(),
                title: title.clone(),
                vault_id: Some(vault.to_owned()),
                vault_name: Some(vault.to_owned()),
                reference: path.to_reference(),
                category: if place.mount.engine == Engine::Totp { one_time::CATEGORY } else { "secret" }.to_owned(),
                ..Item::default()
            });
            if self.items.len() >= PAGE_ITEMS {
                return Some(title);
            }
        }
        None
    }

    /// The keys of a folder, or with `scan` the paths of all below it. A folder without any is
    /// missing.
    fn keys(&mut self, place: &Place, folder: &str, how: &str) -> Result<Vec<String>> {
        self.requests += 1;
        let mount = &place.mount.path;
        let path = match place.mount.engine {
            Engine::Kv1 => format!("{mount}{folder}"),
            Engine::Kv2 => format!("{mount}metadata/{folder}"),
            Engine::Totp => format!("{mount}keys/{folder}"),
        };
        let answer = self.client.get(path.trim_end_matches('/'), &[(how, "true")]);
        match (answer.and_then(|answer| answer.json::<Listed>()), how) {
            (Ok(listed), _) => Ok(listed.data.keys),
            (Err(error), "list") if error.code == ErrorCode::NotFound => Ok(Vec::new()),
            // A server that does not know `scan` sees a request to read the folder, or a secret of
            // that name.
            (Err(error), "scan") if matches!(error.code, ErrorCode::NotFound | ErrorCode::UnexpectedAnswer) => {
                Err(Error::new(ErrorCode::Unsupported, error.message))
            }
            (Err(error), _) => Err(error),
        }
    }
}
