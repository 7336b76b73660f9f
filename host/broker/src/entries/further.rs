//! Further fields of items: values beside user name, password and one-time code, resolved by name.
//!
//! They are always live. They come from the same call as user name and password, because values
//! that are made for a call belong together; so a request that names further fields neither reads
//! the cache nor fills it.

use std::collections::BTreeSet;

use keyway_audit::{Operation, Trail};
use keyway_budget::ProviderOperation;
use keyway_runtime::contract::FieldSpec;
use keyway_storage::EntrySelector;

use super::Entries;
use crate::access::Access;
use crate::error::{BrokerError, InvalidInput};

/// The most fields that a call may ask for, by the contract.
const AT_A_TIME: usize = 100;

/// The longest name, in bytes, by the contract.
const NAME_LIMIT: usize = 256;

impl Entries {
    /// The further fields of the item that an entry is bound to, without their values: what
    /// [`ResolveRequest::further`](crate::ResolveRequest::further) can name. An entry with
    /// credentials of its own has none. Needs [`Scope::Resolve`](crate::Scope::Resolve).
    ///
    /// # Errors
    /// [`BrokerError::NotFound`]; [`BrokerError::Provider`], with
    /// [`ErrorCode::Unsupported`](keyway_runtime::ErrorCode::Unsupported) when items of this
    /// provider have no further fields; and the errors that prevent a call.
    pub async fn list_fields(&self, access: &Access, entry: &EntrySelector) -> Result<Vec<FieldSpec>, BrokerError> {
        let trail = Trail::selected(entry);
        let list = async {
            let Some((item, opened)) = self.resolver.bound_item(access, entry, &trail).await? else {
                return Ok(Vec::new());
            };
            let list = ProviderOperation::ListFields;
            let fields = opened.call(list, item.reference, |provider, connection, reference| {
                Box::pin(provider.list_fields(connection, reference))
            });
            let fields = fields.await?;
            trail.note(|subject| subject.count = Some(fields.len() as u64));
            Ok(fields)
        };
        self.core.audited(access, Operation::ListFields, &trail, list).await
    }
}

/// Checks that these can be names of fields.
pub(crate) fn check_names(names: &[String]) -> Result<(), InvalidInput> {
    let mut seen = BTreeSet::new();
    let are_names = names.iter().all(|name| (1..=NAME_LIMIT).contains(&name.len()) && seen.insert(name));
    if are_names && names.len() <= AT_A_TIME { Ok(()) } else { Err(InvalidInput::FurtherFields) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_fields_are_short_few_and_each_is_there_once() {
        let names = |names: &[&str]| check_names(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&[]), Ok(()));
        assert_eq!(names(&["a", "b", &"x".repeat(256)]), Ok(()));
        for wrong in [&["a", "a"][..], &[""], &[&"x".repeat(257)]] {
            assert_eq!(names(wrong), Err(InvalidInput::FurtherFields));
        }
        let numbered = |count: usize| check_names(&(0..count).map(|number| number.to_string()).collect::<Vec<_>>());
        assert_eq!((numbered(100), numbered(101)), (Ok(()), Err(InvalidInput::FurtherFields)));
    }
}
