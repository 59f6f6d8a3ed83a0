//! The datasets in the repository give the numbers in the repository, and these are exact.
//!
//! `UPDATE=1 cargo test --test program golden` writes the expected files anew; read the diff then.

use crate::support::binary::{self, succeed, text};

const TABLES: [&str; 5] = ["store_payments", "store_sales", "store_clicks", "store_products", "late_adjustments"];

fn check(dataset: &str, job: &str, workers: &str) {
    let dataset = binary::dataset(dataset);
    let (job, data_dir) = (dataset.join(job), tempfile::tempdir().expect("a folder"));
    let (job, replay, data_dir) = (text(&job), text(&dataset), text(data_dir.path()));
    succeed(&["run", "--job", &job, "--replay", &replay, "--data-dir", &data_dir, "--workers", workers]);
    let proof = succeed(&["verify", "--job", &job, "--replay", &replay, "--data-dir", &data_dir, "--history"]);
    assert!(proof.starts_with("exact: "), "{proof}");
    for table in TABLES {
        let exported = succeed(&["export", "--data-dir", &data_dir, "--table", table]);
        if table.starts_with("store") && table != "store_products" {
            let history = succeed(&["export", "--data-dir", &data_dir, "--table", table, "--history"]);
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
