//! The broker as a platform embeds it: with the 1Password component as it ships, the emulator for a server, and a
//! database file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod at_rest;
mod audit;
mod audit_child;
mod budgets;
mod connections;
mod crash_loop;
mod crashes;
mod deleting_connections;
mod entries;
mod entry_changes;
mod failures;
mod key_rotation;
mod logs;
mod resolving;
mod rotation;
mod rotation_audit;
mod rotation_crashes;
mod rotation_damage;
mod rotation_write_back;
mod support;
mod tfa;
mod workspaces;
