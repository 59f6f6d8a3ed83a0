//! `/v1/top` and `/v1/totals`: of all stores.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::{Freshness, sees_all};
use crate::serve::api::Api;
use crate::serve::calendar;
use crate::serve::keys::Access;
use crate::serve::model::{self, TopAnswer, TotalsAnswer};
use crate::serve::params::{Asked, TopParams, WindowsParams};
use crate::serve::problem::{Code, Problem};

/// The stores that lead a window
#[utoipa::path(
    get, path = "/v1/top", operation_id = "top", tag = "all stores",
    params(TopParams),
    responses((status = 200, body = TopAnswer, description = "Who leads", headers(("ETag" = String, description = "Of generation and as-of"))))
)]
pub(super) async fn top(
    State(api): State<Arc<Api>>,
    Extension(access): Extension<Access>,
    Asked(params): Asked<TopParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    sees_all(&access)?;
    let shown = api.shown().await?;
    if let Some(unchanged) = Freshness::of(&api, &shown).unchanged(&headers) {
        return Ok(unchanged);
    }
    let horizons = &shown.about.horizons;
    let window = match params.window {
        Some(typed) => calendar::window_at(horizons, typed.ms),
        None => calendar::newest_closed(horizons, shown.as_of)
            .ok_or_else(|| Problem::new(Code::NoView, "no window is closed yet; give \"window\", or ask again"))?,
    };
    let top = api.view().top(&params.measure, window, params.limit).await.map_err(|error| api.failed(&error))?;
    // Lists may be behind: what is of an earlier as-of is not the newest answer of what is shown.
    let freshness = Freshness::as_of(&api, &shown, top.as_of.min(shown.as_of));
    Ok(freshness.json(model::json(&model::top(&params.measure, window, &top, &shown.about))))
}

/// Sums over all stores, window by window, oldest first
#[utoipa::path(
    get, path = "/v1/totals", operation_id = "totals", tag = "all stores",
    params(WindowsParams),
    responses((status = 200, body = TotalsAnswer, description = "Sums", headers(("ETag" = String, description = "Of generation and as-of"))))
)]
pub(super) async fn totals(
    State(api): State<Arc<Api>>,
    Extension(access): Extension<Access>,
    Asked(params): Asked<WindowsParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    sees_all(&access)?;
    let shown = api.shown().await?;
    if let Some(unchanged) = Freshness::of(&api, &shown).unchanged(&headers) {
        return Ok(unchanged);
    }
    let windows = params.windows(&shown.about.horizons);
    let totals = api.view().totals(windows, params.limit).await.map_err(|error| api.failed(&error))?;
    let freshness = Freshness::as_of(&api, &shown, totals.as_of.min(shown.as_of));
    Ok(freshness.json(model::json(&model::totals(&totals, &shown.about, params.open))))
}
