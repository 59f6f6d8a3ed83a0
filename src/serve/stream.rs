//! `/v1/stream`: server-sent events, one as each new as-of lands.
//!
//! ```text
//! known as-of (one for all) ─ changed ─► each stream, when its client has room ─► the newest answer, kept for all of a store
//! ```
//!
//! Upholds: (1) an event is made when the client can take it, of what is known then: a slow one skips as-ofs and holds no memory;
//! (2) no event goes back in as-of; (3) streams end when the server drains.
//! Absent on purpose: a task per stream, and a memory of past events: a client that comes back gets the newest numbers at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::future::{Either, select};
use futures_util::{Stream, stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout};

use super::api::Api;
use super::keys::Access;
use super::params::{Asked, StreamParams};
use super::problem::{Code, Problem};
use super::routes::{may_see, sees_all, status_now};
use crate::observe::http::Streaming;

/// From one event to the next, at least.
const APART: Duration = Duration::from_secs(1);
/// When a reader shall come back whose stream has ended after one event.
const COME_BACK: Duration = Duration::from_secs(5);
/// From one comment to the next where there is nothing to say.
const COMMENT_EVERY: Duration = Duration::from_secs(15);

/// Server-sent events: `store` (the answer of /v1/stores/{store}) or `status` (that of /v1/status), as each new as-of lands
#[utoipa::path(
    get, path = "/v1/stream", operation_id = "stream", tag = "stream",
    params(StreamParams),
    responses((status = 200, body = String, content_type = "text/event-stream", description = "Events; the id is the as-of in milliseconds"))
)]
pub(super) async fn stream(
    State(api): State<Arc<Api>>,
    Extension(access): Extension<Access>,
    Asked(StreamParams { store }): Asked<StreamParams>,
) -> Result<Response, Problem> {
    match &store {
        Some(store) => may_see(&access, store)?,
        None => sees_all(&access)?,
    }
    let permit = api.stream_permit()?;
    // What cannot be answered now is a problem document and not a stream.
    let first = newest(&api, store.as_deref()).await?;
    let counted = api.http().stream();
    let (sent, next, first) = ((0, 0, false), Instant::now(), Some(first));
    let events = Events { api, store, sent, next, first, _permit: permit, _counted: counted };
    let sse = Sse::new(events.into_stream()).keep_alive(KeepAlive::new().interval(COMMENT_EVERY));
    let mut response = sse.into_response();
    // Proxies that collect answers would keep events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// An event.
struct Made {
    /// Generation, as-of in milliseconds, and whether nothing newer will come.
    place: (u64, u64, bool),
    data: String,
}

async fn newest(api: &Api, store: Option<&str>) -> Result<Made, Problem> {
    let shown = api.shown().await?;
    let (shown, as_of, data) = match store {
        Some(store) => {
            let (shown, as_of, body) = api.store_now(shown, store).await?;
            (shown, as_of, body.to_vec())
        }
        None => {
            let status = status_now(api, &shown).await?;
            let as_of = shown.as_of;
            (shown, as_of, status)
        }
    };
    Ok(Made { place: (shown.about.generation, as_of, shown.finished), data: String::from_utf8(data).unwrap_or_default() })
}

struct Events {
    api: Arc<Api>,
    store: Option<String>,
    /// Place of the last event.
    sent: (u64, u64, bool),
    /// When the next one may be sent.
    next: Instant,
    first: Option<Made>,
    _permit: OwnedSemaphorePermit,
    _counted: Streaming,
}

impl Events {
    fn into_stream(self) -> impl Stream<Item = Result<Event, Infallible>> + Send {
        stream::unfold(self, |mut events| async {
            let Made { place, data } = match events.first.take() {
                Some(first) => first,
                // Where nobody looks for news none would ever come: a client comes back and asks.
                None if !events.api.is_polled() => return None,
                None => events.following().await?,
            };
            (events.sent, events.next) = (place, Instant::now() + APART);
            let name = if events.store.is_some() { "store" } else { "status" };
            let event = Event::default().event(name).id(place.1.to_string()).data(data);
            Some((Ok(if events.api.is_polled() { event } else { event.retry(COME_BACK) }), events))
        })
    }

    /// The next event; none when it is over.
    async fn following(&mut self) -> Option<Made> {
        let mut draining = self.api.draining();
        let drained = async move {
            let _ = draining.wait_for(|draining| *draining).await;
        };
        let made = async {
            let (api, store) = (&self.api, self.store.as_deref());
            sleep_until(self.next).await;
            loop {
                let news = api.news();
                match newest(api, store).await {
                    Ok(made) if made.place > self.sent => return Some(made),
                    // A store whose last numbers have expired is gone.
                    Err(Problem { code: Code::UnknownStore, .. }) => return None,
                    Ok(_) => news.await,
                    // Nothing to be had at the moment. The as-of may stand from here on, so that there is no news to wait for.
                    Err(_) => {
                        let _ = timeout(APART, news).await;
                    }
                }
            }
        };
        match select(std::pin::pin!(drained), std::pin::pin!(made)).await {
            Either::Left(_) => None,
            Either::Right((made, _)) => made,
        }
    }
}
