//! What of the log was missing when the writer looked for it: a folder that was moved away or is
//! not mounted. The writer goes on without, and tells.
//!
//! Only names are looked at; `verify` reads everything.

use std::path::Path;

use parking_lot::Mutex;
use tracing::error;

use crate::root::Root;
use crate::segment::Name;

/// The first thing that was missed, until the process ends.
#[derive(Default)]
pub(crate) struct Missing(Mutex<Option<String>>);

impl Missing {
    /// What is missing.
    pub(crate) fn told(&self) -> Option<String> {
        self.0.lock().clone()
    }

    /// Notes that there is no segment, if the root vouches for any record.
    pub(crate) fn whole(&self, folder: &Path, root: &Root) {
        if root.heads.values().any(|head| head.number > 0) {
            self.tell(format!("the audit log was missing from {}", folder.display()));
        }
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
                 folder was moved or is not mounted, stop, put it back, and start again"
            );
            *told = Some(what);
        }
    }
}
