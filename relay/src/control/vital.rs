//! Tasks that the node cannot do without.
//!
//! The runtime keeps a panic to the task that it is in. One request may end so; a task that
//! everybody waits for may not: the node would look alive and let nobody in. So a panic in such a
//! task is told, and the node ends and is started again by whoever runs it.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinError;

/// Where a panic in such a task is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Vital {
    failed: Arc<Notify>,
}

impl Vital {
    /// Runs a task. It may end, but not by a panic.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let (vital, task) = (self.clone(), tokio::spawn(task));
        tokio::spawn(async move {
            if let Err(error) = task.await {
                vital.judge(&error);
            }
        });
    }

    /// A task that somebody waited for did not end well.
    pub(super) fn judge(&self, error: &JoinError) {
        if error.is_panic() {
            self.failed.notify_one();
        }
    }

    /// Waits for ever, or until there was a panic.
    pub(super) async fn failed(&self) {
        self.failed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_and_an_end_is_not() {
        let vital = Vital::default();
        let told = || tokio::time::timeout(Duration::from_millis(200), vital.failed());
        vital.spawn(async {});
        assert!(told().await.is_err());
        vital.spawn(async { panic!("as intended") });
        assert!(told().await.is_ok());
        assert!(told().await.is_err(), "told once");
    }
}
