//! `[schema_registry]` of a job file: who knows the schemas of Avro records.
//!
//! Upholds: as in `[kafka]`, no secret stands in a job file, not even as a part of the address.
//! Absent on purpose: reading the password, which whoever asks the registry does.

use super::diagnostics::{Mistakes, Reported, quoted};
use super::fields::{Field, Section};
use super::kafka::is_reference;
use super::{Format, RegistrySpec, SourceSpec};

/// Every field of the table.
pub(super) const FIELDS: [&str; 3] = ["url", "username", "password"];

const EXAMPLE: &str = "[schema_registry] with its url";

pub(super) fn read(field: &Field<'_>, mistakes: &mut Mistakes<'_>) -> Result<RegistrySpec, Reported> {
    let section = field.table(&FIELDS, EXAMPLE, mistakes)?;
    section.unknown(|_| None, mistakes);
    let url = section.required("url", "such as url = \"http://registry:8081\"", mistakes).and_then(|field| url(&field, mistakes));
    let username = section.field("username").map(|field| Ok(field.text(mistakes)?.to_owned())).transpose();
    let password = section.field("password").map(|field| password(&field, mistakes)).transpose();
    let (has_name, has_password) = (section.field("username").is_some(), section.field("password").is_some());
    if has_name != has_password {
        let name = if has_name { "password" } else { "username" };
        return Err(section.missing(name, "a registry that asks who is there asks for both", mistakes));
    }
    Ok(RegistrySpec { url: url?, username: username?, password: password? })
}

fn url(field: &Field<'_>, mistakes: &mut Mistakes<'_>) -> Result<String, Reported> {
    let text = field.text(mistakes)?;
    let Some(place) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else {
        return Err(field.wrong(format!("{} is no address; begin it with http:// or https://", quoted(text)), mistakes));
    };
    let host = place.split(['/', '?', '#']).next().unwrap_or("");
    if host.contains('@') {
        // Not repeated: messages end up in logs.
        return Err(field.wrong("holds a user; write username and password as fields of their own", mistakes));
    }
    let is_part = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' | ',');
    if host.is_empty() || !place.chars().all(is_part) || place.contains(['?', '#']) {
        let what = "is no address; write one host, a port and maybe a path, such as \"http://registry:8081\"";
        return Err(field.wrong(format!("{} {what}", quoted(text)), mistakes));
    }
    Ok(text.to_owned())
}

fn password(field: &Field<'_>, mistakes: &mut Mistakes<'_>) -> Result<String, Reported> {
    let text = field.text(mistakes)?;
    if is_reference(text) {
        return Ok(text.to_owned());
    }
    Err(field.wrong("is a secret; write \"env:NAME\" or \"file:PATH\", which say where it is", mistakes))
}

/// Notes a registry that nobody asks, and Avro without one.
pub(super) fn check_used(job: &Section<'_>, sources: &[SourceSpec], mistakes: &mut Mistakes<'_>) -> Result<(), Reported> {
    let avro = sources.iter().position(|source| source.format == Format::Avro);
    match (job.field("schema_registry"), avro) {
        (Some(field), None) => Err(field.wrong("is asked by no source; only format \"avro\" has schemas there", mistakes)),
        (None, Some(at)) => {
            let why = format!("source {} has format \"avro\", whose schemas are there; write {EXAMPLE}", at + 1);
            Err(job.missing("schema_registry", &why, mistakes))
        }
        _ => Ok(()),
    }
}
