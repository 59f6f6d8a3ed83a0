//! Decoders and what is no record: seeds changed by chance, and in a long run `scripts/fuzz`, which goes where the code goes.

use std::path::{Path, PathBuf};
use std::process::Command;

use storeflow::config::{Format, Job};
use storeflow::decode::{Decoder, Message, Record, Reject};

use crate::support::chance::{Chance, seeds};
use crate::support::fuzz::input::Input;
use crate::support::fuzz::{jobs, schemas};

const FORMATS: [Format; 10] = [
    Format::Debezium,
    Format::Flattened,
    Format::Dms,
    Format::Maxwell,
    Format::Canal,
    Format::Mongodb,
    Format::Upsert,
    Format::Avro,
    Format::Json,
    Format::Auto,
];

/// Changes of a seed, each.
const CHANGES: usize = 300;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn seeds_of(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = std::fs::read_dir(root().join("seeds").join(target)).expect("seeds");
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a seed"))).collect()
}

/// An input as its format's decoder reads it, twice.
fn decode(jobs: &[Job], format: Format, bytes: &[u8]) -> Option<Result<Record, Reject>> {
    let Input { job, key, value } = Input::split(format, bytes)?;
    let job = &jobs[job % jobs.len()];
    let mut decoder = Decoder::new(job, &job.sources[0], "seoul.rows", 8).with_schemas(&schemas::all());
    let mut decode = || decoder.decode(Message { key, value: Some(value), utf8: false });
    let first = decode();
    assert_eq!(first, decode(), "a record means the same whatever came before");
    Some(first)
}

/// What seeds are changed into says little if they are no records.
#[test]
fn seeds_are_records_of_their_format() {
    let mut wrong = Vec::new();
    for format in FORMATS {
        let jobs = jobs::of(format);
        for (path, seed) in seeds_of(format.name()) {
            if let Err(reject) = decode(&jobs, format, &seed).expect("an input") {
                wrong.push(format!("{}: {reject}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each format is fuzzed, and nothing that is fuzzed is without seeds.
#[test]
fn targets_are_complete() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let targets: Vec<&str> = manifest.split("[[bin]]\nname = \"").skip(1).filter_map(|bin| bin.split('"').next()).collect();
    for format in FORMATS {
        assert!(targets.contains(&format.name()), "{}", format.name());
    }
    assert!(targets.iter().all(|target| !seeds_of(target).is_empty()));
}

#[test]
fn seeds_changed_by_chance_are_records_or_dead_letters() {
    for seed in seeds(1, 30) {
        let mut chance = Chance::of(seed);
        for format in FORMATS {
            let (jobs, inputs) = (jobs::of(format), seeds_of(format.name()));
            for (path, input) in &inputs {
                for _ in 0..CHANGES {
                    let other = &inputs[chance.below(inputs.len())].1;
                    let changed = changed(input, other, &mut chance);
                    let decoded = std::panic::catch_unwind(|| decode(&jobs, format, &changed));
                    assert!(decoded.is_ok(), "{}: {:?}", path.display(), String::from_utf8_lossy(&changed));
                }
            }
        }
    }
}

/// One to four small damages.
fn changed(input: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len().max(1));
        let end = (at + 1 + chance.below(12)).min(bytes.len());
        let piece = |chance: &mut Chance| {
            let from = chance.below(other.len());
            other[from..(from + 1 + chance.below(24)).min(other.len())].to_vec()
        };
        match chance.below(7) {
            0 => drop(bytes.drain(at.min(end)..end)),
            1 => bytes.insert(at, chance.below(256) as u8),
            2 => drop(bytes.splice(at.min(end)..end, piece(chance)).collect::<Vec<u8>>()),
            3 => drop(bytes.splice(at..at, piece(chance)).collect::<Vec<u8>>()),
            4 => bytes.truncate(at),
            5 => {
                let sign = chance.one_of(b"\"\\{}[],:0-.eEnt \n");
                bytes.insert(at, sign);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << chance.below(8);
                }
            }
        }
    }
    bytes
}

/// A minute for each target by coverage, in a long run; else the targets at least have what they begin with, as the tests above hold.
#[test]
fn a_minute_of_anything_for_each_target() {
    if std::env::var("STOREFLOW_LONG").as_deref() != Ok("1") {
        println!("only with STOREFLOW_LONG=1, as it builds the decoders anew and takes a minute each: scripts/fuzz");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/fuzz");
    // What cargo sets for this test is not for the build of another workspace.
    let foreign = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("CARGO_"));
    let foreign: Vec<_> = foreign.filter(|name| name != "CARGO_HOME" && name != "CARGO_BUILD_JOBS").collect();
    let mut command = Command::new(script);
    for name in foreign {
        command.env_remove(name);
    }
    let status = command.arg("60").status().expect("scripts/fuzz");
    assert!(status.success(), "{status}");
}
