//! `/v1/status`: how the job is doing.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;

use super::{json, sees_all};
use crate::observe::wall_ms;
use crate::serve::api::Api;
use crate::serve::keys::Access;
use crate::serve::model::{self, StatusAnswer};
use crate::serve::params::{Asked, Nothing};
use crate::serve::problem::Problem;
use crate::serve::view::Shown;

/// As-of, frontier, lag, late records, dead letters, checkpoints
#[utoipa::path(
    get, path = "/v1/status", operation_id = "status", tag = "job",
    responses((status = 200, body = StatusAnswer, description = "The status"))
)]
pub(super) async fn status(
    State(api): State<Arc<Api>>,
    Extension(access): Extension<Access>,
    Asked(Nothing): Asked<Nothing>,
) -> Result<Response, Problem> {
    sees_all(&access)?;
    let shown = api.shown().await?;
    let body = status_now(&api, &shown).await?;
    // No ETag: counts and ages move while the as-of stands, and then they are what one wants to see.
    Ok(json(api.keyed(), body))
}

/// The status of what is shown.
pub(in crate::serve) async fn status_now(api: &Api, shown: &Shown) -> Result<Vec<u8>, Problem> {
    let said = api.said().await?;
    Ok(model::json(&model::status(api.view().place(), shown, &said, wall_ms())))
}
