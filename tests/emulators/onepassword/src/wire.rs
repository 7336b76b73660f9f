//! The JSON objects of the protocol, with the members and the order of the real service.
//!
//! Requests are parsed strictly where a real client has no freedom. Nothing here is a plaintext
//! secret: secrets are sent in an [`Envelope`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::envelope::Envelope;

/// `POST /api/v3/auth/start`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartRequest {
    pub(crate) email: String,
    pub(crate) sk_format: String,
    pub(crate) skid: String,
    pub(crate) device_uuid: String,
}

/// Its answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartAnswer<'a> {
    pub(crate) status: &'static str,
    #[serde(rename = "sessionID")]
    pub(crate) session_id: &'a str,
    pub(crate) account_key_format: &'static str,
    pub(crate) account_key_uuid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user_auth: Option<UserAuth>,
}

/// How the client's key was derived.
#[derive(Serialize)]
pub(crate) struct UserAuth {
    pub(crate) method: &'static str,
    pub(crate) alg: &'static str,
    pub(crate) iterations: u32,
    pub(crate) salt: String,
}

/// `POST /api/v2/auth`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExchangeRequest {
    pub(crate) user_a: String,
}

/// Its answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExchangeAnswer {
    pub(crate) user_b: String,
}

/// `POST /api/v2/auth/confirm-key`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfirmRequest {
    pub(crate) client_verify_hash: String,
}

/// Its answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfirmAnswer {
    pub(crate) server_verify_hash: String,
}

/// `POST /api/v2/auth/complete`, inside its envelope. Its `device` member is null and ignored.
#[derive(Deserialize)]
pub(crate) struct CompleteRequest {
    pub(crate) client: String,
}

/// Its answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CompleteAnswer<'a> {
    pub(crate) account_uuid: &'a str,
    pub(crate) user_uuid: &'a str,
    pub(crate) mfa: (),
}

/// `POST /api/v1/device`; only the id matters.
#[derive(Deserialize)]
pub(crate) struct DeviceRequest {
    pub(crate) uuid: String,
}

/// `GET /api/v2/account/keysets`.
#[derive(Serialize)]
pub(crate) struct Keysets<'a> {
    pub(crate) version: u32,
    pub(crate) keysets: Vec<&'a Keyset>,
}

/// A key pair of an account.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Keyset {
    pub(crate) uuid: String,
    pub(crate) encrypted_by: String,
    pub(crate) sn: u32,
    pub(crate) enc_sym_key: Envelope,
    pub(crate) enc_pri_key: Envelope,
    pub(crate) pub_key: PublicJwk,
    #[serde(rename = "encSPriKey")]
    pub(crate) enc_s_pri_key: Option<Envelope>,
    pub(crate) spub_key: Option<PublicJwk>,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
}

/// The public half of a keyset.
#[derive(Serialize)]
pub(crate) struct PublicJwk {
    pub(crate) alg: String,
    pub(crate) e: String,
    pub(crate) ext: bool,
    pub(crate) key_ops: Vec<String>,
    pub(crate) kid: String,
    pub(crate) kty: String,
    pub(crate) n: String,
}

/// A vault, without its items.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VaultMeta {
    pub(crate) uuid: String,
    pub(crate) r#type: &'static str,
    pub(crate) created_at: &'static str,
    pub(crate) updated_at: String,
    pub(crate) attr_version: u32,
    pub(crate) content_version: u64,
    pub(crate) enc_attrs: Envelope,
    pub(crate) active_item_count: usize,
    pub(crate) client_access: u32,
    pub(crate) accessors_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<[Access; 1]>,
    pub(crate) combined_access: CombinedAccess,
}

/// One user's access to a vault, and the vault's key for that user.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Access {
    pub(crate) vault_uuid: String,
    pub(crate) accessor_type: &'static str,
    pub(crate) accessor_uuid: String,
    pub(crate) acl: u32,
    pub(crate) lease_timeout: u32,
    #[serde(rename = "vaultKeySN")]
    pub(crate) vault_key_sn: u32,
    pub(crate) encrypted_by: String,
    pub(crate) enc_vault_key: Envelope,
}

/// The combined access rights of a user.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CombinedAccess {
    #[serde(flatten)]
    pub(crate) access: Access,
    pub(crate) access_version: u32,
}

/// An item without its details, as overviews list it.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemHead {
    pub(crate) uuid: String,
    pub(crate) template_uuid: String,
    pub(crate) trashed: Trashed,
    pub(crate) fave_index: i64,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
    pub(crate) changer_uuid: String,
    pub(crate) package_uuid: String,
    pub(crate) item_version: u64,
    pub(crate) encrypted_by: String,
    pub(crate) enc_overview: Envelope,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file_references: Option<serde_json::Value>,
}

/// An item, as stored and sent.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item {
    #[serde(flatten)]
    pub(crate) head: ItemHead,
    pub(crate) enc_details: Envelope,
}

/// The state of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Trashed {
    /// In its vault.
    #[serde(rename = "N")]
    No,
    /// In the archive.
    #[serde(rename = "Y")]
    Archived,
    /// Among the recently deleted.
    #[serde(rename = "D")]
    Deleted,
}

/// `GET .../item/<i>`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemAnswer<'a> {
    pub(crate) content_version: u64,
    pub(crate) item: &'a Item,
}

/// `GET .../items/overviews` (of [`ItemHead`]s), and the older listing (of [`Item`]s).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemsAnswer<'a, T> {
    pub(crate) content_version: u64,
    pub(crate) batch_complete: bool,
    pub(crate) items: Vec<&'a T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deleted_item_uuids: Option<Vec<String>>,
}

/// `POST .../items/batch`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchRequest {
    pub(crate) item_uuids: Vec<String>,
}

/// Its answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchAnswer<'a> {
    pub(crate) content_version: u64,
    pub(crate) items: Vec<&'a Item>,
}

/// One item of `PATCH .../items`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ItemPatch {
    pub(crate) uuid: String,
    pub(crate) item_version: u64,
    pub(crate) enc_overview: Envelope,
    pub(crate) enc_details: Envelope,
    pub(crate) trashed: Trashed,
    pub(crate) template_uuid: String,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
    pub(crate) encrypted_by: String,
    #[serde(default)]
    pub(crate) file_references: Option<serde_json::Value>,
}

/// Its answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PatchAnswer {
    pub(crate) content_version: u64,
    pub(crate) updated_items: BTreeMap<String, u64>,
    pub(crate) failed_items: BTreeMap<String, i32>,
}
