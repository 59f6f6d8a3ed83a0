//! The log, its writer and its collection, on a store in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::collect::{Collected, Collector, FENCE_MS};
use crate::commit::{Cut, SILENT_MAX, Writer};
use crate::error::LogError;
use crate::log::{Log, Read};
use crate::manifest::tests::object;
use crate::names::{StateName, manifest_key};
use crate::object::{Group, Object};
use crate::objects::Objects;
use crate::testing::{Fault, MemoryStore};

const HOUR_MS: u64 = 3_600_000;
const SOON: Duration = Duration::from_secs(10);

fn log(store: &MemoryStore) -> Log {
    Log::open(store.process(), "p", "mall", 1)
}

fn cut(as_of: u64, state: &[&Object], fresh: &[&Object]) -> Cut {
    let objects = |objects: &[&Object]| objects.iter().map(|&object| object.clone()).collect();
    Cut {
        as_of,
        written_at: 0,
        complete: false,
        workers: 1,
        setting: json!({}),
        topics: vec![],
        partitions: vec![],
        state: objects(state),
        fresh: objects(fresh),
    }
}

/// Puts an object of state into the store.
fn written(store: &MemoryStore, number: u64, run: &str) -> Object {
    let key = StateName { number, group: Group { index: 0, of: 1 }, merged: None, run }.key("p");
    store.process().put(&key, "rows".into()).unwrap();
    object(&key)
}

/// Commits checkpoints of as-ofs 1000, 2000, …, each with an object of its own, all of which stay in the state.
fn committed(store: &MemoryStore, run: &str, keep: usize, checkpoints: u64) -> (Writer, Vec<Read>) {
    let mut writer = Writer::after(&log(store), None, run, keep);
    let mut state = Vec::new();
    let commits = (1..=checkpoints).map(|number| {
        state.push(written(store, number, run));
        let all: Vec<&Object> = state.iter().collect();
        writer.commit(cut(number * 1000, &all, &all[all.len() - 1..]), SOON).unwrap()
    });
    let commits = commits.collect();
    (writer, commits)
}

fn text(result: Result<impl std::fmt::Debug, LogError>) -> String {
    result.expect_err("this is an error").to_string()
}

#[test]
fn what_makes_up_for_damage_follows_what_was_loaded() {
    let store = MemoryStore::default();
    let (_, commits) = committed(&store, "a", 3, 3);
    // The state of 3 is damaged, and that of 2 was loaded in its place.
    let mut writer = Writer::after(&log(&store), commits.last(), "b", 3).making_up_from(2000);
    let as_ofs = [3000, 4000].map(|as_of| {
        let manifest = writer.commit(cut(as_of, &[], &[]), SOON).unwrap().manifest;
        (manifest.number, manifest.previous_as_of, manifest.as_of)
    });
    assert_eq!(as_ofs, [(4, 2000, 3000), (5, 3000, 4000)]);
}

#[test]
fn each_manifest_names_the_one_before() {
    let store = MemoryStore::default();
    assert_eq!(log(&store).newest().unwrap(), None);
    let (_, commits) = committed(&store, "a", 2, 3);
    assert_eq!(log(&store).newest().unwrap().as_ref(), commits.last());
    assert_eq!(log(&store).read(2).unwrap(), commits[1]);
    assert_eq!(log(&store).numbers().unwrap(), Some(1..=3));
    let previous: Vec<_> = commits.iter().map(|read| read.manifest.previous.clone()).collect();
    assert_eq!(previous, [None, Some(commits[0].checksum.clone()), Some(commits[1].checksum.clone())]);
    let as_ofs: Vec<_> = commits.iter().map(|read| (read.manifest.previous_as_of, read.manifest.as_of)).collect();
    assert_eq!(as_ofs, [(0, 1000), (1000, 2000), (2000, 3000)]);
    let kept: Vec<_> = commits.iter().map(|read| read.manifest.kept.clone()).collect();
    assert_eq!(kept, [vec![1], vec![1, 2], vec![2, 3]]);
    // The checksum that a person finds in the file's last line is the one in the next file.
    let bytes = store.contents()[&manifest_key("p", 1)].clone();
    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(value["checksum"], json!(commits[0].checksum));
}

