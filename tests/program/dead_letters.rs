//! Dead letters: where they are, what the tools say of them, when they stop a job, and how they are read again.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use storeflow::store::Store;

use crate::support::binary::{Ended, dataset, refuse, run, storeflow, succeed, text};
use crate::support::chance::{Chance, seeds};
use crate::support::kept::Kept;
use crate::support::running::{Running, is_there, kill_if_there};
use crate::support::s3::{address_of, environment, place};
use crate::support::services::{Kind, shared};
use crate::support::shop::{PARTS, Shop, TOPICS};

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
    assert!(records(&letters) == shop.bad);
    let versions: BTreeSet<&str> = letters.iter().map(|letter| of(letter, "job_version")).collect();
    assert!(versions.len() == 1 && versions.iter().all(|version| version.len() == 16), "{versions:?}");
    assert!(letters.iter().all(|letter| of(letter, "storeflow_version") == env!("CARGO_PKG_VERSION")));
    assert!(letters.iter().all(|letter| letter["shown"] == true && of(letter, "job") == shop.mall.name));

    // Filters.
    let topic = shop.topic("items");
    let of_items = listed(&[&place[..], &["--topic", "*.items"]].concat());
    let expected: Records = shop.bad.iter().filter(|(of, ..)| *of == topic).cloned().collect();
    assert!(records(&of_items) == expected);
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
    let mut running = Running::start(&mut storeflow(&replay(&job, &whole, &out, &slow)));
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
    assert!(records(&letters) == shop.bad);
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
        assert!(records(&listed(&["--data-dir", &out])) == shop.bad);
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

/// Every cell that is shown, without what the time of a correction decides.
fn cells(out: &str) -> BTreeSet<String> {
    let mut cells = BTreeSet::new();
    for table in ["store_payments", "store_sales", "store_clicks", "store_products"] {
        for line in succeed(&["export", "--data-dir", out, "--table", table]).lines() {
            let mut row: Value = serde_json::from_str(line).expect("JSON");
            for lateness in ["revision", "closed", "as_of"] {
                row.as_object_mut().expect("a row").remove(lateness);
            }
            assert!(cells.insert(format!("{table} {row}")), "a cell twice: {row}");
        }
    }
    cells
}

/// What is shown of the dataset without the mistake.
fn without_the_mistake(shop: &Shop) -> BTreeSet<String> {
    shop.mend();
    let (job, whole, out) = (shop.mall.job(), shop.mall.whole(), shop.mall.dir("right"));
    succeed(&replay(&job, &whole, &out, &[]));
    let cells = cells(&out);
    assert!(cells.len() > 50, "{}", cells.len());
    shop.make_wrong();
    cells
}

fn assert_same(found: &BTreeSet<String>, expected: &BTreeSet<String>, of: &str) {
    let (more, less): (Vec<_>, Vec<_>) = (found.difference(expected).collect(), expected.difference(found).collect());
    let first = |cells: &[&String]| cells.iter().take(4).map(|cell| format!("\n  {cell}")).collect::<String>();
    let (wrong, missing) = (first(&more), first(&less));
    assert!(more.is_empty() && less.is_empty(), "{of}: {} wrong:{wrong}\n{} missing:{missing}", more.len(), less.len());
}

/// Requests a replay of all there is; how many letters are to be read again, and how many are left out.
fn request(place: &[&str], more: &[&str]) -> (u64, u64) {
    let said = succeed(&[&["dead-letters", "replay"][..], place, more].concat());
    let (chosen, rest) = said.split_once(" dead letters ").unwrap_or_else(|| panic!("{said}"));
    let left_out = rest.split_once("; ").and_then(|(_, rest)| rest.split_once(" left out")).expect("left out").0;
    (chosen.parse().expect("a number"), left_out.parse().expect("a number"))
}

/// Letters that were requested, and those that the newest checkpoint has read.
fn replayed(place: &[&str]) -> (u64, u64) {
    let stats = succeed(&[&["dead-letters", "stats", "--format", "json"][..], place].concat());
    let stats: Value = serde_json::from_str(&stats).expect("JSON");
    let of = |name: &str| stats["replays"][name].as_u64().expect("a number");
    (of("letters"), of("read"))
}

