//! What the query API is asked, and how it answers: counts that its outermost layer keeps.
//!
//! Upholds: a request costs a few atomic additions and one look at a map that all share; labels are routes and statuses, never paths, ids
//! or keys; the map holds [`ROUTES_MAX`] routes at most.
//! Absent on purpose: anything per API key (keys are many, and secrets); requests that a limit refused, which have the status 429.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::metrics::{HTTP_IN_FLIGHT, HTTP_REQUEST_SECONDS, HTTP_REQUESTS, HTTP_STREAMS, Observed, Sample};

/// The route of what has none, or is one too many.
const OTHER: &str = "other";
/// Routes that are told apart.
const ROUTES_MAX: usize = 128;
/// Statuses begin here, and there are so many.
const STATUSES: std::ops::Range<u16> = 100..600;

/// Counts of the query API.
#[derive(Debug, Default)]
pub struct HttpStats {
    routes: RwLock<HashMap<String, Arc<Route>>>,
    in_flight: AtomicU64,
    streams: AtomicU64,
}

/// Counts of one route.
#[derive(Debug)]
struct Route {
    /// Answers by status.
    answers: Vec<AtomicU64>,
    micros: AtomicU64,
}

impl Default for Route {
    fn default() -> Self {
        Route { answers: STATUSES.map(|_| AtomicU64::new(0)).collect(), micros: AtomicU64::new(0) }
    }
}

impl HttpStats {
    /// A request begins, and is in flight until this is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { stats: Arc::clone(self), began: Instant::now() }
    }

    /// A stream of events begins, and goes on until this is dropped.
    pub fn stream(self: &Arc<Self>) -> Streaming {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Streaming(Arc::clone(self))
    }

    /// A request of a route (its pattern, such as `/v1/stores/{store}`; `None`: there is none such) was answered.
    pub fn done(&self, route: Option<&str>, status: u16, took: Duration) {
        let of = self.route(route.unwrap_or(OTHER));
        if let Some(count) = status.checked_sub(STATUSES.start).and_then(|at| of.answers.get(usize::from(at))) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        of.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn route(&self, route: &str) -> Arc<Route> {
        let known = self.routes.read().unwrap_or_else(PoisonError::into_inner).get(route).cloned();
        known.unwrap_or_else(|| {
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            let route = if routes.len() < ROUTES_MAX { route } else { OTHER };
            Arc::clone(routes.entry(route.to_owned()).or_default())
        })
    }
}

impl Observed for HttpStats {
    fn collect(&self, sample: &mut Sample) {
        sample.count(&HTTP_IN_FLIGHT, &[], self.in_flight.load(Ordering::Relaxed));
        sample.count(&HTTP_STREAMS, &[], self.streams.load(Ordering::Relaxed));
        for (route, of) in &*self.routes.read().unwrap_or_else(PoisonError::into_inner) {
            for (status, count) in STATUSES.zip(&of.answers).map(|(status, count)| (status, count.load(Ordering::Relaxed))) {
                if count > 0 {
                    sample.count(&HTTP_REQUESTS, &[route, &status.to_string()], count);
                }
            }
            let took = Duration::from_micros(of.micros.load(Ordering::Relaxed));
            sample.add(&HTTP_REQUEST_SECONDS, &[route], took.as_secs_f64());
        }
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct InFlight {
    stats: Arc<HttpStats>,
    began: Instant,
}

impl InFlight {
    /// It is answered; see [`HttpStats::done`].
    pub fn done(self, route: Option<&str>, status: u16) {
        self.stats.done(route, status, self.began.elapsed());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.stats.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that goes on.
#[derive(Debug)]
pub struct Streaming(Arc<HttpStats>);

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(stats: &HttpStats) -> Sample {
        let mut sample = Sample::new(1);
        stats.collect(&mut sample);
        sample
    }

    #[test]
    fn answers_are_counted_by_route_and_status() {
        let stats = Arc::new(HttpStats::default());
        let (request, gone, stream) = (stats.begin(), stats.begin(), stats.stream());
        let sample = sampled(&stats);
        assert_eq!((sample.value(&HTTP_IN_FLIGHT, &[]), sample.value(&HTTP_STREAMS, &[])), (Some(2.0), Some(1.0)));
        request.done(Some("/v1/stores/{store}"), 200);
        drop((gone, stream));
        stats.done(Some("/v1/stores/{store}"), 200, Duration::from_millis(1_500));
        stats.done(Some("/v1/stores/{store}"), 503, Duration::from_millis(500));
        stats.done(None, 404, Duration::ZERO);
        stats.done(None, 999, Duration::ZERO);
        let sample = sampled(&stats);
        assert_eq!((sample.value(&HTTP_IN_FLIGHT, &[]), sample.value(&HTTP_STREAMS, &[])), (Some(0.0), Some(0.0)));
        assert_eq!(sample.value(&HTTP_REQUESTS, &["/v1/stores/{store}", "200"]), Some(2.0));
        assert_eq!(sample.value(&HTTP_REQUESTS, &["/v1/stores/{store}", "503"]), Some(1.0));
        assert_eq!(sample.value(&HTTP_REQUESTS, &["other", "404"]), Some(1.0));
        assert_eq!(sample.labelled(&HTTP_REQUESTS).count(), 3, "a status that is none is not told apart");
        let seconds = sample.value(&HTTP_REQUEST_SECONDS, &["/v1/stores/{store}"]).expect("seconds");
        assert!((2.0..3.0).contains(&seconds), "{seconds}");
    }

    #[test]
    fn routes_are_not_without_end() {
        let stats = HttpStats::default();
        for number in 0..ROUTES_MAX * 2 {
            stats.done(Some(&format!("/{number}")), 200, Duration::ZERO);
        }
        let sample = sampled(&stats);
        assert_eq!(sample.labelled(&HTTP_REQUESTS).count(), ROUTES_MAX + 1);
        assert_eq!(sample.value(&HTTP_REQUESTS, &["other", "200"]), Some(ROUTES_MAX as f64));
    }
}
