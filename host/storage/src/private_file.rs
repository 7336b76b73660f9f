//! Files and folders that only their owner may read.
//!
//! A new file appears complete and with its final mode, or not at all. It is written under another
//! name and then linked; unlike renaming, linking fails when the name has been taken meanwhile. A
//! created file survives a power cut: a master key must never be lost while the database that
//! depends on it survives.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Creates a file with these contents. Fails with [`io::ErrorKind::AlreadyExists`] when the file
/// exists.
pub fn create(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", uuid::Uuid::new_v4()));
    let temporary = path.with_file_name(name);
    let linked = write(&temporary, contents).map(|()| fs::hard_link(&temporary, path));
    // A failure to remove it does not matter: it exists only if this process could write to the
    // folder.
    let _ = fs::remove_file(&temporary);
    match linked? {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // A file system without hard links.
        Err(_) => write(path, contents),
        Ok(()) => Ok(()),
    }?;
    sync_folder_of(path)
}

/// Creates a folder that only its owner can open, with its parents; leaves an existing one
/// unchanged.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    may_create_folder(folder)?;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Whether a folder is there, or nothing is in its place.
pub fn may_create_folder(folder: &Path) -> io::Result<()> {
    let in_place = || io::Error::new(io::ErrorKind::NotADirectory, "something else is in its place; move that away");
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(in_place()),
        // A link that leads nowhere.
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_symlink() => Err(in_place()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the name of a file durable, in addition to its contents.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(folder)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Whether only the owner has rights to the file.
pub fn is_private(path: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(path)?;
    #[cfg(unix)]
    return Ok(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 == 0);
    #[cfg(not(unix))]
    return Ok(metadata.is_file());
}

/// What no two files of a system have in common at a time. Systems other than Unix tell nothing;
/// there, an open file cannot be removed.
pub type FileId = (u64, u64);

/// The id of a file.
pub fn id_of(file: &Metadata) -> FileId {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (file.dev(), file.ino())
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        (0, 0)
    }
}

/// Whether a file at this path is in memory, where the next start of the system erases it. Where
/// there is no such file yet, the nearest existing folder decides. Known on Linux only.
pub fn is_in_memory(path: &Path) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    {
        // From `linux/magic.h`.
        const TMPFS: i64 = 0x0102_1994;
        const RAMFS: i64 = 0x8584_58f6;
        let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
        Ok([TMPFS, RAMFS].contains(&rustix::fs::statfs(there)?.f_type))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        Ok(false)
    }
}

/// Removes all rights except the owner's.
pub fn make_private(path: &Path) -> io::Result<()> {
    let mut permissions = fs::metadata(path)?.permissions();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        permissions.set_mode(permissions.mode() & 0o700);
    }
    fs::set_permissions(path, permissions)
}

fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let written = file.write_all(contents).and_then(|()| file.sync_all());
    if written.is_err() {
        // Most likely a full disk. The truncated file must not pass for a complete one.
        let _ = fs::remove_file(path);
    }
    written
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;

    const FOLDER: &str = "KEYWAY_TEST_FULL_DISK_FOLDER";

    /// Runs in its own process, which may write ten bytes to a file, as if the disk were full.
    #[test]
    #[ignore = "is started by the test below"]
    fn creates_one_on_a_full_disk() {
        let Some(folder) = std::env::var_os(FOLDER) else { return };
        let maximum = getrlimit(Resource::Fsize).maximum;
        setrlimit(Resource::Fsize, Rlimit { current: Some(10), maximum }).unwrap();
        let error = create(&Path::new(&folder).join("key"), &[7; 100]).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_file_that_does_not_fit_on_the_disk_is_not_there_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["private_file::tests::creates_one_on_a_full_disk", "--exact", "--ignored"])
            .env(FOLDER, folder.path())
            .output()
            .unwrap();
        assert!(child.status.success(), "{child:?}");
        assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "{child:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        create(&folder.path().join("key"), &[7; 100]).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