const ACCEPT: &str = "--accept-job-change";

#[test]
fn a_mended_job_reads_them_again_once_and_all_is_as_without_the_mistake() {
    let shop = Shop::new("mended", 4_000, 6);
    let expected = without_the_mistake(&shop);
    let (job, whole, out) = (shop.mall.job(), shop.mall.whole(), shop.mall.dir("out"));
    let place = ["--data-dir", &out];
    succeed(&replay(&job, &whole, &out, &["--workers", "2"]));
    assert_ne!(cells(&out), expected, "the mistake shows");
    let all = shop.bad.len() as u64;
    assert_eq!(request(&place, &["--dry-run"]), (all, 0));
    assert_eq!(request(&place, &["--dry-run", "--reason", "bad_time"]), (0, 0));
    assert_eq!(replayed(&place), (0, 0), "a dry run requests nothing");

    // In two requests, and a third that has nothing to say; one letter by its place first.
    let (topic, partition, offset) = shop.bad.iter().next().expect("one");
    let address = format!("{topic}/{partition}/{offset}");
    assert_eq!(request(&place, &[&address]), (1, 0));
    let of_clicks = shop.bad.iter().filter(|(topic, ..)| topic.ends_with("clicks")).count() as u64;
    assert_eq!(request(&place, &["--topic", "*.clicks"]), (of_clicks - 1, 1));
    assert_eq!(request(&place, &[]), (all - of_clicks, of_clicks));
    assert_eq!(request(&place, &[]), (0, all), "doing it twice does nothing twice");
    assert_eq!(replayed(&place), (all, 0));

    // The mended job is another one, and goes on only if that is said.
    shop.mend();
    refuse(&replay(&job, &whole, &out, &[]), &["another meaning", "amount", "\"sum\"", ACCEPT]);
    succeed(&replay(&job, &whole, &out, &["--workers", "3", ACCEPT]));
    assert_eq!(replayed(&place), (all, all));
    let generations = fs::read_dir(PathBuf::from(&out).join(&shop.mall.name)).expect("a folder").count();
    assert_eq!(generations, 1, "it is the run that had the mistake");
    assert_same(&cells(&out), &expected, "once they are read again");
    let letters = listed(&place);
    assert!(records(&letters) == shop.bad, "they stay where they are, and none is new");
    let verify = ["verify", "--job", &job, "--replay", &whole, "--data-dir", &out];
    refuse(&verify, &["replayed dead letters (3 requests)", "--generation 2"]);
    // What is over is not read again.
    let read = succeed(&["checkpoints", "show", "--data-dir", &out]);
    assert!(read.contains("~replay") && read.contains("\"accepted\""), "{read}");
}

#[test]
fn what_fails_again_is_a_dead_letter_again_and_can_be_asked_for_again() {
    let shop = Shop::new("again", 1_500, 7);
    let expected = without_the_mistake(&shop);
    let (job, whole, out) = (shop.mall.job(), shop.mall.whole(), shop.mall.dir("out"));
    let place = ["--data-dir", &out];
    succeed(&replay(&job, &whole, &out, &[]));
    let all = shop.bad.len() as u64;
    assert_eq!(request(&place, &[]), (all, 0));
    // Nothing was mended: each is there twice, as it was, with another stamp.
    succeed(&replay(&job, &whole, &out, &[]));
    let letters = listed(&place);
    assert_eq!(letters.len() as u64, 2 * all);
    // They have one stamp, of where they were read, which was at the end.
    let last = letters.iter().filter_map(|letter| letter["stamp"].as_u64()).max();
    let second: Vec<Value> = letters.iter().filter(|letter| letter["stamp"].as_u64() == last).cloned().collect();
    assert!(records(&second) == shop.bad, "at the places where they were");
    for letter in &second {
        let (first, place) = (&letters, ["topic", "partition", "offset", "key", "value", "timestamp", "reason"]);
        assert!(first.iter().any(|one| one["stamp"] != letter["stamp"] && place.iter().all(|name| one[*name] == letter[*name])));
    }
    // The first ones were requested; the second ones were not.
    assert_eq!(request(&place, &["--dry-run"]), (all, all));
    shop.mend();
    assert_eq!(request(&place, &[]), (all, all));
    succeed(&replay(&job, &whole, &out, &[ACCEPT]));
    assert_same(&cells(&out), &expected, "the second time");
    // On purpose, and then clicks count twice.
    assert_eq!(request(&place, &["--again", "--topic", "*.payments", "--topic", "*.items"]).1, 0);
    succeed(&replay(&job, &whole, &out, &[]));
    assert_same(&cells(&out), &expected, "rows are what they are, however often they are read");
}

