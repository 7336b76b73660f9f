//! What of the log was missing when the writer looked for it: a folder that was moved away or is
//! not mounted, or the end of a segment. The writer goes on without, and tells.
//!
//! Only names and ends are looked at; `verify` reads everything.

use std::io;
use std::path::Path;

use parking_lot::Mutex;
use tracing::error;

use crate::chain::AuditKey;
use crate::root::Root;
use crate::segment::{self, Name};

/// The first thing that was missed, until the process ends.
#[derive(Default)]
pub(crate) struct Missing(Mutex<Option<String>>);

impl Missing {
    /// What is missing.
    pub(crate) fn told(&self) -> Option<String> {
        self.0.lock().clone()
    }

    /// Notes the first series that does not have what the root vouches for. The files are looked at
    /// after the root was read: a record is in its file first, and a series in the root.
    pub(crate) fn compare(&self, folder: &Path, key: &AuditKey, root: &Root) -> io::Result<()> {
        let files = segment::list(folder)?;
        for (series, vouched) in root.heads.iter().filter(|(_, head)| head.number > 0) {
            let Some(last) = files.get(series).and_then(|segments| segments.last()) else {
                let what = if files.is_empty() { "".to_owned() } else { format!("series {series} of ") };
                self.tell(format!("{what}the audit log was missing from {}", folder.display()));
                continue;
            };
            match segment::end(&last.in_folder(folder), key, *last) {
                Ok(Some((head, before))) if head.may_follow(before.as_ref(), vouched) => {}
                // Writing to it will tell.
                Err(error) if !segment::is_not_a_file(&error) => {}
                _ => {
                    let name = last.file_name();
                    self.tell(format!(
                        "the audit segment {name} in {} does not end where it was left",
                        folder.display()
                    ));
                }
            }
        }
        Ok(())
    }

    /// Notes that a segment is no longer where it was.
    pub(crate) fn moved(&self, folder: &Path, name: Name) {
        self.tell(format!("the audit segment {} was removed from {}", name.file_name(), folder.display()));
    }

    fn tell(&self, what: String) {
        let mut told = self.0.lock();
        if told.is_none() {
            error!(
                "{what}. A new segment is begun there, and verifying the log keeps reporting what is missing. If the \
                 folder was moved, restored or is not mounted, stop, put it back, and start again"
            );
            *told = Some(what);
        }
    }
}
