//! Bodies: so many bytes at most, within so much time, of the right type.

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt as _;

use super::Api;
use super::error::{Code, Problem};

/// The request's media type without parameters, in lower case; empty if there is none.
pub(super) fn media_type(request: &HttpRequest) -> String {
    let value = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A JSON body.
pub(super) async fn json(
    api: &Api,
    request: &HttpRequest,
    payload: Payload,
    bytes_max: usize,
) -> Result<Bytes, Problem> {
    let media_type = media_type(request);
    if media_type != "application/json" {
        return Err(not_understood(&media_type, "application/json"));
    }
    read(api, request, payload, bytes_max).await
}

pub(super) fn not_understood(media_type: &str, wanted: &str) -> Problem {
    let given = if media_type.is_empty() { "there is no Content-Type" } else { media_type };
    Problem::new(Code::UnsupportedMediaType, format!("{given}; send Content-Type: {wanted}"))
}

/// Any body.
pub(super) async fn read(
    api: &Api,
    request: &HttpRequest,
    payload: Payload,
    bytes_max: usize,
) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(Code::PayloadTooLarge, format!("the body may have {bytes_max} bytes at most"));
    let announced = request.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(too_large());
    }
    let time = api.parts.config.server.body_timeout;
    let collected = tokio::time::timeout(time, collect(payload, bytes_max, too_large)).await;
    collected.unwrap_or_else(|_late| {
        Err(Problem::new(Code::RequestTimeout, format!("the body did not come within {} s", time.as_secs())))
    })
}

async fn collect(mut payload: Payload, bytes_max: usize, too_large: impl Fn() -> Problem) -> Result<Bytes, Problem> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk =
            chunk.map_err(|error| Problem::new(Code::InvalidRequest, format!("the body broke off: {error}")))?;
        if first.len() + all.len() + chunk.len() > bytes_max {
            return Err(too_large());
        }
        // Most bodies come in one piece, which then is not copied.
        if first.is_empty() && all.is_empty() {
            first = chunk;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&chunk);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}
