//! Changes a key file and leaves the rest of its text as somebody wrote it.
//!
//! Upholds: (1) the file is the old or the new one, whole, whatever happens; (2) before a new one takes its place it is read, and has the keys that
//! it should, so that no shape of TOML makes an edit do something else; (3) of two that edit at once, the second sees what the
//! first did; (4) a new file is its owner's alone, an old one keeps its mode.
//! Keeps: a lock on the folder while a file is being changed, as the file itself is replaced.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};

use crate::cli::Failure;
use crate::config::key_file::{self, KeyFileError, KeySpec};
use crate::publish::time::instant;

const OWNER: u32 = 0o600;

const BEGINNING: &str =
    "# Keys of storeflow's query API, by their hashes. Made and changed by storeflow api-keys; servers follow this file.\n";

/// Adds an entry at the end; creates the file if there is none.
pub(super) fn append(path: &Path, key: &KeySpec) -> Result<(), Failure> {
    let edit = Edit::begin(path)?;
    if edit.keys.iter().any(|known| known.id == key.id) {
        return Err(
            anyhow!("key \"{}\" is in \"{}\" already; revoke it first, or choose another id", key.id, path.display()).into()
        );
    }
    let text = edit.text.as_deref().unwrap_or(BEGINNING);
    let line_end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let between = if text.is_empty() { "" } else { "\n" };
    let ids = edit.keys.iter().map(|known| known.id.clone()).chain([key.id.clone()]).collect();
    edit.finish(&format!("{text}{line_end}{between}{}", entry(key)), ids)
}

/// Takes an entry out.
pub(super) fn revoke(path: &Path, id: &str) -> Result<(), Failure> {
    let edit = Edit::begin(path)?;
    let file = path.display();
    let Some(text) = edit.text.clone() else { return Err(anyhow!("there is no API key file \"{file}\"").into()) };
    let Some(key) = edit.keys.iter().find(|key| key.id == id) else {
        return Err(anyhow!(
            "there is no key \"{}\" in \"{file}\"; storeflow api-keys list shows which there are",
            id.escape_debug()
        )
        .into());
    };
    let (before, rest) = text.split_at(key.place.start);
    // With its last line, and what is said there of it.
    let last = key.place.end - key.place.start;
    let after = rest[last..].find('\n').map_or("", |end| &rest[last + end + 1..]);
    // Of the blank lines around it, one side's.
    let after = if before.is_empty() || before.ends_with("\n\n") { after.trim_start_matches('\n') } else { after };
    let before = if after.is_empty() && before.ends_with("\n\n") { &before[..before.len() - 1] } else { before };
    let ids = edit.keys.iter().map(|known| known.id.clone()).filter(|known| known != id).collect();
    edit.finish(&format!("{before}{after}"), ids)
}

