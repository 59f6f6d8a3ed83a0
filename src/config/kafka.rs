//! `[kafka]` of a job file: where the brokers are, and properties of librdkafka.
//!
//! Upholds: a job file holds no secret. It is printed by `check`, logged at the start and kept under version control, so an
//! option that carries a secret names where it is (`env:NAME`, `file:PATH`) and is read only when a client is made.
//! Absent on purpose: which properties exist. librdkafka knows, and says so when a client is made.

use super::KafkaSpec;
use super::diagnostics::{Mistakes, Reported, quoted};
use super::fields::{Field, Section};

/// Every field of the table.
pub(super) const FIELDS: [&str; 2] = ["brokers", "options"];

/// Whether an option's value must never be shown: judged by its name, rather once too often.
pub(crate) fn is_secret(option: &str) -> bool {
    let option = option.to_ascii_lowercase();
    let place = [".location", ".url", ".keytab"].iter().any(|end| option.ends_with(end));
    let words = ["password", "secret", "key", "token", "jaas", "credential", "oauthbearer.config"];
    !place && words.iter().any(|word| option.contains(word))
}

/// Whether a value says where the secret is, instead of being it.
pub(crate) fn is_reference(value: &str) -> bool {
    value.strip_prefix("env:").or_else(|| value.strip_prefix("file:")).is_some_and(|place| !place.is_empty())
}

pub(super) fn read(field: &Field<'_>, mistakes: &mut Mistakes<'_>) -> Result<KafkaSpec, Reported> {
    let section = field.table(&FIELDS, "[kafka] with brokers and options", mistakes)?;
    section.unknown(|_| None, mistakes);
    let brokers = section.field("brokers").map(|field| Ok(field.text(mistakes)?.to_owned())).transpose();
    let options = section.field("options").map_or(Ok(Vec::new()), |field| options(&field, mistakes));
    Ok(KafkaSpec { brokers: brokers?, options: options? })
}

fn options(field: &Field<'_>, mistakes: &mut Mistakes<'_>) -> Result<Vec<(String, String)>, Reported> {
    let section: Section<'_> = field.table(&[], "{ \"security.protocol\" = \"SASL_SSL\" }", mistakes)?;
    let mut options = Vec::new();
    let mut trouble = Ok(());
    for (name, field) in section.fields() {
        match option(name, &field, mistakes) {
            Ok(value) => options.push((name.to_owned(), value)),
            Err(reported) => trouble = Err(reported),
        }
    }
    options.sort();
    trouble.map(|()| options)
}

fn option(name: &str, field: &Field<'_>, mistakes: &mut Mistakes<'_>) -> Result<String, Reported> {
    if name.is_empty() {
        return Err(field.wrong("is no property; name one of librdkafka's", mistakes));
    }
    let value = field.text(mistakes)?;
    if name == "bootstrap.servers" || name == "metadata.broker.list" {
        return Err(field.wrong("is set by brokers of [kafka], or by --brokers", mistakes));
    }
    if is_secret(name) && !is_reference(value) {
        // The value is not repeated: messages end up in logs.
        let what = format!("is a secret; write {} or {}, which say where it is", quoted("env:NAME"), quoted("file:PATH"));
        return Err(field.wrong(what, mistakes));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_name() {
        for (name, secret) in [
            ("sasl.password", true),
            ("ssl.key.password", true),
            ("ssl.key.pem", true),
            ("SSL.KEYSTORE.PASSWORD", true),
            ("sasl.oauthbearer.client.secret", true),
            ("sasl.jaas.config", true),
            ("sasl.username", false),
            ("ssl.key.location", false),
            ("ssl.ca.location", false),
            ("sasl.oauthbearer.token.endpoint.url", false),
            ("security.protocol", false),
        ] {
            assert_eq!(is_secret(name), secret, "{name}");
        }
        assert!(is_reference("env:A") && is_reference("file:/x") && !is_reference("env:") && !is_reference("pass"));
    }
}
