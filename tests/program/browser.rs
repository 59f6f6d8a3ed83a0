//! The dashboard in a real Chromium, beside what `export` says.
//!
//! ```text
//! generated mall ─► run ─► serve ─► Chromium ─► what the page shows ─┐
//!                    └───► export ─► sums, days, last 48 windows ────┴─► cell by cell
//! ```
//!
//! Upholds: (1) every number on the page is that of `export`, in both languages, in figure and in text; (2) while a job goes on the
//! page follows it without being loaded again, through the death of the job, and never back; (3) nothing is logged as an error, and
//! no request leaves the host; (4) axe finds nothing serious, the keyboard is enough, and a phone is wide enough.
//! Absent on purpose: time. How soon the page is usable is what `scripts/screenshots` measures.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::support::binary::{storeflow, succeed};
use crate::support::browser::Browser;
use crate::support::exported::{Exported, Store, Window, canonical, instant, midnight_before, read_number};
use crate::support::malls::Mall;
use crate::support::running::Running;
use crate::support::{redis, running};

/// Windows that the page has room for.
const SHOWN: i64 = 48;

/// The zone of generated malls.
const ZONE: &str = "Asia/Seoul";

/// Two windows of the day before, and four of the day, in the zone of the job.
const EVENING: &str = "2026-11-01T14:00:00Z";

/// Trouble of every kind, and so much of it that a page of three stores shows some.
const TROUBLE: [&str; 14] = [
    "--stores",
    "12",
    "--products",
    "150",
    "--payments",
    "900",
    "--clicks",
    "2400",
    "--late",
    "0.03",
    "--refunds",
    "0.05",
    "--store-moves",
    "0.02",
];

/// A server that goes on, and where it listens.
struct Server {
    _running: Running,
    address: String,
}

impl Server {
    fn start(of: &[&str]) -> Server {
        let mut running = Running::start(&mut storeflow(&[&["serve", "--listen", "127.0.0.1:0"][..], of].concat()));
        let address = running.wait("an address", address_in);
        Server { _running: running, address }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

/// Where a program says that it serves.
fn address_in(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("serving the query API"))?;
    Some(line.split_once("address=")?.1.split_whitespace().next()?.to_owned())
}

/// The page of a store, in the address of the page.
fn of_store(store: &str) -> String {
    format!("#/stores/{store}")
}

/// When the first window starts that the page has room for: the last of them holds the last instant before the as-of.
fn oldest_shown(exported: &Exported) -> Timestamp {
    let last = (instant(&exported.as_of).as_millisecond() - 1) / 1_800_000;
    Timestamp::from_millisecond((last - (SHOWN - 1)) * 1_800_000).expect("an instant")
}

/// The start of the last window that is closed: its end and the grace of two minutes are not after the as-of.
fn newest_closed(exported: &Exported) -> Timestamp {
    let ended = (instant(&exported.as_of).as_millisecond() - 120_000) / 1_800_000;
    Timestamp::from_millisecond((ended - 1) * 1_800_000).expect("an instant")
}

/// Where a page and what was exported differ.
struct Differences(Vec<String>);

impl Differences {
    /// Of a store.
    fn of_store(page: &Value, exported: &Exported, id: &str) -> Differences {
        let (store, today) = (&exported.stores[id], midnight_before(&exported.as_of, ZONE));
        let mut found = Differences(Vec::new());
        found.text("store", page["store"].as_str(), id);
        found.instant("as of", page["freshness"]["asOf"].as_str(), &exported.as_of);
        found.number("product count", &page["product_count"], &store.product_count.to_string());
        for (what, measure) in [("sums", "payment_sum"), ("counts", "payment_count")] {
            found.sums(what, &page["today"][what], store, measure, today);
        }
        found.number("items today", &page["today"]["items"], &store.total("items_sold", today));
        found.number("clicks today", &page["today"]["clicks"], &store.total("clicks", today));
        found.instant("newest closed window", page["newest_window"].as_str(), &newest_closed(exported).to_string());
        found.windows(page, store, oldest_shown(exported));
        found
    }

