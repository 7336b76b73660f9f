//! A server that speaks the 1Password service account protocol
