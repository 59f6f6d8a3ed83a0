//! `/v1/stores…`: one store, and the list of them.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Freshness, may_see};
use crate::serve::api::{Api, unknown_store};
use crate::serve::keys::Access;
use crate::serve::model::{self, Instant, StoreAnswer, StoresAnswer, WindowsAnswer};
use crate::serve::params::{Asked, Nothing, StorePath, StoresParams, WindowsParams};
use crate::serve::problem::Problem;
use crate::serve::view::{Shown, StoreIds};

/// Stores of a key that are looked up at a time.
const LOOKUPS: usize = 32;

/// A store now: products on sale, today's sums, the newest closed window, freshness
#[utoipa::path(
    get, path = "/v1/stores/{store}", operation_id = "store", tag = "stores",
    params(("store" = String, Path, description = "Its id", min_length = 1)),
    responses((status = 200, body = StoreAnswer, description = "The store", headers(("ETag" = String, description = "Of generation and as-of"))))
)]
pub(super) async fn now(
    State(api): State<Arc<Api>>,
    Extension(access): Extension<Access>,
    StorePath(store): StorePath,
    Asked(Nothing): Asked<Nothing>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    may_see(&access, &store)?;
    let shown = api.shown().await?;
    let freshness = Freshness::of(&api, &shown);
    if let Some(unchanged) = freshness.unchanged(&headers) {
        return Ok(unchanged);
    }
    let (shown, _, body) = api.store_now(shown, &store).await?;
    Ok(Freshness::of(&api, &shown).json(body))
}

/// Every measure of a store, window by window, oldest first
#[utoipa::path(
    get, path = "/v1/stores/{store}/windows", operation_id = "store_windows", tag = "stores",
    params(("store" = String, Path, description = "Its id", min_length = 1), WindowsParams),
    responses((status = 200, body = WindowsAnswer, description = "Its windows", headers(("ETag" = String, description = "Of generation and as-of"))))
)]
pub(super) async fn windows(
    State(api): State<Arc<Api>>,
    Extension(access): Extension<Access>,
    StorePath(store): StorePath,
    Asked(params): Asked<WindowsParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    may_see(&access, &store)?;
    let mut shown = api.shown().await?;
    let freshness = Freshness::of(&api, &shown);
    if let Some(unchanged) = freshness.unchanged(&headers) {
        return Ok(unchanged);
    }
    let cut = loop {
        let cut = api.view().store(&store, params.windows(&shown.about.horizons), params.limit).await;
        match api.taken_over(&shown).await? {
            None => break cut.map_err(|error| api.failed(&error))?,
            Some(newer) => shown = newer,
        }
    };
    if !cut.known {
        return Err(unknown_store());
    }
    Ok(Freshness::of(&api, &shown).json(model::json(&model::windows(&store, &cut, &shown.about, params.open))))
}

/// Ids of the stores that may be seen, bytewise
#[utoipa::path(
    get, path = "/v1/stores", operation_id = "stores", tag = "stores",
    params(StoresParams),
    responses((status = 200, body = StoresAnswer, description = "Ids", headers(("ETag" = String, description = "Of generation and as-of"))))
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(access): Extension<Access>,
    Asked(params): Asked<StoresParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let shown = api.shown().await?;
    let freshness = Freshness::of(&api, &shown);
    // What a key may see can change while the as-of stands.
    if access.sees_all()
        && let Some(unchanged) = freshness.unchanged(&headers)
    {
        return Ok(unchanged);
    }
    let StoreIds { as_of, stores, more } = match access.stores() {
        None => {
            let ids = api.view().stores(&params.prefix, params.cursor.as_deref(), params.limit).await;
            ids.map_err(|error| api.failed(&error))?
        }
        Some(allowed) => {
            let after = |store: &&String| params.cursor.as_ref().is_none_or(|cursor| *store > cursor);
            let allowed = allowed.iter().filter(|store| store.starts_with(&params.prefix)).filter(after);
            known(&api, &shown, allowed.cloned().collect(), params.limit).await?
        }
    };
    let next_cursor = stores.last().filter(|_| more).cloned();
    Ok(freshness.json(model::json(&StoresAnswer { as_of: Instant::of(as_of), stores, next_cursor })))
}

/// The first of some stores that are in the view.
async fn known(api: &Api, shown: &Shown, allowed: Vec<String>, most: usize) -> Result<StoreIds, Problem> {
    let looked_up = stream::iter(allowed).map(|store| async move {
        let cut = api.view().store(&store, 0..0, 0).await.map_err(|error| api.failed(&error))?;
        Ok::<_, Problem>(cut.known.then_some(store))
    });
    let known = looked_up.buffered(LOOKUPS).try_filter_map(|store| async move { Ok(store) });
    // One past those that are wanted tells whether there are more.
    let mut stores: Vec<String> = known.take(most + 1).try_collect().await?;
    let more = stores.len() > most;
    stores.truncate(most);
    Ok(StoreIds { as_of: shown.as_of, stores, more })
}
