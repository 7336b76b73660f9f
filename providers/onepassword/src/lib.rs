//! 1Password service accounts as a Keyway provider