#[test]
fn a_replaced_manifest_breaks_the_chain() {
    let store = MemoryStore::default();
    let (_, commits) = committed(&store, "a", 5, 3);
    let findings = |store: &MemoryStore| {
        let mut findings = Vec::new();
        log(store)
            .each(&mut |number, read| findings.push((number, read.map(|_| ()).map_err(|error| error.to_string()))))
            .unwrap();
        findings
    };
    assert_eq!(findings(&store), [(1, Ok(())), (2, Ok(())), (3, Ok(()))]);
    let other = crate::manifest::Manifest { as_of: 1999, ..commits[1].manifest.clone() };
    store.damage(&manifest_key("p", 2), |bytes| *bytes = other.to_bytes());
    let found = findings(&store);
    assert_eq!(found[..2], [(1, Ok(())), (2, Ok(()))]);
    assert!(found[2].1.as_ref().is_err_and(|what| what.contains("0000000003.json") && what.contains("follows another")));
}

#[test]
fn a_damaged_newest_manifest_is_named_and_never_passed_over() {
    let store = MemoryStore::default();
    committed(&store, "a", 5, 3);
    store.damage(&manifest_key("p", 3), |bytes| bytes[100] ^= 1);
    let said = text(log(&store).newest());
    assert!(said.contains("memory:p/manifests/0000000003.json") && said.contains("checkpoints drop-after"), "{said}");
    store.damage(&manifest_key("p", 3), |bytes| bytes.truncate(20));
    assert!(matches!(log(&store).newest(), Err(LogError::Damaged { .. })));
}

#[test]
fn going_back_past_a_damaged_manifest() {
    let store = MemoryStore::default();
    let (mut stale, commits) = committed(&store, "a", 5, 4);
    store.damage(&manifest_key("p", 4), |bytes| bytes[100] ^= 1);
    let restored = log(&store).drop_after(2, "operator", 7).unwrap();
    assert_eq!(log(&store).newest().unwrap().as_ref(), Some(&restored));
    let manifest = &restored.manifest;
    assert_eq!((manifest.number, manifest.restores, manifest.as_of, manifest.previous_as_of), (5, Some(2), 2000, 1000));
    assert_eq!((&manifest.state, &manifest.fresh), (&commits[1].manifest.state, &commits[1].manifest.fresh));
    assert_eq!(manifest.kept, [1, 2, 5], "3 and 4 are dropped");
    assert_eq!(log(&store).earlier(manifest, 2).unwrap().as_ref(), Some(&commits[0]));
    // A run that lives all the same finds its next number taken, though the sequence went back.
    let said = text(stale.commit(cut(5000, &[], &[]), SOON));
    assert!(said.contains("checkpoint 5 was committed by run \"operator\""), "{said}");
    // And the next run goes on from what was restored; what it does not need goes.
    let mut writer = Writer::after(&log(&store), Some(&restored), "b", 3);
    let own = written(&store, 6, "b");
    let state: Vec<&Object> = manifest.state.iter().chain([&own]).collect();
    let read = writer.commit(cut(2500, &state, &[&own]), SOON).unwrap();
    assert_eq!((read.manifest.previous_as_of, &read.manifest.kept), (2000, &vec![2, 5, 6]));
    assert_eq!(log(&store).earlier(&read.manifest, 6).unwrap(), Some(restored));
    assert_eq!(log(&store).earlier(&read.manifest, 5).unwrap().as_ref(), Some(&commits[1]));
    assert_eq!(log(&store).earlier(&read.manifest, 2).unwrap(), None, "1 is not kept any more, whatever 2 says");
    let collected = Collector::new(&log(&store), "b").collect(&read, 0).unwrap();
    assert_eq!(collected, Collected { objects: 2, manifests: 0 }, "those of 3 and 4");
    let mut numbers = Vec::new();
    log(&store).each(&mut |number, read| numbers.push((number, read.is_ok()))).unwrap();
    assert_eq!(numbers, [(1, true), (2, true), (3, true), (4, false), (5, true), (6, true)]);
}

