//! The parameter `type` of lists and watches: selects the event types to show. Endpoints have
//! patterns of their own ([`super::filter::wants`]), because operational events need a pattern
//! there.

use std::str::FromStr;

use super::filter;
use crate::model::endpoint::{PATTERNS_MAX, TypePattern};
use crate::model::event::{EventType, SEPARATORS};

/// Comma-separated terms. A type passes when one of the terms matches it (or all terms are
/// exclusions) and no exclusion matches. Without any term every type passes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TypeFilter {
    wanted: Vec<Term>,
    unwanted: Vec<Term>,
}

/// A term, without the `!` that makes it an exclusion.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Term {
    /// The term `*`, which matches every type.
    Any,
    /// A term such as `*.created`: every type with this ending, after any separator.
    Ending(Box<str>),
    /// A pattern such as `order.created` or `order.*`.
    Pattern(TypePattern),
}

impl Term {
    fn matches(&self, event_type: &EventType) -> bool {
        match self {
            Self::Any => true,
            // A word must precede the separator, as a word must follow it for `order.*`.
            Self::Ending(ending) => {
                let before = event_type.as_str().strip_suffix(&**ending);
                before
                    .and_then(|before| before.strip_suffix(SEPARATORS))
                    .is_some_and(|words| !words.is_empty())
            }
            Self::Pattern(pattern) => filter::matches(pattern, event_type),
        }
    }
}

impl FromStr for Term {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let term = match text.strip_prefix('*') {
            Some(ending) => {
                let word =
                    ending.strip_prefix(SEPARATORS).and_then(|word| word.parse::<EventType>().ok());
                word.map(|word| Self::Ending(word.as_str().into()))
            }
            None => text.parse().ok().map(Self::Pattern),
        };
        term.ok_or_else(|| {
            format!(
                "must be event types separated by commas, such as `order.created`, `order.*`, \
                 `*.created`, `*` or `!order.test`; {text:?} is not a type filter"
            )
        })
    }
}

impl TypeFilter {
    /// Number of terms, exclusions included.
    pub fn terms(&self) -> usize {
        self.wanted.len() + self.unwanted.len()
    }

    /// True if a list with this filter shows events of the type.
    pub fn matches(&self, event_type: &EventType) -> bool {
        let any = |terms: &[Term]| terms.iter().any(|term| term.matches(event_type));
        (self.wanted.is_empty() || any(&self.wanted)) && !any(&self.unwanted)
    }
}

impl From<TypePattern> for TypeFilter {
    fn from(pattern: TypePattern) -> Self {
        Self { wanted: vec![Term::Pattern(pattern)], unwanted: Vec::new() }
    }
}

impl FromStr for TypeFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        for (count, term) in text.split(',').map(str::trim).enumerate() {
            if count == PATTERNS_MAX {
                return Err(format!("must have at most {PATTERNS_MAX} event types"));
            }
            match term.strip_prefix('!') {
                Some(term) => filter.unwanted.push(term.parse()?),
                None => filter.wanted.push(term.parse()?),
            }
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(filter: &str, event_type: &str) -> bool {
        filter.parse::<TypeFilter>().unwrap().matches(&event_type.parse().unwrap())
    }

    #[test]
    fn each_term_matches_what_the_contract_says() {
        for (filter, matching, other) in [
            ("order.created", ["order.created", "order.created"], ["order", "order.created.late"]),
            ("order.*", ["order.created", "order.item.added"], ["order", "orders.created"]),
            ("*.created", ["order.created", "order.item.created"], ["created", "order.recreated"]),
            ("*.created", ["order/created", "a:created"], ["recreated", ".created"]),
            ("*/created", ["order.created", "orders/x:created"], ["recreated", "created.x"]),
            ("*", ["order", "triggerd.delivery.dead"], ["", ""]),
            ("a,b.*", ["a", "b.c"], ["b", "c"]),
            (" a, b.* ", ["a", "b.c"], ["b", "c"]),
            ("*, !order.test", ["order.created", "a"], ["order.test", ""]),
            ("!order.test", ["order.created", "order.test.x"], ["order.test", ""]),
            (
                "order.*,!order.test",
                ["order.created", "order.test.x"],
                ["order.test", "user.created"],
            ),
            (
                "!order.test,order.*",
                ["order.created", "order.test.x"],
                ["order.test", "user.created"],
            ),
            (
                "*,!*.created,!triggerd.*",
                ["order.paid", "created"],
                ["order.created", "triggerd.disk.low"],
            ),
        ] {
            for event_type in matching {
                assert!(passes(filter, event_type), "{filter} and {event_type}");
            }
            for event_type in other.into_iter().filter(|event_type| !event_type.is_empty()) {
                assert!(!passes(filter, event_type), "{filter} and {event_type}");
            }
        }
        assert!(TypeFilter::default().matches(&"triggerd.disk.low".parse().unwrap()));
    }

    #[test]
    fn a_term_that_is_none_is_named_and_there_are_not_too_many() {
        for (filter, named) in [
            ("", ""),
            ("a,", ""),
            ("a, ,b", ""),
            ("a, b c", "b c"),
            ("!", ""),
            ("a,!!b", "!b"),
            ("x,*created", "*created"),
            ("a.*.b", "a.*.b"),
        ] {
            let rule = filter.parse::<TypeFilter>().unwrap_err();
            assert!(rule.ends_with(&format!("{named:?} is not a type filter")), "{filter}: {rule}");
        }
        for filter in ["*.", "**", "a*", "*.*", "a b"] {
            assert!(filter.parse::<TypeFilter>().is_err(), "{filter}");
        }
        let many = |count: usize| vec!["a"; count].join(",").parse::<TypeFilter>();
        assert!(many(PATTERNS_MAX).is_ok());
        assert!(many(PATTERNS_MAX + 1).unwrap_err().contains("at most 100"));
    }
}
