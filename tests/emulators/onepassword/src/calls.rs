//! Records requests: counts by endpoint, and the requests themselves without any secrets.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::world::lock;

/// How many requests are kept. Older ones are dropped; the counts continue.
const REMEMBERED: usize = 10_000;

/// The endpoints of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// `POST /api/v3/auth/start`
    AuthStart,
    /// `POST /api/v2/auth`
    Auth,
    /// `POST /api/v2/auth/confirm-key`
    ConfirmKey,
    /// `POST /api/v2/auth/complete`
    Complete,
    /// `POST /api/v1/device`
    RegisterDevice,
    /// `PUT /api/v1/device/{device}/reauthorize`
    ReauthorizeDevice,
    /// `PUT /api/v1/session/signout`
    SignOut,
    /// `GET /api/v2/account/keysets`
    Keysets,
    /// `GET /api/v1/vaults`
    Vaults,
    /// `GET /api/v3/vault/{vault}`
    Vault,
    /// `GET /api/v1/vault/{vault}/items/overviews`
    Overviews,
    /// `GET /api/v1/vault/{vault}/item/{item}`
    Item,
    /// `POST /api/v3/vault/{vault}/items/batch`
    ItemsBatch,
    /// `GET /api/v1/vault/{vault}/{contentVersion}/items` and the same under `v2`
    ItemsSince,
    /// `PATCH /api/v3/vault/{vault}/{contentVersion}/items`
    PatchItems,
    /// Anything else.
    Unknown,
}

/// Counts since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// All requests.
    pub total: u64,
    /// Completed sign-ins.
    pub logins: u64,
    /// Requests by endpoint; endpoints that were not called are omitted.
    pub endpoints: BTreeMap<Endpoint, u64>,
}

impl Calls {
    /// How often `endpoint` was called.
    #[must_use]
    pub fn of(&self, endpoint: Endpoint) -> u64 {
        self.endpoints.get(&endpoint).copied().unwrap_or(0)
    }
}

/// A request that was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenRequest {
    /// The order in which requests were answered: 1, 2, 3 and so on.
    pub number: u64,
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// The HTTP method.
    pub method: String,
    /// Path and query. They contain only ids.
    pub path: String,
    /// The status of the answer; absent if the connection was closed without one.
    pub status: Option<u16>,
    /// How long the answer took, in microseconds.
    pub micros: u64,
}

/// The counters: one atomic per endpoint, so the cost is negligible.
#[derive(Default)]
pub(crate) struct CallLog {
    counts: [AtomicU64; Endpoint::Unknown as usize + 1],
    logins: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    number: u64,
    requests: VecDeque<SeenRequest>,
}

const ALL: [Endpoint; Endpoint::Unknown as usize + 1] = [
    Endpoint::AuthStart,
    Endpoint::Auth,
    Endpoint::ConfirmKey,
    Endpoint::Complete,
    Endpoint::RegisterDevice,
    Endpoint::ReauthorizeDevice,
    Endpoint::SignOut,
    Endpoint::Keysets,
    Endpoint::Vaults,
    Endpoint::Vault,
    Endpoint::Overviews,
    Endpoint::Item,
    Endpoint::ItemsBatch,
    Endpoint::ItemsSince,
    Endpoint::PatchItems,
    Endpoint::Unknown,
];

impl CallLog {
    /// Counts an incoming request.
    pub(crate) fn count(&self, endpoint: Endpoint) {
        if let Some(count) = self.counts.get(endpoint as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a completed sign-in.
    pub(crate) fn count_login(&self) {
        self.logins.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a request once it is answered.
    pub(crate) fn remember(&self, request: SeenRequest) {
        let mut seen = lock(&self.seen);
        seen.number += 1;
        let number = seen.number;
        if seen.requests.len() == REMEMBERED {
            seen.requests.pop_front();
        }
        seen.requests.push_back(SeenRequest { number, ..request });
    }

    pub(crate) fn calls(&self) -> Calls {
        let counts =
            ALL.into_iter().zip(&self.counts).map(|(endpoint, count)| (endpoint, count.load(Ordering::Relaxed)));
        let endpoints: BTreeMap<_, _> = counts.filter(|(_, count)| *count > 0).collect();
        Calls { total: endpoints.values().sum(), logins: self.logins.load(Ordering::Relaxed), endpoints }
    }

    pub(crate) fn requests(&self) -> Vec<SeenRequest> {
        lock(&self.seen).requests.iter().cloned().collect()
    }

    pub(crate) fn reset(&self) {
        self.counts.iter().chain([&self.logins]).for_each(|count| count.store(0, Ordering::Relaxed));
        *lock(&self.seen) = Seen::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_has_a_counter_of_its_own() {
        let log = CallLog::default();
        for (times, endpoint) in (1..).zip(ALL) {
            (0..times).for_each(|_| log.count(endpoint));
        }
        for (times, endpoint) in (1..).zip(ALL) {
            assert_eq!(log.calls().of(endpoint), times, "{endpoint:?}");
        }
        log.reset();
        assert_eq!(log.calls(), Calls::default());
    }
}