    /// Of all stores together.
    fn of_all(page: &Value, exported: &Exported) -> Differences {
        let (all, today) = (exported.all(), midnight_before(&exported.as_of, ZONE));
        let mut found = Differences(Vec::new());
        for (what, measure) in [("sums", "payment_sum"), ("counts", "payment_count")] {
            found.sums(what, &page["totals"][what], &all, measure, today);
        }
        found.number("items today", &page["totals"]["items"], &all.total("items_sold", today));
        found.number("clicks today", &page["totals"]["clicks"], &all.total("clicks", today));
        found.windows(page, &all, oldest_shown(exported));
        found.top(&page["top"], exported);
        found
    }

    fn text(&mut self, what: &str, shown: Option<&str>, right: &str) {
        if shown != Some(right) {
            self.0.push(format!("{what}: the page says {shown:?}, export {right:?}"));
        }
    }

    fn instant(&mut self, what: &str, shown: Option<&str>, right: &str) {
        if shown.and_then(|text| text.parse::<Timestamp>().ok()) != Some(instant(right)) {
            self.0.push(format!("{what}: the page says {shown:?}, export {right:?}"));
        }
    }

    /// A figure with its text, of which a person sees the text.
    fn number(&mut self, what: &str, shown: &Value, right: &str) {
        let (value, text) = (shown["value"].as_str(), shown["text"].as_str().unwrap_or_default());
        if shown["visible"] == false {
            self.0.push(format!("{what}: nobody can see {shown}"));
        }
        if value != Some(right) {
            self.0.push(format!("{what}: the page has {shown}, export {right:?}"));
        } else if !right.is_empty() && read_number(text) != canonical(right) {
            self.0.push(format!("{what}: a person reads {text:?}, export says {right:?}"));
        } else if right.is_empty() && !read_number(text).trim_matches('-').is_empty() {
            self.0.push(format!("{what}: a person reads {text:?}, and there is no cell"));
        }
    }

    /// Today's sums of a measure, by currency: of closed windows, and beside them of those still open.
    fn sums(&mut self, what: &str, shown: &Value, store: &Store, measure: &str, today: Timestamp) {
        let (closed, open) = (store.sums(measure, today, true), store.sums(measure, today, false));
        let shown = shown.as_object().expect("by currency");
        let currencies: BTreeSet<&String> = closed.keys().chain(open.keys()).chain(shown.keys()).collect();
        for currency in currencies {
            let (of, page) = (format!("today's {what} of {currency}"), shown.get(currency).cloned().unwrap_or_default());
            match closed.get(currency) {
                Some(right) => self.number(&of, &page, right),
                None if page["value"].as_str().is_none_or(|value| canonical(value) == "0") => {}
                None => self.0.push(format!("{of}: the page has {page}, export nothing")),
            }
            // Of sums it says what the open windows add; counts are of closed ones alone.
            if measure == "payment_sum" {
                self.text(&format!("{of}, open"), page["open"].as_str(), open.get(currency).map_or("", String::as_str));
            }
        }
    }

    /// Every cell of every window that there is room for.
    fn windows(&mut self, page: &Value, store: &Store, from: Timestamp) {
        let right = store.since(from);
        let shown: BTreeMap<&str, &Value> = page["windows"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|window| (window["window"].as_str().expect("an instant"), window))
            .collect();
        let (theirs, ours): (Vec<&str>, Vec<&str>) = (shown.keys().copied().collect(), right.keys().copied().collect());
        if theirs != ours {
            self.0.push(format!("the page has the windows {theirs:?}, export {ours:?}"));
        }
        for (start, window) in right {
            let Some(shown) = shown.get(start) else { continue };
            if (shown["closed"].as_bool(), shown["revision"].as_u64()) != (Some(window.closed), Some(window.revision)) {
                self.0.push(format!(
                    "{start}: the page says closed {}, revision {}, export {window:?}",
                    shown["closed"], shown["revision"]
                ));
            }
            let cells = shown["cells"].as_object().expect("cells");
            let measures: BTreeSet<&String> = cells.keys().chain(window.cells.keys()).collect();
            for measure in measures {
                let value = window.cells.get(measure).map_or("", String::as_str);
                self.number(&format!("{start} {measure}"), cells.get(measure).unwrap_or(&Value::Null), value);
            }
        }
    }

