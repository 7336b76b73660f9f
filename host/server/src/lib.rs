//! The keyway command line and HTTP API
