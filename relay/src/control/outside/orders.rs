//! What operators add by the API, as the cluster tells it from node to node: a text for each, which
//! every node reads for itself, so that each goes by all of them.

use std::fmt;
use std::sync::Arc;

use crate::worker::outside::{NodeKey, Order, OrderId, OrderText, OutsideKind};
use crate::worker::outside_url::OutsideRule;

use super::Added;

/// Names what was added: a number, and in a cluster behind it the node that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AddedId {
    pub(super) number: u64,
    /// `None` where there is one node.
    pub(super) node: Option<NodeKey>,
}

impl AddedId {
    /// Reads what [`fmt::Display`] shows.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (number, node) = match text.split_once('-') {
            Some((number, node)) => {
                let is_hex = node.len() == 16 && node.bytes().all(|b| b.is_ascii_hexdigit());
                let node = u64::from_str_radix(node, 16).ok().filter(|_| is_hex)?;
                (number, Some(NodeKey(node)))
            }
            None => (text, None),
        };
        Some(Self { number: number.parse().ok()?, node })
    }

    /// As the cluster names it, if there is one.
    pub(super) fn order(self) -> Option<OrderId> {
        Some(OrderId { number: self.number, node: self.node? })
    }

    pub(super) fn of(order: OrderId) -> Self {
        Self { number: order.number, node: Some(order.node) }
    }
}

impl fmt::Display for AddedId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(formatter, "{}-{node}", self.number),
            None => write!(formatter, "{}", self.number),
        }
    }
}

/// What other nodes are told of what was added here.
pub(super) fn told(id: OrderId, added: &Added) -> Order {
    let Added { kind, app, rule } = added;
    let text = format!("{} {app} {}", kind.label(), rule.text());
    Order { id, text: Some(OrderText(text.into())) }
}

/// What another node says was added there; `None` where only a later build knows what it is.
pub(super) fn read(text: &OrderText) -> Option<Added> {
    let (kind, rest) = text.0.split_once(' ')?;
    let (app, rule) = rest.split_once(' ')?;
    let kind = OutsideKind::ALL.iter().copied().find(|known| known.label() == kind)?;
    let rule = match kind {
        OutsideKind::Push => OutsideRule::push(rule),
        OutsideKind::Pull => OutsideRule::pull(rule),
    };
    Some(Added { kind, app: app.to_owned(), rule: Arc::new(rule.ok()?) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_as_it_was_added() {
        let id = OrderId { number: 7, node: NodeKey(0xab) };
        for (kind, text) in [
            (OutsideKind::Push, "rtmp://h/a/{name}?key=1"),
            (OutsideKind::Push, "talk rtmps://u:p@h/a/key"),
            (OutsideKind::Pull, "talk rtmp://h/a/key always"),
        ] {
            let rule = match kind {
                OutsideKind::Push => OutsideRule::push(text).unwrap(),
                OutsideKind::Pull => OutsideRule::pull(text).unwrap(),
            };
            let added = Added { kind, app: "live".to_owned(), rule: Arc::new(rule) };
            let read = read(&told(id, &added).text.unwrap()).unwrap();
            assert_eq!((read.kind, &read.app, &read.rule), (kind, &added.app, &added.rule));
        }
        for text in ["", "push", "push live", "fold live rtmp://h/a/b", "pull live rtmp://h"] {
            assert!(read(&OrderText(text.into())).is_none(), "{text}");
        }
    }

    #[test]
    fn ids_are_read_as_they_are_shown() {
        let of = |number, node: Option<u64>| AddedId { number, node: node.map(NodeKey) };
        for (id, text) in [(of(7, None), "7"), (of(12, Some(0xab)), "12-00000000000000ab")] {
            assert_eq!((id.to_string().as_str(), AddedId::parse(text)), (text, Some(id)));
        }
        for text in ["", "-", "x", "7-ab", "7-+0000000000000ab", "7-00000000000000ab-", "-1"] {
            assert_eq!(AddedId::parse(text), None, "{text}");
        }
    }
}
