//! Every kind of store keeps the same promises, and a run into a failing S3 is as exact as one into a folder.

use std::fs;
use std::process::Command;
use std::time::Duration;

use storeflow::config::job_file;
use storeflow::publish::Generation;
use storeflow::store::{Store, StoreError};

use crate::support::binary::{dataset, refuse, run, storeflow, succeed, text};
use crate::support::s3::{Plan, Proxy, SECRET, address_of, environment, place, store};
use crate::support::services::{Kind, shared};

const PATIENCE: Duration = Duration::from_secs(120);

/// What every store promises.
fn conforms(store: &Store) {
    let get = |key: &str| store.get(key).expect("readable").map(|bytes| bytes.to_vec());
    let key = "job/gen-000001/history/t/date=2026-11-20/epoch=20261120T103200Z-0of2.parquet";
    assert_eq!((get("none"), store.list("job").expect("a list")), (None, vec![]), "empty at first");

    store.put("current.json", "one".into()).expect("put");
    store.put("current.json", "two".into()).expect("put again");
    assert_eq!(get("current.json").as_deref(), Some(&b"two"[..]), "the later one");

    assert!(store.put_if_absent("job/started", "mine".into()).expect("put"));
    assert!(!store.put_if_absent("job/started", "another's".into()).expect("answered"));
    assert_eq!(get("job/started").as_deref(), Some(&b"mine"[..]), "the first one");

    // Larger than a part, and not a multiple of one.
    let large: Vec<u8> = (0..20_000_003_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 16) as u8).collect();
    let spool = store.spool(key).expect("a file");
    fs::write(spool.path(), &large).expect("written");
    assert_eq!(get(key), None, "not before it is shown");
    let more: Vec<String> = (0..20).map(|at| format!("job/gen-000002/{at:02}.ndjson")).collect();
    let mut spools = vec![spool];
    for key in &more {
        let spool = store.spool(key).expect("a file");
        fs::write(spool.path(), key).expect("written");
        spools.push(spool);
    }
    let empty = store.spool("job/gen-000002/empty").expect("a file");
    fs::write(empty.path(), "").expect("written");
    spools.push(empty);
    let paths: Vec<_> = spools.iter().map(|spool| spool.path().to_owned()).collect();
    store.show(spools).expect("shown");
    store.sync().expect("synced");
    assert!(paths.iter().all(|path| !path.exists()), "no local file is left");
    assert!(get(key).as_deref() == Some(&large[..]), "every byte of a large object");
    assert_eq!(get("job/gen-000002/empty").as_deref(), Some(&b""[..]));
    let dropped = store.spool("job/gen-000002/dropped").expect("a file");
    fs::write(dropped.path(), "x").expect("written");
    dropped.discard().expect("dropped");

    assert_eq!(store.folders("job").expect("folders"), ["gen-000001", "gen-000002"]);
    store.put("job/gen-0000022/x", "".into()).expect("put");
    let mut expected = more.clone();
    expected.push("job/gen-000002/empty".to_owned());
    assert_eq!(store.list("job/gen-000002").expect("a list"), expected, "a prefix is a whole name, and lists are sorted");
    let mut visited = Vec::new();
    let keys: Vec<String> = more.iter().cloned().chain(["job/none".to_owned()]).collect();
    let each = store.get_each(&keys, |key, bytes| {
        visited.push((key.to_owned(), bytes.map(|bytes| bytes.to_vec())));
        Ok::<_, StoreError>(())
    });
    each.expect("visited");
    let of = |key: &String| (key.clone(), (key != "job/none").then(|| key.clone().into_bytes()));
    assert_eq!(visited, keys.iter().map(of).collect::<Vec<_>>(), "in the order of the keys");

    store.delete("current.json").expect("deleted");
    store.delete("current.json").expect("what is not there is no error");
    assert_eq!(get("current.json"), None);
    store.delete_all("job/gen-000002").expect("deleted");
    store.delete_all("job/gen-000002").expect("nothing to delete");
    assert_eq!(store.list("job").expect("a list"), [key, "job/gen-0000022/x", "job/started"]);
}

