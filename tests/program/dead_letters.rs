//! Dead letters: where they are, what the tools say of them, when they stop a job, and how they are read again.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::binary::{Ended, dataset, refuse, run, storeflow, succeed, text};
use crate::support::s3::{address_of, environment, place};
use crate::support::services::{Kind, shared};
use crate::support::shop::{Shop, TOPICS};

type Records = BTreeSet<(String, u32, u64)>;

/// All files below a folder.
fn files(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().map(|entry| entry.expect("readable").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The dead letters that `list` prints, as JSON.
fn listed(more: &[&str]) -> Vec<Value> {
    let out = succeed(&[&["dead-letters", "list", "--format", "json"][..], more].concat());
    out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn records(letters: &[Value]) -> Records {
    let all = letters.iter().map(|letter| {
        let number = |name: &str| letter[name].as_u64().expect("a number");
        let topic = letter["topic"].as_str().expect("a topic").to_owned();
        (topic, u32::try_from(number("partition")).expect("16 bits"), number("offset"))
    });
    let set: Records = all.collect();
    assert_eq!(set.len(), letters.len(), "none is listed twice");
    set
}

fn of<'a>(letter: &'a Value, name: &str) -> &'a str {
    letter[name].as_str().unwrap_or_else(|| panic!("a text {name} of {letter}"))
}

/// The arguments of a run over a shop's dataset.
fn replay<'a>(job: &'a str, whole: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--job", job, "--replay", whole, "--data-dir", out][..], more].concat()
}

#[test]
fn files_are_by_day_and_reason_and_the_tools_read_them() {
    let shop = Shop::new("tools", 1_500, 1);
    let (job, whole, out) = (shop.mall.job(), shop.mall.whole(), shop.mall.dir("out"));
    succeed(&replay(&job, &whole, &out, &["--workers", "2"]));
    let root = PathBuf::from(&out).join(&shop.mall.name).join("gen-000001/dead_letters");
    let found = files(&root);
    assert!(found.len() > 6, "{found:?}");
    for path in &found {
        let below = path.strip_prefix(&root).expect("below");
        let names: Vec<&str> = below.iter().map(|name| name.to_str().expect("UTF-8")).collect();
        let [date, reason, epoch] = names[..] else { panic!("{below:?}") };
        assert!(date.starts_with("date=2026-11-2") && reason == "reason=missing_field", "{below:?}");
        assert!(epoch.starts_with("epoch=2026112") && epoch.ends_with("of2.ndjson"), "{below:?}");
        assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o777, 0o600);
    }
    let place = ["--data-dir", &out];
    let letters = listed(&place);
    assert_eq!(records(&letters), shop.bad);
    let versions: BTreeSet<&str> = letters.iter().map(|letter| of(letter, "job_version")).collect();
    assert!(versions.len() == 1 && versions.iter().all(|version| version.len() == 16), "{versions:?}");
    assert!(letters.iter().all(|letter| of(letter, "storeflow_version") == env!("CARGO_PKG_VERSION")));
    assert!(letters.iter().all(|letter| letter["shown"] == true && of(letter, "job") == shop.mall.name));

    // Filters.
    let topic = shop.topic("items");
    let of_items = listed(&[&place[..], &["--topic", "*.items"]].concat());
    let expected: Records = shop.bad.iter().filter(|(of, ..)| *of == topic).cloned().collect();
    assert_eq!(records(&of_items), expected);
    assert!(listed(&[&place[..], &["--reason", "bad_time"]].concat()).is_empty());
    let half = "2026-11-20T01:30:00Z";
    let (before, since) =
        (listed(&[&place[..], &["--until", half]].concat()), listed(&[&place[..], &["--since", half]].concat()));
    assert!(!before.is_empty() && !since.is_empty() && before.len() + since.len() == letters.len());
    assert_eq!(listed(&[&place[..], &["--limit", "7"]].concat()).len(), 7);
    refuse(&[&["dead-letters", "list", "--reason", "bad_tme"][..], &place].concat(), &["bad_tme", "bad_time"]);
    refuse(&[&["dead-letters", "list", "--since", "noon"][..], &place].concat(), &["noon", "2026-11-20"]);

    // For people.
    let table = succeed(&[&["dead-letters", "list", "--limit", "3"][..], &place].concat());
    assert!(table.lines().count() == 5 && table.contains("missing_field") && table.contains("there are more"), "{table}");
    let (topic, partition, offset) = expected.iter().next().expect("one");
    let address = format!("{topic}/{partition}/{offset}");
    assert!(succeed(&[&["dead-letters", "list", "--limit", "9999"][..], &place].concat()).contains(&address));
    let shown = succeed(&[&["dead-letters", "show", &address][..], &place].concat());
    for word in [address.as_str(), "missing_field", "qty", "\"quantity\":", "key        \"i", "in         a file"] {
        assert!(shown.contains(word), "nothing of {word:?}:\n{shown}");
    }
    let none = format!("{topic}/9/9");
    refuse(&[&["dead-letters", "show", &none][..], &place].concat(), &["no such dead letter", &none]);
    let stats = succeed(&[&["dead-letters", "stats", "--format", "json"][..], &place].concat());
    let stats: Value = serde_json::from_str(&stats).expect("JSON");
    assert_eq!((stats["dead_letters"].as_u64(), stats["by_reason"]["missing_field"].as_u64()), {
        let all = Some(shop.bad.len() as u64);
        (all, all)
    });
    for short in TOPICS {
        let topic = shop.topic(short);
        let expected = shop.bad.iter().filter(|(of, ..)| *of == topic).count();
        assert_eq!(stats["by_topic"][&topic].as_u64(), Some(expected as u64));
    }
    let read = stats["records_by_topic"].as_object().expect("known of a dataset").values().filter_map(Value::as_u64);
    assert_eq!(read.sum::<u64>(), shop.records as u64);
    let table = succeed(&[&["dead-letters", "stats"][..], &place].concat());
    assert!(table.contains(&format!("{} dead letters of generation 1", shop.bad.len())) && table.contains(" %"), "{table}");
}

