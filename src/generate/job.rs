//! The job file that belongs to a dataset.

use super::{Options, Topic};

const HEAD: &str = r#"# The job of this dataset: storeflow run --job mall.toml --replay .
name = "mall"
window = "30m"
grace = "2m"
retention = "48h"
scale = 2
currency = "KRW"
timezone = "Asia/Seoul"
"#;

const PAYMENTS: &str = r#"
[[source]]
topic = "mall.payments"
role = "payments"
format = "debezium"
key = "payment_id"
store = "store_id"
amount = "amount"
currency = "currency"
time = { field = "paid_at", unit = "us" }
counts_when = { status = ["PAID", "REFUNDED"] }
"#;

const ORDER_ITEMS: &str = r#"
[[source]]
topic = "mall.order_items"
role = "order_items"
format = "upsert"
key = "item_id"
store = "store_id"
product = "product_id"
quantity = "quantity"
time = { field = "ordered_at", unit = "ms" }
"#;

const PRODUCTS: &str = r#"
[[source]]
topic = "mall.products"
role = "products"
format = "debezium"
key = "product_id"
store = "store_id"
counts_when = { state = ["ON_SALE"] }
"#;

const CLICKS: &str = r#"
[[source]]
topic = "mall.clicks"
role = "clicks"
format = "json"
store = "store_id"
product = "product_id"
kind = "event_type"
time = { field = "event_time", unit = "ms" }
distinct = true
"#;

/// A job over the topics that are made.
pub(super) fn file(options: &Options) -> String {
    let source = |topic| match topic {
        Topic::Payments => PAYMENTS,
        Topic::OrderItems => ORDER_ITEMS,
        Topic::Products => PRODUCTS,
        Topic::Clicks => CLICKS,
    };
    let made = Topic::ALL.into_iter().filter(|topic| options.topics.contains(topic));
    [HEAD].into_iter().chain(made.map(source)).collect()
}
