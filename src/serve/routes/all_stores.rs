//! `/v1/top` and `/v1/totals`: of all stores.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use storeflow_dataflows::table::Window;

use super::{Freshness, sees_all};
use crate::serve::api::Api;
use crate::serve::calendar;
use crate::serve::keys::Access;
use crate::serve::model::{self, TopAnswer, TotalsAnswer};
use crate::serve::params::{Asked, TopParams, WindowsParams};
use crate::serve::problem::{Code, Problem};
use crate::serve::view::{Shown, TopStores};

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
    let mut shown = api.shown().await?;
    if let Some(unchanged) = Freshness::of(&api, &shown).unchanged(&headers) {
        return Ok(unchanged);
    }
    let (window, top) = loop {
        let top = leaders(&api, &shown, &params).await;
        match api.taken_over(&shown).await? {
            None => break top?,
            Some(newer) => shown = newer,
        }
    };
    // Lists may be behind: what is of an earlier as-of is not the newest answer of what is shown.
    let freshness = Freshness::as_of(&api, &shown, top.as_of.min(shown.as_of));
    Ok(freshness.json(model::json(&model::top(&params.measure, window, &top, &shown.about))))
}

/// The window that is wanted, and who leads it.
async fn leaders(api: &Api, shown: &Shown, params: &TopParams) -> Result<(Window, TopStores), Problem> {
    let horizons = &shown.about.horizons;
    let none_closed = || Problem::new(Code::NoView, "no window is closed yet; give \"window\", or ask again");
    let (view, failed) = (api.view(), |error| api.failed(&error));
    if let Some(typed) = params.window {
        let window = calendar::window_at(horizons, typed.ms);
        return Ok((window, view.top(&params.measure, window, params.limit).await.map_err(failed)?));
    }
    let window = calendar::newest_closed(horizons, shown.as_of).ok_or_else(none_closed)?;
    let top = view.top(&params.measure, window, params.limit).await.map_err(failed)?;
    if horizons.closed(window, top.as_of) {
        return Ok((window, top));
    }
    // Lists that are behind, as while a job catches up, may hold little or nothing of that window yet: theirs is an earlier one.
    let window = calendar::newest_closed(horizons, top.as_of).ok_or_else(none_closed)?;
    Ok((window, view.top(&params.measure, window, params.limit).await.map_err(failed)?))
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
    let mut shown = api.shown().await?;
    if let Some(unchanged) = Freshness::of(&api, &shown).unchanged(&headers) {
        return Ok(unchanged);
    }
    let totals = loop {
        let totals = api.view().totals(params.windows(&shown.about.horizons), params.limit).await;
        match api.taken_over(&shown).await? {
            None => break totals.map_err(|error| api.failed(&error))?,
            Some(newer) => shown = newer,
        }
    };
    let freshness = Freshness::as_of(&api, &shown, totals.as_of.min(shown.as_of));
    Ok(freshness.json(model::json(&model::totals(&totals, &shown.about, params.open))))
}
