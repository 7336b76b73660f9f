//! Records that every request needs, kept in memory so that a resolve from the cache reads no
//! database.
//!
//! **Invariant:** once a change made by this process is acknowledged, the cache never returns the
//! record from before it. A change calls [`forget`](RecordCache::forget) after it is durable. A
//! load that began earlier still returns its record to its own callers, but the cache does not keep
//! it. Changes made by another process (the command line beside a server) are seen within
//! [`MAX_AGE`].
//!
//! The database counts the changes of all records ([`Storage::record_changes`]). A record is valid
//! while the count is the one it was loaded under, and the count is read at most once in
//! [`MAX_AGE`]. So a workspace of any size is resolved from memory while nothing changes. A host
//! with constant changes reads no more than if each record expired after [`MAX_AGE`].

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coarsetime::Instant;
use parking_lot::{Mutex, MutexGuard};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::{Storage, StorageError};

/// How long records are used without asking the database whether anything has changed. Short,
/// because it delays, for example, a revocation of a key by another process; long enough that a
/// busy host asks once in thousands of requests.
pub const MAX_AGE: Duration = Duration::from_secs(1);

/// The count of changes in the database, shared by all caches of its records.
pub struct Changes {
    storage: Arc<dyn Storage>,
    /// On a coarse clock (some milliseconds), because it is read several times for each request.
    since: Instant,
    /// When the count was last read, in milliseconds after `since`; 0 means never.
    read_at: AtomicU64,
    count: AtomicU64,
    /// Held by the one task that reads the count; the others wait for it.
    reading: tokio::sync::Mutex<()>,
}

impl Changes {
    /// The changes of this database.
    pub fn new(storage: Arc<dyn Storage>) -> Arc<Self> {
        Arc::new(Self {
            storage,
            since: Instant::now_without_cache_update(),
            read_at: AtomicU64::new(0),
            count: AtomicU64::new(0),
            reading: tokio::sync::Mutex::new(()),
        })
    }

    /// Makes every cache read the count again before it returns a record.
    async fn expire(&self) {
        // A read that is in flight may have the count from before the change: let it end first.
        let _reading = self.reading.lock().await;
        self.read_at.store(0, Ordering::Release);
    }

    /// The number of changes, at most [`MAX_AGE`] old.
    async fn count(&self) -> Result<u64, StorageError> {
        if let Some(count) = self.known() {
            return Ok(count);
        }
        let _reading = self.reading.lock().await;
        if let Some(count) = self.known() {
            return Ok(count);
        }
        // Take the time before the read, because the answer may be of any moment after it.
        let asked_at = self.now();
        let count = self.storage.record_changes().await?;
        self.count.store(count, Ordering::Relaxed);
        self.read_at.store(asked_at, Ordering::Release);
        Ok(count)
    }

    fn known(&self) -> Option<u64> {
        let read_at = self.read_at.load(Ordering::Acquire);
        let is_fresh = read_at > 0 && u128::from(self.now().saturating_sub(read_at)) < MAX_AGE.as_millis();
        is_fresh.then(|| self.count.load(Ordering::Relaxed))
    }

    fn now(&self) -> u64 {
        Instant::now_without_cache_update().duration_since(self.since).as_millis().max(1)
    }
}

/// The weight of a record together with its key.
type Weigh<K, V> = fn(&K, &V) -> u64;

#[derive(Clone)]
struct Weigher<K, V>(Weigh<K, V>);

impl<K, V> Weighter<K, (u64, V)> for Weigher<K, V> {
    fn weight(&self, key: &K, (_, record): &(u64, V)) -> u64 {
        // A record without weight would never be evicted.
        (self.0)(key, record).max(1)
    }
}

/// A bounded cache of records.
pub struct RecordCache<K, V> {
    /// Each record with the count of changes that it was loaded under. This cache reads no clock
    /// and keeps no order of gets: every request asks for about five records.
    records: Cache<K, (u64, V), Weigher<K, V>>,
    changes: Arc<Changes>,
    /// How often a record was forgotten.
    forgotten: Mutex<u64>,
}

