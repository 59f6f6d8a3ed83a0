//! What `explain` has found, as a page for people or as lines of JSON.

use serde_json::{Map, Value as Json, json};
use storeflow_checkpoints::manifest::Manifest;
use storeflow_dataflows::change::Version;
use storeflow_dataflows::table::{NO_WINDOW, Table, Value, Window};

use super::Explained;
use super::gather::CountedRow;
use crate::cli::checkpoints::table;
use crate::decode::KeyParts;
use crate::publish::layout::About;
use crate::publish::row::{Row, money};
use crate::publish::time::instant;
use crate::runtime::setting::Setting;
use crate::runtime::stepped_back::position;

/// What all of it is about.
pub(super) struct Page<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) setting: &'a Setting,
    pub(super) about: &'a About,
    pub(super) store: &'a str,
    pub(super) wanted: &'a [(Table, Window)],
}

impl Page<'_> {
    /// For people.
    pub(super) fn text(&self, explained: &[Explained]) -> Vec<u8> {
        let Manifest { number, generation, job, as_of, .. } = self.manifest;
        let mut out = Vec::new();
        let line = |out: &mut Vec<u8>, text: String| out.extend(text.into_bytes().into_iter().chain([b'\n']));
        line(
            &mut out,
            format!(
                "store {} as of {}, checkpoint {number} of generation {generation} of job {job}",
                self.store,
                instant(*as_of as i64)
            ),
        );
        for &(of, window) in self.wanted {
            let cells: Vec<&Explained> = explained.iter().filter(|cell| (cell.table, cell.window) == (of, window)).collect();
            if cells.is_empty() {
                line(&mut out, format!("\n{}: no row and no cell", self.heading(of, window, "")));
            }
            for cell in cells {
                line(&mut out, format!("\n{}", self.heading(of, window, &cell.second)));
                self.rows(cell, &mut out);
                self.sums(cell).into_iter().for_each(|text| line(&mut out, text));
            }
        }
        out
    }

    fn heading(&self, of: Table, window: Window, second: &str) -> String {
        let mut heading = of.name().to_owned();
        if !second.is_empty() {
            heading += &format!(" {second}");
        }
        if window != NO_WINDOW {
            let horizons = &self.about.horizons;
            let closed = if horizons.closed(window, self.manifest.as_of) { "closed" } else { "open" };
            heading += &format!(", window {} to {}, {closed}", instant(window), instant(horizons.end(window) as i64));
        }
        heading
    }

    fn rows(&self, cell: &Explained, out: &mut Vec<u8>) {
        if cell.table == Table::StoreClicks {
            let products = cell.products.iter().map(|(product, clicks)| vec![clicks.to_string(), product.clone()]);
            let products: Vec<Vec<String>> = products.collect();
            if !products.is_empty() {
                table(out, &["clicks", "product"], &products);
            }
            return;
        }
        let row = |row: &CountedRow| {
            let (place, key) = self.key(cell.table, &row.key);
            let key = key.iter().map(|(name, text)| format!("{name}={text}")).collect::<Vec<_>>().join(" ");
            let mut columns = match cell.table {
                Table::StorePayments => vec![self.amount(cell.table, row.amount)],
                Table::StoreSales => vec![row.amount.to_string(), row.product.clone()],
                Table::StoreClicks | Table::StoreProducts => Vec::new(),
            };
            columns.push(instant(row.stamp as i64));
            columns.push(row.version.map_or_else(|| "none".to_owned(), source));
            columns.push(format!("{place} {key}"));
            columns
        };
        let rows: Vec<Vec<String>> = cell.rows.iter().map(row).collect();
        let first: &[&str] = match cell.table {
            Table::StorePayments => &["amount"],
            Table::StoreSales => &["quantity", "product"],
            Table::StoreClicks | Table::StoreProducts => &[],
        };
        if !rows.is_empty() {
            table(out, &[first, &["last change", "source position", "row"]].concat(), &rows);
        }
    }

    fn sums(&self, cell: &Explained) -> Vec<String> {
        let of = |name: &str, value: Value, revision: Option<u32>| {
            let revision = revision.map_or_else(String::new, |revision| format!(", revision {revision}"));
            format!("{name} {}{revision}", self.value(cell.table, &value))
        };
        let mut lines = vec![match cell.sum() {
            Some(sum) => of("rows: ", sum, None),
            None => "rows:  those of clicks are not kept, so only distinct products can be counted again".to_owned(),
        }];
        lines.push(cell.cell.map_or_else(|| "cell:  none".to_owned(), |(value, revision)| of("cell: ", value, Some(revision))));
        match &cell.view {
            None => {}
            Some(None) => lines.push("view:  none".to_owned()),
            Some(Some(row)) => {
                let Row { sum, count, distinct, revision, .. } = row;
                let own = cell.value();
                let value = Value { sum: *sum, count: count.unwrap_or(own.count), distinct: distinct.unwrap_or(own.distinct) };
                lines.push(of("view: ", value, *revision));
            }
        }
        lines.push(if cell.agrees() { "they agree" } else { "they DIFFER" }.to_owned());
        lines
    }

    fn value(&self, of: Table, value: &Value) -> String {
        let Value { sum, count, distinct } = value;
        match of {
            Table::StorePayments => format!("payment_sum {}, payment_count {count}", self.amount(of, *sum)),
            Table::StoreSales => format!("items_sold {sum} in {count} rows, products_sold {distinct}"),
            Table::StoreClicks => {
                let distinct = if self.about.clicks_distinct { format!(", products_clicked {distinct}") } else { String::new() };
                format!("clicks {count}{distinct}")
            }
            Table::StoreProducts => format!("product_count {count}"),
        }
    }

    fn amount(&self, of: Table, amount: i128) -> String {
        match of {
            Table::StorePayments => money(amount, self.about.scale),
            Table::StoreProducts => String::new(),
            _ => amount.to_string(),
        }
    }

    /// Where a key is unique, and its fields.
    fn key(&self, of: Table, bytes: &[u8]) -> (String, Vec<(String, String)>) {
        let whole = || (String::new(), vec![("key".to_owned(), String::from_utf8_lossy(bytes).into_owned())]);
        let Some(parts) = KeyParts::of(bytes) else { return whole() };
        let Some((place, names)) = self.setting.key_space(of, parts.space, &self.manifest.topics) else { return whole() };
        let Some(texts) = parts.texts(names.len()) else { return whole() };
        (place, names.iter().cloned().zip(texts).collect())
    }

    /// One object per row, and one per cell after its rows. `of` says which it is.
    pub(super) fn json(&self, explained: &[Explained]) -> Vec<u8> {
        let mut lines = Vec::new();
        for cell in explained {
            for row in &cell.rows {
                let (place, key) = self.key(cell.table, &row.key);
                let key: Map<String, Json> = key.into_iter().map(|(name, text)| (name, text.into())).collect();
                lines.push(self.line(
                    cell,
                    "row",
                    json!({
                        "key_space": place,
                        "key": key,
                        "amount": self.amount(cell.table, row.amount),
                        "product": some(&row.product),
                        "stamp": instant(row.stamp as i64),
                        "version": row.version.map(|version| json!({
                            "incarnation": format!("{:016x}", version.incarnation),
                            "server": version.server,
                            "position": position(version),
                        })),
                    }),
                ));
            }
            for (product, count) in &cell.products {
                lines.push(self.line(cell, "product", json!({ "product": product, "count": count })));
            }
            let view = cell.view.as_ref().map(|row| {
                row.as_ref().map(|row| json!({
                    "sum": self.amount(cell.table, row.sum), "count": row.count, "distinct": row.distinct, "revision": row.revision
                }))
            });
            lines.push(self.line(
                cell,
                "cell",
                json!({
                    "as_of": instant(self.manifest.as_of as i64),
                    "checkpoint": self.manifest.number,
                    "rows": cell.sum().map(|sum| self.fields(cell.table, &sum)),
                    "cell": cell.cell.map(|(value, _)| self.fields(cell.table, &value)),
                    "revision": cell.cell.map(|(_, revision)| revision),
                    "view": view,
                    "agree": cell.agrees(),
                }),
            ));
        }
        lines.concat().into_bytes()
    }

    fn fields(&self, of: Table, value: &Value) -> Json {
        json!({ "sum": self.amount(of, value.sum), "count": value.count, "distinct": value.distinct })
    }

    fn line(&self, cell: &Explained, of: &str, mut fields: Json) -> String {
        fields["of"] = of.into();
        fields["table"] = cell.table.name().into();
        fields["store_id"] = self.store.into();
        fields["second"] = some(&cell.second).into();
        fields["window_start"] = (cell.window != NO_WINDOW).then(|| instant(cell.window)).into();
        format!("{fields}\n")
    }
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// A source version as people know it. Of what names the incarnation only a hash is kept.
fn source(version: Version) -> String {
    if let Some(since) = version.replayed_since() {
        return format!("a replayed dead letter of {}", instant(i64::try_from(since).unwrap_or(i64::MAX)));
    }
    let server = if version.server == 0 { String::new() } else { format!(" of server {}", version.server) };
    format!("{}{server} ({:016x})", position(version), version.incarnation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use storeflow_dataflows::change::Position;

    #[test]
    fn positions_are_those_that_databases_print() {
        let of = |server, position| source(Version { incarnation: 0xabc, server, position });
        assert_eq!(of(0, Position(0, 0x16_B374_D848, 0)), "LSN 16/B374D848 (0000000000000abc)");
        assert_eq!(of(7, Position(171, 369_123_330, 3)), "binlog 000171 position 369123330 row 3 of server 7 (0000000000000abc)");
        assert_eq!(of(0, Position(1_234_567, 4, 0)), "binlog 1234567 position 4 row 0 (0000000000000abc)");
    }
}
