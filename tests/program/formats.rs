//! Checkpoints of every format there ever was are gone on with, or refused by name.

use std::path::Path;

use crate::support::binary::{self, succeed, text};

/// Copies a folder, for a run to write in.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder of the repository") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a copy");
        }
    }
}

#[test]
fn a_checkpoint_of_format_1_is_gone_on_with() {
    for workers in ["2", "3"] {
        let (dataset, folder) = (binary::dataset("mall-small"), tempfile::tempdir().expect("a folder"));
        copy(&binary::dataset("checkpoint-v1"), folder.path());
        let (job, replay, store) = (text(&dataset.join("mall.toml")), text(&dataset), text(folder.path()));
        let whole = succeed(&["checkpoints", "verify", "--job-name", "mall", "--store", &store]);
        assert!(whole.contains("whole"), "{whole}");
        succeed(&["run", "--job", &job, "--replay", &replay, "--store", &store, "--workers", workers]);
        let generations = std::fs::read_dir(folder.path().join("mall")).expect("a folder").count();
        assert_eq!(generations, 1, "it is the same generation");
        let proof = succeed(&["verify", "--job", &job, "--replay", &replay, "--store", &store, "--history"]);
        assert!(proof.starts_with("exact: "), "{proof}");
    }
}
