//! What can go wrong around a run: each is one clear message and exit code 2, and nothing half-written is taken for whole.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::binary::{dataset, refuse, run, storeflow, succeed, text};

/// A copy of the small mall, and a data directory beside it.
struct Mall {
    folder: tempfile::TempDir,
}

impl Mall {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        copy(&dataset("mall-small"), &folder.path().join("mall"));
        Mall { folder }
    }
    fn at(&self, path: &str) -> String {
        text(&self.folder.path().join(path))
    }
    fn run_args<'a>(&self, more: &[&'a str]) -> Vec<String> {
        let (job, mall, out) = (self.at("mall/mall.toml"), self.at("mall"), self.at("out"));
        let mut args: Vec<String> = ["run", "--job", &job, "--replay", &mall, "--data-dir", &out].map(str::to_owned).to_vec();
        args.extend(more.iter().map(|arg: &&'a str| (*arg).to_owned()));
        args
    }
    fn run(&self, more: &[&str]) {
        succeed(&borrowed(&self.run_args(more)));
    }
    fn refuse(&self, more: &[&str], words: &[&str]) {
        refuse(&borrowed(&self.run_args(more)), words);
    }
    fn export_all(&self) -> Vec<String> {
        let out = self.at("out");
        ["store_payments", "store_sales", "store_clicks", "store_products", "late_adjustments"]
            .map(|table| succeed(&["export", "--data-dir", &out, "--table", table]))
            .to_vec()
    }
}

fn borrowed(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[test]
fn workers_and_ticks_change_no_byte_of_an_export() {
    let mall = Mall::new();
    mall.run(&["--workers", "1"]);
    let expected = mall.export_all();
    for more in [["--workers", "2", "--tick", "1s"], ["--workers", "3", "--tick", "30m"], ["--workers", "2", "--align", "0"]] {
        mall.run(&more);
        assert!(mall.export_all() == expected, "{more:?} gives other rows");
    }
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let mall = Mall::new();
    let (job, data, out) = (mall.at("mall/mall.toml"), mall.at("mall"), mall.at("out"));
    refuse(&["run", "--job", "/none.toml", "--replay", &data, "--data-dir", &out], &["/none.toml"]);
    refuse(&["run", "--job", &data, "--replay", &data, "--data-dir", &out], &[&data]);
    refuse(&["run", "--job", &job, "--replay", "/none", "--data-dir", &out], &["could not read \"/none\""]);
    refuse(&["run", "--job", &job, "--replay", &data, "--data-dir", &format!("{job}/under-a-file")], &["mall.toml"]);
    refuse(&["export", "--data-dir", &out, "--table", "store_sales"], &[&out]);
    refuse(&["verify", "--job", &job, "--replay", &data, "--data-dir", &out], &[&out]);
    refuse(&["export", "--data-dir", &out, "--table", "nothing"], &["store_payments"]);
    mall.refuse(&["--tick", "7s"], &["--tick 7000 ms", "1s, 5s"]);
    mall.refuse(&["--workers", "0"], &["--workers"]);
    mall.refuse(&["--speed", "fast"], &["--speed"]);
    mall.run(&[]);
    fs::rename(mall.at("mall/mall.clicks"), mall.at("mall/elsewhere")).expect("renamed");
    mall.refuse(&[], &["mall.clicks", "has no folder"]);
    fs::create_dir(mall.at("mall/mall.clicks")).expect("a folder");
    mall.refuse(&[], &["holds no partition"]);
    fs::write(mall.at("mall/mall.clicks/x.ndjson"), "").expect("a file");
    mall.refuse(&[], &["x.ndjson", "number"]);
    fs::remove_file(mall.at("mall/mall.clicks/x.ndjson")).expect("removed");
    fs::write(mall.at("mall/mall.clicks/0.ndjson"), "").expect("a file");
    fs::write(mall.at("mall/mall.clicks/0.ndjson.gz"), "").expect("a file");
    mall.refuse(&[], &["second file of partition 0"]);
}

#[test]
fn a_damaged_file_ends_the_run_and_leaves_the_last_result() {
    let mall = Mall::new();
    mall.run(&[]);
    let (before, pointer) = (mall.export_all(), fs::read(mall.at("out/current.json")).expect("a pointer"));
    for file in ["mall/mall.payments/1.ndjson.zst", "mall/mall.payments/3.ndjson.gz"] {
        let whole = fs::read(mall.at(file)).expect("a file");
        fs::write(mall.at(file), &whole[..whole.len() / 2]).expect("a file");
        mall.refuse(&[], &[file]);
        fs::write(mall.at(file), &whole).expect("a file");
    }
    assert_eq!(fs::read(mall.at("out/current.json")).expect("a pointer"), pointer);
    assert!(mall.export_all() == before);
}

#[test]
fn a_full_disk_ends_the_run_and_leaves_the_last_result() {
    let mall = Mall::new();
    mall.run(&[]);
    let before = mall.export_all();
    // A limit on the size of files stands in for the disk: writes fail with an error once SIGXFSZ is ignored.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_storeflow")]);
    let ended = run(limited.args(mall.run_args(&[])));
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("could not write"), "{}", ended.err);
    assert!(mall.export_all() == before);
}

#[test]
fn a_killed_run_is_never_the_result_and_the_next_one_is_whole() {
    let mall = Mall::new();
    let mut slow = storeflow(&borrowed(&mall.run_args(&["--speed", "600"]))).spawn().expect("started");
    let history = mall.at("out/mall/gen-000001/history");
    while !Path::new(&history).exists() {
        assert!(slow.try_wait().expect("a child").is_none(), "six hours at 600 times real time take 36 s");
        std::thread::yield_now();
    }
    mall.refuse(&[], &["another run", &mall.at("out")]);
    slow.kill().expect("killed");
    slow.wait().expect("ended");
    assert!(!Path::new(&mall.at("out/current.json")).exists());
    mall.run(&[]);
    let verified =
        succeed(&["verify", "--job", &mall.at("mall/mall.toml"), "--replay", &mall.at("mall"), "--data-dir", &mall.at("out")]);
    assert!(verified.starts_with("exact"), "{verified}");
    let generations = fs::read_dir(mall.at("out/mall")).expect("a folder").count();
    assert_eq!(generations, 1, "what the killed run left was gone on with, or is gone");
}

#[test]
fn a_data_directory_belongs_to_one_job() {
    let mall = Mall::new();
    mall.run(&[]);
    let other = fs::read_to_string(mall.at("mall/mall.toml")).expect("a job").replace("name = \"mall\"", "name = \"other\"");
    fs::write(mall.at("mall/mall.toml"), other).expect("a job");
    mall.refuse(&[], &["other", "\"mall\""]);
}

#[test]
fn verify_finds_what_is_not_so() {
    let mall = Mall::new();
    mall.run(&[]);
    let (job, data, out) = (mall.at("mall/mall.toml"), mall.at("mall"), mall.at("out"));
    // One more click than the run saw, within its time.
    let file = mall.at("mall/mall.clicks/0.ndjson");
    let whole = fs::read(&file).expect("a file");
    let mut lines: Vec<&[u8]> = whole.split(|&byte| byte == b'\n').collect();
    let good = |line: &&[u8]| serde_json::from_slice::<serde_json::Value>(line).is_ok_and(|value| value["store_id"].is_string());
    let at = lines.len() / 2 + lines[lines.len() / 2..].iter().position(good).expect("a good click");
    lines.insert(at, lines[at]);
    fs::write(&file, lines.join(&b'\n')).expect("a file");
    let ended = run(&mut storeflow(&["verify", "--job", &job, "--replay", &data, "--data-dir", &out]));
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("different: store_clicks") && ended.out.contains("NOT exact"), "{}", ended.out);
}

#[test]
fn any_bytes_are_a_dataset() {
    let mall = Mall::new();
    let noise: Vec<u8> = (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for topic in ["mall.payments", "mall.order_items", "mall.products", "mall.clicks"] {
        fs::write(mall.at(&format!("mall/{topic}/0.ndjson")), &noise).expect("a file");
    }
    mall.run(&[]);
    let verified =
        succeed(&["verify", "--job", &mall.at("mall/mall.toml"), "--replay", &mall.at("mall"), "--data-dir", &mall.at("out")]);
    assert!(verified.starts_with("exact"), "{verified}");
}
