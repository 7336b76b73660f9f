//! What a connection sees: its account and its items.

use serde::{Deserialize, Serialize};

use super::attribute::Attribute;

/// What the credentials of a connection can do (`verify`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Verified {
    /// The account that they belong to, to show to people; may be empty.
    pub account: String,
    /// The key by which the server counts requests; `None` when the provider cannot tell.
    pub account_key: Option<String>,
    /// How many vaults can be read; `None` where items are not grouped.
    pub vault_count: Option<u32>,
    /// How many of them can be written to; `None` when the server does not say.
    pub writable_vault_count: Option<u32>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// A page of items (`list-items`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ItemPage {
    /// The items; may be empty even if a next page exists.
    pub items: Vec<Item>,
    /// The token of the next page; `None` on the last.
    pub next: Option<String>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// An item, without its secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Item {
    /// The item's own id.
    pub id: String,
    /// The title to show.
    pub title: String,
    /// The id of the vault that holds it; `None` where items are not grouped.
    pub vault_id: Option<String>,
    /// The name of that vault, to show.
    pub vault_name: Option<String>,
    /// What to pass to `resolve`.
    pub reference: String,
    /// What kind of item it is, for example `login`.
    pub category: String,
    /// The addresses of the sites that it is for, the main one first.
    pub urls: Vec<String>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}
