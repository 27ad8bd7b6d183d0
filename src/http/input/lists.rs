//! Parameters that come together: the page of a list, and a span of time.

use std::marker::PhantomData;

use serde_json::json;

use crate::http::error::Faults;
use crate::http::input::cursor::{List, Place};
use crate::http::input::declare::{Described, OfBody, OfQuery};
use crate::http::input::fields::Fields;
use crate::http::input::kinds::{Number, Parsed, cursor, number, parsed};
use crate::http::input::presence::{Optional, OrDefault, optional};
use crate::http::input::query::Query;
use crate::http::openapi::schemas::Schemas;
use crate::model::moment::Moment;
use crate::model::time::Timestamp;

/// Maximum number of items on a page.
const LIMIT_MAX: u64 = 500;
/// Number of items on a page when the caller gives no `limit`.
const LIMIT_DEFAULT: usize = 50;

/// The page of a list that a caller wants.
pub(in crate::http) struct Page<P> {
    /// Maximum number of items.
    pub(in crate::http) limit: usize,
    /// The place of the last item of the page before.
    pub(in crate::http) after: Option<P>,
}

/// The parameters `limit` and `cursor` of a list.
pub(in crate::http) struct Paging(List);

/// The parameters `limit` and `cursor` of this list.
pub(in crate::http) fn paging(list: List) -> Paging {
    Paging(list)
}

fn limit() -> OrDefault<Number<usize>, usize> {
    optional("limit", number(1..=LIMIT_MAX)).or(LIMIT_DEFAULT)
}

impl Paging {
    fn take<P: Place>(&self, query: &mut Query<'_>) -> Page<P> {
        let cursor = cursor::<P>(self.0);
        let limit = OfQuery::take(&limit(), query);
        Page { limit, after: query.take("cursor", |text| cursor.parse(&text)) }
    }

    fn describe(schemas: &mut Schemas) -> Vec<Described> {
        let mut all = OfQuery::describe(&limit(), "Maximum number of items on the page.", schemas);
        let words = "The `next_cursor` of the page before; the first page without it.";
        let schema = json!({"type": "string", "description": words});
        all.push(Described { name: "cursor", schema, is_required: false, alias: None });
        all
    }
}

/// A [`Paging`] whose cursors hold a `P`.
pub(in crate::http) struct PagingOf<P>(Paging, PhantomData<P>);

impl Paging {
    /// The cursors of the list hold a `P`.
    pub(in crate::http) fn by<P: Place>(self) -> PagingOf<P> {
        PagingOf(self, PhantomData)
    }
}

impl<'a, P: Place> OfQuery<'a> for PagingOf<P> {
    type Value = Page<P>;

    fn take(&self, query: &mut Query<'a>) -> Page<P> {
        self.0.take(query)
    }

    fn describe(&self, _: &str, schemas: &mut Schemas) -> Vec<Described> {
        Paging::describe(schemas)
    }
}

/// A span of time in a request.
#[derive(Clone, Copy)]
pub(in crate::http) struct Span {
    since: Option<Moment>,
    until: Option<Moment>,
}

/// The beginning and the end of a span.
pub(in crate::http) type Times = (Option<Timestamp>, Option<Timestamp>);

impl Span {
    /// Returns the beginning (inclusive) and the end (exclusive), or the rule that `until` breaks.
    fn times(self, now: Timestamp) -> (Times, Option<&'static str>) {
        let at = |moment: Option<Moment>| moment.map(|moment| moment.from(now));
        let (since, until) = (at(self.since), at(self.until));
        let is_empty = matches!((since, until), (Some(since), Some(until)) if until <= since);
        ((since, until), is_empty.then_some("must be later than since"))
    }

    /// Returns the times of a query, whose faults get that of an empty span.
    pub(in crate::http) fn of_query(self, now: Timestamp, query: &mut Query<'_>) -> Times {
        let (times, rule) = self.times(now);
        if let Some(rule) = rule {
            query.fault("until", rule);
        }
        times
    }

    /// Returns the times of a body, whose faults get that of an empty span.
    pub(in crate::http) fn of_body(self, now: Timestamp, faults: &mut Faults) -> Times {
        let (times, rule) = self.times(now);
        if let Some(rule) = rule {
            faults.add("/until", rule);
        }
        times
    }
}

/// The members or parameters `since` and `until`.
pub(in crate::http) struct SinceUntil;

/// The members or parameters `since` and `until`.
pub(in crate::http) fn since_until() -> SinceUntil {
    SinceUntil
}

const SINCE: (&str, &str) = ("since", "The beginning of the time, inclusive.");
const UNTIL: (&str, &str) = ("until", "The end of the time, exclusive.");

fn moment((name, _): (&'static str, &str)) -> Optional<Parsed<Moment>> {
    optional(name, parsed())
}

impl<'a> OfBody<'a> for SinceUntil {
    type Value = Span;

    fn take(&self, fields: &mut Fields<'a>, faults: &mut Faults) -> Span {
        let mut take = |declared| OfBody::take(&moment(declared), fields, faults);
        Span { since: take(SINCE), until: take(UNTIL) }
    }

    fn describe(&self, _: &str, schemas: &mut Schemas) -> Vec<Described> {
        let mut one = |declared| OfBody::describe(&moment(declared), declared.1, schemas);
        [one(SINCE), one(UNTIL)].into_iter().flatten().collect()
    }
}

impl<'a> OfQuery<'a> for SinceUntil {
    type Value = Span;

    fn take(&self, query: &mut Query<'a>) -> Span {
        let mut take = |declared| OfQuery::take(&moment(declared), query);
        Span { since: take(SINCE), until: take(UNTIL) }
    }

    fn describe(&self, _: &str, schemas: &mut Schemas) -> Vec<Described> {
        let mut one = |declared| OfQuery::describe(&moment(declared), declared.1, schemas);
        [one(SINCE), one(UNTIL)].into_iter().flatten().collect()
    }
}
