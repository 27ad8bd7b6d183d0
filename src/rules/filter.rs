//! Matches event types with the type patterns of an endpoint. Called by [`super::fan_out`] and by
//! the queries of the state.

use crate::model::endpoint::TypePattern;
use crate::model::event::EventType;

/// True if the pattern matches. `order.created` matches this type only. `order.*` matches every
/// type below `order` at any depth and with any separator (`order.created`, `order.item.added`,
/// `order/created`, `order:created`), but neither `order` nor `orders.created`. Case matters.
pub fn matches(pattern: &TypePattern, event_type: &EventType) -> bool {
    match pattern.words() {
        Some(words) => event_type.is_below(words),
        None => pattern.as_str() == event_type.as_str(),
    }
}

/// True if any pattern of the list matches. An empty list matches all events of producers, but no
/// operational events: these need a pattern, because an endpoint without patterns did not ask for
/// them.
pub fn wants(patterns: &[TypePattern], event_type: &EventType) -> bool {
    (patterns.is_empty() && !event_type.is_own())
        || patterns.iter().any(|pattern| matches(pattern, event_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants_text(patterns: &[&str], event_type: &str) -> bool {
        let patterns: Vec<TypePattern> =
            patterns.iter().map(|text| text.parse().unwrap()).collect();
        wants(&patterns, &event_type.parse().unwrap())
    }

    #[test]
    fn a_star_matches_everything_below_its_word_and_nothing_beside_it() {
        for below in [
            "order.created",
            "order.item.added",
            "order.item.added.again",
            "order.-",
            "order/created",
            "order:a",
        ] {
            for pattern in ["order.*", "order/*", "order:*"] {
                assert!(wants_text(&[pattern], below), "{pattern} {below}");
            }
        }
        for beside in [
            "order",
            "orders.created",
            "Order.created",
            "my.order.created",
            "orde",
            "order-a.b",
            "orders/a",
            "order.",
        ] {
            assert!(!wants_text(&["order.*"], beside), "{beside}");
        }
        assert!(wants_text(&["order.item.*"], "order.item.added"));
        assert!(!wants_text(&["order.item.*"], "order.created"));
        assert!(
            wants_text(&["order/item.*"], "order/item:added")
                && !wants_text(&["order/item.*"], "order.item.added")
        );
    }

    #[test]
    fn a_pattern_is_a_type_or_words_and_a_star() {
        for good in ["a", "order.*", "orders/*", "repo:*", "a.b/c:*", "com.example.", "{ä}"] {
            assert!(good.parse::<TypePattern>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "*",
            ".*",
            "/*",
            "a*",
            "a.*.b",
            "*.a",
            "a.**",
            "!a",
            "!a.*",
            "a b",
            "a,b",
            " a",
            "a\n",
            "\u{200b}.*",
        ] {
            assert!(bad.parse::<TypePattern>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pattern_without_star_matches_that_type_alone() {
        assert!(wants_text(&["order.created"], "order.created"));
        for other in ["order", "order.created.late", "order.create", "order.Created"] {
            assert!(!wants_text(&["order.created"], other), "{other}");
        }
    }

    #[test]
    fn the_servers_own_types_must_be_asked_for() {
        for own in ["triggerd.delivery.dead", "triggerd.test"] {
            assert!(!wants_text(&[], own) && !wants_text(&["order.*"], own), "{own}");
            assert!(
                wants_text(&["order.*", "triggerd.*"], own) && wants_text(&[own], own),
                "{own}"
            );
        }
        assert!(wants_text(&["triggerd.delivery.*"], "triggerd.delivery.dead"));
        assert!(!wants_text(&["triggerd.delivery.*"], "triggerd.endpoint.failing"));
        assert!(
            wants_text(&[], "triggerd") && wants_text(&[], "triggerdx.y"),
            "those are producers'"
        );
        assert!(wants_text(&["triggerd/*"], "triggerd.delivery.dead"), "any separator will do");
    }

    #[test]
    fn an_empty_list_wants_everything_and_one_match_is_enough() {
        assert!(wants_text(&[], "anything.at.all"));
        assert!(wants_text(&["a", "b.*"], "b.c"));
        assert!(!wants_text(&["a", "b.*"], "c"));
    }
}
