//! The whole dataflow: what the sources hand over, and what the outside gets.

use std::rc::Rc;

use differential_dataflow::collection::VecCollection;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::Concatenate;
use timely::dataflow::operators::vec::Map;

use crate::beginning::Beginning;
use crate::change::Change;
use crate::counts::Counts;
use crate::dedup::{Told, dedup_from};
use crate::latest::{latest_from, referring_from};
use crate::lookup::lookup_from;
use crate::measure::{Contribution, Measure};
use crate::stored::Keeps;
use crate::table::{LateAdjustment, Table};
use crate::tally::{End, Published, tally_from};

/// What the sources hand over.
pub struct Inputs<'scope> {
    /// Changes of rows by the table behind which they are, of each table that has any. Those of `store_clicks` are none.
    pub rows: Vec<(Table, VecCollection<'scope, u64, Change, isize>)>,
    /// The same of rows that find their store through a lookup: their cells' keys hold that row's key in the place of the store.
    pub referring: Vec<(Table, VecCollection<'scope, u64, Change, isize>)>,
    /// Changes of the rows of lookups, and how long those are kept; `None`: nothing refers to any.
    pub lookups: Option<(VecCollection<'scope, u64, Change, isize>, Keeps)>,
    /// Clicks, combined per tick, of windows that are not expired, if the job has any.
    pub clicks: Option<VecCollection<'scope, u64, Contribution, Measure>>,
    /// Clicks that may be told twice, of all windows.
    pub told: Option<VecCollection<'scope, u64, Told, isize>>,
    /// Clicks of expired windows.
    pub late_clicks: VecCollection<'scope, u64, LateAdjustment, isize>,
    /// How each worker's source ended, once it has.
    pub ends: StreamVec<'scope, u64, End>,
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
    let Inputs { rows, referring, lookups, clicks, told, late_clicks, ends } = inputs;
    let scope = ends.scope();
    let (mut published, mut late, mut counts) = (Vec::new(), vec![], Vec::new());
    let mut contributions: [Vec<VecCollection<'_, u64, Contribution, Measure>>; 4] = Default::default();
    for (table, changes) in rows {
        let rows = latest_from(changes, beginning.take_rows(table));
        contributions[table as usize].push(rows.contributions);
        published.push(rows.state.map(Published::State));
        late.push(rows.late);
        counts.push((table.name(), rows.counts));
    }
    if let Some((changes, keeps)) = lookups {
        let (mut moves, mut tables) = (Vec::new(), Vec::new());
        for (table, changes) in referring {
            let rows = referring_from(changes, beginning.take_referring(table));
            moves.push(rows.moves);
            tables.push(table);
            published.push(rows.state.map(Published::State));
            counts.push((table.name(), rows.counts));
        }
        let joined = lookup_from(changes, scope.concatenate(moves), tables, beginning.take_lookups(keeps));
        for (table, of_table) in joined.contributions {
            contributions[table as usize].push(of_table);
        }
        published.push(joined.state.map(Published::State));
        late.push(joined.late);
        counts.push(("a lookup", joined.counts));
    }
    contributions[Table::StoreClicks as usize].extend(clicks);
    if let Some(told) = told {
        let clicks = dedup_from(told, beginning.take_seen());
        contributions[Table::StoreClicks as usize].push(clicks.clicks);
        published.push(clicks.state.map(Published::State));
        late.push(clicks.late);
        counts.push((Table::StoreClicks.name(), clicks.counts));
    }
    for (table, of_table) in Table::ALL.into_iter().zip(contributions) {
        let mut of_table = of_table.into_iter();
        let Some(first) = of_table.next() else { continue };
        // Mostly there is one, which goes on without a word between.
        let all = if of_table.len() == 0 { first } else { first.concatenate(of_table) };
        published.push(tally_from(all, ends.clone(), beginning.take_cells(table)));
    }
    Outputs { published: scope.concatenate(published), late: late_clicks.concatenate(late), counts }
}