#[test]
fn a_folder_conforms() {
    let root = tempfile::tempdir().expect("a folder");
    let store = Store::folder(&root.path().join("store")).expect("a store");
    conforms(&store);
    let winners = std::thread::scope(|scope| {
        let put = |at: usize| store.put_if_absent("raced", at.to_string().into()).expect("answered");
        let threads: Vec<_> = (0..8).map(|at| scope.spawn(move || put(at))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).filter(|won| *won).count()
    });
    assert_eq!(winners, 1, "of several who put what is absent, one does");
    let held = store.exclusive().expect("free");
    assert!(matches!(store.exclusive(), Err(StoreError::Locked { .. })));
    drop(held);
    store.exclusive().expect("free again");
}

#[test]
fn a_run_that_goes_on_has_a_history_and_no_view_in_files() {
    let root = tempfile::tempdir().expect("a folder");
    let (mall, out) = (dataset("mall-small"), text(root.path()));
    let (job, replay) = (text(&mall.join("mall.toml")), text(&mall));
    let (store, loaded) = (Store::folder(root.path()).expect("a store"), job_file::load(&mall.join("mall.toml")).expect("a job"));
    let generation = Generation::create(&store, &loaded, 1, None).expect("a generation");
    generation.advance(1_000).expect("a pointer");
    refuse(&["export", "--data-dir", &out, "--table", "store_sales"], &["goes on", "in Redis", "--history"]);
    refuse(&["verify", "--store", &out, "--job", &job, "--replay", &replay], &["goes on", "in Redis"]);
    assert_eq!(succeed(&["export", "--data-dir", &format!("file://{out}"), "--table", "store_sales", "--history"]), "");
    refuse(
        &["verify", "--store", &out, "--data-dir", &out, "--job", &job, "--replay", &replay],
        &["--data-dir", "cannot be used"],
    );
    refuse(&["run", "--store", "gs://x/y", "--job", &job, "--replay", &replay], &["scheme \"gs\" is not known"]);
    let planned = succeed(&["ddl", "redshift-copy", "--store", "s3://lake/mall", "--job", &job, "--generation", "12"]);
    assert!(planned.contains("FROM 's3://lake/mall/mall/gen-000012/history/store_clicks/' IAM_ROLE"), "{planned}");
}

#[test]
fn s3_conforms_also_when_it_fails() {
    let Some(server) = shared(Kind::S3) else { return };
    let address = address_of(&server);
    conforms(&store(&place(&server, "calm/a"), address, PATIENCE).expect("a store"));
    for seed in [7, 20_261_120] {
        let proxy = Proxy::start(address, Plan::Faults { seed, permille: 300 });
        let faulty = store(&place(&server, &format!("faulty/{seed}")), proxy.address, PATIENCE).expect("a store");
        conforms(&faulty);
        drop(faulty);
        assert!(proxy.seen().len() == 5, "every fault happened with seed {seed}: {:?}", proxy.seen());
    }

    let error = store("s3://no-such-bucket/x", address, PATIENCE).expect_err("no bucket");
    assert!(matches!(error, StoreError::NoBucket { .. }) && error.to_string().contains("no-such-bucket"), "{error}");

    let forbidding = Proxy::start(address, Plan::Forbidden);
    let error = store(&place(&server, "x"), forbidding.address, PATIENCE).expect_err("forbidden");
    let shown = format!("{error} {error:?} {}", std::error::Error::source(&error).expect("a cause"));
    assert!(matches!(error, StoreError::Forbidden { .. }) && shown.contains("SignatureDoesNotMatch"), "{shown}");
    assert!(!shown.contains(SECRET) && shown.contains("credentials from the environment"), "{shown}");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
    let error = store(&place(&server, "x"), nobody, Duration::from_secs(1)).expect_err("nobody there");
    assert!(matches!(error, StoreError::Unreachable { .. }) && error.to_string().contains(&nobody.to_string()), "{error}");

    // It goes away after it was opened: a read was certainly not done, a write never left.
    let (proxy, left_at) = (Proxy::start(address, Plan::Faults { seed: 1, permille: 0 }), place(&server, "left"));
    let left = store(&left_at, proxy.address, Duration::from_secs(1)).expect("a store");
    drop(proxy);
    let error = left.put("x/y", "z".into()).expect_err("nobody there");
    assert!(!error.may_have_happened() && error.to_string().contains(&format!("{left_at}/x/y")), "{error}");
    // Answers that are lost leave it open.
    let cutting = Proxy::start(address, Plan::Faults { seed: 1, permille: 0 });
    let cut = store(&place(&server, "cut"), cutting.address, Duration::from_secs(1)).expect("a store");
    cutting.fail_all();
    let error = cut.put("x", "z".into()).expect_err("always cut");
    assert!(error.may_have_happened(), "{error}");
}

