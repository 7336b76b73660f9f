//! What a component may import, and which version of the contract it exports.
//!
//! This is an allowlist: any other import is refused when the component is loaded, before any of
//! its code runs.

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::adapter::{EXPORT, VERSIONS, Version};
use crate::error::LoadError;

/// `wasi:cli/imports`, which language runtimes import as a whole, and outgoing HTTP. All of it is
/// linked; most of it has no effect.
const WASI: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

const KEYWAY: &[&str] = &[
    "keyway:provider/call-context",
    "keyway:provider/durable-state",
    "keyway:provider/host-log",
    "keyway:provider/provider-types",
    "keyway:provider/session",
    // Of 0.1.
    "keyway:provider/types",
];

/// Finds the version of the contract that the component was built for, and refuses imports that are
/// not allowed.
pub(crate) fn check(engine: &Engine, component: &Component) -> Result<&'static Version, LoadError> {
    let component_type = component.component_type();
    for (name, _) in component_type.imports(engine) {
        let (interface, version) = name.split_once('@').unwrap_or((name, ""));
        let allowed = (WASI.contains(&interface) && version.starts_with("0.2.")) || KEYWAY.contains(&interface);
        if !allowed {
            return Err(LoadError::ForbiddenImport { import: name.to_owned() });
        }
    }
    let exports = component_type.exports(engine).map(|(name, _)| name);
    let contract: Vec<_> = exports.filter(|name| name.split('@').next() == Some(EXPORT)).collect();
    // Of several, the newest.
    let known = VERSIONS.iter().rev().find(|version| contract.iter().any(|name| compatible(version.export, name)));
    if let Some(version) = known {
        return Ok(version);
    }
    Err(match contract.last() {
        Some(needs) => {
            let needs = (*needs).to_owned();
            let offers = VERSIONS.iter().map(|version| version.export).collect::<Vec<_>>().join(", ");
            LoadError::UnknownVersion { needs, offers }
        }
        None => LoadError::NotAProvider,
    })
}

/// wasmtime's message for a host function that does not exist. The error has no type of its own;
/// the tests of the contract prove that the text is still this one.
const MISSING: &str = "implementation is missing";

/// Why the imports of a component that passed [`check`] do not link: the host lacks a function or
/// has a different one.
pub(crate) fn not_linked(error: &wasmtime::Error) -> LoadError {
    let mismatch = format!("{error:#}");
    if mismatch.contains(MISSING) {
        return LoadError::MissingImport(mismatch);
    }
    // The first name that it quotes is the import's.
    let interface = mismatch.split('`').nth(1).unwrap_or_default().to_owned();
    LoadError::OtherShape { interface, mismatch }
}

/// Whether two names are equal up to the last number of a version `0.x.y`: such versions only add
/// functions.
fn compatible(ours: &str, theirs: &str) -> bool {
    match (ours.rsplit_once('.'), theirs.rsplit_once('.')) {
        (Some((ours, _)), Some((theirs, patch))) => ours == theirs && patch.parse::<u64>().is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_number_of_a_version_may_differ() {
        let ours = "keyway:provider/secret-provider@0.1.0";
        assert!(compatible(ours, "keyway:provider/secret-provider@0.1.7"));
        for theirs in [
            "keyway:provider/secret-provider@0.2.0",
            "keyway:provider/secret-provider",
            "keyway:provider/secret-provider@0.1.0-rc1",
        ] {
            assert!(!compatible(ours, theirs), "{theirs}");
        }
    }
}
