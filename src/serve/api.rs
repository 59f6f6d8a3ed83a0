//! All that the routes need, whoever calls them: a server of ours, or a Lambda function.
//!
//! ```text
//! poll ─► View::shown ─► what is known ─┬─► requests: as-of, ETag
//! (or whoever asks, where none polls)   └─► streams wake up
//! ```
//!
//! Upholds: (1) the view is asked for its as-of by one at a time, and not more often than every [`Api::interval`]; (2) what the
//! processes say of themselves is asked once a second at most; (3) a failure of the view is known as such until it answers again.
//! Keeps: the last answer to each of the two, and the answers about stores (see [`super::answers`]).
//! Absent on purpose: a task of its own. Whoever has a runtime that goes on spawns [`Api::poll`]; where there is none, each request
//! asks anew once the last answer is old.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{Either, select};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};

use super::admission::Admission;
use super::answers::{Answers, Kept, Mark};
use super::calendar::{self, Zone};
use super::model::{self, Fresh};
use super::problem::{Code, Problem};
use super::view::{Shown, View, ViewError};
use crate::observe::health::Health;
use crate::observe::http::HttpStats;
use crate::observe::status::ProcessStatus;
use crate::observe::wall_ms;

/// How a server answers.
#[derive(Clone, Copy, Debug)]
pub struct ApiSettings {
    /// Streams at a time.
    pub streams_max: usize,
    /// Bytes of answers that are kept.
    pub answers_bytes_max: usize,
}

impl Default for ApiSettings {
    fn default() -> Self {
        // Some ten thousand stores of the usual size.
        ApiSettings { streams_max: 1_000, answers_bytes_max: 64 << 20 }
    }
}

/// How old what the processes say of themselves may be, and ages in answers.
pub(super) const SAID_MAX: Duration = Duration::from_secs(1);
/// Until it is worth asking a view again that did not answer.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// The as-of of one store may leave those that were asked for behind while it is read; of a view that always does, something is wrong.
const READS_MAX: usize = 8;

/// A view, and what is known of it.
pub struct Api {
    view: Arc<dyn View>,
    admission: Arc<Admission>,
    settings: ApiSettings,
    known: watch::Sender<Known>,
    asking: Mutex<()>,
    polled: AtomicBool,
    said: Mutex<Option<(Instant, Arc<Vec<ProcessStatus>>)>>,
    answers: Answers,
    streams: Arc<Semaphore>,
    draining: watch::Sender<bool>,
    http: Arc<HttpStats>,
    /// Told whether the view answers.
    health: OnceLock<Arc<Health>>,
    /// The second of wall time in which a failure was last logged.
    complained: AtomicU64,
}

/// The last answer of the view.
#[derive(Clone, Debug)]
struct Known {
    asked: Option<Instant>,
    shown: Result<Arc<Shown>, Problem>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("place", &self.view.place()).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Api {
    /// Answers from `view` to those whom `admission` lets in.
    pub fn new(view: Arc<dyn View>, admission: Arc<Admission>, settings: ApiSettings) -> Arc<Api> {
        let nothing = Problem::new(Code::NoView, "the view was not asked yet; ask again").retry_after(TRY_AGAIN);
        Arc::new(Api {
            view,
            admission,
            known: watch::Sender::new(Known { asked: None, shown: Err(nothing) }),
            asking: Mutex::new(()),
            polled: AtomicBool::new(false),
            said: Mutex::new(None),
            answers: Answers::new(settings.answers_bytes_max),
            streams: Arc::new(Semaphore::new(settings.streams_max)),
            draining: watch::Sender::new(false),
            http: Arc::default(),
            health: OnceLock::new(),
            complained: AtomicU64::new(0),
            settings,
        })
    }

    /// What it reads.
    pub fn view(&self) -> &dyn View {
        &*self.view
    }

    /// Who may ask.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// What it is asked, and how it answers.
    pub fn http(&self) -> &Arc<HttpStats> {
        &self.http
    }

    /// From now on `health` knows whether the view answers.
    pub fn tell(&self, health: &Arc<Health>) {
        // Whoever came first stays.
        let _ = self.health.set(Arc::clone(health));
    }

    /// Whether keys are in use.
    pub fn keyed(&self) -> bool {
        self.admission.has_keys()
    }

    /// How often the view is asked for its as-of: memory costs nothing to look at, a network does.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(if self.view.place() == "redis" { 500 } else { 200 })
    }

