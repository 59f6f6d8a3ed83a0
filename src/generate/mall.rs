//! The mall: stores, what they sell, and who orders what.
//!
//! Upholds: an order is a function of the seed and its number, so payments and order items agree on it without sharing state.
//! Keeps: two small integers per product and one per store.

use super::Options;
use super::random::{Dice, Popularity, Stream, mix};

/// First ids, far enough apart that no id of one kind can be taken for one of another.
const FIRST_STORE: u64 = 1_001;
const FIRST_PRODUCT: u64 = 200_001;
const FIRST_ORDER: u64 = 70_000_001;

/// Stores and products.
pub(super) struct Mall {
    seed: u64,
    popularity: Popularity,
    /// Store by rank of popularity, so that the busiest are not simply the first ids.
    by_rank: Vec<u32>,
    /// Store by product; the products of a later date are hashed onto stores instead.
    store_of: Vec<u32>,
    /// Products, grouped by store.
    grouped: Vec<u32>,
    /// Where each store's group begins; one more than stores.
    groups: Vec<u32>,
}

/// One order.
pub(super) struct Order {
    /// Its id.
    pub(super) id: u64,
    /// Index of the store.
    pub(super) store: u32,
    /// Who ordered.
    pub(super) user: u64,
    /// Whether it is paid in dollars, otherwise in won.
    pub(super) dollars: bool,
    items: [Item; 4],
    count: usize,
}

/// One item of an order.
#[derive(Clone, Copy, Default)]
pub(super) struct Item {
    /// Index of the product.
    pub(super) product: u64,
    /// How many.
    pub(super) quantity: u32,
    /// Price of one, in hundredths of the order's currency.
    pub(super) unit_price: i64,
}

impl Mall {
    /// Founds it.
    pub(super) fn new(options: &Options) -> Self {
        let mut dice = Dice::new(options.seed, Stream::Mall);
        let stores = options.stores;
        let popularity = Popularity::new(stores.into());
        let mut by_rank: Vec<u32> = (0..stores).collect();
        for rank in (1..by_rank.len()).rev() {
            by_rank.swap(rank, dice.below(rank as u64 + 1) as usize);
        }
        let store_of: Vec<u32> = (0..options.products).map(|_| by_rank[popularity.draw(&mut dice)]).collect();
        // A counting sort by store.
        let mut groups = vec![0; stores as usize + 1];
        for &store in &store_of {
            groups[store as usize + 1] += 1;
        }
        for store in 0..stores as usize {
            groups[store + 1] += groups[store];
        }
        let mut next = groups.clone();
        let mut grouped = vec![0; store_of.len()];
        for (product, &store) in store_of.iter().enumerate() {
            grouped[next[store as usize] as usize] = product as u32;
            next[store as usize] += 1;
        }
        Mall { seed: options.seed, popularity, by_rank, store_of, grouped, groups }
    }

    /// Draws a store by popularity.
    pub(super) fn store(&self, dice: &mut Dice) -> u32 {
        self.by_rank[self.popularity.draw(dice)]
    }

    /// Draws a store other than `store`, if there is one.
    pub(super) fn other_store(&self, dice: &mut Dice, store: u32) -> u32 {
        let drawn = self.store(dice);
        if drawn == store { (store + 1) % self.by_rank.len() as u32 } else { drawn }
    }

    /// Draws a product of a store, or any product if the store has none.
    pub(super) fn product(&self, dice: &mut Dice, store: u32) -> u64 {
        let group = self.groups[store as usize] as usize..self.groups[store as usize + 1] as usize;
        match &self.grouped[group] {
            [] => dice.below(self.store_of.len() as u64),
            products => u64::from(dice.pick(products)),
        }
    }

    /// The store that first has a product.
    pub(super) fn store_of(&self, product: u64) -> u32 {
        match self.store_of.get(product as usize) {
            Some(store) => *store,
            None => self.by_rank[(mix(product) % self.by_rank.len() as u64) as usize],
        }
    }

    /// The order of this number.
    pub(super) fn order(&self, number: u64) -> Order {
        let mut dice = Dice::of(self.seed, Stream::Order, number);
        let store = self.store(&mut dice);
        // One store in eight is abroad; any store has some customers who are.
        let dollars = store % 8 == 7 || dice.below(24) == 0;
        let user = dice.below(2_000_000);
        let count = dice.weighted(&[(60, 1), (24, 2), (10, 3), (6, 4)]);
        let mut items = [Item::default(); 4];
        for item in &mut items[..count] {
            let product = self.product(&mut dice, store);
            let quantity = dice.weighted(&[(80, 1), (13, 2), (4, 3), (2, 5), (1, 10)]);
            let won = price_in_won(product);
            // A dollar is 1,300 won here.
            let unit_price = if dollars { won / 13 } else { won * 100 };
            *item = Item { product, quantity, unit_price };
        }
        Order { id: FIRST_ORDER + number, store, user, dollars, items, count }
    }
}

impl Order {
    /// Its items, one to four.
    pub(super) fn items(&self) -> &[Item] {
        &self.items[..self.count]
    }

    /// What it costs, in hundredths of its currency.
    pub(super) fn amount(&self) -> i64 {
        self.items().iter().map(|item| item.unit_price * i64::from(item.quantity)).sum()
    }

    /// Its currency.
    pub(super) fn currency(&self) -> &'static str {
        if self.dollars { "USD" } else { "KRW" }
    }
}

/// Price of a product: 1,000 to 300,000 won, cheap ones more often.
pub(super) fn price_in_won(product: u64) -> i64 {
    let bits = mix(product);
    let most = [20, 60, 120, 300][(bits >> 60) as usize & 3];
    1_000 + (bits % (10 * most)) as i64 * 100
}

/// Id of a store.
pub(super) fn store_id(store: u32) -> u64 {
    FIRST_STORE + u64::from(store)
}

/// Id of a product.
pub(super) fn product_id(product: u64) -> u64 {
    FIRST_PRODUCT + product
}
