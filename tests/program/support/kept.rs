//! What a run keeps in a folder, looked at while it goes on, and damaged when it does not.
//!
//! Upholds: nothing here waits, and what disappears while it is looked at is not there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storeflow::publish::layout::Keys;
use storeflow::store::Store;
use storeflow_checkpoints::log::Log;
use storeflow_checkpoints::manifest::Manifest;
use storeflow_checkpoints::names::manifest_key;

/// What a job keeps in a folder.
pub(crate) struct Kept {
    root: PathBuf,
    job: String,
}

impl Kept {
    pub(crate) fn of(root: &Path, job: &str) -> Kept {
        Kept { root: root.to_owned(), job: job.to_owned() }
    }

    /// The last generation that has checkpoints, or else the last one, or the one that there will be.
    pub(crate) fn generation(&self) -> u64 {
        let names = names(&self.root.join(&self.job));
        let all: Vec<u64> = names.iter().filter_map(|name| name.strip_prefix("gen-")?.parse().ok()).collect();
        let begun = |of: &&u64| !names_of_manifests(&self.checkpoints(**of)).is_empty();
        all.iter().rev().find(begun).or(all.last()).copied().unwrap_or(1)
    }

    fn checkpoints(&self, generation: u64) -> PathBuf {
        self.root.join(Keys::new(&self.job, generation, 1).checkpoints_prefix())
    }

    /// The number of the newest manifest; 0 without any.
    pub(crate) fn newest_number(&self) -> u64 {
        names_of_manifests(&self.checkpoints(self.generation())).into_iter().next_back().unwrap_or(0)
    }

    /// Whether there is state that no manifest can name yet.
    pub(crate) fn is_uploading(&self) -> bool {
        let generation = self.generation();
        let newest = names_of_manifests(&self.checkpoints(generation)).into_iter().next_back().unwrap_or(0);
        let number = |name: &String| name.split_once('-')?.0.parse::<u64>().ok();
        names(&self.checkpoints(generation).join("state")).iter().filter_map(number).any(|number| number > newest)
    }

    /// The log of the generation.
    pub(crate) fn log(&self) -> Log {
        let (store, generation) = (Store::folder(&self.root).expect("a folder"), self.generation());
        Log::open(Arc::new(store), &Keys::new(&self.job, generation, 1).checkpoints_prefix(), &self.job, generation)
    }

    /// The newest manifest, of which there must be one.
    pub(crate) fn newest(&self) -> Manifest {
        self.log().newest().expect("readable").expect("a checkpoint").manifest
    }

    /// The file of a manifest.
    pub(crate) fn manifest(&self, number: u64) -> PathBuf {
        self.root.join(manifest_key(self.log().prefix(), number))
    }

    /// The file of an object.
    pub(crate) fn object(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// The files of the history, by their paths.
    pub(crate) fn history(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        let mut folders = vec![self.root.join(Keys::new(&self.job, self.generation(), 1).prefix()).join("history")];
        while let Some(folder) = folders.pop() {
            for path in names(&folder).into_iter().map(|name| folder.join(name)) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(path);
                }
            }
        }
        files
    }
}

/// Names in a folder that are not hidden, sorted; none if there is no such folder.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

fn names_of_manifests(checkpoints: &Path) -> Vec<u64> {
    names(&checkpoints.join("manifests")).iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect()
}

/// What can happen to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    Flipped,
    Cut,
    Missing,
}

impl Damage {
    /// Does it; `at` chooses the place.
    pub(crate) fn to(self, path: &Path, at: usize) {
        let mut bytes = fs::read(path).expect("readable");
        let place = at % bytes.len();
        match self {
            Damage::Flipped => {
                bytes[place] ^= 1 << (at % 8);
                fs::write(path, bytes).expect("written");
            }
            Damage::Cut => fs::write(path, &bytes[..place]).expect("written"),
            Damage::Missing => fs::remove_file(path).expect("removed"),
        }
    }
}
