//! For unit tests of programs that embed Keyway: a real broker in memory, a provider that does what
//! the test says, and one clock that stands still until it is moved.
//!
//! Only the secret manager and the time are fake: entries are bound, cached, counted against
//! limits, rotated and recorded by the same code as in production. There is no network, no file and
//! no component to build.
//!
//! ```
//! use std::time::Duration;
//!
//! use keyway::{ResolveRequest, Source};
//! use keyway_testing::{Item, TestBroker};
//! use secrecy::ExposeSecret;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), keyway::BrokerError> {
//! let keyway = TestBroker::start().await;
//! keyway.provider().put("scripted://vault/portal", Item::new("Portal").username("ada").password("correct horse"));
//! let entry = keyway.bind("ada", "https://portal.example", "scripted://vault/portal").await;
//!
//! // What your own code does:
//! let resolved = keyway.broker().resolve(keyway.access(), ResolveRequest::new(entry.id)).await?;
//! assert_eq!(resolved.password.unwrap().expose_secret(), "correct horse");
//!
//! // A day later the value has expired.
//! keyway.clock().advance(Duration::from_secs(86_400));
//! let resolved = keyway.broker().resolve(keyway.access(), ResolveRequest::new(entry.id)).await?;
//! assert_eq!(resolved.source, Source::Live);
//! # Ok(())
//! # }
//! ```
//!
//! **May import** of Keyway: `keyway`, `keyway-runtime`.

#![deny(missing_docs)]
#![allow(clippy::expect_used, reason = "a test that cannot be set up fails, and says where")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod broker;
mod provider;

pub use broker::TestBroker;
pub use provider::{Call, Item, ScriptedProvider};
