//! The `keyway` command line and HTTP API.
//!
//! [`host::Host`] puts a broker together from a data folder and a folder of providers,
//! [`serve::Server`] serves its HTTP API, and [`cli::main`] is the whole program. The first two are
//! public so that a test or another program can run the server in its own process:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use keyway_server::config::HostConfig;
//! use keyway_server::host::Host;
//! use keyway_server::serve::Server;
//!
//! // A data folder that `keyway init` has made.
//! let host = Host::open(&HostConfig::new("keyway-data").providers("target/components")).await?;
//! let server = Server::bind("127.0.0.1:0", host.broker().clone()).await?;
//! println!("listening at {}", server.url());
//! server.run(async { let _ = tokio::signal::ctrl_c().await; }).await;
//! host.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! The broker runs providers. This crate uses the runtime for two things only: to set it up, and to
//! show what a component declares.
//!
//! **May import** of Keyway: `keyway`, `keyway-runtime`.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod cli;
pub mod config;
mod demo;
pub mod host;
pub mod http;
mod installation;
mod logging;
mod peer;
mod process;
mod regular_file;
pub mod serve;
mod slow_reader;
mod view;
