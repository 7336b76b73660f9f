//! Tests the server and the command line from outside: over HTTP, and as a process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod api;
mod audit;
mod backup;
mod bad_requests;
mod beside;
mod budgets;
mod cli;
mod cli_bind;
mod cli_database;
mod cli_entry;
mod cli_json;
mod cli_key;
mod cli_manners;
mod cli_text;
mod cli_workspace;
mod config;
mod connections;
mod demo;
mod exit_codes;
mod front;
mod installation;
mod key_rotation;
mod leaks;
#[cfg(target_os = "linux")]
mod leftovers;
mod listing;
mod memory;
mod old_database;
mod one_document;
mod openapi;
mod operation;
mod outgoing;
mod page;
mod providers;
mod reference;
mod resolving;
mod rotations;
mod serve;
mod sloppy;
mod support;
mod tls;
mod unix_socket;
mod vault;
mod vault_list;
