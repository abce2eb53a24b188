//! How the control thread learns that a worker's thread has ended, be it by a panic.

use tokio::sync::mpsc;

/// The end of one worker's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Which worker.
    pub core: usize,
    /// Whether it panicked.
    pub panicked: bool,
}

/// Where the control thread hears of endings.
pub struct Endings {
    receiver: mpsc::UnboundedReceiver<Ending>,
}

/// Held by a worker's thread; tells the control thread when it is dropped.
pub struct EndingGuard {
    core: usize,
    sender: mpsc::UnboundedSender<Ending>,
}

/// The ends of the channel; one guard per worker, by number.
#[must_use]
pub fn channel(workers: usize) -> (Vec<EndingGuard>, Endings) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let guard = |core| EndingGuard { core, sender: sender.clone() };
    ((0..workers).map(guard).collect(), Endings { receiver })
}

impl Endings {
    /// Waits for the next ending; for ever once every worker's was told.
    pub(super) async fn next(&mut self) -> Ending {
        match self.receiver.recv().await {
            Some(ending) => ending,
            None => std::future::pending().await,
        }
    }
}

impl Drop for EndingGuard {
    fn drop(&mut self) {
        let ending = Ending { core: self.core, panicked: std::thread::panicking() };
        // The control thread may have given up waiting.
        let _ = self.sender.send(ending);
    }
}
