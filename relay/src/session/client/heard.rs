//! What a client takes of a server's command, owned: so that its state may change by it.

use super::super::event::printable;
use crate::wire::command::{Answer, Call, Command, Status};

/// What is of interest in a server's command, no longer borrowed from it.
pub(super) enum Heard {
    Answer {
        transaction: f64,
        success: bool,
        id: Option<u32>,
        code: String,
        description: String,
        redirect: Option<String>,
    },
    Status {
        code: String,
        level: String,
        description: String,
        tc_url: Option<String>,
        redirect: Option<String>,
    },
    Close,
    Nothing,
}

impl Heard {
    pub(super) fn new(call: &Call<'_>) -> Self {
        match &call.command {
            Command::Answer(Answer { success, value, .. }) => {
                let status = Status::from_value(value);
                Self::Answer {
                    transaction: call.transaction,
                    success: *success,
                    id: value.as_u32(),
                    code: printable(status.code),
                    description: printable(status.description),
                    redirect: status.redirect.map(printable),
                }
            }
            Command::Status(status) => Self::Status {
                code: printable(status.code),
                level: printable(status.level),
                description: printable(status.description),
                tc_url: status.tc_url.map(printable),
                redirect: status.redirect.map(printable),
            },
            Command::Close => Self::Close,
            _ => Self::Nothing,
        }
    }
}
