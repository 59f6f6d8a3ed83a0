//! What is read back is what was decoded, and nothing else is ever read.

use super::*;
use crate::config::job_file;
use crate::generate::{Options, Share, Shares, generate};
use crate::source::dataset::partitions;

/// A small mall with every kind of trouble, its job, and a folder for caches.
struct Mall {
    root: tempfile::TempDir,
    job: Job,
    files: Vec<PartitionFile>,
    topics: Vec<String>,
}

impl Mall {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("mall");
        let shares = Shares { malformed: "0.05".parse::<Share>().unwrap(), ..Shares::default() };
        generate(&Options { out: out.clone(), payments: 400, clicks: 1_500, products: 80, shares, ..Options::default() })
            .unwrap();
        let job = job_file::load(&out.join("mall.toml")).unwrap();
        let files = partitions(&job, &out).unwrap();
        let topics = crate::runtime::replay::topics_of(&files);
        Mall { root, job, files, topics }
    }

    fn caches(&self) -> PathBuf {
        self.root.path().join("cache")
    }

    fn open(&self, index: u32) -> Partition {
        open(&self.job, &self.files[index as usize], index, &self.topics, 1 << 16, &self.caches()).unwrap()
    }

    /// The cache file of a partition, written.
    fn written(&self, index: u32) -> PathBuf {
        self.open(index);
        path(&self.caches(), &self.files[index as usize])
    }

    fn identity(&self, job: &Job, index: u32) -> Identity {
        Identity::of(job, &self.files[index as usize], index, &self.topics).unwrap()
    }

    fn refused(&self, path: &Path, identity: &Identity) -> Option<Refused> {
        load(path, identity).err()
    }
}

#[test]
fn cached_records_are_the_decoded_ones() {
    let mall = Mall::new();
    let (mut kinds, mut dead) = (std::collections::BTreeSet::new(), 0);
    for (index, file) in (0..).zip(&mall.files) {
        let mut direct = Partition::open(&mall.job, file, index, &mall.topics, 1 << 16, &std::sync::Arc::default()).unwrap();
        // The first opening writes, the second finds it written.
        let mut opened = [mall.open(index), mall.open(index)];
        assert!(opened.iter().all(|one| one.clock().now() == direct.clock().now()));
        assert!(opened.iter().all(|one| one.records_per_hour() == direct.records_per_hour()));
        loop {
            let expected = direct.next_record().unwrap();
            for cached in &mut opened {
                let found = cached.next_record().unwrap();
                assert_eq!(found.is_some(), expected.is_some());
                if let (Some(found), Some(expected)) = (&found, &expected) {
                    assert_eq!((found.order, found.bytes), (expected.order, expected.bytes));
                    assert_eq!(found.outcome, expected.outcome);
                }
                assert_eq!((cached.clock().now(), cached.end()), (direct.clock().now(), direct.end()));
            }
            match expected {
                Some(Placed { outcome: Ok((decoded, _)), .. }) => {
                    kinds.insert(match decoded {
                        Decoded::Click(_) => "click",
                        Decoded::Change(RowChange { what: What::Row(_), .. }) => "upsert",
                        Decoded::Change(_) => "delete",
                        Decoded::Skipped(_) => "skipped",
                        Decoded::Changes(_) | Decoded::Truncate(_) => unreachable!("the dataset has none"),
                    });
                }
                Some(_) => dead += 1,
                None => break,
            }
        }
        assert!(opened.iter().all(|one| one.clock().jumps() == direct.clock().jumps()));
    }
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    assert!(dead > 10, "{dead}");
}

#[test]
fn extreme_values_come_back() {
    let long = "x".repeat(1_000);
    let key = |hash, text: &str| Key { hash, text: Text::new(text.as_bytes()) };
    for amount in [0, 1, -1, i128::MAX, i128::MIN, 10i128.pow(26), -(1 << 64)] {
        let row = Row { cell: key(u64::MAX, &long), member: Text::new(b"m"), window: i64::MIN, amount, lacks: u32::MAX };
        let version = Version { incarnation: u64::MAX, server: u32::MAX, position: Position(u32::MAX, u64::MAX, u32::MAX) };
        let change = RowChange { key: key(1, ""), version: Some(version), read: true, what: What::Row(row) };
        let order = Order { stamp: 7, partition: 3, position: u64::MAX, part: 0 };
        let decoded = || {
            Decoded::Change(RowChange {
                key: change.key.clone(),
                version: change.version,
                read: change.read,
                what: change.what.clone(),
            })
        };
        let mut records = Records::default();
        let flat =
            flatten(&Placed { order, bytes: 9, line: None, fresh: false, outcome: Ok((decoded(), 2)) }, &mut records.texts)
                .unwrap();
        records.flat.push(flat);
        let found = reread(&records).next_record(3, &"t".into(), 0).expect("a record");
        assert_eq!((found.order, found.bytes), (order, 9));
        assert_eq!(found.outcome, Ok((decoded(), 2)));
    }
}

