//! Schemas as files: beside the checkpoints, and in a dataset.
//!
//! ```text
//! <store>/<job>/schemas/7.json     {"id":7,"schema":"…","references":[{"name":"…","schema":"…"}]}: what a registry said once, all of it
//! <dataset>/_schemas/7.json        the same, a registry's own answer, or the schema itself
//! ```
//!
//! Upholds: a schema that is kept needs no registry, nor do those that it refers to; it is written once, by whoever is first.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decode::avro::{Known, Schema, Schemas};
use crate::store::{Store, StoreError};

/// The folder of a dataset in which its schemas are.
pub const DATASET_FOLDER: &str = "_schemas";

/// A schema with all that it refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub id: u32,
    pub schema: String,
    /// Each after those that it refers to itself.
    #[serde(default)]
    pub references: Vec<Reference>,
}

/// A schema that another refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reference {
    pub name: String,
    pub schema: String,
}

impl Kept {
    /// The schema, or why it cannot be read by.
    pub(super) fn known(&self) -> Known {
        let references: Vec<String> = self.references.iter().map(|reference| reference.schema.clone()).collect();
        match Schema::parse(&self.schema, &references) {
            Ok(schema) => Known::Schema(Arc::new(schema)),
            Err(error) => Known::Refused(error.to_string().into()),
        }
    }

    /// Reads a file: of ours, a registry's answer, or a schema by itself.
    fn read(id: u32, text: &[u8]) -> Result<Kept, String> {
        let value: Value = serde_json::from_slice(text).map_err(|error| format!("is not JSON: {error}"))?;
        if value.get("type").is_some() || value.get("schema").is_none() {
            let schema = String::from_utf8_lossy(text).into_owned();
            return Ok(Kept { id, schema, references: Vec::new() });
        }
        let kept: Kept = match value {
            // A registry's answer does not say which id it is the answer for.
            Value::Object(mut object) => {
                object.insert("id".to_owned(), id.into());
                serde_json::from_value(Value::Object(object))
                    .map_err(|error| format!("is no answer of a registry with all that it refers to: {error}"))?
            }
            _ => return Err("is no schema".to_owned()),
        };
        Ok(kept)
    }
}

/// Where a job's schemas are kept.
fn folder(job: &str) -> String {
    format!("{job}/schemas")
}

/// Keeps a schema; it may have been kept before.
pub(super) fn keep(store: &Store, job: &str, kept: &Kept) -> Result<(), StoreError> {
    let mut text = serde_json::to_vec_pretty(kept).expect("plain data has a JSON form");
    text.push(b'\n');
    store.put_if_absent(&format!("{}/{}.json", folder(job), kept.id), Bytes::from(text)).map(drop)
}

/// Makes known what was kept.
///
/// # Errors
/// If the store cannot be read. A file that is none of ours is as if it were not there.
pub(super) fn load(store: &Store, job: &str, schemas: &Schemas) -> Result<(), StoreError> {
    let keys = store.list(&folder(job))?;
    store.get_each(&keys, |key, bytes| {
        let id = key.rsplit('/').next().and_then(|name| name.strip_suffix(".json")?.parse().ok());
        if let (Some(id), Some(bytes)) = (id, bytes) {
            match Kept::read(id, &bytes) {
                Ok(kept) => schemas.add(id, kept.known()),
                Err(why) => tracing::warn!(key, why, "a kept schema is not readable; it is asked for again"),
            }
        }
        Ok::<_, StoreError>(())
    })
}

/// Why a dataset's schemas cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("\"{}\" {what}", path.display())]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

/// Makes known what a dataset holds; none need be there.
///
/// # Errors
/// If a file cannot be read, or is no schema.
pub fn load_dataset(dataset: &Path, schemas: &Schemas) -> Result<(), FileError> {
    let folder = dataset.join(DATASET_FOLDER);
    if !folder.is_dir() {
        return Ok(());
    }
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| FileError { path, what: format!("could not be read: {error}") }
    };
    for entry in fs::read_dir(&folder).map_err(unreadable(&folder))? {
        let path = entry.map_err(unreadable(&folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let Some(stem) = name.strip_suffix(".json").filter(|stem| !stem.starts_with('.')) else { continue };
        let wrong = |what: String| FileError { path: path.clone(), what };
        let id = stem.parse().map_err(|_| wrong("is not named after a schema's id".to_owned()))?;
        let kept = Kept::read(id, &fs::read(&path).map_err(unreadable(&path))?).map_err(&wrong)?;
        match kept.known() {
            Known::Refused(why) => return Err(wrong(format!("is no Avro schema that can be read: {why}"))),
            known => schemas.add(id, known),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_by_itself_an_answer_and_what_was_kept_are_read() {
        for text in [
            r#""long""#,
            r#"["null","long"]"#,
            r#"{"type":"record","name":"R","fields":[{"name":"schema","type":"string"}]}"#,
            r#"{"schema":"\"long\""}"#,
            r#"{"schema":"\"long\"","schemaType":"AVRO","guid":"…"}"#,
            r#"{"id":7,"schema":"\"S\"","references":[{"name":"S","schema":"{\"type\":\"fixed\",\"name\":\"S\",\"size\":2}"}]}"#,
        ] {
            let kept = Kept::read(7, text.as_bytes()).expect(text);
            assert!(matches!(kept.known(), Known::Schema(_)), "{text}");
        }
        for text in ["", "{", r#"{"schema":7}"#, r#"{"schema":"\"S\"","references":[{"name":"S","subject":"s","version":1}]}"#] {
            assert!(Kept::read(7, text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_kept_is_known_at_the_next_start() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = Store::folder(folder.path()).expect("a folder");
        let kept = Kept { id: 7, schema: "\"long\"".to_owned(), references: Vec::new() };
        keep(&store, "mall", &kept).expect("kept");
        keep(&store, "mall", &kept).expect("kept before");
        store.put("mall/schemas/8.json", Bytes::from_static(b"damaged")).expect("put");
        let schemas = Schemas::default();
        load(&store, "mall", &schemas).expect("loaded");
        assert!(matches!(schemas.get(7), Some(Known::Schema(_))));
        assert_eq!(schemas.len(), 1);
    }

    #[test]
    fn a_dataset_brings_its_schemas() {
        let dataset = tempfile::tempdir().expect("temporary folder");
        let schemas = Schemas::default();
        load_dataset(dataset.path(), &schemas).expect("none is none");
        let folder = dataset.path().join(DATASET_FOLDER);
        fs::create_dir(&folder).expect("folder");
        fs::write(folder.join("12.json"), "\"long\"").expect("file");
        fs::write(folder.join("0.ndjson"), "").expect("file");
        load_dataset(dataset.path(), &schemas).expect("readable");
        assert_eq!(schemas.len(), 1);
        for (name, text) in [("x.json", "\"long\""), ("13.json", "\"nonsense\""), ("13.json", "{")] {
            fs::write(folder.join(name), text).expect("file");
            assert!(load_dataset(dataset.path(), &schemas).is_err(), "{name}: {text}");
            fs::remove_file(folder.join(name)).expect("file");
        }
    }
}