#[test]
fn what_no_file_has_yet_is_listed_from_the_checkpoint_once() {
    let shop = Shop::new("pending", 3_000, 2);
    let (job, whole, out) = (shop.mall.job(), shop.mall.whole(), shop.mall.dir("out"));
    let slow = ["--speed", "1200", "--checkpoint-interval", "0s"];
    let place = ["--data-dir", &out, "--job-name", &shop.mall.name];
    let mut running = crate::support::running::Running::start(&mut storeflow(&replay(&job, &whole, &out, &slow)));
    running.wait_with("dead letters of an epoch that goes on", |_| {
        let Ended { code, out, .. } = run(&mut storeflow(&[&["dead-letters", "list", "--format", "json"][..], &place].concat()));
        let letters: Vec<Value> = out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let pending = letters.iter().filter(|letter| letter["shown"] == false).count();
        // What is looked at may be collected meanwhile; then there is nothing to be said.
        (code == Some(0) && pending > 0 && letters.len() > pending && records(&letters).is_subset(&shop.bad)).then_some(())
    });
    assert_eq!(running.crash(), None, "it was going on");
    let letters = listed(&place);
    let found = records(&letters);
    assert!(found.is_subset(&shop.bad));
    let pending = letters.iter().filter(|letter| letter["shown"] == false).count();
    let table = succeed(&[&["dead-letters", "stats"][..], &place].concat());
    assert_eq!(pending > 0, table.contains(&format!("{pending} of them")) && table.contains("in no file yet"), "{table}");
    // At the end all of them are in files, none twice; and it is the checkpoint that brought them back.
    succeed(&replay(&job, &whole, &out, &["--workers", "3"]));
    let letters = listed(&["--data-dir", &out]);
    assert!(records(&letters) == shop.bad && letters.iter().all(|letter| letter["shown"] == true));
    let verified = succeed(&["verify", "--job", &job, "--replay", &whole, "--data-dir", &out, "--history"]);
    assert!(verified.starts_with("exact"), "{verified}");
}