    /// What the view holds now, as far as is known.
    ///
    /// # Errors
    /// If there is nothing yet, or the view does not answer.
    pub async fn shown(&self) -> Result<Arc<Shown>, Problem> {
        {
            let known = self.known.borrow();
            // Who polls may be late without a request having to wait for it.
            let old = if self.polled.load(Ordering::Relaxed) { self.interval() * 10 } else { self.interval() };
            if known.asked.is_some_and(|asked| asked.elapsed() < old) {
                return known.shown.clone();
            }
        }
        self.ask(self.interval()).await
    }

    /// Asks the view for its as-of until the server drains. One task per server spawns this.
    pub async fn poll(self: Arc<Self>) {
        self.polled.store(true, Ordering::Relaxed);
        let mut draining = self.draining.subscribe();
        let drained = draining.wait_for(|draining| *draining);
        let mut drained = std::pin::pin!(drained);
        loop {
            // An error is known to all who ask, and logged.
            let _ = self.ask(Duration::ZERO).await;
            if let Either::Left(_) = select(&mut drained, std::pin::pin!(tokio::time::sleep(self.interval()))).await {
                return;
            }
        }
    }

    /// Whether somebody polls.
    pub fn is_polled(&self) -> bool {
        self.polled.load(Ordering::Relaxed)
    }

    /// Whoever asks next asks the view anew: the process may have stood still, and its clocks with it, so that nobody can say how old what
    /// is known is.
    pub fn forget(&self) {
        self.known.send_if_modified(|known| {
            known.asked = None;
            // It is no news.
            false
        });
        // Nobody holds it while no request is answered.
        if let Ok(mut said) = self.said.try_lock() {
            *said = None;
        }
    }

    /// From here on it is not ready, and streams end.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// What is missing for it to be of use.
    pub async fn wants(&self) -> Option<String> {
        if *self.draining.borrow() {
            return Some("draining".to_owned());
        }
        self.shown().await.err().map(|problem| problem.detail)
    }

    /// Told when the server drains.
    pub(super) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Wakes up with each new as-of.
    pub(super) fn news(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut known = self.known.subscribe();
        async move {
            // The sender goes last.
            let _ = known.changed().await;
        }
    }

