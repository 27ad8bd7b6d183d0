//! What probes and Prometheus ask.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::json;

use super::Api;
use super::error::Problem;

/// 200 when all is well, 503 with what is not.
pub(super) async fn get_health(api: Data<Api>) -> HttpResponse {
    let ready = api.parts.health.is_ready();
    let disk_low = api.parts.intake.is_disk_low();
    let state = api.parts.store.counts();
    let say = |well: bool, what: &'static str| if well { "ok" } else { what };
    let healthy = ready && !disk_low && state.is_ok();
    let document = json!({
        "status": if healthy { "healthy" } else { "unhealthy" },
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": api.started.elapsed().as_secs(),
        "checks": {
            "server": say(ready, "starting or stopping"),
            "disk": say(!disk_low, "less free space than the reserve: new events are refused with 507"),
            "state": say(state.is_ok(), "the state cannot be read; the log says why"),
        },
    });
    let mut answer = if healthy { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    answer.json(document)
}

/// The process answers.
pub(super) async fn get_live() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "alive" }))
}

/// Whether requests should come here.
pub(super) async fn get_ready(api: Data<Api>) -> HttpResponse {
    if api.parts.health.is_ready() {
        HttpResponse::Ok().json(json!({ "status": "ready" }))
    } else {
        HttpResponse::ServiceUnavailable().json(json!({ "status": "not ready" }))
    }
}

/// All figures.
pub(super) async fn get_metrics(api: Data<Api>) -> Result<HttpResponse, Problem> {
    let text = api.parts.metrics.render().map_err(Problem::internal)?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}