impl<K, V> RecordCache<K, V>
where
    K: Hash + Eq + Send + Sync + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A cache of at most `capacity` records.
    pub fn new(capacity: usize, changes: &Arc<Changes>) -> Self {
        Self::weighing(capacity, capacity as u64, |_, _| 1, changes)
    }

    /// A cache of records with a total weight of at most `capacity`, sized for about `records` of
    /// them.
    pub fn weighing(records: usize, capacity: u64, weigh: Weigh<K, V>, changes: &Arc<Changes>) -> Self {
        let records = Cache::with_weighter(records, capacity, Weigher(weigh));
        Self { records, changes: changes.clone(), forgotten: Mutex::new(0) }
    }

    /// The record of `key`, loaded if necessary. A missing record is not cached.
    ///
    /// Concurrent loads of one key all get the same record: the one that is ready first.
    pub async fn get_or_load<E: From<StorageError>>(
        &self,
        key: &K,
        load: impl Future<Output = Result<Option<V>, E>>,
    ) -> Result<Option<V>, E> {
        let count = self.changes.count().await?;
        if let Some(record) = self.current(key, count) {
            return Ok(Some(record));
        }
        let before = *self.lock();
        let Some(record) = load.await? else { return Ok(None) };
        let forgotten = self.lock();
        if let Some(record) = self.current(key, count) {
            return Ok(Some(record));
        }
        if *forgotten == before {
            // If a change is missing from both the record and this count, the next count differs.
            self.records.insert(key.clone(), (count, record.clone()));
        }
        Ok(Some(record))
    }

    fn current(&self, key: &K, count: u64) -> Option<V> {
        self.records.get(key).filter(|(of, _)| *of == count).map(|(_, record)| record)
    }

    /// Drops the record of `key`, and one that is being loaded.
    pub fn forget(&self, key: &K) {
        let mut forgotten = self.lock();
        *forgotten += 1;
        self.records.remove(key);
    }

    /// After a change of many rows: drops the changed records from all caches that share the
    /// [`Changes`].
    pub async fn forget_changed(&self) {
        *self.lock() += 1;
        self.changes.expire().await;
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.forgotten.lock()
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::SqliteStorage;

    async fn cache() -> RecordCache<u8, &'static str> {
        let storage = Arc::new(SqliteStorage::in_memory().await.unwrap());
        RecordCache::new(10, &Changes::new(storage))
    }

    async fn load(cache: &RecordCache<u8, &'static str>, value: Option<&'static str>) -> Option<&'static str> {
        cache.get_or_load(&1, async { Ok::<_, StorageError>(value) }).await.unwrap()
    }

    #[tokio::test]
    async fn a_record_is_loaded_once_until_it_is_forgotten() {
        let cache = cache().await;
        assert_eq!(load(&cache, None).await, None);
        assert_eq!(load(&cache, Some("first")).await, Some("first"));
        assert_eq!(load(&cache, Some("second")).await, Some("first"));
        cache.forget(&1);
        assert_eq!(load(&cache, Some("second")).await, Some("second"));
    }

    #[tokio::test]
    async fn large_records_count_for_what_they_are() {
        let storage = Arc::new(SqliteStorage::in_memory().await.unwrap());
        let cache: RecordCache<u32, usize> =
            RecordCache::weighing(1_000, 100_000, |_, size| *size as u64, &Changes::new(storage));
        let fill = async |size: usize| {
            for key in 0..1_000 {
                cache.forget(&key);
                cache.get_or_load(&key, async { Ok::<_, StorageError>(Some(size)) }).await.unwrap();
            }
            cache.records.len()
        };
        assert_eq!(fill(50).await, 1_000, "all of them, though not spread evenly");
        let large = fill(1_000).await;
        assert!((1..=100).contains(&large), "{large}");
    }

    #[tokio::test]
    async fn a_load_that_a_change_overtook_is_not_kept() {
        let cache = cache().await;
        let overtaken = cache.get_or_load(&1, async {
            cache.forget(&1);
            Ok::<_, StorageError>(Some("old"))
        });
        assert_eq!(overtaken.await.unwrap(), Some("old"));
        assert_eq!(load(&cache, Some("new")).await, Some("new"));
    }

    #[tokio::test]
    async fn a_record_is_kept_until_something_changes_in_the_database() {
        let cache = cache().await;
        assert_eq!(load(&cache, Some("first")).await, Some("first"));
        // The count is read again, and has not changed.
        cache.changes.read_at.store(0, Ordering::Relaxed);
        assert_eq!(load(&cache, Some("second")).await, Some("first"));
        // As if the record had been loaded under an earlier count.
        cache.records.insert(1, (7, "past"));
        assert_eq!(load(&cache, Some("second")).await, Some("second"));
    }
}