    /// Room for one more stream, as long as it is kept.
    pub(super) fn stream_permit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            let most = self.settings.streams_max;
            Problem::new(Code::TooManyStreams, format!("there are {most} streams already; ask again later, or poll"))
                .retry_after(Duration::from_secs(10))
        })
    }

    /// What the processes say of themselves, a second old at most.
    pub(super) async fn said(&self) -> Result<Arc<Vec<ProcessStatus>>, Problem> {
        let mut said = self.said.lock().await;
        if let Some((at, said)) = &*said
            && at.elapsed() < SAID_MAX
        {
            return Ok(Arc::clone(said));
        }
        let new = Arc::new(self.view.status().await.map_err(|error| self.failed(&error))?);
        *said = Some((Instant::now(), Arc::clone(&new)));
        Ok(new)
    }

    /// What is shown instead, if another view has taken over since `shown`: what was read in between may be the other's, and is not to be
    /// told as the first one's, which may have had other windows and other digits. Read it again.
    pub(super) async fn taken_over(&self, shown: &Shown) -> Result<Option<Arc<Shown>>, Problem> {
        if self.view.now().is_none_or(|now| now == shown.about) { Ok(None) } else { self.ask(Duration::ZERO).await.map(Some) }
    }

    /// How fresh numbers of an as-of are.
    pub(super) async fn fresh(&self, shown: &Shown, as_of: u64) -> Result<Fresh, Problem> {
        let said = self.said().await?;
        Ok(model::fresh(&shown.about, as_of, shown.finished, wall_ms(), &said))
    }

    /// The answer about a store now, and its as-of.
    ///
    /// # Errors
    /// If the store is not known, or the view does not answer.
    pub(super) async fn store_now(&self, mut shown: Arc<Shown>, store: &str) -> Result<(Arc<Shown>, u64, Bytes), Problem> {
        let kept = loop {
            if let Some(kept) = self.answers.get(Mark::of(&shown), store) {
                break kept;
            }
            let kept = self.read_store(&shown, store).await;
            match self.taken_over(&shown).await? {
                Some(newer) => shown = newer,
                None => {
                    let kept = Arc::new(kept?);
                    self.answers.keep(Mark::of(&shown), store, &kept);
                    break kept;
                }
            }
        };
        if let Some(whole) = kept.whole(SAID_MAX) {
            return Ok((shown, kept.as_of, whole));
        }
        let fresh = self.fresh(&shown, kept.as_of).await?;
        let whole = kept.with(&model::json(&fresh));
        Ok((shown, kept.as_of, whole))
    }

    async fn read_store(&self, shown: &Shown, store: &str) -> Result<Kept, Problem> {
        let about = &shown.about;
        let zone = Zone::named(&about.timezone)?;
        let mut windows = calendar::needed_now(about, &zone, shown.as_of);
        for _ in 0..READS_MAX {
            let count = (windows.end - windows.start) / about.horizons.window as i64;
            let cut = self.view.store(store, windows.clone(), count as usize).await.map_err(|error| self.failed(&error))?;
            if !cut.known {
                return Err(unknown_store());
            }
            let needed = calendar::needed_now(about, &zone, cut.as_of);
            if windows.start <= needed.start && needed.end <= windows.end {
                return Ok(Kept::new(cut.as_of, model::json(&model::store_now(store, &cut, about, &zone))));
            }
            windows = needed;
        }
        Err(Problem::new(Code::ViewUnavailable, "the view moves on faster than it can be read; ask again").retry_after(TRY_AGAIN))
    }

    /// A failure of the view as whoever asked is told it; the log has the cause, once a minute at most.
    pub(super) fn failed(&self, error: &ViewError) -> Problem {
        let now = wall_ms() / 60_000;
        if !matches!(error, ViewError::Nothing(_)) && self.complained.swap(now, Ordering::Relaxed) != now {
            tracing::warn!(error = error as &dyn std::error::Error, "the view does not answer");
        }
        problem(error)
    }

    /// Asks the view, unless somebody has within `recently`.
    async fn ask(&self, recently: Duration) -> Result<Arc<Shown>, Problem> {
        let _one_at_a_time = self.asking.lock().await;
        {
            let known = self.known.borrow();
            if known.asked.is_some_and(|asked| asked.elapsed() < recently) {
                return known.shown.clone();
            }
        }
        let asked = Some(Instant::now());
        let shown = match self.view.shown().await {
            Ok(shown) => Ok(Arc::new(shown)),
            Err(error) => Err(self.failed(&error)),
        };
        self.health.get().iter().for_each(|health| health.set_view_connected(shown.is_ok()));
        self.known.send_if_modified(|known| {
            let news = known.shown != shown;
            // A view that was taken back comes to the same as-of again, maybe with other numbers.
            if let (Ok(before), Ok(now)) = (&known.shown, &shown)
                && Mark::of(now) < Mark::of(before)
            {
                self.answers.forget();
            }
            *known = Known { asked, shown: shown.clone() };
            news
        });
        shown
    }
}

/// A store that is not in the view.
pub(super) fn unknown_store() -> Problem {
    Problem::new(
        Code::UnknownStore,
        "this store has neither products on sale nor numbers in any window that is kept; check its id",
    )
}

fn problem(error: &ViewError) -> Problem {
    let problem = match error {
        ViewError::Unavailable { .. } => Problem::new(Code::ViewUnavailable, "the view does not answer; ask again"),
        ViewError::Nothing(what) => Problem::new(Code::NoView, what.as_str()),
    };
    problem.retry_after(TRY_AGAIN)
}
