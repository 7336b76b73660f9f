//! The broker as a platform embeds it: with the 1Password component as shipped, the emulator as its
//! server, and a database file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod any_damage;
mod at_rest;
mod audit;
mod audit_changes;
mod audit_child;
mod bad_input;
mod budgets;
mod connections;
mod crash_loop;
mod crashes;
mod database_damage;
mod deleting_connections;
mod durable_state;
mod entries;
mod entry_changes;
mod entry_releases;
mod failures;
mod foreign_provider;
mod key_rotation;
mod key_rotation_cut_off;
mod key_rotation_master;
mod key_rotation_workspace;
mod logs;
mod paths;
mod readiness;
mod recovery;
mod recovery_line;
mod resolving;
mod rotation;
mod rotation_audit;
mod rotation_begin;
mod rotation_crashes;
mod rotation_damage;
mod rotation_write_back;
mod sealed_columns;
mod shares;
mod support;
mod tfa;
mod workspaces;
