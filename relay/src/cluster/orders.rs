//! Orders of operators that hold on all nodes, whichever was told: every node keeps all of them,
//! tells what is new to it to all others, and tells everything to a node that it meets.
//!
//! An order is a text that means nothing here, with an id that is never used again. It is given
//! once and taken back once; which of the two is heard first does not matter, since what was taken
//! back is remembered for a while: of the last [`TAKEN_BACK_MAX`]. So an order lives as long as any
//! node does that has heard of it. Nothing here is shown: an order may hold stream keys.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::command::Command;
use super::identity::NodeKey;
use super::machine::Cluster;
use super::message::Message;

/// Longest text of an order: a URL, two names and a few words.
pub const ORDER_BYTES_MAX: usize = 4_096;

/// Orders that were taken back and are remembered.
pub const TAKEN_BACK_MAX: usize = 4_096;

/// Names an order in the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId {
    /// Counted by the node that was told, from 1.
    pub number: u64,
    /// That node.
    pub node: NodeKey,
}

/// The text of an order. May be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct OrderText(pub Arc<str>);

/// Shows nothing of it.
impl fmt::Debug for OrderText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// An order as nodes tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which.
    pub id: OrderId,
    /// What it is; `None`: it is taken back.
    pub text: Option<OrderText>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Orders {
    known: BTreeMap<OrderId, Option<OrderText>>,
    /// Those that were taken back, in the order in which that was heard.
    taken_back: VecDeque<OrderId>,
}

impl Orders {
    /// Takes one. Whether it is new.
    fn take(&mut self, order: &Order, most: usize) -> Result<bool, Full> {
        match (self.known.get(&order.id), &order.text) {
            (Some(None), _) | (Some(Some(_)), Some(_)) => return Ok(false),
            (None, Some(_)) if self.standing() >= most => return Err(Full),
            (_, None) => {
                self.taken_back.push_back(order.id);
                if self.taken_back.len() > TAKEN_BACK_MAX
                    && let Some(oldest) = self.taken_back.pop_front()
                {
                    self.known.remove(&oldest);
                }
            }
            (None, Some(_)) => {}
        }
        self.known.insert(order.id, order.text.clone());
        Ok(true)
    }

    fn standing(&self) -> usize {
        self.known.len() - self.taken_back.len()
    }

    fn all(&self) -> Vec<Order> {
        self.known.iter().map(|(id, text)| Order { id: *id, text: text.clone() }).collect()
    }
}

/// There are as many as may be.
struct Full;

impl Cluster {
    /// An operator gives an order to this node, or takes one back, and all others are told.
    pub fn order(&mut self, order: Order, now: Duration) {
        let most = self.settings.limits.outside_targets_max;
        if matches!(self.orders.take(&order, most), Ok(true)) {
            self.tell_orders(vec![order], None, now);
        }
    }

    /// Another node tells of some. What is new is told on.
    pub(super) fn hear_orders(&mut self, entries: Vec<Order>, now: Duration) {
        let most = self.settings.limits.outside_targets_max;
        let mut new = Vec::new();
        for order in entries {
            match self.orders.take(&order, most) {
                Ok(true) => {
                    self.out.push(Command::Ordered(order.clone()));
                    new.push(order);
                }
                Ok(false) => {}
                Err(Full) => self.out.counters.orders_refused += 1,
            }
        }
        if !new.is_empty() {
            self.tell_orders(new, None, now);
        }
    }

    /// Tells a node that was just met all of them.
    pub(super) fn greet_with_orders(&mut self, key: NodeKey, now: Duration) {
        let all = self.orders.all();
        if !all.is_empty() {
            self.tell_orders(all, Some(key), now);
        }
    }

    fn tell_orders(&mut self, orders: Vec<Order>, to: Option<NodeKey>, now: Duration) {
        fn text(order: &Order) -> &str {
            order.text.as_ref().map_or("", |text| &text.0)
        }
        let limits = Arc::clone(&self.settings.limits);
        let (_, mut ctx) = self.split(now);
        for (_, entries) in Message::parts(orders, text, &limits) {
            let message = Message::Orders { entries };
            match to {
                Some(key) => ctx.tell(key, &message),
                None => ctx.tell_all(&message),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(number: u64, text: Option<&str>) -> Order {
        let text = text.map(|text| OrderText(text.into()));
        Order { id: OrderId { number, node: NodeKey(1) }, text }
    }

    #[test]
    fn an_order_is_given_once_and_taken_back_once_in_whatever_order() {
        let mut orders = Orders::default();
        let mut take = |order: Order| orders.take(&order, 2).ok();
        assert_eq!(take(order(1, Some("a"))), Some(true));
        assert_eq!(take(order(1, Some("a"))), Some(false));
        assert_eq!(take(order(2, None)), Some(true), "taken back before it was heard of");
        assert_eq!(take(order(2, Some("b"))), Some(false));
        assert_eq!(take(order(3, Some("c"))), Some(true));
        assert_eq!(take(order(4, Some("d"))), None, "there are two");
        assert_eq!(take(order(1, None)), Some(true));
        assert_eq!(take(order(1, None)), Some(false));
        assert_eq!(take(order(4, Some("d"))), Some(true));
        assert_eq!(orders.standing(), 2);
    }

    #[test]
    fn what_was_taken_back_is_remembered_for_a_while() {
        let mut orders = Orders::default();
        let most = u64::try_from(TAKEN_BACK_MAX).expect("small");
        for number in 0..2 * most {
            assert!(matches!(orders.take(&order(number, None), 1), Ok(true)));
        }
        assert_eq!((orders.known.len(), orders.standing()), (TAKEN_BACK_MAX, 0));
        assert!(matches!(orders.take(&order(most, Some("late")), 1), Ok(false)));
        assert_eq!(format!("{:?}", order(1, Some("key")).text), "Some(***)");
    }
}