    /// The stores that lead the newest closed window, by whatever measure the page has chosen.
    fn top(&mut self, shown: &Value, exported: &Exported) {
        let shown = shown.as_array().expect("a list");
        let Some((measure, _)) = shown.first().and_then(|row| row["cells"].as_object()?.iter().next()) else {
            return self.0.push("no store leads".to_owned());
        };
        let newest = newest_closed(exported).to_string();
        let value = |store: &Store| Some(store.windows.get(&newest)?.cells.get(measure)?.clone());
        let of_stores = exported.stores.iter().filter_map(|(id, store)| Some((id, value(store)?)));
        let mut right: Vec<(&String, String)> = of_stores.collect();
        // Equal values are in the order of ids, in which they are already.
        right.sort_by_key(|(_, value)| std::cmp::Reverse(value.replace('.', "").parse::<i128>().expect("a number")));
        if shown.len() != right.len().min(10) {
            self.0.push(format!("{} stores lead by {measure}, by export {}", shown.len(), right.len()));
        }
        for (rank, (row, (id, value))) in shown.iter().zip(right).enumerate() {
            if (row["rank"].as_u64(), row["store"].as_str()) != (Some(rank as u64 + 1), Some(id)) {
                self.0.push(format!("rank {}: the page has {} on {}, export store {id}", rank + 1, row["store"], row["rank"]));
            }
            self.number(&format!("{measure} of rank {}", rank + 1), &row["cells"][measure], &value);
        }
    }

