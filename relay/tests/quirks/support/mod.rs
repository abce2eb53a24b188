//! What the clients in these tests are made of, and what they are played against.

pub(crate) mod digest;
pub(crate) mod node;
pub(crate) mod script;
pub(crate) mod server;
pub(crate) mod shown;
pub(crate) mod words;
