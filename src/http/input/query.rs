//! Query strings. Each parameter may appear once, unknown parameters are refused, and all faults
//! are named at once.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use crate::http::error::{Code, Faults, Problem};
use crate::http::input::cursor::{List, Place};
use crate::model::moment::Moment;
use crate::model::time::Timestamp;

/// Maximum number of items on a page.
const LIMIT_MAX: u64 = 500;
/// Number of items on a page when the caller gives no `limit`.
const LIMIT_DEFAULT: u64 = 50;
/// Maximum number of parameters in a query string.
const PARAMETERS_MAX: usize = 32;

/// The parameters of a query string, and the faults found so far.
pub(in crate::http) struct Query<'a> {
    parameters: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    faults: Faults,
}

impl<'a> Query<'a> {
    pub(in crate::http) fn read(text: &'a str) -> Self {
        let mut faults = Faults::default();
        let mut all = form_urlencoded::parse(text.as_bytes());
        let parameters: Vec<_> = all.by_ref().take(PARAMETERS_MAX).collect();
        if all.next().is_some() {
            faults.add(
                "?",
                format!("the query string must have at most {PARAMETERS_MAX} parameters"),
            );
        }
        // The parser replaces bytes that are not UTF-8, and such a value would mean another one.
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        for (pair, (name, _)) in pairs.zip(&parameters) {
            if percent_decode_str(pair).decode_utf8().is_err() {
                faults.add(format!("?{name}"), "must be UTF-8 text, percent-encoded");
            }
        }
        Self { parameters, faults }
    }

    /// Takes a parameter and parses the text as a `T`. Returns `None` if the parameter is absent or
    /// wrong.
    pub(in crate::http) fn take<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let parsed = self.text(name)?.parse::<T>();
        parsed.map_err(|error| self.fault(name, error.to_string())).ok()
    }

    /// Takes a whole number in `range`. Returns `default` if the parameter is absent or wrong.
    pub(in crate::http) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        let Some(text) = self.text(name) else { return default };
        // `parse` alone would accept a plus sign.
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| is_digits && range.contains(number));
        if let Some(number) = number {
            return number;
        }
        self.fault(
            name,
            format!("must be a whole number from {} to {}", range.start(), range.end()),
        );
        default
    }

    /// Takes `limit`, the maximum number of items on a page.
    pub(in crate::http) fn limit(&mut self) -> usize {
        usize::try_from(self.number("limit", 1..=LIMIT_MAX, LIMIT_DEFAULT)).unwrap_or(1)
    }

    /// Takes a time, or a duration before `now`.
    pub(in crate::http) fn moment(&mut self, name: &str, now: Timestamp) -> Option<Timestamp> {
        self.take::<Moment>(name).map(|moment| moment.from(now))
    }

    /// Takes `since` (inclusive) and `until` (exclusive).
    pub(in crate::http) fn times(
        &mut self,
        now: Timestamp,
    ) -> (Option<Timestamp>, Option<Timestamp>) {
        let (since, until) = (self.moment("since", now), self.moment("until", now));
        if let (Some(since), Some(until)) = (since, until)
            && until <= since
        {
            self.fault("until", "must be later than since");
        }
        (since, until)
    }

    /// Takes `cursor`, which names the place of the last item of the page before.
    pub(in crate::http) fn cursor<P: Place>(&mut self, list: List) -> Option<P> {
        let place = list.place(&self.text("cursor")?);
        place.map_err(|wrong| self.fault("cursor", wrong.to_string())).ok()
    }

    /// Takes the text of a parameter, without parsing.
    pub(in crate::http) fn text(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let place = self.parameters.iter().position(|(other, _)| other == name)?;
        let (_, value) = self.parameters.remove(place);
        if self.parameters.iter().any(|(other, _)| other == name) {
            self.parameters.retain(|(other, _)| other != name);
            self.fault(name, "appears more than once");
            return None;
        }
        Some(value)
    }

    pub(in crate::http) fn fault(&mut self, name: &str, detail: impl Into<Cow<'static, str>>) {
        self.faults.add(format!("?{name}"), detail);
    }

    /// Reports each parameter that was not taken as unknown.
    ///
    /// # Errors
    /// All faults, if there are any.
    pub(in crate::http) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.parameters) {
            self.fault(&name, "unknown parameter; check its spelling, or leave it out");
        }
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(Problem::faults(Code::InvalidRequest, self.faults))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_and_everything_wrong_is_named() {
        let mut query = Query::read("limit=7&since=2026-01-31T10%3A00%3A00Z&type=a");
        assert_eq!(query.number("limit", 1..=500, 50), 7);
        assert_eq!(query.number("wait", 0..=30, 0), 0);
        assert_eq!(query.take("since"), Some(Timestamp(1_769_853_600_000)));
        assert_eq!(query.text("type").as_deref(), Some("a"));
        query.finish().unwrap();

        let mut query = Query::read("limit=0&since=x&type=a&type=b&colour=red");
        assert_eq!(query.number("limit", 1..=500, 50), 50);
        assert_eq!(query.take::<Timestamp>("since"), None);
        assert_eq!(query.text("type"), None);
        let problem = query.finish().unwrap_err();
        let body = serde_json::to_value(problem.document(None)).unwrap();
        let pointers: Vec<_> =
            body["errors"].as_array().unwrap().iter().map(|fault| &fault["pointer"]).collect();
        assert_eq!((body["code"].as_str(), pointers.len()), (Some("invalid_request"), 4), "{body}");
        assert_eq!(pointers, ["?limit", "?since", "?type", "?colour"]);

        let many = "a&".repeat(PARAMETERS_MAX + 1);
        let query = Query::read(&many);
        let body = serde_json::to_value(query.finish().unwrap_err().document(None)).unwrap();
        assert_eq!(body["errors"][0]["pointer"], "?", "{body}");

        let mut query = Query::read("since=2026-01-31T10:00:00Z&until=2026-01-31T10:00:00Z");
        query.times(Timestamp(0));
        assert!(query.finish().is_err(), "nothing is between them");

        let mut query = Query::read("a=%EF%BF%BD&&type=%ff");
        query.text("a").unwrap();
        query.text("type").unwrap();
        let body = serde_json::to_value(query.finish().unwrap_err().document(None)).unwrap();
        assert_eq!(body["errors"][0]["pointer"], "?type", "{body}");
        assert_eq!(body["errors"].as_array().unwrap().len(), 1, "{body}");

        let mut query = Query::read("since=2h&until=1h30m");
        assert_eq!(
            query.times(Timestamp(7_300_000)),
            (Some(Timestamp(100_000)), Some(Timestamp(1_900_000)))
        );
        query.finish().unwrap();
    }
}