    #[track_caller]
    fn none(self, what: &str) {
        assert!(self.0.is_empty(), "{what}:\n{}", self.0.join("\n"));
    }
}

/// A finished run of a troubled mall, and what it exported.
fn finished(name: &str) -> (Mall, String, Exported) {
    let mall = Mall::generate_at(name, EVENING, &TROUBLE);
    let (out, job, whole) = (mall.dir("out"), mall.job(), mall.whole());
    succeed(&["run", "--job", &job, "--replay", &whole, "--data-dir", &out]);
    let exported = Exported::read(&["--data-dir", &out]);
    (mall, out, exported)
}

#[test]
fn a_store_owner_reads_what_export_says_in_every_language_and_theme() {
    let Some(mut browser) = Browser::start() else { return };
    let (_mall, out, exported) = finished("page");
    let server = Server::start(&["--data-dir", &out]);
    let stores = exported.telling(3);
    // What the others of these tests rely on: the page has everything to show.
    let of_all = |judge: &dyn Fn(&Store) -> bool| stores.iter().any(|id| judge(&exported.stores[id]));
    assert!(of_all(&|store| store.windows.values().any(|window| !window.closed)), "an open window");
    assert!(of_all(&|store| store.windows.values().any(|window| window.revision > 0)), "a corrected window");
    assert!(
        of_all(&|store| store.measures().contains("payment_sum:USD") && store.measures().contains("payment_sum:KRW")),
        "two currencies"
    );
    for (locale, theme) in [("en-US", "light"), ("ko-KR", "dark")] {
        for id in &stores {
            let what = format!("store {id} in {locale}");
            browser.open(&server.url(&of_store(id)), json!({ "locale": locale, "theme": theme }));
            let page = browser.read();
            assert_eq!(page["lang"], locale[..2], "{what}");
            assert_eq!(page["freshness"]["state"], "finished", "{what}");
            Differences::of_store(&page, &exported, id).none(&what);
            chart_says_the_same(&page, &what);
            browser.no_barrier(&format!("{what}, {theme}"));
            browser.nothing_wrong(&server.address);
        }
        browser.open(&server.url(""), json!({ "locale": locale, "theme": theme }));
        Differences::of_all(&browser.read(), &exported).none(&format!("all stores in {locale}"));
        browser.no_barrier(&format!("all stores in {locale}, {theme}"));
        browser.nothing_wrong(&server.address);
    }
}

/// The chart draws the windows of the table, and marks the one that is open and those that were corrected.
fn chart_says_the_same(page: &Value, what: &str) {
    let windows = page["windows"].as_array().expect("a list");
    let corrected = windows.iter().filter(|window| window["closed"] == true && window["revision"] != 0).count();
    let chart = ["windows", "provisional", "corrected"].map(|name| page["chart"][name].as_str().unwrap_or_default().to_owned());
    assert_eq!(chart, [SHOWN.to_string(), "1".to_owned(), corrected.to_string()], "{what}: {:#}", page["chart"]);
}

#[test]
fn the_keyboard_a_phone_and_a_spreadsheet_are_enough() {
    let Some(mut browser) = Browser::start() else { return };
    let (_mall, out, exported) = finished("hands");
    let server = Server::start(&["--data-dir", &out]);
    let id = exported.telling(1).remove(0);

    browser.open(&server.url(""), json!({}));
    let steps = browser.tell("search", json!({ "store": id }));
    println!("{steps} keys from the top of the page to store {id}");
    browser.tell("shown", json!({}));
    Differences::of_store(&browser.read(), &exported, &id).none("found by the keyboard");
    let said = browser.tell("chart", json!({}));
    let said: BTreeSet<&str> = said.as_array().expect("a list").iter().map(|text| text.as_str().expect("text")).collect();
    assert_eq!(said.len(), SHOWN as usize, "the arrow keys go over every window: {said:?}");

    let file = browser.tell("download", json!({ "name": "csv-export" }));
    assert_eq!(file["name"], format!("storeflow-{id}-windows.csv"));
    csv_is(file["text"].as_str().expect("text"), &exported.stores[&id].since(oldest_shown(&exported)));

    // The buttons do what the settings of the browser did above.
    let before = browser.read();
    for (theme, language) in [("dark", "ko"), ("light", "en")] {
        browser.tell("theme", json!({ "to": theme }));
        browser.tell("click", json!({ "name": format!("lang-{language}") }));
        settled(&mut browser, |page| Differences::of_store(page, &exported, &id));
        let page = browser.read();
        assert_eq!((page["theme"].as_str(), page["lang"].as_str()), (Some(theme), Some(language)));
        assert_eq!(page["background"] == before["background"], theme == "light", "{theme}: {}", page["background"]);
        browser.no_barrier(&format!("{theme} by the button"));
    }
    browser.nothing_wrong(&server.address);

    for (path, what) in [(String::new(), "all stores"), (of_store(&id), "a store")] {
        for locale in ["en-US", "ko-KR"] {
            browser.open(&server.url(&path), json!({ "width": 390, "height": 844, "locale": locale }));
            let seen = browser.tell("overflow", json!({}));
            assert_eq!(seen["scroll_width"], seen["width"], "{what} in {locale} on a phone: {seen:#}");
            assert_eq!(seen["wide"], json!([]), "{what} in {locale} on a phone: {seen:#}");
            browser.no_barrier(&format!("{what} in {locale} on a phone"));
        }
    }
    browser.nothing_wrong(&server.address);
}

#[test]
fn a_page_follows_a_job_on_redis_through_its_death_to_the_end() {
    let Some(mut browser) = Browser::start() else { return };
    let Some(redis) = redis::redis("a_page_follows_a_job_on_redis_through_its_death_to_the_end") else { return };
    // It is late at first: its records are of an hour ago. In the end they are of the hours to come, and it is not.
    let start = Timestamp::now().checked_sub(90.minutes()).expect("an instant").to_string();
    let mall = Mall::generate_at("follow", &start, &TROUBLE);
    let (out, job, whole, url) = (mall.dir("out"), mall.job(), mall.whole(), redis.url());
    let run = || {
        let fast = ["--speed", "450", "--checkpoint-interval", "1s"];
        let usual = ["run", "--job", &job, "--replay", &whole, "--data-dir", &out, "--redis", &url, "--workers", "1"];
        Running::start(&mut storeflow(&[&usual[..], &fast].concat()))
    };
    let mut first = run();
    first.wait_with("numbers in Redis", |_| (running::as_of(&redis.settings(), &mall.name) > 0).then_some(()));
    let server = Server::start(&["--redis", &url, "--job-name", &mall.name]);
    let stores: Vec<String> = Exported::read(&["--redis", &url, "--job-name", &mall.name]).telling(1);
    browser.open(&server.url(&of_store(&stores[0])), json!({}));
    let mut followed = Followed::default();
    followed.until(&mut browser, "it moves", |followed| followed.as_ofs.len() >= 4 && followed.numbers.len() >= 3);
    assert_eq!(followed.first["freshness"]["state"], "late", "{:#}", followed.first["freshness"]);

    assert_eq!(first.crash(), None, "it was killed before its end\n{}", first.log());
    let at_death = followed.last();
    // The server stays, so that the page has nothing to complain of but the job, and keeps what it showed.
    std::thread::sleep(Duration::from_secs(3));
    followed.look(&mut browser);
    assert_eq!(followed.now["live"], "live", "the server is there");
    assert!(followed.last() >= at_death);
    browser.nothing_wrong(&server.address);

    let mut second = run();
    followed.until(&mut browser, "it goes on", |followed| followed.last() > at_death && followed.states.contains("live"));
    second.succeed();
    assert!(second.log().contains("going on from a checkpoint"), "{}", second.log());
    followed.until(&mut browser, "its end", |followed| followed.now["freshness"]["state"] == "finished");
    let exported = Exported::read(&["--redis", &url, "--job-name", &mall.name]);
    settled(&mut browser, |page| Differences::of_store(page, &exported, &stores[0]));
    for id in exported.telling(3) {
        browser.tell("go", json!({ "hash": of_store(&id) }));
        settled(&mut browser, |page| Differences::of_store(page, &exported, &id));
    }
    browser.tell("go", json!({ "hash": "#/" }));
    settled(&mut browser, |page| Differences::of_all(page, &exported));
    browser.nothing_wrong(&server.address);
    mall.verify(&["--redis", &url]);
}

#[test]
fn a_page_left_open_over_a_job_that_died_turns_late_by_itself() {
    let Some(mut browser) = Browser::start() else { return };
    let Some(redis) = redis::redis("a_page_left_open_over_a_job_that_died_turns_late_by_itself") else { return };
    // Of the hours to come, so that nothing of it is late yet.
    let start = Timestamp::now().checked_add(60.minutes()).expect("an instant");
    let mall = Mall::generate_at("stands", &start.to_string(), &TROUBLE);
    let (out, job, whole, url) = (mall.dir("out"), mall.job(), mall.whole(), redis.url());
    let usual = ["run", "--job", &job, "--replay", &whole, "--data-dir", &out, "--redis", &url, "--checkpoint-interval", "1s"];
    let mut run = Running::start(&mut storeflow(&[&usual[..], &["--speed", "900"]].concat()));
    let closed = start.checked_add(70.minutes()).expect("an instant").as_millisecond();
    run.wait_with("closed windows", |_| {
        (i128::from(running::as_of(&redis.settings(), &mall.name)) > closed.into()).then_some(())
    });
    run.crash();
    let server = Server::start(&["--redis", &url, "--job-name", &mall.name]);
    browser.open(&server.url(""), json!({}));
    let before = browser.read();
    assert_eq!((&before["freshness"]["state"], &before["live"]), (&json!("live"), &json!("live")), "{:#}", before["freshness"]);
    // The server has nothing new to say for hours, and the connection stands.
    let hours_later = start.checked_add(6.hours()).expect("an instant");
    browser.tell("clock", json!({ "to": hours_later.as_millisecond() }));
    let mut followed = Followed::default();
    followed.until(&mut browser, "it turns", |followed| followed.now["freshness"]["state"] == "late");
    assert_eq!((&followed.now["live"], &followed.now["windows"]), (&json!("live"), &before["windows"]));
    assert_ne!(followed.now["freshness"]["text"], before["freshness"]["text"]);
    browser.nothing_wrong(&server.address);
}

#[test]
fn a_page_follows_the_view_in_the_memory_of_a_run_and_says_when_the_server_is_gone() {
    let Some(mut browser) = Browser::start() else { return };
    let mall = Mall::generate_at("memory", EVENING, &TROUBLE);
    let (out, job, whole) = (mall.dir("out"), mall.job(), mall.whole());
    let run = |listen: &str, speed: &str| {
        let usual =
            ["run", "--job", &job, "--replay", &whole, "--data-dir", &out, "--serve", listen, "--checkpoint-interval", "1s"];
        Running::start(&mut storeflow(&[&usual[..], &["--speed", speed]].concat()))
    };
    let mut first = run("127.0.0.1:0", "300");
    let address = first.wait("an address", address_in);
    first.wait_with("the first numbers", |_| running::get(&address, "/v1/stores?limit=1"));
    browser.open(&format!("http://{address}/"), json!({}));
    let mut followed = Followed::default();
    followed.until(&mut browser, "it moves", |followed| followed.as_ofs.len() >= 4 && followed.numbers.len() >= 3);
    browser.nothing_wrong(&address);

    first.crash();
    followed.until(&mut browser, "it says so", |followed| {
        followed.now["live"] == "reconnecting" && followed.now["freshness"]["state"] == "unreachable"
    });
    let at_death = followed.last();
    let mut second = run(&address, "300");
    followed.until(&mut browser, "it is there again", |followed| followed.now["live"] == "live" && followed.last() > at_death);
    second.crash();
    // What Chromium itself logs of a server that is gone, or that has no view yet; the page cannot keep it from that.
    let gone = ["CONNECTION_REFUSED", "CONNECTION_RESET", "EMPTY_RESPONSE", "INCOMPLETE_CHUNKED_ENCODING"];
    browser.nothing_wrong_but(&address, |text| {
        gone.iter().any(|why| text.contains(&format!("net::ERR_{why}")))
            || text.contains("a status of 503")
            || text.starts_with("503 ")
    });
}

/// A spreadsheet holds the exact figures of every cell, by window.
fn csv_is(text: &str, right: &BTreeMap<&str, &Window>) {
    let mut reader = csv::Reader::from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let columns: Vec<String> = reader.headers().expect("columns").iter().map(str::to_owned).collect();
    let rows: Vec<BTreeMap<String, String>> = reader.deserialize().map(|row| row.expect("a row")).collect();
    let starts: BTreeSet<&str> = rows.iter().map(|row| row["window_start"].as_str()).collect();
    assert_eq!((rows.len(), starts), (right.len(), right.keys().copied().collect()), "{text}");
    for row in &rows {
        let window = right[row["window_start"].as_str()];
        assert_eq!((&row["closed"], &row["revision"]), (&window.closed.to_string(), &window.revision.to_string()), "{row:?}");
        let cells =
            columns.iter().filter(|column| !["window_start", "window_end", "closed", "revision"].contains(&column.as_str()));
        let filled: BTreeMap<String, String> =
            cells.filter(|column| !row[*column].is_empty()).map(|column| (column.clone(), row[column].clone())).collect();
        assert_eq!(filled, window.cells, "{row:?}");
    }
}

/// Waits until a page differs from nothing any more: parts of it may still be on their way.
fn settled(browser: &mut Browser, differences: impl Fn(&Value) -> Differences) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = differences(&browser.read());
        if found.0.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "the page never agrees:\n{}", found.0.join("\n"));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What a page that stays open has shown so far.
