//! The datasets in the repository give the numbers in the repository, and these are exact.
//!
//! `UPDATE=1 cargo test --test program golden` writes the expected files anew; read the diff then.

use std::path::{Path, PathBuf};
use std::process::Command;

const TABLES: [&str; 5] = ["store_payments", "store_sales", "store_clicks", "store_products", "late_adjustments"];

fn storeflow(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_storeflow")).args(args).output().expect("the program starts");
    assert!(
        output.status.success(),
        "storeflow {args:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

fn check(dataset: &str, job: &str, workers: &str) {
    let dataset: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets").join(dataset);
    let (job, data_dir) = (dataset.join(job), tempfile::tempdir().expect("a folder"));
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (job, replay, data_dir) = (path(&job), path(&dataset), path(data_dir.path()));
    storeflow(&["run", "--job", &job, "--replay", &replay, "--data-dir", &data_dir, "--workers", workers]);
    let proof = storeflow(&["verify", "--job", &job, "--replay", &replay, "--data-dir", &data_dir, "--history"]);
    assert!(proof.starts_with("exact: "), "{proof}");
    for table in TABLES {
        let exported = storeflow(&["export", "--data-dir", &data_dir, "--table", table]);
        if table.starts_with("store") && table != "store_products" {
            let history = storeflow(&["export", "--data-dir", &data_dir, "--table", table, "--history"]);
            assert!(!history.is_empty(), "{table} has history");
        }
        let expected = dataset.join("expected").join(format!("{table}.ndjson"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(dataset.join("expected")).expect("a folder");
            std::fs::write(&expected, &exported).expect("a file");
        }
        let kept = std::fs::read_to_string(&expected).expect("expected results; UPDATE=1 makes them");
        if kept != exported {
            let first = kept.lines().zip(exported.lines()).find(|(a, b)| a != b);
            let (kept, now) = (kept.lines().count(), exported.lines().count());
            panic!("{table} of {} differs: {kept} rows kept, {now} now; first difference: {first:?}", dataset.display());
        }
    }
}

#[test]
fn golden_mall_small() {
    check("mall-small", "mall.toml", "2");
}

#[test]
fn golden_edge_cases() {
    check("edge-cases", "edge-cases.toml", "3");
}
