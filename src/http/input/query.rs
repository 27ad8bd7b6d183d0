//! Query strings. Each parameter may appear once, unknown parameters are refused, and all faults
//! are named at once.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use crate::http::error::{Code, Faults, Problem};

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

    /// Takes a parameter and parses its text. Returns `None` if the parameter is absent or wrong.
    pub(in crate::http) fn take<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Cow<'a, str>) -> Result<T, Cow<'static, str>>,
    ) -> Option<T> {
        let parsed = parse(self.text(name)?);
        parsed.map_err(|rule| self.fault(name, rule)).ok()
    }

    /// Takes the text of a parameter, without parsing.
    fn text(&mut self, name: &str) -> Option<Cow<'a, str>> {
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
    use crate::http::input::declare::{Parameters as _, query};
    use crate::http::input::kinds::{number, parsed};
    use crate::http::input::lists::{Span, since_until};
    use crate::http::input::presence::optional;
    use crate::model::time::Timestamp;
    use crate::rules::type_filter::TypeFilter;

    use super::*;

    query! {
        /// Parameters of a test.
        struct Wanted {
            /// A number.
            limit: usize = optional("limit", number(1..=500)).or(50);
            /// A text.
            types: Option<TypeFilter> = optional("type", parsed());
            /// A time.
            time: Span = since_until();
        }
    }

    fn pointers(query: Query<'_>) -> Vec<String> {
        let problem = query.finish().unwrap_err();
        let body = serde_json::to_value(problem.document(None)).unwrap();
        assert_eq!(body["code"], "invalid_request", "{body}");
        let faults = body["errors"].as_array().unwrap().iter();
        faults.map(|fault| fault["pointer"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn parameters_are_read_and_everything_wrong_is_named() {
        let (wanted, mut query) = Wanted::draft("limit=7&since=2026-01-31T10%3A00%3A00Z&type=a");
        let since = Timestamp(1_769_853_600_000);
        assert_eq!(wanted.limit, 7);
        assert_eq!(wanted.types, "a".parse().ok());
        assert_eq!(wanted.time.of_query(Timestamp(0), &mut query), (Some(since), None));
        query.finish().unwrap();

        let (wanted, query) = Wanted::draft("limit=0&since=x&type=a&type=b&colour=red");
        assert_eq!((wanted.limit, wanted.types), (50, None));
        assert_eq!(pointers(query), ["?limit", "?type", "?since", "?colour"]);

        let query = Query::read("a=%EF%BF%BD&&type=%ff");
        assert_eq!(pointers(query)[0], "?type");

        let many = "a&".repeat(PARAMETERS_MAX + 1);
        assert_eq!(pointers(Query::read(&many))[0], "?");
    }

    #[test]
    fn a_span_is_of_times_or_durations_and_has_something_between_its_ends() {
        let same = "since=2026-01-31T10:00:00Z&until=2026-01-31T10:00:00Z";
        let (wanted, mut query) = Wanted::draft(same);
        wanted.time.of_query(Timestamp(0), &mut query);
        assert_eq!(pointers(query), ["?until"], "nothing is between them");

        let (wanted, mut query) = Wanted::draft("since=2h&until=1h30m");
        assert_eq!(
            wanted.time.of_query(Timestamp(7_300_000), &mut query),
            (Some(Timestamp(100_000)), Some(Timestamp(1_900_000)))
        );
        query.finish().unwrap();
    }
}