#[test]
fn a_run_into_a_failing_s3_is_exact_and_duckdb_reads_the_same_sums() {
    let (Some(server), Some(python)) = (shared(Kind::S3), shared(Kind::Python)) else { return };
    let address = address_of(&server);
    let proxy = Proxy::start(address, Plan::Faults { seed: 3, permille: 200 });
    let (mall, url) = (dataset("mall-small"), place(&server, "some/prefix"));
    let (job, replay) = (text(&mall.join("mall.toml")), text(&mall));
    let command = |args: &[&str]| {
        let mut command = storeflow(args);
        let ended = run(command.envs(environment(proxy.address)));
        assert!(!ended.err.contains(SECRET) && !ended.out.contains(SECRET), "a secret is printed");
        assert_eq!(ended.code, Some(0), "storeflow {args:?}\n{}{}", ended.out, ended.err);
        ended.out
    };
    // Twice: the second run is another generation, and removes the first.
    for _ in 0..2 {
        command(&["run", "--job", &job, "--replay", &replay, "--store", &url]);
    }
    assert!(proxy.seen().len() == 5, "every fault happened: {:?}", proxy.seen());
    let verified = command(&["verify", "--job", &job, "--replay", &replay, "--store", &url, "--history"]);
    assert!(verified.starts_with("exact"), "{verified}");

    // DuckDB's extension for S3 cannot be had everywhere, so it reads a copy.
    let folder = tempfile::tempdir().expect("a folder");
    let (copy, exports) = (folder.path().join("copy"), folder.path().join("exports"));
    let s3 = store(&url, address, PATIENCE).expect("a store");
    for key in s3.list("").expect("a list") {
        assert!(!key.contains("gen-000001"), "{key} is of an older generation");
        let path = copy.join(&key);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, s3.get(&key).expect("readable").expect("there")).expect("written");
    }
    fs::create_dir(&exports).expect("made");
    for table in ["store_payments", "store_sales", "store_clicks", "store_products", "late_adjustments"] {
        let rows = command(&["export", "--data-dir", &url, "--table", table, "--history", "--format", "csv"]);
        fs::write(exports.join(format!("{table}.csv")), rows).expect("written");
    }
    let statements = folder.path().join("ddl.sql");
    fs::write(&statements, command(&["ddl", "duckdb", "--store", &text(&copy)])).expect("written");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/program/support/sums_in_duckdb.py");
    let compared = run(Command::new(python.address()).arg(script).arg(&statements).arg(&exports));
    assert_eq!(compared.code, Some(0), "{}{}", compared.out, compared.err);
    assert!(compared.out.matches("equal").count() == 5 && compared.out.contains("DECIMAL(38,2)"), "{}", compared.out);

    let athena = command(&["ddl", "athena", "--store", &url]);
    assert!(athena.contains(&format!("LOCATION '{url}/mall/gen-000002/history/store_payments/'")), "{athena}");
}
