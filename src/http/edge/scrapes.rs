//! The text of `/metrics`. Anybody may ask for it, and making it costs more than any other answer
//! to a caller without a key. So a flood of requests gets the last text again, which all answers
//! share.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use actix_web::web::Bytes;

use crate::rules::token_bucket::{Bucket, Rate};

/// How often the text is made anew. An unread answer keeps its text in memory for a minute, so the
/// rate also bounds this memory.
const RATE: Rate = Rate { per_second: 4, burst: 100 };

/// The last text, and how often it may be made.
#[derive(Debug, Default)]
pub(in crate::http) struct Scrapes(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    began: Option<Instant>,
    bucket: Bucket,
    text: Option<Bytes>,
}

impl Scrapes {
    /// Returns the text as of now, or in a flood the last one.
    ///
    /// # Errors
    /// Fails like `render`.
    pub(in crate::http) fn text<E>(
        &self,
        now: Instant,
        render: impl FnOnce() -> Result<String, E>,
    ) -> Result<Bytes, E> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let began = *last.began.get_or_insert(now);
        let now_us = u64::try_from(now.duration_since(began).as_micros()).unwrap_or(u64::MAX);
        let is_fresh = last.bucket.admit(RATE, 1, now_us).is_admitted();
        if let Some(text) = last.text.as_ref().filter(|_| !is_fresh) {
            return Ok(text.clone());
        }
        let text = Bytes::from(render()?);
        last.text = Some(text.clone());
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_gets_the_last_text_again_and_a_quarter_of_a_second_later_a_new_one() {
        let (scrapes, now) = (Scrapes::default(), Instant::now());
        let mut made = 0;
        let mut text = |now| {
            scrapes.text(now, || {
                made += 1;
                Ok::<_, ()>(made.to_string())
            })
        };
        for expected in 1..=RATE.burst {
            assert_eq!(text(now).unwrap(), expected.to_string());
        }
        for _ in 0..1_000 {
            assert_eq!(text(now).unwrap(), RATE.burst.to_string());
        }
        let later = now + Duration::from_millis(250);
        assert_eq!(text(later).unwrap(), (RATE.burst + 1).to_string());
        assert_eq!(text(later).unwrap(), (RATE.burst + 1).to_string());
    }
}