#[test]
fn only_what_is_still_there_becomes_the_newest_again() {
    let store = MemoryStore::default();
    let (_, commits) = committed(&store, "a", 2, 4);
    let said = text(log(&store).drop_after(2, "operator", 0));
    assert!(said.contains("checkpoint 2 cannot be loaded any more: checkpoint 4 no longer keeps it"), "{said}");
    assert!(matches!(log(&store).drop_after(9, "operator", 0), Err(LogError::Missing { number: 9, .. })));
    assert_eq!(log(&store).drop_after(4, "operator", 0).unwrap(), commits[3], "it is the newest already");
    store.remove(&commits[2].manifest.state[0].key);
    let said = text(log(&store).drop_after(3, "operator", 0));
    assert!(said.contains("0000000001-0of1-a is missing"), "{said}");
    assert_eq!(log(&store).numbers().unwrap(), Some(1..=4));
}

#[test]
fn a_hole_is_named_by_its_number() {
    let store = MemoryStore::default();
    committed(&store, "a", 5, 4);
    store.remove(&manifest_key("p", 3));
    let said = text(log(&store).newest());
    assert!(said.contains("manifest 3 is missing (memory:p/manifests/0000000003.json)"), "{said}");
    assert!(matches!(log(&store).drop_after(2, "operator", 0), Err(LogError::Gap { number: 3, .. })));
}

#[test]
fn manifests_missing_at_the_end_are_noticed_by_later_objects() {
    let store = MemoryStore::default();
    committed(&store, "a", 5, 12);
    (1..=12).for_each(|number| store.remove(&manifest_key("p", number)));
    let said = text(log(&store).newest());
    assert!(said.contains("manifest 1 is missing") && said.contains("0000000012-0of1-a"), "{said}");
    // What a first run wrote before it could commit proves nothing.
    let store = MemoryStore::default();
    written(&store, 1, "a");
    assert_eq!(log(&store).newest().unwrap(), None);
}

#[test]
fn what_is_no_manifest_of_this_job_is_refused() {
    let store = MemoryStore::default();
    let (_, commits) = committed(&store, "a", 5, 2);
    let said = text(Log::open(store.process(), "p", "shop", 1).newest());
    assert!(said.contains("generation 1 of job \"mall\", not to generation 1 of job \"shop\""), "{said}");
    assert!(matches!(Log::open(store.process(), "p", "mall", 2).newest(), Err(LogError::Job { .. })));
    let newer = crate::manifest::Manifest { format: 2, ..commits[1].manifest.clone() };
    store.damage(&manifest_key("p", 2), |bytes| *bytes = newer.to_bytes());
    let said = text(log(&store).newest());
    assert!(said.contains("0000000002.json has format 2, and this program reads format 1"), "{said}");
    store.damage(&manifest_key("p", 2), |bytes| *bytes = commits[0].manifest.to_bytes());
    assert!(text(log(&store).newest()).contains("it says it is number 1"));
}

#[test]
fn of_two_runs_one_commits() {
    let store = MemoryStore::default();
    let (mut stale, commits) = committed(&store, "a", 5, 2);
    let mut writer = Writer::after(&log(&store), commits.last(), "b", 5);
    assert_eq!((writer.next(), stale.next()), (3, 3));
    writer.commit(cut(2000, &[], &[]), SOON).unwrap();
    let said = text(stale.commit(cut(9000, &[], &[]), SOON));
    assert!(said.contains("checkpoint 3 was committed by run \"b\" (memory:p/manifests/0000000003.json)"), "{said}");
    assert_eq!(log(&store).newest().unwrap().unwrap().manifest.run, "b");
}

#[test]
#[should_panic(expected = "after a failed commit the log is read anew")]
fn a_writer_that_lost_is_of_no_use() {
    let store = MemoryStore::default();
    let mut stale = Writer::after(&log(&store), None, "a", 1);
    committed(&store, "b", 1, 1);
    assert!(stale.commit(cut(1, &[], &[]), SOON).is_err());
    let _ = stale.commit(cut(1, &[], &[]), SOON);
}

