//! `?cluster=1`: lists of the whole cluster, made of the lists of its nodes.
//!
//! A row is that of a single node with the node's name in it, but for streams: what several nodes
//! have of one stream is one row. It says of the source what the publisher's node says, adds
//! players and bytes up, and lists the nodes. Rows of other nodes stay JSON, so nodes of another
//! version may tell more or less than this one knows.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::api::Answer;
use super::cluster::OtherNode;
use super::gather::{Absent, ask_others};
use super::http::{ApiError, JsonLine};
use super::page::{Cursor, Page, after};
use super::state::State;
use crate::worker::report::{ConnectionId, StreamKey};

/// `cluster` in a query.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) enum Of {
    /// The node that answers.
    #[default]
    #[serde(rename = "0")]
    Node,
    /// All nodes.
    #[serde(rename = "1")]
    Cluster,
}

/// The query of lists that are one page.
#[derive(Debug, Default, Deserialize)]
pub(super) struct OfQuery {
    #[serde(default)]
    pub(super) cluster: Of,
}

/// One page of a list of the whole cluster.
#[derive(Debug, Default, Serialize)]
pub(super) struct Whole {
    items: Vec<Value>,
    next: Option<String>,
    /// Nodes whose rows are missing; left out in a list of one node.
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<Vec<Absent>>,
}

/// A connection of the cluster: lists are in the order of nodes' names, then of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Far {
    pub(super) node: String,
    pub(super) id: ConnectionId,
}

/// What is wrong with a query of `cluster`.
pub(super) const OF: &str = "cluster must be 0, this node, or 1, all of them.";

impl Cursor for Far {
    fn to_text(&self) -> String {
        format!("{}@{}", self.id, self.node)
    }

    fn from_text(text: &str) -> Option<Self> {
        let (id, node) = text.split_once('@')?;
        Some(Self { node: node.to_owned(), id: id.parse().ok()? })
    }
}

impl Whole {
    /// The list of one node.
    pub(super) fn of_one<T: Serialize>(page: Page<T>) -> Answer<Self> {
        let Page { items, next } = page;
        let items = items.into_iter().map(value).collect::<Result<_, _>>()?;
        Ok(JsonLine(Self { items, next, absent: None }))
    }
}

/// Streams: the page of this node, and the same page of all others.
pub(super) async fn streams<T: Serialize>(
    state: &State,
    (limit, cursor): (usize, Option<&StreamKey>),
    own: Page<T>,
) -> Answer<Whole> {
    let mut query = vec![("limit", limit.to_string())];
    query.extend(cursor.map(|key| ("cursor", after(key))));
    let target = target("/api/v1/streams", &query);
    let gathered = ask_others(state, |_| Some(target.clone())).await?;
    // Whatever belongs to the smallest `limit` names of all is among the smallest of each node.
    let mut more = own.next.is_some();
    let mut streams = Streams::default();
    for row in own.items {
        streams.add(&state.node, value(row)?);
    }
    for (member, page) in gathered.answers {
        let mut page = page.unwrap_or_default();
        more |= !page["next"].is_null();
        for row in rows(&mut page) {
            streams.add(&member.name, row);
        }
    }
    more |= streams.0.len() > limit;
    let mut kept = streams.0.into_iter().take(limit).peekable();
    let (mut items, mut next) = (Vec::new(), None);
    while let Some((key, row)) = kept.next() {
        if more && kept.peek().is_none() {
            next = Some(after(&key));
        }
        items.push(row);
    }
    Ok(JsonLine(Whole { items, next, absent: Some(gathered.absent) }))
}

/// One stream, on all nodes that have something of it; `None` when none has.
pub(super) async fn stream<T: Serialize>(
    state: &State,
    (app, name): (&str, &str),
    own: Option<T>,
) -> Result<Option<Value>, ApiError> {
    let path = format!("/api/v1/streams/{}/{}", escaped(app, false), escaped(name, true));
    let gathered = ask_others(state, |_| Some(path.clone())).await?;
    let mut streams = Streams::default();
    if let Some(own) = own {
        streams.add(&state.node, value(own)?);
    }
    for (member, row) in gathered.answers {
        if let Some(row) = row {
            streams.add(&member.name, row);
        }
    }
    Ok(streams.0.into_values().next().map(|mut row| {
        row["absent"] = value(gathered.absent).unwrap_or_default();
        row
    }))
}

/// What of a query of connections is asked of each node as it is.
pub(super) struct Wanted<'a> {
    pub(super) limit: usize,
    /// The node that answers is asked for what comes behind this.
    pub(super) cursor: Option<Far>,
    pub(super) role: Option<&'a str>,
    pub(super) transport: Option<&'a str>,
    pub(super) address: Option<IpAddr>,
    pub(super) app: Option<&'a str>,
    pub(super) name: Option<&'a str>,
}

impl Wanted<'_> {
    /// What is asked of a node: whether there can be rows of it on this page, and after which id
    /// they begin.
    pub(super) fn of(&self, node: &str) -> Option<Option<ConnectionId>> {
        let Some(cursor) = &self.cursor else { return Some(None) };
        match node.cmp(&cursor.node) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(Some(cursor.id)),
            std::cmp::Ordering::Greater => Some(None),
        }
    }

    fn target(&self, node: &str) -> Option<String> {
        let cursor = self.of(node)?;
        let mut query = vec![("limit", self.limit.to_string())];
        query.extend(cursor.map(|id| ("cursor", after(&id))));
        query.extend(self.address.map(|address| ("address", address.to_string())));
        let texts = [
            ("role", self.role),
            ("transport", self.transport),
            ("app", self.app),
            ("name", self.name),
        ];
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key, escaped(text?, false))));
        query.extend(texts);
        Some(target("/api/v1/connections", &query))
    }
}

