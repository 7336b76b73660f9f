//! Which requests came: counts by endpoint, and the requests themselves without anything secret.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::world::lock;

/// How many requests are remembered. Older ones are forgotten; the counts go on.
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
    /// How many sign-ins were completed.
    pub logins: u64,
    /// By endpoint; an endpoint that was not called is left out.
    pub endpoints: BTreeMap<Endpoint, u64>,
}

impl Calls {
    /// How often `endpoint` was called.
    #[must_use]
    pub fn of(&self, endpoint: Endpoint) -> u64 {
        self.endpoints.get(&endpoint).copied().unwrap_or(0)
    }
}

/// One request that came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenRequest {
    /// In which order it was answered: 1, 2, 3 and so on.
    pub number: u64,
    /// The endpoint that it was for.
    pub endpoint: Endpoint,
    /// The HTTP method.
    pub method: String,
    /// Path and query. There are only ids in it.
    pub path: String,
    /// The status of the answer; absent when the connection was ended without one.
    pub status: Option<u16>,
    /// How long the answer took, in microseconds.
    pub micros: u64,
}

/// The counters. One atomic for each endpoint, so that counting costs nothing next to a request.
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
    /// Counts a request when it comes in.
    pub(crate) fn count(&self, endpoint: Endpoint) {
        if let Some(count) = self.counts.get(endpoint as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a completed sign-in.
    pub(crate) fn count_login(&self) {
        self.logins.fetch_add(1, Ordering::Relaxed);
    }

    /// Remembers a request once it is answered.
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
