//! What is loaded, what is refused and why, and how compiled code is stored.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::path::Path;
use std::time::Duration;

use keyway_runtime::{CodeCacheKey, Compiler, LoadError, Runtime, RuntimeBuilder};
use support::{component, limits, runtime};

async fn refused(component: &[u8]) -> LoadError {
    runtime().load(component).await.expect_err("this must not be let in")
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[tokio::test]
async fn what_is_not_a_component_is_refused_as_that() {
    for bytes in [&b""[..], b"hello", b"\0asm\x0d\0\x01\0garbage", &wat("(module)"), &component("echo")[..1000]] {
        let error = refused(bytes).await;
        assert!(matches!(error, LoadError::Malformed(_)), "{error}");
        assert!(error.to_string().starts_with("this is not a WebAssembly component: "), "{error}");
    }
}

#[tokio::test]
async fn a_file_of_another_kind_and_a_core_module_are_told_apart() {
    for text in ["", "# A README", "(component)"] {
        assert!(refused(text.as_bytes()).await.to_string().contains("is it the right one?"), "{text}");
    }
    assert!(refused(&wat("(module)")).await.to_string().contains("core module"));
}

#[tokio::test]
async fn a_forbidden_import_is_named() {
    let error = refused(&wat(r#"(component (import "evil:host/backdoor@1.0.0" (instance)))"#)).await;
    assert!(matches!(&error, LoadError::ForbiddenImport { import } if import == "evil:host/backdoor@1.0.0"), "{error}");
    let error = refused(&component("forbidden-import")).await;
    assert!(matches!(&error, LoadError::ForbiddenImport { .. }), "{error}");
    // A later WASI is another world: its functions are asynchronous.
    let error = refused(&wat(r#"(component (import "wasi:http/handler@0.3.0" (instance)))"#)).await;
    assert!(matches!(error, LoadError::ForbiddenImport { .. }), "{error}");
}

#[tokio::test]
async fn a_component_without_the_export_is_no_provider() {
    assert!(matches!(refused(&wat("(component)")).await, LoadError::NotAProvider));
    assert!(matches!(refused(&component("no-exports")).await, LoadError::NotAProvider));
}

#[tokio::test]
async fn a_component_of_an_unknown_version_is_told_what_there_is() {
    let error = refused(&component("future-version")).await;
    assert_eq!(
        error.to_string(),
        "the component needs keyway:provider/secret-provider@0.3.0; this host offers keyway:provider/secret-provider@0.1.0, keyway:provider/secret-provider@0.2.0"
    );
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_unread() {
    let mut limits = limits();
    limits.component_bytes = 1 << 20;
    let runtime = Runtime::builder().limits(limits).build().unwrap();
    let error = runtime.load(&vec![0; (1 << 20) + 1]).await.unwrap_err();
    assert_eq!(error.to_string(), "the component is larger than 1 MiB");
}

#[tokio::test]
async fn a_description_that_breaks_the_contract_is_refused() {
    let error = refused(&component("bad-description")).await;
    assert!(matches!(error, LoadError::InvalidDescription(_)), "{error}");
}

#[tokio::test]
async fn a_component_that_loops_when_it_should_describe_itself_is_ended() {
    let mut limits = limits();
    limits.describe_time = Duration::from_millis(500);
    let runtime = Runtime::builder().limits(limits).build().unwrap();
    let error = runtime.load(&component("loops-in-describe")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the component's `describe` failed: the provider did not answer `describe` within 0.5 s and was stopped"
    );
}

// ---- compiling in a process of its own ---------------------------------------------------------

fn in_a_child(limits: keyway_runtime::Limits) -> RuntimeBuilder {
    let program = env!("CARGO_BIN_EXE_keyway-compile").into();
    Runtime::builder().limits(limits).compiler(Compiler::Child { program, args: Vec::new() })
}

#[tokio::test]
async fn code_compiled_in_a_process_of_its_own_runs_in_this_one() {
    let runtime = in_a_child(limits()).build().unwrap();
    let provider = runtime.load(&component("echo")).await.unwrap();
    assert_eq!(provider.description().provider_type, "echo");
    let error = runtime.load(b"nonsense").await.unwrap_err();
    assert!(matches!(error, LoadError::Malformed(_)), "{error}");
}

#[tokio::test]
async fn the_compiler_may_use_only_so_much_memory_and_time() {
    let mut little_memory = limits();
    little_memory.compile_memory_bytes = 24 << 20;
    let error = in_a_child(little_memory).build().unwrap().load(&component("echo")).await.unwrap_err();
    assert!(matches!(&error, LoadError::Compile(reason) if reason.contains("24 MiB")), "{error}");

    let mut little_time = limits();
    little_time.compile_time = Duration::from_millis(1);
    let error = in_a_child(little_time).build().unwrap().load(&component("echo")).await.unwrap_err();
    assert!(matches!(&error, LoadError::Compile(reason) if reason.contains("takes longer")), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_compiler_that_writes_without_end_is_stopped() {
    let mut limits = limits();
    // So many times eight.
    limits.component_bytes = 4 << 20;
    let compiler = Compiler::Child { program: "/bin/cat".into(), args: vec!["/dev/zero".into()] };
    let runtime = Runtime::builder().limits(limits).compiler(compiler).build().unwrap();
    let error = runtime.load(&component("echo")).await.unwrap_err();
    assert!(error.to_string().contains("more than 33554432 bytes"), "{error}");
}

// ---- code cache --------------------------------------------------------------------------------

fn cached(folder: &Path, key: u8) -> RuntimeBuilder {
    Runtime::builder().limits(limits()).code_cache(folder, CodeCacheKey::new([key; 32]))
}

/// A runtime that cannot compile: everything it loads comes from the cache.
fn cache_only(folder: &Path, key: u8) -> Runtime {
    let compiler = Compiler::Child { program: "/bin/false".into(), args: Vec::new() };
    cached(folder, key).compiler(compiler).build().unwrap()
}

fn only_file(folder: &Path) -> std::path::PathBuf {
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[tokio::test]
async fn a_component_is_compiled_once_and_then_loaded_from_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    assert!(cache_only(folder.path(), 1).load(&component("echo")).await.is_err(), "the cache is still empty");
    cached(folder.path(), 1).build().unwrap().load(&component("echo")).await.unwrap();
    cache_only(folder.path(), 1).load(&component("echo")).await.unwrap();
}

#[tokio::test]
async fn compiled_code_of_another_host_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    cached(folder.path(), 1).build().unwrap().load(&component("echo")).await.unwrap();
    assert!(cache_only(folder.path(), 2).load(&component("echo")).await.is_err());
}

#[tokio::test]
async fn compiled_code_that_was_changed_is_not_run_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    cached(folder.path(), 1).build().unwrap().load(&component("echo")).await.unwrap();
    let file = only_file(folder.path());
    let good = std::fs::read(&file).unwrap();
    for position in [0, 31, 32, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[position] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        assert!(cache_only(folder.path(), 1).load(&component("echo")).await.is_err(), "byte {position}");
    }
    std::fs::write(&file, &good[..10]).unwrap();
    cached(folder.path(), 1).build().unwrap().load(&component("echo")).await.unwrap();
    cache_only(folder.path(), 1).load(&component("echo")).await.unwrap();
}

#[tokio::test]
async fn compiled_code_that_was_not_used_for_a_month_is_removed_when_other_code_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let load = async |name| cached(folder.path(), 1).build().unwrap().load(&component(name)).await.unwrap();
    let aged = |days: u64| {
        let time = std::time::SystemTime::now() - Duration::from_secs(days * 86_400);
        let file = only_file(folder.path());
        std::fs::File::options().append(true).open(&file).unwrap().set_modified(time).unwrap();
        file
    };
    load("echo").await;
    let file = aged(31);
    load("echo").await;
    load("slow").await;
    assert!(file.exists(), "it has just been used");
    std::fs::remove_dir_all(folder.path()).unwrap();

    load("echo").await;
    let file = aged(31);
    load("slow").await;
    assert!(!file.exists());
    assert_ne!(only_file(folder.path()), file);
}

#[cfg(unix)]
#[tokio::test]
async fn compiled_code_is_for_the_owners_eyes_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    cached(folder.path(), 1).build().unwrap().load(&component("echo")).await.unwrap();
    assert_eq!(std::fs::metadata(only_file(folder.path())).unwrap().permissions().mode() & 0o777, 0o600);
}
