//! loadgen: the load tester for RTMP servers.
//!
//! It publishes and plays through relay's own wire format, client session and reactor, on all
//! cores, and says whether a server did what was expected of it: nothing missing, doubled,
//! reordered or altered, how late, and whether the generator itself was fast enough to say so.
//!
//! ```text
//!   cli  ->  plan  ->  engine (one worker per core)  ->  measure  ->  report (summary, JSON, HTML)
//!                        source, payload: what is sent                expect: the verdict
//!                        verify: what must arrive
//! ```
//!
//! [`counting`] (receiving without copying) and [`pinned`] (work on cores of its own) are also what
//! the benchmarks stand on.

pub mod cli;
pub mod clock;
pub mod collect;
pub mod counting;
pub mod engine;
pub mod expect;
pub mod exporter;
pub mod failover;
pub mod failure;
pub mod flv;
pub mod measure;
pub mod parts;
pub mod payload;
pub mod pinned;
pub mod plan;
pub mod profile;
pub mod report;
pub mod run;
pub mod server;
pub mod source;
pub mod target;
pub mod units;
pub mod verify;
