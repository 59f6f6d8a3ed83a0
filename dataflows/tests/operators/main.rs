//! Operators against differential's own, on the same collections, at every time.
//!
//! `differential_*`: two implementations agree. The twin of `latest` is a `reduce` over all changes of a key; that of `tally`
//! is made of `reduce`, `count` and `distinct`. Both read the very stream that ours reads: updates of disordered times,
//! entering at several workers in any order that frontiers allow.
//! `oracle_*`: a plain recomputation, where differential has no word for what is to be shown (markers, expiry).
//! `going_on`: a dataflow against itself, begun in the middle.

mod dedup;
mod going_on;
mod latest;
mod lookup;
mod tally;

use std::sync::mpsc::Receiver;

use storeflow_dataflows::key::{Hashing, Key, Text};
use storeflow_dataflows::tally::End;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::capture::Event;
use timely::dataflow::operators::vec::Input;

const MINUTE: u64 = 60_000;

// --- Feeding ---

/// An update, with the worker it enters at and its turn there.
#[derive(Clone, Debug)]
struct Entering<D> {
    data: D,
    time: u64,
    diff: isize,
    worker: u8,
    turn: u16,
}

impl<D> Entering<D> {
    fn map<E>(self, of: impl FnOnce(D) -> E) -> Entering<E> {
        let Entering { data, time, diff, worker, turn } = self;
        Entering { data: of(data), time, diff, worker, turn }
    }
}

/// What a captured stream held: (time, datum), in order of arrival.
type Captured<D> = Receiver<Event<u64, Vec<D>>>;

/// Runs a dataflow on so many workers. Each feeds its updates by turn, and says at each that log time has come to the least of
/// those still to come. At its end the first worker says how far log time got.
fn run<D, O>(
    workers: usize,
    updates: Vec<Entering<D>>,
    end: u64,
    build: impl for<'s> Fn(StreamVec<'s, u64, (D, u64, isize)>, StreamVec<'s, u64, End>) -> O + Send + Sync + 'static,
) -> Vec<O>
where
    D: Clone + Send + Sync + 'static,
    O: Send + 'static,
{
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let (mut input, mut ends, outputs) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, updates) = scope.new_input();
            let (ends, ends_stream) = scope.new_input();
            (input, ends, build(updates, ends_stream))
        });
        let mut mine: Vec<_> = updates.iter().filter(|update| usize::from(update.worker) % peers == index).collect();
        mine.sort_by_key(|update| update.turn);
        for at in 0..mine.len() {
            let least = mine[at..].iter().map(|update| update.time).min().expect("there is one");
            input.advance_to(least);
            ends.advance_to(least);
            let Entering { data, time, diff, turn, .. } = mine[at].clone();
            input.send((data, time, diff));
            if turn.is_multiple_of(3) {
                worker.step();
            }
        }
        ends.send(End::Complete(if index == 0 { end } else { 0 }));
        outputs
    });
    guards.expect("workers").join().into_iter().map(|outputs| outputs.expect("no worker panics")).collect()
}

fn arrived<D>(captured: Captured<D>) -> Vec<(u64, D)> {
    let mut all = Vec::new();
    for event in captured {
        if let Event::Messages(stamp, data) = event {
            let time = *stamp.into_elements().first().expect("a time");
            all.extend(data.into_iter().map(|datum| (time, datum)));
        }
    }
    all
}

/// Updates (datum, time, difference) that the workers captured.
fn updates<D, R>(captured: Vec<Captured<(D, u64, R)>>) -> Vec<(D, u64, R)> {
    let all = captured.into_iter().flat_map(arrived);
    let late = |(sent, (datum, time, diff)): (u64, (D, u64, R))| {
        assert!(sent <= time, "sent at {sent}, so nobody may expect it at {time}");
        (datum, time, diff)
    };
    all.map(late).collect()
}

// --- Keys ---

/// Hashes are few, so that different keys meet; a cell's shard is that of its store, as decoders make it.
const HASHING: Hashing = Hashing { row: row_hash, cell: cell_of };

fn row_hash(text: &[u8]) -> u64 {
    text.last().map_or(0, |last| u64::from(last % 3) << 54 | 7)
}

fn cell_of(store: &[u8], second: &[u8], scratch: &mut Vec<u8>) -> Key {
    Key::cell_bytes(store, second, scratch);
    let shard = row_hash(store) >> 54 << 54;
    Key { hash: shard | second.last().map_or(0, |last| u64::from(*last)), text: Text::new(scratch) }
}

/// A key of one of two key spaces.
fn row_key(number: u8) -> Key {
    let text = format!("{} {number}", space(number));
    Key { hash: row_hash(text.as_bytes()), text: Text::new(text.as_bytes()) }
}

/// The beginning of a key.
fn space(number: u8) -> &'static str {
    if number.is_multiple_of(2) { "even" } else { "odd" }
}

fn cell_key(store: u8, second: u8) -> Key {
    let (store, second) = (format!("store {store}"), format!("second {second}"));
    cell_of(store.as_bytes(), second.as_bytes(), &mut Vec::new())
}

fn member(number: u8) -> Text {
    if number == 0 { Text::EMPTY } else { Text::new(format!("product {number}").as_bytes()) }
}
