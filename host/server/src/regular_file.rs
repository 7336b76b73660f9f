//! Files that are read at start, or again while the server runs.
//!
//! **Invariant:** reading ends soon, and takes no more memory than the limit.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Larger than any certificate, key, or bundle of authorities: Mozilla's takes 220 KiB.
const LIMIT: u64 = 4 << 20;

/// The contents of a file, wiped when dropped. A pipe or a device is an error: reading it could
/// wait for ever.
pub(crate) fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    read_up_to(path, LIMIT)
}

/// The same of standard input, where a pipe is what is meant.
pub(crate) fn read_stdin() -> io::Result<Zeroizing<Vec<u8>>> {
    let mut contents = Zeroizing::new(Vec::new());
    match io::stdin().lock().take(LIMIT + 1).read_to_end(&mut contents)? as u64 > LIMIT {
        true => Err(too_large(LIMIT)),
        false => Ok(contents),
    }
}

fn too_large(limit: u64) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("it is larger than {} MiB", limit >> 20))
}

/// The same with a limit in bytes.
pub(crate) fn read_up_to(path: &Path, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // Opening a pipe would wait as well.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        let kind = if found.is_dir() { ErrorKind::IsADirectory } else { ErrorKind::InvalidInput };
        return Err(io::Error::new(kind, "it is not a regular file"));
    }
    if found.len() > limit {
        return Err(too_large(limit));
    }
    // Allocated once, so that growing leaves no copies behind.
    let mut contents = Zeroizing::new(Vec::with_capacity(usize::try_from(found.len()).unwrap_or_default() + 1));
    file.take(limit).read_to_end(&mut contents)?;
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/zero")] {
            let error = read(path).unwrap_err();
            assert!(error.to_string().contains("not a regular file"), "{}: {error}", path.display());
        }
        let file = folder.path().join("file");
        std::fs::write(&file, "text").unwrap();
        // As Kubernetes mounts secrets.
        std::os::unix::fs::symlink(&file, folder.path().join("link")).unwrap();
        assert_eq!(**read(&folder.path().join("link")).unwrap(), *b"text");
        std::fs::File::create(&file).unwrap().set_len(LIMIT + 1).unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("4 MiB"));
    }
}
