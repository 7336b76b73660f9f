//! A disk that is full for a while: only completed operations are reported as done, and everything
//! works again afterwards.

use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::tests::{api_key, entry, time, unlocked, workspace};
use super::*;

const FOLDER: &str = "KEYWAY_TEST_FULL_DATABASE_FOLDER";

/// More than the pool's connections.
const MANY: usize = 12;

/// Runs in its own process, whose disk is full for a while: no file may grow beyond the size of the
/// write-ahead log.
#[tokio::test]
#[ignore = "is started by the test below"]
async fn fills_its_disk() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let path = Path::new(&folder).join("keyway.db");
    let storage = unlocked(SqliteStorage::open(&path).await.unwrap());
    let id = workspace(&storage).await;
    let (key, entry) = (api_key(id, "lookup"), entry(id, "user"));
    storage.insert_api_key(&key).await.unwrap();
    storage.insert_entry(&entry).await.unwrap();

    let before = getrlimit(Resource::Fsize);
    let full = std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
    setrlimit(Resource::Fsize, Rlimit { current: Some(full), maximum: before.maximum }).unwrap();
    for number in 0..MANY {
        let another = EntryRecord { id: EntryId::generate(), domain: number.to_string(), ..entry.clone() };
        storage.insert_entry(&another).await.unwrap_err();
    }
    let error = storage.count_master_key_uses(1, 1).await.unwrap_err().to_string();
    assert!(error.contains("disk") && !error.contains("or disk is full") && !error.contains("I/O"), "{error}");
    storage.delete_entry(id, &entry.id.into()).await.unwrap_err();
    storage.revoke_api_key(id, key.id, time(9)).await.unwrap_err();
    storage.count_workspace_key_uses(id, 1, 1).await.unwrap_err();
    storage.count_master_key_uses(1, 1).await.unwrap_err();
    setrlimit(Resource::Fsize, before).unwrap();

    assert_eq!(storage.entry(id, &entry.id.into()).await.unwrap(), Some(entry.clone()));
    assert_eq!(storage.api_key("lookup").await.unwrap(), Some(key.clone()));
    for number in 0..MANY {
        let another = EntryRecord { id: EntryId::generate(), domain: number.to_string(), ..entry.clone() };
        storage.insert_entry(&another).await.unwrap();
    }
    assert!(storage.delete_entry(id, &entry.id.into()).await.unwrap().is_some());
    assert!(storage.revoke_api_key(id, key.id, time(9)).await.unwrap().unwrap().revoked_at.is_some());
    storage.close().await;
}

#[test]
fn what_could_not_be_stored_is_an_error_and_everything_can_be_when_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["full_disk_tests::fills_its_disk", "--exact", "--ignored"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "{child:?}");
}

/// Runs in its own process, as a user who cannot write the folder.
#[tokio::test]
#[ignore = "is started by the test below"]
async fn opens_what_it_cannot_write() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let error = SqliteStorage::open(Path::new(&folder).join("keyway.db")).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("its folder cannot be written") && message.contains("make it writable"), "{message}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_refused_at_once_in_one_sentence() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyway.db");
    SqliteStorage::open(&path).await.unwrap().close().await;
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(folder.path(), 0o555);
    let mut child = Command::new(std::env::current_exe().unwrap());
    if rustix::process::geteuid().is_root() {
        // Root may write everywhere.
        let other = 65_534;
        child.uid(other);
        for path in [&path, folder.path()] {
            std::os::unix::fs::chown(path, Some(other), None).unwrap();
        }
    }
    let arguments = ["full_disk_tests::opens_what_it_cannot_write", "--exact", "--ignored"];
    let child = child.args(arguments).env(FOLDER, folder.path()).output().unwrap();
    mode(folder.path(), 0o755);
    assert!(child.status.success(), "{child:?}");
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "{child:?}");
}
