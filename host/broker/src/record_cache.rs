//! Records that every request needs, kept in memory so that a resolve from the cache touches no database.
//!
//! **Invariant:** after a change made by this process was acknowledged, nobody is given the record from before it. A
//! change calls [`forget`](RecordCache::forget) after it is durable; a load that began before that is still returned to
//! whoever asked for it then, but not kept. Changes made by another process (the command line beside a server) are seen
//! after [`MAX_AGE`] at the latest.

use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;

/// For how long a record is used without asking the database again. Short, because it is how long another process's
/// revocation of a key, say, takes to be seen; long enough that a busy record costs one read in thousands of requests.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(1);

/// A bounded cache of records.
pub(crate) struct RecordCache<K, V> {
    records: Cache<K, V>,
    /// How many times something was forgotten.
    forgotten: Mutex<u64>,
}

impl<K, V> RecordCache<K, V>
where
    K: Hash + Eq + Send + Sync + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A cache of at most `capacity` records, each used for at most `max_age` (for ever when there is none).
    pub(crate) fn new(capacity: u64, max_age: Option<Duration>) -> Self {
        let mut builder = Cache::builder().max_capacity(capacity);
        if let Some(age) = max_age {
            builder = builder.time_to_live(age);
        }
        Self { records: builder.build(), forgotten: Mutex::new(0) }
    }

    /// The record of `key`, loaded if necessary. What does not exist is not remembered.
    ///
    /// Concurrent loads of one key all get the same record: the one that is ready first.
    pub(crate) async fn get_or_load<E>(
        &self,
        key: &K,
        load: impl Future<Output = Result<Option<V>, E>>,
    ) -> Result<Option<V>, E> {
        if let Some(record) = self.records.get(key) {
            return Ok(Some(record));
        }
        let before = *self.lock();
        let Some(record) = load.await? else { return Ok(None) };
        let forgotten = self.lock();
        if let Some(record) = self.records.get(key) {
            return Ok(Some(record));
        }
        if *forgotten == before {
            self.records.insert(key.clone(), record.clone());
        }
        Ok(Some(record))
    }

    /// Drops the record of `key`, also the one that is being loaded.
    pub(crate) fn forget(&self, key: &K) {
        let mut forgotten = self.lock();
        *forgotten += 1;
        self.records.invalidate(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, u64> {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    async fn load(cache: &RecordCache<u8, &'static str>, value: Option<&'static str>) -> Option<&'static str> {
        cache.get_or_load(&1, async { Ok::<_, Infallible>(value) }).await.unwrap()
    }

    #[tokio::test]
    async fn a_record_is_loaded_once_until_it_is_forgotten() {
        let cache = RecordCache::new(10, None);
        assert_eq!(load(&cache, None).await, None);
        assert_eq!(load(&cache, Some("first")).await, Some("first"));
        assert_eq!(load(&cache, Some("second")).await, Some("first"));
        cache.forget(&1);
        assert_eq!(load(&cache, Some("second")).await, Some("second"));
    }

    #[tokio::test]
    async fn a_load_that_a_change_overtook_is_not_kept() {
        let cache = RecordCache::new(10, None);
        let overtaken = cache.get_or_load(&1, async {
            cache.forget(&1);
            Ok::<_, Infallible>(Some("old"))
        });
        assert_eq!(overtaken.await, Ok(Some("old")));
        assert_eq!(load(&cache, Some("new")).await, Some("new"));
    }
}
