//! What a background thread found that must stop the job: the first finding is kept and told to all that ask.

use std::sync::OnceLock;

use super::KafkaError;

#[derive(Default)]
pub(super) struct Failure(OnceLock<KafkaError>);

impl Failure {
    /// Notes a finding; the first one counts.
    pub(super) fn set(&self, error: KafkaError) {
        if self.0.set(error).is_ok() {
            tracing::debug!(error = ?self.0.get(), "reading kafka must stop");
        }
    }

    /// The finding. Costs one load while there is none.
    #[inline]
    pub(super) fn get(&self) -> Option<KafkaError> {
        self.0.get().cloned()
    }
}
