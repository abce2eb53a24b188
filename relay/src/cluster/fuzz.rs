//! Bodies of the fuzz targets of the cluster's protocol: plain functions that take any bytes and
//! must not panic.

use super::message::Message;
use crate::limits::Limits;

/// A message between nodes: read, written, read again.
pub fn message(data: &[u8]) {
    let limits = Limits::default();
    if let Ok(Some(message)) = Message::decode(data, &limits) {
        let again = Message::decode(&message.encode(), &limits);
        assert_eq!(again, Ok(Some(message)), "what is written is read back");
    }
}
