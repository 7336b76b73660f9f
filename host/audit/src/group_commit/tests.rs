//! Group commit against a log that hangs: a named pipe stands in for the segment, and accepts
//! nothing while it is full.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use keyway_clock::SystemClock;
use keyway_storage::SqliteStorage;
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::chain::{AuditKey, Head};
use crate::recorder::{DEADLINE, guarded};
use crate::root_store::Roots;
use crate::segment::{Name, Segment};
use crate::writer::{End, Open};

const NAME: Name = Name { series: 1, segment: 1 };

struct Lab {
    commit: Arc<GroupCommit>,
    pipe: PathBuf,
    _folder: TempDir,
}

impl Lab {
    /// A log whose open segment is a pipe, with the thread that writes but without the one that
    /// syncs.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pipe = NAME.in_folder(folder.path());
        mkfifoat(CWD, &pipe, Mode::RWXU).unwrap();
        let (key, clock) = (AuditKey::new(&[9; 32]), Arc::new(SystemClock::new()));
        let storage = Arc::new(SqliteStorage::in_memory().await.unwrap());
        // Opened for reading too, so that the open does not block.
        let file = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        let segment = Segment::of(NAME, pipe.clone(), file, 1).unwrap();
        let shared = Arc::new(Shared::new(Writer {
            folder: folder.path().to_owned(),
            segment_bytes: 1 << 20,
            key: key.clone(),
            clock: clock.clone(),
            roots: Arc::new(Roots::new(storage, key, clock, false)),
            runtime: Handle::current(),
            syncing: Arc::default(),
            missing: Arc::default(),
            open: Some(Open { segment, head: Head::NONE, end: End::Whole }),
            buffer: Vec::new(),
        }));
        let (requests, to_do) = mpsc::channel();
        let commit = Arc::new(GroupCommit::new(shared.clone(), requests));
        thread::spawn(move || run(&to_do, &shared));
        Self { commit, pipe, _folder: folder }
    }

    /// Fills the pipe; every later write hangs.
    fn fill(&self) {
        let mut pipe = self.open();
        while pipe.write(&[b'x'; 4096]).is_ok() {}
        assert_eq!(pipe.write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    /// Empties the pipe.
    fn drain(&self) -> String {
        let (mut pipe, mut all) = (self.open(), Vec::new());
        assert_eq!(pipe.read_to_end(&mut all).unwrap_err().kind(), ErrorKind::WouldBlock);
        String::from_utf8(all).unwrap()
    }

    fn open(&self) -> File {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(&self.pipe).unwrap()
    }

    async fn append(&self) -> Result<Receipt, AuditError> {
        append(&self.commit).await
    }
}

async fn append(commit: &GroupCommit) -> Result<Receipt, AuditError> {
    guarded(commit.append(b"{}".to_vec(), Durability::Written)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_of_many_callers_is_written_once_and_in_the_order_of_its_number() {
    let lab = Lab::new().await;
    let callers: Vec<_> = (0..32)
        .map(|_| {
            let commit = lab.commit.clone();
            tokio::spawn(async move {
                let mut numbers = Vec::new();
                for _ in 0..8 {
                    numbers.push(append(&commit).await.unwrap().number);
                }
                numbers
            })
        })
        .collect();
    let mut numbers = Vec::new();
    let mut lines = String::new();
    for caller in callers {
        // Keeps the pipe from filling up.
        while !caller.is_finished() {
            lines += &lab.drain();
            tokio::task::yield_now().await;
        }
        numbers.extend(caller.await.unwrap());
    }
    lines += &lab.drain();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=256).collect::<Vec<_>>());
    let written: Vec<_> = lines.lines().map(|line| crate::segment::number_of(line.as_bytes()).unwrap()).collect();
    assert_eq!(written, numbers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_take_nothing_from_the_others() {
    let lab = Lab::new().await;
    for round in 1..=20 {
        let gone = tokio::spawn({
            let commit = lab.commit.clone();
            async move { append(&commit).await }
        });
        let stays = tokio::spawn({
            let commit = lab.commit.clone();
            async move { append(&commit).await }
        });
        gone.abort();
        assert!(timeout(Duration::from_secs(4), stays).await.unwrap().unwrap().is_ok(), "round {round}");
    }
    lab.drain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_holds_up_one_thread_and_the_others_go_away_at_their_deadline() {
    let lab = Lab::new().await;
    lab.fill();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let commit = lab.commit.clone();
            tokio::spawn(async move { append(&commit).await })
        })
        .collect();
    // Meanwhile the runtime runs other tasks.
    for _ in 0..100 {
        tokio::spawn(tokio::time::sleep(Duration::from_millis(1))).await.unwrap();
    }
    let started = Instant::now();
    while callers.iter().filter(|caller| caller.is_finished()).count() < 7 {
        assert!(started.elapsed() < 3 * DEADLINE, "others wait, too");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lab.drain();
    let mut outcomes = Vec::new();
    for caller in callers {
        outcomes.push(caller.await.unwrap());
    }
    let late = outcomes.iter().filter(|outcome| matches!(outcome, Err(AuditError::Deadline(DEADLINE)))).count();
    assert!(late >= 7, "{outcomes:?}");
    assert!(lab.append().await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_sync_writes_nothing_by_itself() {
    let lab = Lab::new().await;
    lab.fill();
    // A write would hang, past the deadline.
    let waited = guarded(lab.commit.append(b"{}".to_vec(), Durability::Synced)).await;
    assert!(matches!(waited, Err(AuditError::Deadline(DEADLINE))));
    lab.drain();
}

#[tokio::test]
async fn the_only_thread_of_a_runtime_is_never_held_up() {
    let lab = Lab::new().await;
    lab.fill();
    tokio::time::pause();
    // Paused time advances whenever the thread is idle; if the thread hung, this would never
    // return.
    assert!(matches!(lab.append().await, Err(AuditError::Deadline(DEADLINE))));
    lab.drain();
}

#[tokio::test]
async fn who_needs_no_sync_waits_for_none() {
    let lab = Lab::new().await;
    // No thread syncs, as if the disk took for ever.
    let waits = tokio::spawn({
        let commit = lab.commit.clone();
        async move { commit.append(b"{}".to_vec(), Durability::Synced).await }
    });
    while lab.append().await.unwrap().number == 1 {}
    assert!(!waits.is_finished());
}
