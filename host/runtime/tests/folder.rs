//! The watched folder: hot drop-in, swap and reject.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use keyway_runtime::{Fields, ProviderFolder};
use support::{component, connect, runtime};

/// Puts a file there atomically, as a careful operator does.
fn put(folder: &Path, name: &str, bytes: &[u8]) {
    let temporary = folder.join(format!("{name}.part"));
    std::fs::write(&temporary, bytes).unwrap();
    std::fs::rename(temporary, folder.join(name)).unwrap();
}

/// Waits until the watcher has handled it.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn error_of(folder: &ProviderFolder, file: &str) -> Option<String> {
    folder.files().into_iter().find(|status| status.file == file).and_then(|status| status.error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_is_available_without_a_restart_and_gone_when_it_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let folder = ProviderFolder::open(&runtime(), directory.path()).await.unwrap();
    assert!(folder.get("echo").is_none());
    put(directory.path(), "echo.wasm", &component("echo"));
    until("loading", || folder.get("echo").is_some()).await;
    std::fs::remove_file(directory.path().join("echo.wasm")).unwrap();
    until("unloading", || folder.get("echo").is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_same_size_and_time_is_another_one_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.wasm");
    let with_section = |name: u8| [component("echo"), vec![0, 2, 1, name]].concat();
    put(directory.path(), "a.wasm", &with_section(b'x'));
    let time = std::fs::metadata(&file).unwrap().modified().unwrap();
    let folder = ProviderFolder::open(&runtime(), directory.path()).await.unwrap();
    let old = folder.get("echo").unwrap();
    put(directory.path(), "a.wasm", &with_section(b'y'));
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), time);
    until("the swap", || folder.get("echo").is_some_and(|new| new.digest() != old.digest())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_serves_new_calls_while_running_ones_finish() {
    let directory = tempfile::tempdir().unwrap();
    put(directory.path(), "a.wasm", &component("echo"));
    let runtime = runtime();
    let folder = ProviderFolder::open(&runtime, directory.path()).await.unwrap();
    let old = folder.get("echo").unwrap();
    let connection = connect(&runtime, &old);
    let running = {
        let (old, connection) = (old.clone(), connection.clone());
        tokio::spawn(async move { old.resolve(&connection, "echo://sleep/1000", Fields::default()).await })
    };
    put(directory.path(), "a.wasm", &other_echo());
    until("the swap", || folder.get("echo").is_some_and(|new| new.digest() != old.digest())).await;
    running.await.unwrap().unwrap();
    let new = folder.get("echo").unwrap();
    new.resolve(&connection, "echo://item/a", Fields::ALL).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_is_reported_and_the_good_one_stays() {
    let directory = tempfile::tempdir().unwrap();
    put(directory.path(), "a.wasm", &component("echo"));
    let folder = ProviderFolder::open(&runtime(), directory.path()).await.unwrap();
    let good = folder.get("echo").unwrap();
    for bad in [b"half a file".to_vec(), component("forbidden-import"), component("no-exports")] {
        put(directory.path(), "a.wasm", &bad);
        folder.rescan().await.unwrap();
        assert!(error_of(&folder, "a.wasm").is_some());
        assert_eq!(folder.get("echo").unwrap().digest(), good.digest());
    }
    put(directory.path(), "a.wasm", &component("echo"));
    folder.rescan().await.unwrap();
    assert_eq!(error_of(&folder, "a.wasm"), None);
}

/// `echo` with another digest: a custom section changes nothing else.
fn other_echo() -> Vec<u8> {
    [component("echo"), vec![0, 2, 1, b'x']].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_files_of_one_provider_type_the_first_by_name_serves_in_whichever_order_they_came() {
    let directory = tempfile::tempdir().unwrap();
    put(directory.path(), "b.wasm", &component("echo"));
    let folder = ProviderFolder::open(&runtime(), directory.path()).await.unwrap();
    let second = folder.get("echo").unwrap();
    put(directory.path(), "a.wasm", &other_echo());
    folder.rescan().await.unwrap();
    let first = folder.get("echo").unwrap();
    assert_ne!(first.digest(), second.digest());
    assert_eq!(folder.providers().len(), 1);

    // After a restart, the same file is chosen.
    let anew = ProviderFolder::open(&runtime(), directory.path()).await.unwrap();
    assert_eq!(anew.get("echo").unwrap().digest(), first.digest());
    for folder in [&folder, &anew] {
        let [a, b] = &folder.files()[..] else { panic!() };
        assert_eq!((a.provider_type.as_deref(), a.error.as_deref()), (Some("echo"), None));
        assert_eq!((b.digest.as_deref(), b.served_by.as_deref()), (None, Some("a.wasm")));
        assert_eq!(
            b.error.as_deref(),
            Some("provider type `echo` is served by a.wasm, the first by name; remove one of the two files")
        );
    }

    // Once the first is removed, the second takes its place.
    std::fs::remove_file(directory.path().join("a.wasm")).unwrap();
    until("taking over", || folder.get("echo").is_some_and(|echo| echo.digest() == second.digest())).await;
    assert_eq!(error_of(&folder, "b.wasm"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_file_serves_all_the_time() {
    let directory = tempfile::tempdir().unwrap();
    put(directory.path(), "echo-1.0.wasm", &component("echo"));
    let folder = ProviderFolder::open(&runtime(), directory.path()).await.unwrap();
    std::fs::rename(directory.path().join("echo-1.0.wasm"), directory.path().join("echo-1.1.wasm")).unwrap();
    until("the new name", || {
        assert!(folder.get("echo").is_some());
        folder.files().iter().all(|file| file.file == "echo-1.1.wasm")
    })
    .await;
    assert!(folder.get("echo").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_was_removed_and_made_again_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("providers");
    std::fs::create_dir(&path).unwrap();
    let folder = ProviderFolder::open(&runtime(), &path).await.unwrap();
    std::fs::remove_dir(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    put(&path, "echo.wasm", &component("echo"));
    until("loading", || folder.get("echo").is_some()).await;
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_other_users_can_change_is_not_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let (a, b) = (directory.path().join("a.wasm"), elsewhere.path().join("b"));
    put(directory.path(), "a.wasm", &component("echo"));
    let folder = ProviderFolder::open(&runtime(), directory.path()).await.unwrap();
    let good = folder.get("echo").unwrap();

    put(directory.path(), "a.wasm", &other_echo());
    set_mode(&a, 0o666);
    folder.rescan().await.unwrap();
    let refused = error_of(&folder, "a.wasm").unwrap();
    assert!(refused.contains(&format!("chmod go-w {}", a.display())), "{refused}");
    assert_eq!(folder.get("echo").unwrap().digest(), good.digest(), "the previous one stays");
    set_mode(&a, 0o644);
    folder.rescan().await.unwrap();
    assert_ne!(folder.get("echo").unwrap().digest(), good.digest());

    // What a link leads to counts.
    std::fs::write(&b, component("echo")).unwrap();
    set_mode(elsewhere.path(), 0o777);
    std::fs::remove_file(&a).unwrap();
    std::os::unix::fs::symlink(&b, &a).unwrap();
    let anew = ProviderFolder::open(&runtime(), directory.path()).await.unwrap();
    let refused = error_of(&anew, "a.wasm").unwrap();
    assert!(refused.contains(&format!("chmod go-w {}", elsewhere.path().display())), "{refused}");
    assert!(anew.get("echo").is_none());
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_other_users_can_write_to_is_not_opened_and_no_longer_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("providers");
    std::fs::create_dir(&path).unwrap();
    put(&path, "a.wasm", &component("echo"));
    let folder = ProviderFolder::open(&runtime(), &path).await.unwrap();
    for unsafe_one in [&*path, directory.path()] {
        set_mode(unsafe_one, 0o777);
        let refused = ProviderFolder::open(&runtime(), &path).await.err().unwrap().to_string();
        assert!(refused.contains(&format!("chmod go-w {}", unsafe_one.display())), "{refused}");
        put(&path, "b.wasm", &component("slow"));
        assert!(folder.rescan().await.is_err());
        assert_eq!(folder.providers().len(), 1, "what was loaded stays, and nothing is added");
        set_mode(unsafe_one, 0o755);
    }
    folder.rescan().await.unwrap();
    assert_eq!(folder.providers().len(), 2);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_error_that_names_it() {
    let error = ProviderFolder::open(&runtime(), "/nonexistent/providers").await.err().unwrap();
    assert!(error.to_string().contains("/nonexistent/providers"), "{error}");
}
