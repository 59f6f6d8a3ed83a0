//! `mall.clicks`: what visitors do on the stores' sites, as JSON events of about 570 bytes.
//!
//! Upholds: a session stays in one store and one partition; event time is the time of arrival but for the shares of delay.
//! Keeps: the sessions that are open, with the parts of their events that never change already rendered.
//! Absent on purpose: duplicates. Two equal clicks are two clicks; an event without a key cannot be told from its copy.

use super::envelope::{Flaw, Log, damage};
use super::life::Delay;
use super::mall::{Mall, product_id, store_id};
use super::random::{Dice, Share, Stream};
use super::text::{push, push_hex, push_i64, push_u64, push_uuid};
use super::traffic::Traffic;
use super::writer::Partitions;
use super::{Counts, Envelope, GenerateError, Options, Topic, TopicSummary};

const FLAWS: [Flaw; 5] = [Flaw::CutOff, Flaw::NotUtf8, Flaw::NoStore, Flaw::EmptyStore, Flaw::WrongTime];
/// The first clicks are never late: a partition's clock starts among its first records.
const NEVER_LATE: u64 = 1_000;

/// Writes the topic.
pub(super) fn write(
    options: &Options,
    mall: &Mall,
    traffic: &Traffic,
    partitions: Partitions,
) -> Result<TopicSummary, GenerateError> {
    let mut log = Log::new(Topic::Clicks, options.envelope == Envelope::Kcat, partitions);
    let mut counts = Counts::default();
    let mut dice = Dice::new(options.seed, Stream::Click);
    // As many open sessions as make one click in about 100 s of each.
    let open = (options.clicks / (36 * u64::from(options.hours))).clamp(8, 1 << 16);
    let mut sessions: Vec<Session> = (0..open).map(|_| Session::default()).collect();
    let mut value = Vec::new();
    let never_late = (options.clicks / 8).max(NEVER_LATE);
    let instants = traffic.instants(options.clicks, Dice::of(options.seed, Stream::Traffic, 1));
    for (number, at_ms) in instants.enumerate() {
        let session = &mut sessions[dice.below(open) as usize];
        if session.clicks_left == 0 {
            session.open(&mut dice, mall, &log);
        }
        let click = session.click(&mut dice, mall);
        let delay = Delay::draw(&mut dice, &options.shares, number as u64 >= never_late);
        delay.count(&mut counts);
        let event_ms = at_ms - delay.ms();
        let arrival_ms = at_ms + 1;
        value.clear();
        session.render(&mut value, &click, event_ms, None);
        log.append(session.partition, arrival_ms, &session.id, Some(&value))?;
        counts.inserts += 1;
        if options.shares.malformed > Share::ZERO && dice.hits(options.shares.malformed) {
            let flaw = dice.pick(&FLAWS);
            value.clear();
            session.render(&mut value, &click, event_ms, Some(flaw));
            damage(&mut value, flaw, dice.bits());
            log.append(session.partition, arrival_ms, &session.id, Some(&value))?;
            counts.malformed += 1;
        }
    }
    let (records, bytes) = log.finish()?;
    Ok(TopicSummary { topic: Topic::Clicks, records, bytes, counts })
}

/// A visit to a store.
#[derive(Default)]
struct Session {
    clicks_left: u32,
    clicks: u32,
    id: Vec<u8>,
    partition: usize,
    store: u32,
    /// What was looked at last.
    product: Option<u64>,
    referrer: &'static str,
    /// From the session id to the user.
    visitor: Vec<u8>,
    /// From the user agent to the place.
    device: Vec<u8>,
    /// The rest of the context.
    context: Vec<u8>,
}

/// One event of a session.
struct Click {
    id: (u64, u64),
    kind: Kind,
    product: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    PageView,
    ProductView,
    Search,
    AddToCart,
    Checkout,
    Purchase,
}

const DEVICES: [(u32, (&str, &str)); 5] = [
    (
        34,
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
            "\"w\":390,\"h\":844",
        ),
    ),
    (
        30,
        (
            "Mozilla/5.0 (Linux; Android 15; SM-S928N) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
            "\"w\":412,\"h\":915",
        ),
    ),
    (
        24,
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
            "\"w\":1920,\"h\":1080",
        ),
    ),
    (
        8,
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
            "\"w\":1512,\"h\":982",
        ),
    ),
    (4, ("MallApp/5.12.0 (Android 14; \\\"Galaxy Tab\\\")", "\"w\":800,\"h\":1280")),
];
const PLACES: [(u32, &str); 6] = [
    (44, "{\"country\":\"KR\",\"city\":\"서울\"}"),
    (20, "{\"country\":\"KR\",\"city\":\"부산\"}"),
    (16, "{\"country\":\"KR\",\"city\":\"Suwon\"}"),
    (8, "{\"country\":\"US\",\"city\":\"Los Angeles\"}"),
    (7, "{\"country\":\"JP\",\"city\":\"Tokyo\"}"),
    (5, "{\"country\":null,\"city\":null}"),
];
const REFERRERS: [&str; 5] = [
    "https://search.naver.com/search.naver?query=%EC%9A%B4%EB%8F%99%ED%99%94",
    "https://www.google.com/",
    "https://m.instagram.com/",
    "",
    "android-app://com.kakao.talk/",
];
const SEARCHES: [&str; 5] = ["운동화", "\\uac00\\ubc29", "t-shirt", "gift box", "커피 \\\"원두\\\""];