#[derive(Default)]
struct Followed {
    first: Value,
    now: Value,
    as_ofs: Vec<Timestamp>,
    states: BTreeSet<String>,
    /// The windows, each time that they were others.
    numbers: Vec<Value>,
}

impl Followed {
    /// The newest as-of.
    fn last(&self) -> Timestamp {
        *self.as_ofs.last().expect("it has shown some")
    }

    fn look(&mut self, browser: &mut Browser) {
        let page = browser.read();
        let freshness = &page["freshness"];
        let as_of = instant(freshness["asOf"].as_str().expect("an as-of once there was one"));
        if self.as_ofs.last() != Some(&as_of) {
            assert!(
                self.as_ofs.last().is_none_or(|last| *last < as_of),
                "an as-of is never taken back: {as_of} after {:?}",
                self.as_ofs
            );
            self.as_ofs.push(as_of);
        }
        self.states.insert(freshness["state"].as_str().expect("a state").to_owned());
        if self.numbers.last() != Some(&page["windows"]) {
            self.numbers.push(page["windows"].clone());
        }
        if self.first.is_null() {
            self.first = page.clone();
        }
        self.now = page;
    }

    #[track_caller]
    fn until(&mut self, browser: &mut Browser, what: &str, done: impl Fn(&Followed) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            self.look(browser);
            if done(self) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}, never: {:?}, {:?}, {:#}", self.as_ofs, self.states, self.now);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
