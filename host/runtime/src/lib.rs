//! Loads secret provider components.