#[test]
fn a_wrong_key_can_be_mended_as_long_as_no_row_has_it() {
    let shop = Shop::new("key", 1_500, 13);
    let expected = without_the_mistake(&shop);
    shop.mend();
    shop.change("key = \"payment_id\"", "key = \"paymentid\"");
    let (job, whole, out) = (shop.mall.job(), shop.mall.whole(), shop.mall.dir("out"));
    let place = ["--data-dir", &out];
    succeed(&replay(&job, &whole, &out, &[]));
    let payments = listed(&[&place[..], &["--topic", "*.payments"]].concat());
    let all = listed(&place).len();
    assert!(payments.len() == all && all > 300, "all payments, and nothing else: {all}");
    assert_eq!(request(&place, &[]).0, all as u64);
    shop.mend();
    refuse(&replay(&job, &whole, &out, &[]), &["key of the source of topics", ACCEPT]);
    succeed(&replay(&job, &whole, &out, &[ACCEPT]));
    assert_same(&cells(&out), &expected, "with the right key");
    // Now there are rows by it. A dead letter is what makes there be something to go on for.
    assert_eq!(request(&place, &["--again"]), (all as u64, 0));
    shop.change("key = \"payment_id\"", "key = \"paid_at\"");
    refuse(&replay(&job, &whole, &out, &[ACCEPT]), &["rows are kept by the other one", "--generation"]);
    shop.mend();
    // What gives the state another meaning is not accepted, whatever is said.
    for (from, to, word) in [
        ("window = \"30m\"", "window = \"15m\"", "window_ms"),
        ("currency = \"KRW\"", "currency = \"USD\"", "currency"),
        ("role = \"clicks\"\n", "role = \"clicks\"\ndistinct = false\n", "distinct"),
    ] {
        shop.change(from, to);
        refuse(&replay(&job, &whole, &out, &[ACCEPT]), &[word, "another meaning"]);
        shop.mend();
    }
    succeed(&replay(&job, &whole, &out, &[]));
    assert_same(&cells(&out), &expected, "payments have versions: read again they change nothing");
}

#[test]
fn going_back_takes_requests_back_too() {
    let shop = Shop::new("back", 1_500, 8);
    let expected = without_the_mistake(&shop);
    let (job, whole, out) = (shop.mall.job(), shop.mall.whole(), shop.mall.dir("out"));
    let place = ["--data-dir", &out, "--job-name", &shop.mall.name];
    let mut running =
        Running::start(&mut storeflow(&replay(&job, &whole, &out, &["--speed", "3600", "--checkpoint-interval", "0s"])));
    let kept = Kept::of(Path::new(&out), &shop.mall.name);
    running.wait_with("checkpoints", |_| (kept.newest_number() >= 3).then_some(()));
    running.crash();
    let before = kept.newest_number();
    succeed(&replay(&job, &whole, &out, &["--keep", "200"]));
    assert!(request(&place, &[]).0 > 0);
    shop.mend();
    succeed(&replay(&job, &whole, &out, &[ACCEPT, "--keep", "200"]));
    assert_same(&cells(&out), &expected, "once they are read again");
    let number = before.to_string();
    let back = succeed(&[&["checkpoints", "drop-after", "--number", &number, "--yes"][..], &place].concat());
    assert!(back.contains("is the newest again"), "{back}");
    assert_eq!(replayed(&place), (0, 0), "what was requested after it is not requested any more");
    // All that was read since is read again by the mended job; what was dead before has to be asked for.
    let (again, left_out) = request(&place, &[]);
    assert!(again > 0 && again < shop.bad.len() as u64 && left_out == 0, "{again}");
    succeed(&replay(&job, &whole, &out, &[ACCEPT]));
    assert_same(&cells(&out), &expected, "after going back");
}

