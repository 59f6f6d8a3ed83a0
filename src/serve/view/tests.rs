//! The view of a run, in its memory and in its files, is one view.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use storeflow_dataflows::table::{Table, Window};

use super::files::FilesServed;
use super::memory::ServedView;
use super::{Measure, StoreCut, View};
use crate::config::job_file;
use crate::observe::health::Health;
use crate::observe::metrics::Registry;
use crate::observe::wall_ms;
use crate::runtime::cluster::Cluster;
use crate::runtime::run::{Checkpoints, Input, Setup, run};
use crate::runtime::workers::Tuning;
use crate::store::Store;

/// Runs the small mall to its end: from its beginning, or from the end of a generation.
fn ran(store: &Store, workers: usize, generation: Option<u64>) -> ServedView {
    let dataset = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/mall-small");
    let registry = Registry::default();
    let served = Arc::new(ServedView::new(registry.clone()));
    let setup = Setup {
        job: job_file::load(&dataset.join("mall.toml")).unwrap(),
        tuning: Tuning { workers, ..Tuning::default() },
        input: Input::Dataset(dataset),
        store: store.clone(),
        redis: None,
        cluster: Cluster::single(),
        checkpoints: Some(Checkpoints { every: Duration::ZERO, keep: 1 }),
        generation,
        advance_every: Duration::from_secs(10),
        accept_job_change: false,
        dead_letter_max_share: None,
        stop_patience: Duration::from_secs(30),
        stop: Arc::default(),
        registry,
        health: Arc::new(Health::new(0, workers, wall_ms())),
        served: Some(Arc::clone(&served)),
    };
    run(setup, |_| ()).unwrap();
    Arc::into_inner(served).expect("a run lets go of the view at its end")
}

/// All that can be asked of a view, as text.
async fn all(view: &dyn View) -> Vec<String> {
    const PAGE: usize = 7;
    let shown = view.shown().await.unwrap();
    let mut said = vec![format!("{} {} {}", shown.about.generation, shown.as_of, shown.finished)];
    let (mut stores, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
    loop {
        let page = view.stores("", after.as_deref(), PAGE).await.unwrap();
        stores.extend(page.stores);
        if !page.more {
            break;
        }
        after = stores.last().cloned();
    }
    let mut measures = BTreeSet::new();
    for store in &stores {
        let mut cut = view.store(store, 0..Window::MAX, usize::MAX).await.unwrap();
        for (window, cell) in cut.windows.iter_mut().flat_map(|of| of.cells.iter_mut().map(|cell| (of.window, cell))) {
            measures.insert((cell.table, cell.second.clone(), window));
            published(cell.table, &mut cell.value.count);
        }
        assert!(matches!(cut, StoreCut { known: true, more: false, .. }), "{store}: {cut:?}");
        said.push(format!("{store} {cut:?}"));
    }
    for (table, second, window) in measures {
        let measure = Measure { table, second };
        said.push(format!("{measure:?} {:?}", view.top(&measure, window, 10).await.unwrap()));
    }
    let mut totals = view.totals(0..Window::MAX, usize::MAX).await.unwrap();
    totals.windows.iter_mut().flat_map(|of| &mut of.cells).for_each(|cell| published(cell.table, &mut cell.value.count));
    said.push(format!("{totals:?}"));
    said
}

/// The count of sold rows is in no file, and in no answer either.
fn published(table: Table, count: &mut i64) {
    if table == Table::StoreSales {
        *count = 0;
    }
}

fn same(said: &[String], before: &[String]) {
    let other = said.iter().zip(before).find(|(said, before)| said != before);
    assert!(other.is_none() && said.len() == before.len(), "{} and {} answers; {other:?}", said.len(), before.len());
}

#[test]
fn memory_a_restart_and_files_say_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::folder(folder.path()).unwrap();
    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let first = tokio.block_on(all(&ran(&store, 2, None)));
    assert!(first[0].starts_with("1 ") && first[0].ends_with(" true") && first.len() > 100, "{} of {}", first[0], first.len());
    same(&tokio.block_on(all(&FilesServed::new(store.clone()))), &first);
    // It goes on from its checkpoint with other workers, and finds that there is no more to read.
    same(&tokio.block_on(all(&ran(&store, 3, Some(1)))), &first);
    same(&tokio.block_on(all(&FilesServed::new(store))), &first);
}
