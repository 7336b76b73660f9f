//! Files that only their owner may read.
//!
//! A new one appears complete and with its final mode, or not at all: it is made under another name and then linked,
//! which, other than renaming, fails when the name is taken meanwhile. Once it was created it outlasts a power cut: a
//! master key that the database is under must not be younger than the database.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Creates a file with these contents. Fails with [`io::ErrorKind::AlreadyExists`] when there is one.
pub(crate) fn create(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", uuid::Uuid::new_v4()));
    let temporary = path.with_file_name(name);
    let linked = write(&temporary, contents).and_then(|()| fs::hard_link(&temporary, path));
    // Whether it can be removed decides nothing: it was there only if this process could write to the folder.
    let _ = fs::remove_file(&temporary);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // A file system without hard links.
        Err(_) => write(path, contents),
        Ok(()) => Ok(()),
    }?;
    sync_folder_of(path)
}

/// Makes the name of a file durable, and not only what is in it.
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

/// Whether nobody but the owner has any right to the file.
pub(crate) fn is_private(path: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(path)?;
    #[cfg(unix)]
    return Ok(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 == 0);
    #[cfg(not(unix))]
    return Ok(metadata.is_file());
}

/// Takes everybody's rights away but the owner's.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
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
    file.write_all(contents)?;
    file.sync_all()
}
