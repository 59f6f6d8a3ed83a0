//! What a key may see.

use std::collections::BTreeSet;
use std::sync::Arc;

/// What whoever asks may see.
#[derive(Clone, Debug, Default)]
pub struct Access {
    stores: Option<Arc<BTreeSet<String>>>,
}

impl Access {
    /// Whether it may see a store.
    pub fn may_see(&self, store: &str) -> bool {
        self.stores.as_ref().is_none_or(|stores| stores.contains(store))
    }

    /// Whether it may see all stores.
    pub fn sees_all(&self) -> bool {
        self.stores.is_none()
    }

    /// The stores it is limited to, if it is.
    pub fn stores(&self) -> Option<&BTreeSet<String>> {
        self.stores.as_deref()
    }
}