/// A run over the dataset, with one process or under a launcher with two.
fn command(processes: usize, shop: &Shop, out: &str, more: &[&str]) -> std::process::Command {
    let (job, whole) = (shop.mall.job(), shop.mall.whole());
    let run = replay(&job, &whole, out, more);
    match processes {
        1 => storeflow(&run),
        _ => storeflow(&[&["launch", "--processes", "2", "--restarts", "0"][..], &run[1..]].concat()),
    }
}

/// Ends what a launcher that was killed has left, and waits until it is gone with all that it held.
fn kill_all(children: &[u32]) {
    children.iter().copied().for_each(kill_if_there);
    while children.iter().copied().any(is_there) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn a_replay_that_is_killed_again_and_again_reads_each_once() {
    for seed in seeds(4, 60) {
        let mut chance = Chance::of(seed);
        let shop = Shop::new("killed", 3_000, seed);
        let expected = without_the_mistake(&shop);
        let out = shop.mall.dir("out");
        let place = ["--data-dir", &out, "--job-name", &shop.mall.name];
        let kept = Kept::of(Path::new(&out), &shop.mall.name);
        let interval = ["--checkpoint-interval", "0s", "--workers", "1"];
        let slow = [&["--speed", "5400"][..], &interval].concat();
        // The wrong job is killed somewhere.
        let mut running = Running::start(&mut command(1, &shop, &out, &slow));
        let checkpoints = 2 + chance.below(4) as u64;
        running.wait_with("checkpoints", |_| (kept.newest_number() >= checkpoints).then_some(()));
        running.crash();
        shop.mend();
        let (mut requested, mut ended) = (0, false);
        for turn in 0..4 {
            let (chosen, left_out) = request(&place, if turn == 0 { &["--topic", "*.clicks"] } else { &[] });
            assert_eq!(left_out, if turn == 0 { 0 } else { requested.min(left_out) });
            requested += chosen;
            let processes = 1 + chance.below(2);
            let mut running = Running::start(&mut command(processes, &shop, &out, &[&slow[..], &[ACCEPT]].concat()));
            let before = kept.newest_number();
            let wait = chance.one_of(&[0, 1, 2]);
            let began = std::time::Instant::now();
            let (soon, after) = (chance.up_to_ms(400), chance.up_to_ms(10));
            while running.goes_on() {
                let there = match wait {
                    0 => began.elapsed() >= soon,
                    1 => kept.is_uploading(),
                    _ => kept.newest_number() > before,
                };
                if there {
                    std::thread::sleep(after);
                    break;
                }
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
            let children: Vec<u32> = running.children().into_iter().map(|(pid, _)| pid).collect();
            ended = running.crash() == Some(0);
            kill_all(&children);
            // A child that the launcher had only just started ends by itself.
            let store = Store::folder(Path::new(&out)).expect("a folder");
            while store.exclusive().is_err() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            if ended {
                break;
            }
            println!("{processes} processes: killed at checkpoint {}, {:?} replayed", kept.newest_number(), replayed(&place));
        }
        if !ended {
            Running::start(&mut command(1 + chance.below(2), &shop, &out, &["--workers", "2", ACCEPT])).succeed();
        }
        assert_eq!(replayed(&place), (requested, requested), "seed {seed}");
        assert_same(&cells(&out), &expected, &format!("seed {seed}"));
    }
}

#[test]
fn a_job_that_runs_on_kafka_reads_them_again_while_it_runs() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    for processes in [1, 2] {
        let shop = Shop::new("live", 2_000, 9 + processes as u64);
        let expected = without_the_mistake(&shop);
        shop.mall.produce(PARTS[0], &kafka);
        let (job, out) = (shop.mall.job(), shop.mall.dir("out"));
        let place = ["--data-dir", &out, "--job-name", &shop.mall.name];
        let brokers = kafka.address();
        let start = |more: &[&str]| {
            let usual = ["--job", &job, "--brokers", brokers, "--data-dir", &out, "--workers", "1"];
            let usual = [&usual[..], &["--checkpoint-interval", "1s", "--tick", "1s"]].concat();
            let args = [&usual[..], more].concat();
            let command = match processes {
                1 => [&["run"][..], &args].concat(),
                _ => [&["launch", "--processes", "2"][..], &args].concat(),
            };
            Running::start(&mut storeflow(&command))
        };
        let mut running = start(&[]);
        let most = shop.bad.len() / 2;
        running.wait_with("dead letters", |_| {
            let Ended { out, .. } = run(&mut storeflow(&[&["dead-letters", "list", "--format", "json"][..], &place].concat()));
            (out.lines().count() >= most).then_some(())
        });
        let children: Vec<u32> = running.children().into_iter().map(|(pid, _)| pid).collect();
        let _ = running.crash();
        kill_all(&children);
        shop.mend();
        // What is requested now is read at the start, what is requested later while it runs.
        let (first, _) = request(&place, &["--topic", "*.items"]);
        let mut running = start(&[ACCEPT]);
        // Log time goes on with the records that come.
        shop.mall.produce(PARTS[1], &kafka);
        running.wait_with("the first request", |_| (replayed(&place).1 == first).then_some(()));
        let (second, left_out) = request(&place, &[]);
        assert!(first > 0 && second > 0 && left_out == first, "{first} {second} {left_out}");
        running.wait("what is requested while it runs", |log| {
            let found = log.lines().filter(|line| line.contains("dead letters are read again"));
            found.into_iter().any(|line| line.contains("request=2 ")).then_some(())
        });
        shop.mall.produce(PARTS[2], &kafka);
        running.wait_with("the second request", |_| (replayed(&place).1 == first + second).then_some(()));
        assert_eq!(request(&place, &[]), (0, first + second));
        running.stop();
        start(&["--until-end"]).succeed();
        assert_eq!(replayed(&place), (first + second, first + second));
        assert_same(&cells(&out), &expected, &format!("{processes} processes"));
    }
}

#[test]
fn headers_of_kafka_are_kept() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let shop = Shop::new("headers", 30, 12);
    shop.mall.produce("whole", &kafka);
    let topic = shop.topic("clicks");
    let headers = [("trace", Some(&b"a\xff"[..])), ("empty", None)];
    produce_with_headers(kafka.address(), &topic, b"not JSON", &headers);
    let (job, out) = (shop.mall.job(), shop.mall.dir("out"));
    let args = ["run", "--job", &job, "--brokers", kafka.address(), "--data-dir", &out, "--until-end"];
    Running::start(&mut storeflow(&args)).succeed();
    let letters = listed(&["--data-dir", &out, "--reason", "not_json"]);
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(letter["headers"], serde_json::json!([["trace", "Yf8="], ["empty", null]]));
    let address = format!("{topic}/{}/{}", letter["partition"], letter["offset"]);
    let shown = succeed(&["dead-letters", "show", &address, "--data-dir", &out]);
    assert!(shown.contains("trace = 2 bytes, not UTF-8: 61ff") && shown.contains("empty = null"), "{shown}");
    // A request has them, too.
    succeed(&["dead-letters", "replay", &address, "--data-dir", &out]);
    let request = files(Path::new(&out)).into_iter().find(|path| text(path).contains("/replays/")).expect("a request");
    assert!(fs::read_to_string(&request).expect("readable").contains(r#"["trace","Yf8="]"#));
    assert_eq!(fs::metadata(&request).expect("there").permissions().mode() & 0o777, 0o600);
}

fn produce_with_headers(brokers: &str, topic: &str, value: &[u8], headers: &[(&str, Option<&[u8]>)]) {
    use rdkafka::message::{Header, OwnedHeaders};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let producer: BaseProducer = rdkafka::ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a producer");
    let all = headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: *value }));
    let record = BaseRecord::<[u8], [u8]>::to(topic).payload(value).partition(0).headers(all);
    producer.send(record).map_err(|(error, _)| error).expect("sent");
    producer.flush(std::time::Duration::from_secs(60)).expect("delivered");
}