/// The outcome of a first commit with faults at its steps, and how many steps it took.
fn commit_with(store: &MemoryStore, faults: &[(u64, Fault)]) -> (Result<Read, LogError>, u64) {
    let process = store.process_with(faults.iter().copied().collect(), Box::new(|_| {}));
    let log = Log::open(Arc::clone(&process) as Arc<dyn Objects>, "p", "mall", 1);
    (Writer::after(&log, None, "a", 1).commit(cut(1000, &[], &[]), SOON), process.steps())
}

#[test]
fn a_doubtful_answer_is_read_back() {
    for (faults, steps) in [
        (vec![(0, Fault::AnswerLost)], 2),
        (vec![(0, Fault::RequestLost)], 3),
        // Arrives between our looking and our trying again, whose "already exists" is read back then.
        (vec![(0, Fault::Late(1))], 4),
        (vec![(0, Fault::RequestLost), (2, Fault::AnswerLost)], 4),
    ] {
        let store = MemoryStore::default();
        let (committed, taken) = commit_with(&store, &faults);
        assert_eq!(committed.unwrap(), log(&store).newest().unwrap().unwrap(), "{faults:?}");
        assert_eq!(taken, steps, "{faults:?}");
        assert_eq!(store.overwritten(), [""; 0]);
    }
    // Whatever nobody knows is an error that says so, also if the store fails afterwards.
    for faults in [
        vec![(0, Fault::RequestLost), (1, Fault::Refused)],
        vec![(0, Fault::RequestLost), (2, Fault::Refused)],
        vec![(0, Fault::RequestLost), (2, Fault::RequestLost), (4, Fault::RequestLost)],
    ] {
        let (outcome, _) = commit_with(&MemoryStore::default(), &faults);
        assert!(outcome.is_err_and(|error| error.is_outage() && matches!(error, LogError::Unconfirmed { .. })), "{faults:?}");
    }
    let (outcome, _) = commit_with(&MemoryStore::default(), &[(0, Fault::Refused)]);
    assert!(matches!(outcome, Err(LogError::Objects(_))), "certainly not created");
}

#[test]
fn whoever_was_silent_for_long_looks_first() {
    let store = MemoryStore::default();
    let (mut stale, commits) = committed(&store, "a", 1, 2);
    let mut writer = Writer::after(&log(&store), commits.last(), "b", 1);
    let mut collector = Collector::new(&log(&store), "b");
    let later = FENCE_MS + HOUR_MS;
    for as_of in [3000, 4000] {
        let read = writer.commit(Cut { written_at: later, ..cut(as_of, &[], &[]) }, SOON).unwrap();
        collector.collect(&read, later).unwrap();
    }
    let read = writer.commit(Cut { written_at: 3 * later, ..cut(5000, &[], &[]) }, SOON).unwrap();
    collector.collect(&read, 3 * later).unwrap();
    assert_eq!(log(&store).numbers().unwrap(), Some(5..=5), "what had superseded it is gone");
    let said = text(stale.commit(cut(9000, &[], &[]), SILENT_MAX + SOON));
    assert!(said.contains("checkpoint 3 was committed by run \"b\""), "{said}");
    assert_eq!(log(&store).numbers().unwrap(), Some(5..=5));
    // Whoever still owns the log goes on.
    writer.commit(cut(6000, &[], &[]), SILENT_MAX + SOON).unwrap();
    // A log that lost its end is not written to.
    store.remove(&manifest_key("p", 6));
    assert!(matches!(writer.commit(cut(7000, &[], &[]), SILENT_MAX + SOON), Err(LogError::Missing { number: 6, .. })));
}

