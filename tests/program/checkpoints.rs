//! `storeflow checkpoints` from outside, on logs that are written here: three checkpoints of two workers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use storeflow::config::job_file;
use storeflow::publish::layout::{Current, Generation};
use storeflow::store::Store;
use storeflow_checkpoints::commit::{Cut, Writer};
use storeflow_checkpoints::log::Log;
use storeflow_checkpoints::manifest::PartitionAt;
use storeflow_checkpoints::names::{StateName, manifest_key};
use storeflow_checkpoints::object::{Group, write};
use storeflow_dataflows::state::{Section, StateRow, StateRows};
use storeflow_dataflows::table::Table;

use crate::support::binary::{dataset, refuse, run, storeflow, succeed, text};

const WORKERS: usize = 2;
/// When the first checkpoint's as-of is; the others follow every half hour, each at an epoch.
const START: u64 = 1_795_168_800_000;
const STEP: u64 = 1_800_000;

/// As-of `n` of the log, and as people read it.
fn as_of(n: u64) -> u64 {
    START + (n - 1) * STEP
}

const SHOWN: [&str; 3] = ["2026-11-20T10:00:00Z", "2026-11-20T10:30:00Z", "2026-11-20T11:00:00Z"];
/// The epochs of the history: one per checkpoint.
const EPOCHS: [&str; 3] = ["20261120T100000Z", "20261120T103000Z", "20261120T110000Z"];

/// A data directory with a generation of three checkpoints, of which the last two are kept, and what they have shown.
struct Kept {
    folder: tempfile::TempDir,
    store: Store,
    log: Log,
}

impl Kept {
    fn new() -> Kept {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::folder(folder.path()).expect("a store");
        let job = job_file::load(&dataset("mall-small").join("mall.toml")).expect("a job");
        let generation = Generation::create(&store, &job, WORKERS, None).expect("a generation");
        let prefix = generation.keys().checkpoints_prefix();
        assert_eq!(prefix, "mall/gen-000001/checkpoints");
        let log = Log::open(Arc::new(store.clone()), &prefix, "mall", 1);
        let mut writer = Writer::after(&log, None, "a-run", 2);
        let mut state = Vec::new();
        for n in 1..=3 {
            let fresh: Vec<_> = (0..WORKERS)
                .map(|index| {
                    let group = Group { index, of: WORKERS };
                    let key = StateName { number: writer.next(), group, merged: None, run: "a-run" }.key(&prefix);
                    let mut rows = StateRows::default();
                    for row in 0..100 {
                        // The top ten bits are the shard, which must be this worker's.
                        let hash = ((row * WORKERS + index) as u64) << 54 | n;
                        rows.push(StateRow { hash, key: &hash.to_be_bytes(), value: format!("a value of row {row}").as_bytes() });
                    }
                    let sections = BTreeMap::from([(Section::Rows(Table::StorePayments), vec![rows])]);
                    write(&store, &key, as_of(n), group, &sections).expect("written")
                })
                .collect();
            state.extend(fresh.iter().cloned());
            let partition = PartitionAt { topic: "mall.payments".to_owned(), partition: 7, position: 1_000 * n, clock: None };
            let cut = Cut {
                as_of: as_of(n),
                written_at: START + n,
                complete: false,
                workers: WORKERS,
                setting: serde_json::json!({ "scale": 2 }),
                topics: vec!["mall.payments".to_owned()],
                partitions: vec![partition],
                state: state.clone(),
                fresh,
            };
            writer.commit(cut, Duration::ZERO).expect("committed");
            let epoch = EPOCHS[n as usize - 1];
            for key in ["history/store_clicks/date=2026-11-20", "dead_letters/date=2026-11-20"] {
                let ending = if key.starts_with("history") { "parquet" } else { "ndjson" };
                let key = format!("mall/gen-000001/{key}/epoch={epoch}-0of2.{ending}");
                store.put(&key, "shown".into()).expect("put");
            }
            generation.advance(as_of(n)).expect("shown");
        }
        Kept { folder, store, log }
    }

