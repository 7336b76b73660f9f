//! Pages of the book that are generated from the code.

use std::path::Path;

/// Fails when a page differs from what the code generates. `KEYWAY_UPDATE_DOCS=1` writes it.
pub(crate) fn compare(name: &str, made: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/reference").join(name);
    if std::env::var_os("KEYWAY_UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&file, made).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = kept.lines().zip(made.lines()).find(|(kept, made)| kept != made);
    let update = "`KEYWAY_UPDATE_DOCS=1 cargo nextest run -p keyway-server reference` rewrites it";
    assert!(kept == made, "docs/src/reference/{name} differs from what the code generates: {update}. {differs:#?}");
}