impl Session {
    /// Starts anew: another visitor.
    fn open(&mut self, dice: &mut Dice, mall: &Mall, log: &Log) {
        self.clicks_left = 1 + dice.below(22) as u32;
        self.clicks = 0;
        self.store = mall.store(dice);
        self.product = None;
        self.referrer = dice.pick(&REFERRERS);
        self.id.clear();
        push(&mut self.id, "s-");
        push_hex(&mut self.id, dice.bits(), 16);
        self.partition = log.partition(&self.id);
        let (user_agent, screen) = dice.weighted(&DEVICES);
        let place = dice.weighted(&PLACES);

        let visitor = &mut self.visitor;
        visitor.clear();
        push(visitor, ",\"session_id\":\"");
        visitor.extend_from_slice(&self.id);
        push(visitor, "\",\"user_id\":");
        match dice.below(3) {
            0 => push(visitor, "null"),
            _ => {
                push(visitor, "\"u-");
                push_u64(visitor, dice.below(2_000_000));
                visitor.push(b'"');
            }
        }

        let device = &mut self.device;
        device.clear();
        push(device, ",\"user_agent\":\"");
        push(device, user_agent);
        push(device, "\",\"geo\":");
        push(device, place);

        let context = &mut self.context;
        context.clear();
        push(context, ",\"context\":{\"locale\":\"ko-KR\",\"screen\":{");
        push(context, screen);
        push(context, "},\"app\":{\"version\":\"5.12.");
        push_u64(context, dice.below(8));
        // A field of the job's name that is not at the top: it must not be taken for the store.
        push(context, "\"},\"ab\":[\"cart_b\"],\"page\":{\"store_id\":\"main\",\"seq\":");
    }

    /// The visitor's next click.
    fn click(&mut self, dice: &mut Dice, mall: &Mall) -> Click {
        use Kind::{AddToCart, Checkout, PageView, ProductView, Purchase, Search};
        self.clicks_left -= 1;
        self.clicks += 1;
        let kind = match self.product {
            None => dice.weighted(&[(50, PageView), (38, ProductView), (12, Search)]),
            Some(_) => {
                dice.weighted(&[(28, PageView), (42, ProductView), (9, Search), (12, AddToCart), (5, Checkout), (4, Purchase)])
            }
        };
        if kind == ProductView {
            self.product = Some(mall.product(dice, self.store));
        }
        let product = match kind {
            ProductView | AddToCart | Purchase => self.product,
            PageView | Search | Checkout => None,
        };
        Click { id: (dice.bits(), dice.bits()), kind, product }
    }

    fn render(&self, out: &mut Vec<u8>, click: &Click, event_ms: i64, flaw: Option<Flaw>) {
        push(out, "{\"event_id\":\"");
        push_uuid(out, click.id.0, click.id.1);
        push(out, "\",\"event_type\":\"");
        push(out, click.kind.name());
        push(out, "\",\"event_time\":");
        match flaw {
            Some(Flaw::WrongTime) => push(out, "\"yesterday\""),
            _ => push_i64(out, event_ms),
        }
        out.extend_from_slice(&self.visitor);
        push(out, ",\"url\":\"https://shop-");
        push_u64(out, store_id(self.store));
        push(out, ".mall.example/");
        match (click.kind, click.product) {
            (Kind::ProductView | Kind::AddToCart, Some(product)) => {
                push(out, "products/");
                push_u64(out, product_id(product));
            }
            (Kind::Search, _) => push(out, "search?page=1"),
            (Kind::Checkout, _) => push(out, "checkout"),
            (Kind::Purchase, _) => push(out, "orders/complete"),
            _ => push(out, "?utm_source=push"),
        }
        push(out, "\",\"referrer\":\"");
        push(out, if self.clicks == 1 { self.referrer } else { "https://mall.example/" });
        out.push(b'"');
        out.extend_from_slice(&self.device);
        match flaw {
            Some(Flaw::NoStore) => {}
            Some(Flaw::EmptyStore) => push(out, ",\"store_id\":\"\""),
            _ => {
                push(out, ",\"store_id\":\"");
                push_u64(out, store_id(self.store));
                out.push(b'"');
            }
        }
        match (click.product, click.kind) {
            (Some(product), _) => {
                push(out, ",\"product_id\":\"");
                push_u64(out, product_id(product));
                out.push(b'"');
            }
            (None, Kind::Checkout) => push(out, ",\"product_id\":null"),
            (None, Kind::Search) => {
                push(out, ",\"query\":\"");
                push(out, SEARCHES[click.id.0 as usize % SEARCHES.len()]);
                out.push(b'"');
            }
            (None, _) => {}
        }
        out.extend_from_slice(&self.context);
        push_u64(out, u64::from(self.clicks));
        push(out, "}}}");
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::PageView => "page_view",
            Kind::ProductView => "product_view",
            Kind::Search => "search",
            Kind::AddToCart => "add_to_cart",
            Kind::Checkout => "checkout",
            Kind::Purchase => "purchase",
        }
    }
}
