//! Rows by key.

use super::super::fields::PLAIN;
use super::table::TableName;
use super::{Message, Outcome, Said, Skip, TopicDecoder, object, skipped};

impl TopicDecoder<'_> {
    pub(super) fn upsert(&self, message: Message<'_>) -> Said {
        let value = message.value.map(object).transpose()?;
        let Some(reader) = self.taking(&TableName::default()) else { return skipped(None, Skip::OtherTable) };
        let parts = reader.key_of(message.key, value, None, PLAIN)?;
        let row = value.map(|value| reader.row(&reader.fields(value, None, PLAIN))).transpose()?;
        let own_time = row.as_ref().and_then(|row| row.millis());
        Ok((own_time, Outcome::Changes(vec![reader.change(parts, None, row)])))
    }
}
