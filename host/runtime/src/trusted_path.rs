//! Whether only root and the user of this process can change what is at a path.
//!
//! A component gets the tokens of every connection of its type, so one that somebody else put there
//! must not be loaded. As in sshd's `StrictModes`, the file counts and every folder that leads to
//! it: whoever can write to one of them can put something else in its place. A symbolic link is
//! judged by its target, and by the folders that lead to it.
//!
//! A folder that everybody can write to is accepted on the way if it is sticky, like `/tmp`: there,
//! others cannot rename or remove what is not theirs. Write access for the user's private group is
//! accepted: with the umask 002 of many systems, every file has it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path};

/// Linux follows as many links (`path_resolution(7)`).
const LINKS: u32 = 40;

/// `S_ISVTX`, `S_IWGRP` and `S_IWOTH` of `inode(7)`.
const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// What the owner is of files whose owner a user namespace does not have (`user_namespaces(7)`),
/// usually root: a service with systemd's `PrivateUsers=` sees `/` like that.
const NOBODY: u32 = 65_534;

/// Fails with a sentence that names what others can change, and the command that mends it.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    let user = User { id: rustix::process::geteuid().as_raw(), in_namespace: is_in_namespace() };
    check_links(&path::absolute(path)?, user, LINKS)
}

/// The user of this process.
#[derive(Clone, Copy)]
struct User {
    id: u32,
    in_namespace: bool,
}

fn is_in_namespace() -> bool {
    // The line of a process that sees all users.
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.split_whitespace().eq(["0", "0", "4294967295"]))
}

fn check_links(path: &Path, user: User, links: u32) -> io::Result<()> {
    let mut ancestors: Vec<_> = path.ancestors().collect();
    ancestors.reverse();
    for step in ancestors {
        let metadata = fs::symlink_metadata(step)?;
        if !metadata.is_symlink() {
            judge(step, &metadata, user, step != path)?;
            continue;
        }
        let left = links.checked_sub(1).ok_or_else(|| io::Error::other("too many symbolic links"))?;
        judge_owner(step, &metadata, user)?;
        let folder = step.parent().map(Path::to_owned).unwrap_or_default();
        check_links(&folder.join(fs::read_link(step)?), user, left)?;
    }
    Ok(())
}

fn judge(path: &Path, metadata: &Metadata, user: User, on_the_way: bool) -> io::Result<()> {
    judge_owner(path, metadata, user)?;
    let private_group = user.id != 0 && metadata.gid() == user.id;
    let writers = if private_group { OTHERS_WRITE } else { GROUP_WRITES | OTHERS_WRITE };
    let sticky = on_the_way && metadata.is_dir() && metadata.mode() & STICKY != 0;
    if metadata.mode() & writers == 0 || sticky {
        return Ok(());
    }
    let shown = path.display();
    Err(io::Error::other(format!("other users can write to {shown}. Run `chmod go-w {shown}`")))
}

fn judge_owner(path: &Path, metadata: &Metadata, user: User) -> io::Result<()> {
    let owner = metadata.uid();
    if owner == 0 || owner == user.id || user.in_namespace && owner == NOBODY {
        return Ok(());
    }
    let (shown, id) = (path.display(), user.id);
    Err(io::Error::other(format!(
        "{shown} belongs to user {owner}, not to root or the user of this process ({id}). Run `chown -h {id} {shown}` and `chmod go-w {shown}`"
    )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::PathBuf;

    use super::*;

    /// A folder with a file in it, both of this user's alone.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        set_mode(&inner, 0o755);
        let file = inner.join("file");
        fs::write(&file, "").unwrap();
        set_mode(&file, 0o644);
        (folder, file)
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refused(path: &Path, named: &Path) {
        let error = check(path).unwrap_err().to_string();
        assert!(error.contains(&format!("{}", named.display())) && error.contains("chmod go-w"), "{error}");
    }

    #[test]
    fn what_others_can_write_is_refused_and_so_is_what_lies_in_it() {
        let (outer, file) = folder();
        let inner = file.parent().unwrap();
        check(&file).unwrap();
        for mode in [0o666, 0o646] {
            set_mode(&file, mode);
            refused(&file, &file);
        }
        set_mode(&file, 0o644);
        for above in [inner, outer.path()] {
            set_mode(above, 0o757);
            refused(&file, above);
            set_mode(above, 0o755);
        }
        check(&file).unwrap();
    }

    #[test]
    fn a_sticky_folder_leads_safely_to_a_file_and_is_itself_refused() {
        let (_outer, file) = folder();
        let inner = file.parent().unwrap();
        set_mode(inner, 0o1777);
        check(&file).unwrap();
        refused(inner, inner);
    }

    #[test]
    fn a_link_is_judged_by_its_target_and_by_what_leads_to_it() {
        let (outer, file) = folder();
        let (elsewhere, _) = folder();
        let (first, second) = (outer.path().join("link"), elsewhere.path().join("link"));
        symlink(&second, &first).unwrap();
        symlink(&file, &second).unwrap();
        check(&first).unwrap();
        set_mode(elsewhere.path(), 0o777);
        refused(&first, elsewhere.path());
        set_mode(elsewhere.path(), 0o755);
        set_mode(&file, 0o666);
        refused(&first, &file);
        symlink("turns", outer.path().join("turns")).unwrap();
        assert!(check(&outer.path().join("turns")).unwrap_err().to_string().contains("too many"));
    }

    #[test]
    fn what_another_user_owns_is_refused() {
        let (_outer, file) = folder();
        // Only root can give files away.
        if chown(&file, Some(12_345), None).is_ok() {
            refused(&file, &file);
        }
        let metadata = fs::metadata(&file).unwrap();
        let judged = |id| judge(&file, &metadata, User { id, in_namespace: false }, false);
        assert!(judged(metadata.uid()).is_ok());
        assert!(metadata.uid() == 0 || judged(metadata.uid() + 1).is_err());
    }

    #[test]
    fn the_private_group_of_the_user_may_write_and_another_may_not() {
        let (_outer, file) = folder();
        set_mode(&file, 0o664);
        let metadata = fs::metadata(&file).unwrap();
        // As root, a user whose private group has the number of the file's.
        for id in [metadata.gid(), metadata.gid() + 1] {
            let owned = metadata.uid() == 0 || metadata.uid() == id;
            let private = id != 0 && id == metadata.gid();
            let judged = judge(&file, &metadata, User { id, in_namespace: false }, false);
            assert_eq!(judged.is_ok(), owned && private, "{id}");
        }
    }
}
