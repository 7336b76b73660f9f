//! A server that speaks the 1Password service account protocol, for tests, benchmarks and the demo.
//!
//! To a client with a service account token it behaves like the real service: SRP sign-in, signed
//! requests, envelopes both ways, keysets, vaults with read-only and read-write access, items of
//! several kinds, and changes with versions. The cryptography is real; every secret in it is made
//! up. Tests show that 1Password's own SDK works against it unchanged.
//!
//! The tokens name the server `my.1password.com`. Clients must send their requests to
//! [`Emulator::url`] instead, which speaks plain HTTP on the loopback interface. Requests are
//! signed for the host in the token.
//!
//! # In a test
//!
//! ```
//! use keyway_emulator_onepassword::{Emulator, Endpoint, Fault, FaultRule, ItemChange};
//!
//! let emulator = Emulator::start()?;
//! let account = emulator.account("automation")?;
//! let vault = account.vault("Automation").ok_or("no such vault")?;
//! let item = vault.item("Northwind Supplier Portal").ok_or("no such item")?;
//! assert_eq!(item.reference, format!("op://{}/{}", vault.id, item.id));
//!
//! // Here a client signs in with `account.token` at `emulator.url()` and reads the item.
//!
//! // Then another client changes the item,
//! let change = ItemChange { password: Some("new".to_owned()), ..ItemChange::default() };
//! emulator.change_item(&vault.id, &item.id, &change)?;
//! // the session expires, and the next read of an item meets an overloaded server.
//! emulator.expire_sessions();
//! emulator.fault(FaultRule::next_of(Endpoint::Item, Fault::status(503)));
//! assert_eq!(emulator.calls().logins, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Emulator`] dereferences to [`Knobs`]. It runs on its own threads and ends when it is dropped,
//! with all its connections.
//!
//! # As a program
//!
//! `keyway-emulator-onepassword --listen 127.0.0.1:0` prints one line of JSON, an [`Info`], and
//! runs until SIGINT or SIGTERM.
//!
//! # The accounts
//!
//! | account | sees | of note |
//! |---|---|---|
//! | `automation` | "Automation" and "Staging" (read-write), "Finance (read-only)" | two keysets, throttling key |
//! | `auditor` | "Automation" and "Finance (read-only)", both read-only | no throttling key |
//! | `newcomer` | nothing | |
//!
//! With [`Options::bulk_items`] there is also a vault "Bulk" with that many logins; with
//! [`Options::bulk_vaults`] there are that many vaults with one login each.
//!
//! # The control endpoint
//!
//! The same knobs over HTTP, JSON in and out, for programs in other languages. Errors are
//! `{"error": "..."}` with a status of 400, 404 or 409. Vaults and items are given by id, or by
//! name and title (percent-encoded).
//!
//! | request | does |
//! |---|---|
//! | `GET /info` | an [`Info`] as of now |
//! | `GET /calls`, `DELETE /calls` | [`Calls`]; resets calls and requests |
//! | `GET /requests` | a list of [`SeenRequest`] |
//! | `POST /reset` | restores the initial state |
//! | `DELETE /sessions` | expires all sessions |
//! | `GET /faults`, `POST /faults`, `DELETE /faults` | lists, adds one [`FaultRule`], clears: `{"endpoint":"item","times":2,"fault":{"kind":"status","status":429,"retry_after_seconds":7}}` |
//! | `GET /rules`, `PUT /rules` | [`Rules`]; omitted rules are reset to their defaults |
//! | `GET /accounts/{account}/token` | `{"token":"ops_..."}`; with `?wrong=srp-x` a [`WrongToken`] |
//! | `DELETE /accounts/{account}/token` | revokes it; `?status=400` refuses sign-ins with that status instead of 401 |
//! | `PUT /accounts/{account}/token` | restores it |
//! | `PUT /accounts/{account}/device` | `{"state":"registered"}`, a [`DeviceState`] |
//! | `PUT /accounts/{account}/vaults/{vault}` | `{"access":"read-only"}`, a [`VaultAccess`] or `null` |
//! | `POST /vaults/{vault}/items` | adds a [`NewLogin`], answers an [`ItemInfo`] |
//! | `GET /vaults/{vault}/items/{item}` | an [`ItemText`] |
//! | `PATCH /vaults/{vault}/items/{item}` | applies an [`ItemChange`], answers [`Versions`] |
//! | `PUT /vaults/{vault}/items/{item}` | `{"overview":"...","details":"..."}` replaces plaintexts by exactly these |

#![deny(missing_docs)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")
)]

mod api;
mod auth;
mod calls;
mod control;
mod emulator;
mod encoding;
mod envelope;
mod faults;
mod gate;
mod info;
mod keys;
mod knobs;
mod mac;
mod plaintext;
mod random;
mod read;
mod refusal;
mod rules;
mod seed;
mod server;
mod session;
mod srp;
mod store;
mod throttle;
mod token;
#[cfg(test)]
mod vectors;
mod wire;
mod world;
mod write;

pub use calls::{Calls, Endpoint, SeenRequest};
pub use emulator::{Emulator, Options, StartError};
pub use faults::{Fault, FaultRule, RetryAfterForm};
pub use info::{AccountInfo, Info, ItemInfo, VaultInfo};
pub use knobs::{ItemText, KnobError, Knobs, NewLogin, Versions};
pub use plaintext::{ItemChange, ItemState};
pub use rules::{CounterRule, DeniedWrite, Rules, ThrottlingRule};
pub use store::{DeviceState, VaultAccess};
pub use token::{Token, WrongToken};