/// A text as TOML writes it, with nothing a terminal would act on.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// An instant as it stands in the file.
pub(super) fn written(ms: u64) -> String {
    instant(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn entry(key: &KeySpec) -> String {
    let KeySpec { id, digest, stores, rate, expires, place: _ } = key;
    let mut entry = format!("[[key]]\nid = {}\nsha256 = \"{}\"\n", quoted(id), digest.hex());
    if let Some(stores) = stores {
        let stores: Vec<String> = stores.iter().map(|store| quoted(store)).collect();
        entry += &format!("stores = [{}]\n", stores.join(", "));
    }
    if let Some(rate) = rate {
        entry += &format!("rate = {rate}\n");
    }
    if let Some(expires) = expires {
        entry += &format!("expires = {}\n", written(*expires));
    }
    entry
}

/// A change of a file that nobody else changes meanwhile.
struct Edit {
    /// Where it is, not where a link to it is.
    path: PathBuf,
    /// What it was called.
    name: String,
    /// `None`: there is none.
    text: Option<String>,
    keys: Vec<KeySpec>,
    mode: u32,
    folder: File,
}

impl Edit {
    fn begin(path: &Path) -> Result<Edit, Failure> {
        let name = path.display().to_string();
        let path = match path.canonicalize() {
            Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
            found => found.with_context(|| format!("could not find API key file \"{name}\""))?,
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = File::open(parent).and_then(|folder| folder.lock().map(|()| folder));
        let folder = folder.with_context(|| format!("could not lock \"{}\", the folder of API keys", parent.display()))?;
        let bytes = match key_file::read(&path) {
            Err(KeyFileError::Unreadable { source, .. }) if source.kind() == ErrorKind::NotFound => None,
            read => Some(read?),
        };
        let keys = key_file::parse(bytes.as_deref().unwrap_or_default(), &name)?;
        let mode = match bytes {
            None => OWNER,
            Some(_) => {
                std::fs::metadata(&path).with_context(|| format!("could not look at \"{name}\""))?.permissions().mode() & 0o777
            }
        };
        // What was parsed is UTF-8.
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(Edit { path, name, text, keys, mode, folder })
    }

    /// Puts a text in place of the file, if it has keys of these ids and no others, each as it was.
    fn finish(&self, text: &str, ids: Vec<String>) -> Result<(), Failure> {
        let Edit { path, name, keys, mode, folder, text: _ } = self;
        let after = key_file::parse(text.as_bytes(), name);
        let same = |key: &KeySpec| {
            let before = keys.iter().find(|known| known.id == key.id);
            before.is_none_or(|before| KeySpec { place: 0..0, ..before.clone() } == KeySpec { place: 0..0, ..key.clone() })
        };
        let right = after.is_ok_and(|after| after.iter().map(|key| &key.id).eq(&ids) && after.iter().all(same));
        if !right {
            return Err(anyhow!(
                "\"{name}\" is written in a way that this command cannot change; begin each key with a line [[key]], or edit it"
            )
            .into());
        }
        replace(path, text, *mode, folder)
            .with_context(|| format!("could not write API key file \"{name}\"; it is as it was"))?;
        Ok(())
    }
}

fn replace(path: &Path, text: &str, mode: u32, folder: &File) -> anyhow::Result<()> {
    let Some(name) = path.file_name() else { bail!("it has no name") };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(OWNER).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        // It may not be there; the first error is the one to tell.
        let _ = std::fs::remove_file(&temporary);
    })?;
    // The new name is on stable storage with its folder.
    folder.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroU32;

    use super::*;
    use crate::serve::keys::digest_of;

    fn key(id: &str, stores: &[&str]) -> KeySpec {
        let stores = (!stores.is_empty()).then(|| stores.iter().map(|store| (*store).to_owned()).collect());
        KeySpec { id: id.to_owned(), digest: digest_of(id), stores, rate: None, expires: None, place: 0..0 }
    }

    fn trouble(done: Result<(), Failure>) -> String {
        match done {
            Err(Failure::Trouble(error)) => format!("{error:#}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_added_and_taken_out_leaves_the_rest_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.toml");
        let text = || fs::read_to_string(&path).expect("a file");
        let strange =
            KeySpec { rate: NonZeroU32::new(5), expires: Some(1_798_761_600_000), ..key("b", &["7", "a \"b\"\\\u{1b}\n"]) };
        append(&path, &key("a", &[])).expect("added");
        append(&path, &strange).expect("added");
        append(&path, &key("c", &["12"])).expect("added");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        let keys = key_file::parse(text().as_bytes(), "keys.toml").expect("right");
        assert_eq!(KeySpec { place: 0..0, ..keys[1].clone() }, strange);
        let ours =
            text().replace("[[key]]\nid = \"b\"", "# The one of b,\n# who pays.\n[[key]] # here\nid = \"b\"   # b") + "# The end";
        fs::write(&path, &ours).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("changed");
        append(&path, &key("d", &[])).expect("added");
        assert!(text().starts_with(&(ours.clone() + "\n\n[[key]]\nid = \"d\"\n")), "{}", text());
        revoke(&path, "d").expect("there");
        assert_eq!(text(), ours.clone() + "\n");
        revoke(&path, "a").expect("there");
        assert!(text().starts_with(&format!("{BEGINNING}\n# The one of b,\n# who pays.\n[[key]] # here\n")), "{}", text());
        revoke(&path, "b").expect("there");
        assert!(text().starts_with(&format!("{BEGINNING}\n# The one of b,\n# who pays.\n\n[[key]]\nid = \"c\"\n")), "{}", text());
        revoke(&path, "c").expect("there");
        assert_eq!(text(), format!("{BEGINNING}\n# The one of b,\n# who pays.\n\n# The end\n"));
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn what_cannot_be_done_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.toml");
        assert!(trouble(revoke(&path, "a")).contains("there is no API key file"));
        append(&path, &key("a", &[])).expect("added");
        let before = fs::read_to_string(&path).expect("a file");
        assert!(trouble(append(&path, &key("a", &["7"]))).contains("key \"a\" is in"));
        assert!(trouble(append(&path, &KeySpec { digest: digest_of("a"), ..key("b", &[]) })).contains("cannot change"));
        assert!(trouble(revoke(&path, "b")).contains("there is no key \"b\""));
        assert_eq!(fs::read_to_string(&path).expect("a file"), before);
        for odd in [
            format!("key = [{{ id = \"a\", sha256 = \"{}\" }}]\n", digest_of("a").hex()),
            format!(
                "key = [{{ id = \"a\", sha256 = \"{}\" }}, {{ id = \"b\", sha256 = \"{}\" }}]\n",
                digest_of("a").hex(),
                digest_of("b").hex()
            ),
        ] {
            fs::write(&path, &odd).expect("written");
            assert!(trouble(revoke(&path, "a")).contains("cannot change"));
            assert!(trouble(append(&path, &key("c", &[]))).contains("cannot change"));
            assert_eq!(fs::read_to_string(&path).expect("a file"), odd);
        }
        fs::write(&path, "[[key]]\n").expect("written");
        assert!(trouble(append(&path, &key("c", &[]))).contains("keys.toml:1:1: key 1: missing field \"id\""));
    }

    #[test]
    fn a_link_stays_one_and_many_at_once_lose_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("keys.toml"), folder.path().join("link"));
        append(&path, &key("first", &[])).expect("added");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        std::thread::scope(|scope| {
            for i in 0..8 {
                let link = &link;
                scope.spawn(move || append(link, &key(&format!("k{i}"), &[])).expect("added"));
            }
        });
        let keys = key_file::parse(&fs::read(&path).expect("a file"), "keys.toml").expect("right");
        assert_eq!(keys.len(), 9);
        assert!(link.is_symlink());
    }
}