    fn args<'a>(&'a self, folder: &'a str, args: &[&'a str]) -> Vec<&'a str> {
        [&["checkpoints"], args, &["--data-dir", folder]].concat()
    }

    fn succeed(&self, args: &[&str]) -> String {
        let folder = text(self.folder.path());
        succeed(&self.args(&folder, args))
    }

    fn refuse(&self, args: &[&str], words: &[&str]) {
        let folder = text(self.folder.path());
        refuse(&self.args(&folder, args), words);
    }

    /// Runs a check that must find something: exit code 1; what it printed.
    fn finds(&self, args: &[&str]) -> String {
        let folder = text(self.folder.path());
        let ended = run(&mut storeflow(&self.args(&folder, args)));
        assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
        ended.out
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join(key)
    }

    fn manifest(&self, number: u64) -> PathBuf {
        self.path(&manifest_key(self.log.prefix(), number))
    }

    /// The path of an object that the newest checkpoint names.
    fn object(&self, at: usize) -> PathBuf {
        self.path(&self.log.newest().expect("readable").expect("there").manifest.state[at].key)
    }

    /// Epochs that the history and the dead letters have.
    fn epochs(&self) -> Vec<String> {
        let mut epochs = Vec::new();
        for folder in ["mall/gen-000001/history", "mall/gen-000001/dead_letters"] {
            let keys = self.store.list(folder).expect("a list");
            epochs.extend(keys.iter().map(|key| key.split_once("epoch=").expect("an epoch").1[..16].to_owned()));
        }
        epochs
    }

    fn pointer(&self) -> (u64, bool) {
        let current = Current::open(&self.store).expect("a pointer");
        (current.as_of, current.finished)
    }
}

fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(path, bytes).expect("written");
}

#[test]
fn checkpoints_are_listed_and_shown() {
    let kept = Kept::new();
    let listed = kept.succeed(&["list"]);
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["number", "as-of", "written", "age", "workers", "objects", "bytes", "fresh"]);
    let newest_first: Vec<(&str, &str, &str, String)> =
        lines[1..].iter().map(|line| (line[0], line[1], line[5], line[8..].join(" "))).collect();
    let line = |number, at: usize, objects, what: &str| (number, SHOWN[at], objects, what.to_owned());
    assert_eq!(newest_first, [line("3", 2, "6", "newest"), line("2", 1, "4", "kept"), line("1", 0, "2", "not kept")]);
    let state: u64 = (0..6).map(|at| fs::metadata(kept.object(at)).expect("there").len()).sum();
    assert_eq!(lines[1][6], state.to_string());

    let shown = kept.succeed(&["show", "2"]);
    for words in
        ["checkpoint  2 of generation 1 of job mall", SHOWN[1], "run a-run, 2 workers", "kept        1, 2", r#"{"scale":2}"#]
    {
        assert!(shown.contains(words), "nothing of {words:?}:\n{shown}");
    }
    let has = |cells: &[&str]| shown.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().starts_with(cells));
    assert!(has(&["7", "2000", "not", "started", "mall.payments"]), "{shown}");
    assert!(has(&["state", SHOWN[0], "1of2", "100"]) && has(&["fresh", SHOWN[1], "0of2", "100"]), "{shown}");
    assert!(kept.succeed(&["show"]).contains("checkpoint  3"));
    kept.refuse(&["show", "9"], &["no manifest 9", "checkpoints list"]);
}

#[test]
fn the_generation_is_the_current_one_or_the_one_that_is_said() {
    let kept = Kept::new();
    let listed = kept.succeed(&["list"]);
    kept.refuse(&["list", "--generation", "2"], &["no checkpoint of generation 2"]);
    kept.refuse(&["list", "--job-name", "other"], &["no generation of job \"other\""]);
    fs::remove_file(kept.path("current.json")).expect("removed");
    kept.refuse(&["list"], &["--job-name"]);
    let named = kept.succeed(&["list", "--job-name", "mall"]);
    assert_eq!(named.lines().count(), listed.lines().count());
    let folder = tempfile::tempdir().expect("a folder");
    refuse(&["checkpoints", "list", "--store", &text(folder.path()), "--job-name", "mall"], &["no generation"]);
}