#[test]
fn letters_of_an_earlier_program_are_listed_and_move_when_its_checkpoint_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let copied = std::process::Command::new("cp").arg("-r").arg(dataset("checkpoint-v1")).arg(folder.path().join("out")).status();
    assert!(copied.expect("cp").success());
    let out = text(&folder.path().join("out"));
    let place = ["--data-dir", &out, "--job-name", "mall"];
    let before = records(&listed(&place));
    let old = PathBuf::from(&out).join("mall");
    assert!(!before.is_empty() && files(&old).iter().any(|path| text(path).contains("dead_letters/date=")), "{before:?}");
    let mall = dataset("mall-small");
    let (job, whole) = (text(&mall.join("mall.toml")), text(&mall));
    succeed(&replay(&job, &whole, &out, &[]));
    let after = listed(&place);
    assert!(before.is_subset(&records(&after)), "what was there is there");
    let verified = succeed(&["verify", "--job", &job, "--replay", &whole, "--data-dir", &out, "--history"]);
    assert!(verified.starts_with("exact"), "{verified}");
}

#[test]
fn on_s3_they_are_the_same() {
    let Some(server) = shared(Kind::S3) else { return };
    let shop = Shop::new("on-s3", 600, 3);
    let (job, whole, url) = (shop.mall.job(), shop.mall.whole(), place(&server, "letters"));
    let command = |args: &[&str]| {
        let ended = run(storeflow(args).envs(environment(address_of(&server))));
        assert_eq!(ended.code, Some(0), "storeflow {args:?}\n{}{}", ended.out, ended.err);
        ended.out
    };
    command(&["run", "--job", &job, "--replay", &whole, "--store", &url]);
    let letters = command(&["dead-letters", "list", "--format", "json", "--store", &url]);
    let letters: Vec<Value> = letters.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(records(&letters), shop.bad);
    let stats = command(&["dead-letters", "stats", "--store", &url]);
    assert!(stats.contains(&format!("{} dead letters", shop.bad.len())), "{stats}");
    let (topic, partition, offset) = shop.bad.iter().next().expect("one");
    let shown = command(&["dead-letters", "show", &format!("{topic}/{partition}/{offset}"), "--store", &url]);
    assert!(shown.contains("missing_field"), "{shown}");
}

#[test]
fn too_many_stop_the_job_and_nothing_of_what_was_read_is_lost() {
    for (workers, more) in [("1", &[][..]), ("2", &["--speed", "7200"][..])] {
        let shop = Shop::new("share", 6_000, 4);
        let (job, whole, out) = (shop.mall.job(), shop.mall.whole(), shop.mall.dir("out"));
        let usual = ["--workers", workers, "--dead-letter-max-share", "0.05"];
        let Ended { code, out: printed, err } = run(&mut storeflow(&replay(&job, &whole, &out, &[&usual[..], more].concat())));
        assert_eq!(code, Some(2), "{printed}{err}");
        let message = err.lines().find(|line| line.starts_with("error: ")).expect("a message");
        for word in ["stopped on purpose", &shop.mall.name, "--dead-letter-max-share 0.05", "\"missing_field\"", " %", "replay"] {
            assert!(message.contains(word), "nothing of {word:?}:\n{message}");
        }
        assert!(!records(&listed(&["--data-dir", &out])).is_empty());
        // A share that is not reached stops nothing, and what was read before is gone on with.
        succeed(&replay(&job, &whole, &out, &["--workers", "2", "--dead-letter-max-share", "0.9"]));
        let verified = succeed(&["verify", "--job", &job, "--replay", &whole, "--data-dir", &out, "--history"]);
        assert!(verified.starts_with("exact"), "{verified}");
        assert_eq!(records(&listed(&["--data-dir", &out])), shop.bad);
        if !more.is_empty() {
            let generations = fs::read_dir(PathBuf::from(&out).join(&shop.mall.name)).expect("a folder").count();
            assert_eq!(generations, 1, "it was the same run that went on");
        }
    }
    let shop = Shop::new("shares", 20, 5);
    let (job, whole, out) = (shop.mall.job(), shop.mall.whole(), shop.mall.dir("out"));
    for wrong in ["1", "-0.1", "5%", "NaN"] {
        let flag = format!("--dead-letter-max-share={wrong}");
        refuse(&replay(&job, &whole, &out, &[&flag]), &["is a share from 0 to less than 1"]);
    }
}
