//! The whole dataflow: what the sources hand over, and what the outside gets.

use std::rc::Rc;

use differential_dataflow::collection::VecCollection;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::Concatenate;
use timely::dataflow::operators::vec::Map;

use crate::beginning::Beginning;
use crate::change::Change;
use crate::counts::Counts;
use crate::key::Hashing;
use crate::latest::latest_from;
use crate::measure::{Contribution, Measure};
use crate::table::{LateAdjustment, Table};
use crate::tally::{End, Published, tally_from};

/// What the sources hand over.
pub struct Inputs<'scope> {
    /// Changes of the rows behind `store_payments`, if the job has any.
    pub payments: Option<VecCollection<'scope, u64, Change, isize>>,
    /// Changes of the rows behind `store_sales`.
    pub order_items: Option<VecCollection<'scope, u64, Change, isize>>,
    /// Changes of the rows behind `store_products`.
    pub products: Option<VecCollection<'scope, u64, Change, isize>>,
    /// Clicks, combined per tick, of windows that are not expired.
    pub clicks: Option<VecCollection<'scope, u64, Contribution, Measure>>,
    /// Clicks of expired windows.
    pub late_clicks: VecCollection<'scope, u64, LateAdjustment, isize>,
    /// How each worker's source ended, once it has.
    pub ends: StreamVec<'scope, u64, End>,
    /// How texts are hashed.
    pub hashing: Hashing,
}

/// What the outside gets.
pub struct Outputs<'scope> {
    /// Changes of cells, expiries, rows of history and changed state, each sent at the log time after which it shows.
    pub published: StreamVec<'scope, u64, Published>,
    /// Contributions to expired windows.
    pub late: VecCollection<'scope, u64, LateAdjustment, isize>,
    /// Counts of this worker, by what they are of.
    pub counts: Vec<(&'static str, Rc<Counts>)>,
}

/// Builds the dataflow. Tables without a source have no operators; what a beginning has of them is not gone on with.
pub fn storeflow(inputs: Inputs<'_>, mut beginning: Beginning) -> Outputs<'_> {
    let Inputs { payments, order_items, products, clicks, late_clicks, ends, hashing } = inputs;
    let scope = ends.scope();
    let (mut published, mut late, mut counts) = (Vec::new(), vec![], Vec::new());
    let rows = [(Table::StorePayments, payments), (Table::StoreSales, order_items), (Table::StoreProducts, products)];
    for (table, changes) in rows {
        let Some(changes) = changes else { continue };
        let rows = latest_from(changes, beginning.take_rows(table, hashing));
        published.push(tally_from(rows.contributions, ends.clone(), beginning.take_cells(table)));
        published.push(rows.state.map(Published::State));
        late.push(rows.late);
        counts.push((table.name(), rows.counts));
    }
    if let Some(clicks) = clicks {
        published.push(tally_from(clicks, ends, beginning.take_cells(Table::StoreClicks)));
    }
    Outputs { published: scope.concatenate(published), late: late_clicks.concatenate(late), counts }
}
