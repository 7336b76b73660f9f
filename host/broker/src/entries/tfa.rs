//! The current code of an entry's second factor.
//!
//! Nothing is kept: an authenticator's code is made or fetched for each call.

use std::time::Duration;

use keyway_audit::{Operation, Trail};
use keyway_runtime::Fields;
use keyway_runtime::contract::{NoCodeReason, OneTimeCode};
use keyway_storage::{EntrySelector, TfaMethod};

use super::Entries;
use crate::access::Access;
use crate::codes::WantedCode;
use crate::error::{BrokerError, NoTfaCode};
use crate::resolve::ResolveRequest;

/// The current code of a second factor. Do not log or keep it.
#[derive(Debug)]
#[non_exhaustive]
pub enum TfaCode {
    /// From the entry's own secret, or from the item that it is bound to.
    Authenticator {
        /// The code.
        code: OneTimeCode,
        /// For how long it is still current, in whole seconds: from 1 up to its period.
        expires_in: Duration,
        /// How often it was handed out, this time included; 1 if no other caller has it. See
        /// [`Resolution::times_handed_out`](crate::Resolution::times_handed_out).
        times_handed_out: u32,
    },
}

impl Entries {
    /// The current code of an entry's second factor. Needs [`Scope::Api`](crate::Scope::Api): a
    /// client that manages entries with an authenticator has encrypted its secret, and the
    /// published clients ask with the same API key.
    ///
    /// An entry without a method has the code of its item's one-time password, or of its own secret
    /// if there is one. If the current code is not as `wanted`, the call waits for the next one.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::NoTfaCode`], [`BrokerError::CodeNotYet`]; for a
    /// bound entry also the errors of the provider.
    pub async fn tfa_code(
        &self,
        access: &Access,
        entry: &EntrySelector,
        wanted: WantedCode,
    ) -> Result<TfaCode, BrokerError> {
        let trail = Trail::selected(entry);
        self.core.audited(access, Operation::TfaCode, &trail, self.current_code(access, entry, wanted, &trail)).await
    }

    async fn current_code(
        &self,
        access: &Access,
        entry: &EntrySelector,
        wanted: WantedCode,
        trail: &Trail,
    ) -> Result<TfaCode, BrokerError> {
        let record = self.store.resolvable(access.workspace(), entry).await?;
        trail.note(|subject| subject.entry = Some(record.id));
        match record.tfa_method {
            Some(TfaMethod::Email) => return Err(NoTfaCode::NoEmail.into()),
            Some(method @ (TfaMethod::Sms | TfaMethod::MagicLink)) => return Err(NoTfaCode::Method(method).into()),
            Some(TfaMethod::Authenticator) | None => {}
        }
        let request = ResolveRequest::new(record.id).fields(Fields::ONE_TIME_CODE).code(wanted);
        let resolution = *self.resolver.release(access.workspace(), &request, trail).await?;
        let code = resolution.one_time_code.ok_or_else(|| match resolution.no_code {
            Some(none) if none.reason != NoCodeReason::Absent => NoTfaCode::NotMade(none.message),
            _ if record.binding.is_some() => NoTfaCode::NotOnItem,
            _ => NoTfaCode::NoSecondFactor,
        })?;
        let now = u64::try_from(self.core.timestamp().as_second()).unwrap_or_default();
        let left = code.expires_at.saturating_sub(now).clamp(1, u64::from(code.period_seconds).max(1));
        let times_handed_out = resolution.times_handed_out.unwrap_or(1);
        Ok(TfaCode::Authenticator { code, expires_in: Duration::from_secs(left), times_handed_out })
    }
}