#[test]
fn objects_go_when_no_kept_manifest_names_them() {
    let store = MemoryStore::default();
    let mut writer = Writer::after(&log(&store), None, "a", 2);
    let mut collector = Collector::new(&log(&store), "a");
    let [a, b, c, d] = [1, 1, 2, 3].map(|number| written(&store, number, "a"));
    let b = Object { key: format!("{}-m1", b.key), ..b };
    store.process().put(&b.key, "rows".into()).unwrap();
    let mut deleted = Vec::new();
    for (as_of, state, fresh) in
        [(1000, vec![&a, &b], vec![&a]), (2000, vec![&b, &c], vec![]), (3000, vec![&b], vec![&d]), (4000, vec![&d], vec![])]
    {
        let read = writer.commit(cut(as_of, &state, &fresh), SOON).unwrap();
        deleted.push(collector.collect(&read, HOUR_MS).unwrap().objects);
    }
    assert_eq!(deleted, [0, 0, 1, 1], "a with checkpoint 1, c with 2; b and d are still named by 3");
    let there: Vec<String> = store.contents().into_keys().filter(|key| key.contains("/state/")).collect();
    assert_eq!(there, [b.key, d.key]);
    assert_eq!(log(&store).numbers().unwrap(), Some(1..=4), "manifests stay for a day");
}

#[test]
fn manifests_go_oldest_first_after_a_day() {
    let store = MemoryStore::default();
    let (mut writer, _) = committed(&store, "a", 2, 5);
    // The second is damaged: it is as old as the one after it at least.
    store.damage(&manifest_key("p", 2), |bytes| bytes.truncate(10));
    let mut collector = Collector::new(&log(&store), "a");
    let mut commit = |as_of, now| {
        let read = writer.commit(Cut { written_at: now, ..cut(as_of, &[], &[]) }, SOON).unwrap();
        let manifests = collector.collect(&read, now).unwrap().manifests;
        (manifests, log(&store).numbers().unwrap().unwrap())
    };
    assert_eq!(commit(6000, FENCE_MS - 1), (0, 1..=6));
    assert_eq!(commit(7000, FENCE_MS), (5, 6..=7), "the two that are kept stay, however old");
    assert_eq!(commit(8000, 10), (0, 6..=8), "a clock that goes back deletes nothing");
    assert_eq!(commit(9000, 3 * FENCE_MS), (2, 8..=9));
}

#[test]
fn a_new_run_finds_what_an_interrupted_one_left() {
    let store = MemoryStore::default();
    let (_, commits) = committed(&store, "a", 5, 2);
    let unused = [written(&store, 1, "older"), written(&store, 3, "a")];
    let mut writer = Writer::after(&log(&store), commits.last(), "b", 5);
    // Of another run that reads this commit, and one of our own that is being merged.
    let in_flight = [written(&store, 4, "c"), written(&store, 3, "b")];
    store.process().put("p/state/README", "not ours".into()).unwrap();
    let state: Vec<&Object> = commits[1].manifest.state.iter().collect();
    let read = writer.commit(cut(3000, &state, &[]), SOON).unwrap();
    // The collection is interrupted as well, and goes on with the next commit.
    let faults = BTreeMap::from([(3, Fault::Refused)]);
    let process = store.process_with(faults, Box::new(|_| {}));
    let mut collector = Collector::new(&Log::open(process, "p", "mall", 1), "b");
    assert!(matches!(collector.collect(&read, 0), Err(LogError::Objects(_))));
    let read = writer.commit(cut(4000, &state, &[]), SOON).unwrap();
    assert_eq!(collector.collect(&read, 0).unwrap(), Collected { objects: unused.len(), manifests: 0 });
    let contents = store.contents();
    assert!(unused.iter().all(|object| !contents.contains_key(&object.key)));
    assert!(in_flight.iter().chain(state).all(|object| contents.contains_key(&object.key)));
    assert!(contents.contains_key("p/state/README"));
}

#[test]
#[should_panic(expected = "only what follows an own commit")]
fn nothing_is_collected_before_an_own_commit() {
    let store = MemoryStore::default();
    let (_, commits) = committed(&store, "a", 5, 1);
    let _ = Collector::new(&log(&store), "b").collect(&commits[0], 0);
}