#[test]
fn every_damage_is_found_by_name() {
    let kept = Kept::new();
    let whole = kept.succeed(&["verify"]);
    assert!(whole.starts_with(&format!("whole: checkpoint 3 as of {}, 6 objects, 600 rows", SHOWN[2])), "{whole}");
    assert!(kept.succeed(&["verify", "2"]).starts_with("whole: checkpoint 2"));
    kept.refuse(&["verify", "1"], &["checkpoint 1 cannot be loaded any more", "3 no longer keeps it"]);

    let (flipped, missing, short) = (kept.object(0), kept.object(3), kept.object(5));
    flip_a_bit(&flipped);
    fs::remove_file(&missing).expect("removed");
    let bytes = fs::read(&short).expect("readable");
    fs::write(&short, &bytes[..bytes.len() - 1]).expect("written");
    let found = kept.finds(&["verify"]);
    for (path, what) in [(&flipped, "is damaged"), (&missing, "is missing"), (&short, "is damaged")] {
        let named = |line: &str| line.starts_with("damaged: ") && line.contains(&format!("{} {what}", text(path)));
        assert!(found.lines().any(named), "{} is not named:\n{found}", path.display());
    }
    assert!(found.contains("NOT whole: 3 of 6 objects of checkpoint 3") && found.contains("from checkpoint 2"), "{found}");
    assert_eq!(kept.finds(&["verify", "2"]).lines().count(), 3, "one of its objects is whole and one is not of it");

    flip_a_bit(&kept.manifest(3));
    let found = kept.finds(&["verify"]);
    assert!(found.contains(&text(&kept.manifest(3))) && found.contains("drop-after"), "{found}");
    kept.refuse(&["list"], &["0000000003.json is damaged"]);
}

#[test]
fn going_back_takes_back_what_was_shown_after_it() {
    let kept = Kept::new();
    kept.store.put("mall/gen-000001/view/store_clicks-0of2.parquet", "of the end".into()).expect("put");
    let before = kept.store.list("mall").expect("a list");
    kept.refuse(&["drop-after", SHOWN[1]], &["--yes"]);
    kept.refuse(&["drop-after", "yesterday", "--yes"], &["is no instant"]);
    kept.refuse(&["drop-after", SHOWN[0], "--yes"], &["no checkpoint as of 2026-11-20T10:00:00Z or before can be loaded"]);
    kept.refuse(&["drop-after", "--number", "1", "--yes"], &["no checkpoint 1 can be loaded"]);
    let held = kept.store.exclusive().expect("free");
    kept.refuse(&["drop-after", SHOWN[1], "--yes"], &["in use by another run"]);
    drop(held);
    assert_eq!((kept.store.list("mall").expect("a list"), kept.pointer()), (before, (as_of(3), false)));
    assert!(kept.succeed(&["drop-after", SHOWN[2], "--yes"]).starts_with("nothing to do"));

    // Any instant before the last one leads to the one before it.
    let done = kept.succeed(&["drop-after", &(as_of(3) - 1).to_string(), "--yes"]);
    assert!(done.starts_with("checkpoint 2 as of 2026-11-20T10:30:00Z is the newest again; 1 were dropped, 3 files"), "{done}");
    assert!(done.contains("rebuild-view"), "{done}");
    let newest = kept.log.newest().expect("readable").expect("there").manifest;
    assert_eq!((newest.number, newest.restores, newest.as_of), (4, Some(2), as_of(2)));
    assert_eq!(kept.epochs(), [EPOCHS[0], EPOCHS[1], EPOCHS[0], EPOCHS[1]]);
    assert_eq!(kept.pointer(), (as_of(2), false));
    assert!(kept.store.list("mall/gen-000001/view").expect("a list").is_empty());
    let listed = kept.succeed(&["list"]);
    let says =
        |number: &str, what: &str| listed.lines().any(|line| line.trim_start().starts_with(number) && line.ends_with(what));
    assert!(says("4", "newest, is 2 again") && says("3", "not kept") && says("2", "kept"), "{listed}");
    assert!(kept.succeed(&["verify"]).starts_with("whole: checkpoint 4"));
    assert!(kept.succeed(&["drop-after", SHOWN[1], "--yes"]).starts_with("nothing to do"));
}

#[test]
fn going_back_is_finished_when_it_was_interrupted_and_leads_away_from_a_damaged_manifest() {
    let kept = Kept::new();
    flip_a_bit(&kept.manifest(3));
    kept.refuse(&["show"], &["is damaged"]);
    // The manifest was written, and then the machine went down.
    kept.log.drop_after(2, "an-operator", START).expect("dropped");
    assert_eq!((kept.epochs().len(), kept.pointer().0), (6, as_of(3)));
    let done = kept.succeed(&["drop-after", SHOWN[1], "--yes"]);
    assert!(done.contains("is the newest again; 0 were dropped, 2 files removed"), "{done}");
    assert_eq!((kept.epochs().len(), kept.pointer().0), (4, as_of(2)));

    let kept = Kept::new();
    flip_a_bit(&kept.manifest(3));
    kept.succeed(&["drop-after", SHOWN[1], "--yes"]);
    assert!(kept.succeed(&["verify"]).starts_with("whole: checkpoint 4"));
    assert_eq!((kept.epochs().len(), kept.pointer().0), (4, as_of(2)));
}