/// Connections: the page of this node, if there are rows of it on this page, and those of others.
pub(super) async fn connections<T: Serialize>(
    state: &State,
    wanted: Wanted<'_>,
    own: Option<Page<T>>,
) -> Answer<Whole> {
    let gathered = ask_others(state, |node| wanted.target(node)).await?;
    let mut by_node: Vec<(String, bool, Vec<Value>)> = Vec::new();
    if let Some(own) = own {
        let rows = own.items.into_iter().map(value).collect::<Result<_, _>>()?;
        by_node.push((state.node.clone(), own.next.is_some(), rows));
    }
    for (member, page) in gathered.answers {
        let mut page = page.unwrap_or_default();
        by_node.push((member.name, !page["next"].is_null(), rows(&mut page).collect()));
    }
    by_node.sort_by(|a, b| a.0.cmp(&b.0));
    let mut items = Vec::new();
    let mut next = None;
    'nodes: for (node, more, rows) in by_node {
        for row in rows {
            if items.len() == wanted.limit {
                next = last(&items);
                break 'nodes;
            }
            items.push(named(row, &node));
        }
        // Of this node there is more, which comes before all of those behind it.
        if more {
            next = last(&items);
            break;
        }
    }
    Ok(JsonLine(Whole { items, next, absent: Some(gathered.absent) }))
}

/// The cursor behind the last of these rows.
fn last(items: &[Value]) -> Option<String> {
    let row = items.last()?;
    let id = row["id"].as_str()?.parse().ok()?;
    Some(after(&Far { node: row["node"].as_str()?.to_owned(), id }))
}

/// A list that is one page on each node, in the order of nodes' names.
pub(super) async fn list<T: Serialize>(state: &State, path: &str, own: Page<T>) -> Answer<Whole> {
    let gathered = ask_others(state, |_| Some(path.to_owned())).await?;
    let mut by_node: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let own = own.items.into_iter().map(value).collect::<Result<_, _>>()?;
    by_node.insert(state.node.clone(), own);
    for (member, page) in gathered.answers {
        let found = rows(&mut page.unwrap_or_default()).collect();
        by_node.insert(member.name, found);
    }
    let items = by_node.into_iter().flat_map(|(node, rows)| {
        rows.into_iter().map(move |row| named(row, &node)).collect::<Vec<_>>()
    });
    Ok(JsonLine(Whole { items: items.collect(), next: None, absent: Some(gathered.absent) }))
}

/// Nodes: each as it says itself, with what this one knows of it.
pub(super) async fn nodes<T: Serialize>(
    state: &State,
    own: T,
    others: Vec<OtherNode>,
) -> Answer<Whole> {
    let gathered = ask_others(state, |_| Some("/api/v1/nodes".to_owned())).await?;
    let mut said: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (member, page) in gathered.answers {
        let page = &mut page.unwrap_or_default();
        let of_itself = rows(page).find(|row| row["own"] == true);
        if let Some(Value::Object(row)) = of_itself {
            said.insert(member.process, row);
        }
    }
    let mut items = vec![value(own)?];
    for other in others {
        let known = value(&other)?;
        let row = match (said.remove(&other.process), known) {
            (Some(mut row), Value::Object(known)) => {
                row.remove("others_known");
                // Of its streams it knows best itself.
                row.extend(known.into_iter().filter(|(key, _)| key != "streams"));
                Value::Object(row)
            }
            (_, known) => known,
        };
        items.push(row);
    }
    Ok(JsonLine(Whole { items, next: None, absent: Some(gathered.absent) }))
}

/// Streams by their names, of all nodes.
#[derive(Default)]
struct Streams(BTreeMap<StreamKey, Value>);

impl Streams {
    fn add(&mut self, node: &str, mut row: Value) {
        let (Some(app), Some(name)) = (row["app"].as_str(), row["name"].as_str()) else { return };
        let key = StreamKey::new(app, name);
        // The node that the row speaks of: where nobody publishes there is none.
        row["node"] = if row["source"].is_null() { Value::Null } else { node.into() };
        let row = match self.0.remove(&key) {
            None => row,
            Some(known) => joined(known, row),
        };
        self.0.insert(key, row);
    }
}

/// Two rows of one stream made into one.
fn joined(one: Value, other: Value) -> Value {
    let rank = |row: &Value| (row["source"] == "local", row["epoch"].as_u64());
    let (mut row, mut less) = if rank(&one) >= rank(&other) { (one, other) } else { (other, one) };
    for key in ["players", "bytes_out"] {
        let number = |row: &Value| row[key].as_u64().unwrap_or(0);
        row[key] = number(&row).saturating_add(number(&less)).into();
    }
    let mut nodes: Vec<Value> = [&mut row, &mut less]
        .into_iter()
        .flat_map(|row| row["nodes"].as_array_mut().map(std::mem::take).unwrap_or_default())
        .collect();
    nodes.sort_by(|a, b| a["node"].as_str().cmp(&b["node"].as_str()));
    row["nodes"] = nodes.into();
    row
}

fn rows(page: &mut Value) -> impl Iterator<Item = Value> + use<> {
    let rows = page["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    rows.into_iter().filter(Value::is_object)
}

fn named(mut row: Value, node: &str) -> Value {
    row["node"] = node.into();
    row
}

fn value(row: impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(row).map_err(|error| ApiError::internal(&error))
}

/// A path with a query whose values need no escaping any more.
fn target(path: &str, query: &[(&str, String)]) -> String {
    let query: Vec<_> = query.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{path}?{}", query.join("&"))
}

/// A text as part of a URL; of a path slashes stay.
fn escaped(text: &str, path: bool) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| match plain(byte) || (path && byte == b'/') {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
#[path = "together_tests.rs"]
mod tests;