#[test]
fn what_has_no_flat_form_is_refused_by_name() {
    let order = Order { stamp: 7, partition: 3, position: 1, part: 0 };
    let key = Key { hash: 1, text: Text::new(b"k") };
    let row = Row { cell: key.clone(), member: Text::EMPTY, window: 0, amount: 1, lacks: 0 };
    let patch = RowChange { key: key.clone(), version: None, read: false, what: What::Patch(row, 1) };
    let click = Click { cell: key.clone(), product: Text::EMPTY, time: 5, event: Some(Text::new(b"e")) };
    let truncate = crate::decode::Truncate { space: Text::new(b"s"), version: None };
    for (decoded, what) in [
        (Decoded::Change(patch), "a part of a row"),
        (Decoded::Click(click), "an event id"),
        (Decoded::Truncate(truncate), "a truncate"),
        (Decoded::Changes(Vec::new()), "several changes"),
    ] {
        let placed = Placed { order, bytes: 9, line: None, fresh: true, outcome: Ok((decoded, 0)) };
        let refused = flatten(&placed, &mut Vec::new()).map(|_| ()).unwrap_err();
        assert!(refused.contains(what), "{refused}");
    }
}

/// The records as they come back from memory.
fn reread(records: &Records) -> Cached {
    let mut bytes = Vec::new();
    // SAFETY: as in `write`.
    unsafe { abomonation::encode(records, &mut bytes) }.unwrap();
    let mut mapped = MmapMut::map_anon(HEADER + bytes.len()).unwrap();
    mapped[HEADER..].copy_from_slice(&bytes);
    let identity = Identity { build: 0, job: 0, source_bytes: 0, source_modified: 0 };
    let header = Header { identity, length: 0, checksum: 0, clock: 0, jumps: 0, records_per_hour: 0 };
    // SAFETY: encoded above.
    let records = unsafe { Abomonated::<Records, _>::new(AfterHeader(mapped)) }.expect("long enough");
    Cached { records, next: 0, header }
}

#[test]
fn any_flipped_bit_is_refused() {
    let mall = Mall::new();
    let path = mall.written(0);
    let identity = mall.identity(&mall.job, 0);
    assert_eq!(mall.refused(&path, &identity), None);
    let whole = std::fs::read(&path).unwrap();
    let header = (0..96).chain([1_000, HEADER - 1, HEADER]);
    for at in header.chain((HEADER..whole.len()).step_by(4_999)).chain([whole.len() - 1]) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).unwrap();
        let refused = mall.refused(&path, &identity);
        let expected = match at {
            0..8 => Refused::Foreign,
            8..16 => Refused::Version,
            _ => Refused::Damaged,
        };
        assert_eq!(refused, Some(expected), "byte {at}");
    }
}

#[test]
fn a_cut_or_grown_file_is_refused() {
    let mall = Mall::new();
    let path = mall.written(0);
    let identity = mall.identity(&mall.job, 0);
    let whole = std::fs::read(&path).unwrap();
    for len in [0, 7, 8, 100, HEADER - 1, HEADER, HEADER + 1, whole.len() - 1] {
        std::fs::write(&path, &whole[..len]).unwrap();
        assert_eq!(mall.refused(&path, &identity), Some(Refused::Length), "{len} bytes");
    }
    std::fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    assert_eq!(mall.refused(&path, &identity), Some(Refused::Length));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(mall.refused(&path, &identity), Some(Refused::Missing));
}

#[test]
fn other_builds_jobs_places_and_inputs_are_refused() {
    let mall = Mall::new();
    let path = mall.written(0);
    let identity = mall.identity(&mall.job, 0);
    let other_job = Job { scale: 3, ..mall.job.clone() };
    assert_eq!(mall.refused(&path, &mall.identity(&other_job, 0)), Some(Refused::Job));
    assert_eq!(mall.refused(&path, &mall.identity(&mall.job, 1)), Some(Refused::Job));
    assert_eq!(mall.refused(&path, &Identity { build: 0, ..identity }), Some(Refused::Build));
    assert_eq!(mall.refused(&path, &Identity { source_modified: 0, ..identity }), Some(Refused::Stale));
    assert_eq!(mall.refused(&path, &Identity { source_bytes: 0, ..identity }), Some(Refused::Stale));
    // Another format version, with a header that is whole.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 2;
    let own = xxh3_64(&bytes[..HEADER - 8]);
    bytes[HEADER - 8..HEADER].copy_from_slice(&own.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(mall.refused(&path, &identity), Some(Refused::Version));
    std::fs::write(&path, b"not a cache at all, but longer than a page".repeat(200)).unwrap();
    assert_eq!(mall.refused(&path, &identity), Some(Refused::Foreign));
}

#[test]
fn a_refused_cache_is_written_anew() {
    let mall = Mall::new();
    let path = mall.written(0);
    let identity = mall.identity(&mall.job, 0);
    std::fs::write(&path, b"damaged").unwrap();
    let count = |mut partition: Partition| {
        let mut records = 0;
        while partition.next_record().unwrap().is_some() {
            records += 1;
        }
        records
    };
    let records = count(mall.open(0));
    assert_eq!(mall.refused(&path, &identity), None);
    // A longer partition file is another one.
    let file = &mall.files[0];
    let mut text = std::fs::read(&file.path).unwrap();
    text.extend_from_slice(b"\nnot JSON\n");
    std::fs::write(&file.path, text).unwrap();
    assert_eq!(mall.refused(&path, &mall.identity(&mall.job, 0)), Some(Refused::Stale));
    assert_eq!(count(mall.open(0)), records + 1);
}
