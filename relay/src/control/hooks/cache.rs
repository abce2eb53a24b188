//! Verdicts that are remembered, for a time and up to a number. Pure; time comes in.
//!
//! What was asked is remembered as its digest, so that no secret is kept here.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::reply::Meaning;
use crate::worker::hook_settings::HookSettings;
use crate::worker::labels::HookName;
use crate::worker::verdicts::{HookClient, HookStream};

/// The digest of everything that a verdict may depend on, but for what differs each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

/// What is remembered.
#[derive(Debug)]
pub(super) struct Cache {
    verdicts: HashMap<Key, (Duration, Meaning)>,
    /// In the order in which they were remembered; some may be forgotten or renewed already.
    order: VecDeque<(Duration, Key)>,
    max: usize,
}

impl Key {
    pub(super) fn new(
        name: HookName,
        settings: &HookSettings,
        client: &HookClient,
        stream: &HookStream,
    ) -> Self {
        let (words, range) = (&stream.words, stream.words.range);
        let range = format!("{} {} {}", range.start, range.duration, range.reset);
        let address = client.peer.ip().to_string();
        let texts = [
            name.label(),
            &settings.app,
            &address,
            &client.app,
            &client.args,
            &client.flash_ver,
            &client.swf_url,
            &client.tc_url,
            &client.page_url,
            &stream.name,
            &words.args,
            &words.kind,
            &range,
        ];
        let urls = settings.urls(name).iter().map(|url| url.text.as_str());
        let mut digest = Sha256::new();
        for text in texts.into_iter().chain(urls) {
            digest.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(text);
        }
        Self(digest.finalize().into())
    }
}

impl Cache {
    pub(super) fn new(max: usize) -> Self {
        Self { verdicts: HashMap::new(), order: VecDeque::new(), max }
    }

    /// What was said, if it still holds.
    pub(super) fn get(&self, key: &Key, now: Duration) -> Option<Meaning> {
        let (until, meaning) = self.verdicts.get(key)?;
        (now < *until).then(|| meaning.clone())
    }

    /// Remembers what was said.
    pub(super) fn put(&mut self, key: Key, meaning: Meaning, until: Duration, now: Duration) {
        self.verdicts.insert(key, (until, meaning));
        self.order.push_back((until, key));
        while let Some((at, oldest)) = self.order.front().copied() {
            if at > now && self.order.len() <= self.max {
                return;
            }
            self.order.pop_front();
            if self.verdicts.get(&oldest).is_some_and(|(until, _)| *until == at) {
                self.verdicts.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Key {
        Key([number; 32])
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_verdict_holds_for_its_time() {
        let mut cache = Cache::new(10);
        cache.put(key(1), Meaning::Yes, at(5), at(0));
        cache.put(key(2), Meaning::No, at(6), at(1));
        assert_eq!(cache.get(&key(1), at(4)), Some(Meaning::Yes));
        assert_eq!(cache.get(&key(2), at(4)), Some(Meaning::No));
        assert_eq!(cache.get(&key(1), at(5)), None);
        assert_eq!(cache.get(&key(3), at(4)), None);
        cache.put(key(1), Meaning::No, at(9), at(5));
        assert_eq!(cache.get(&key(1), at(8)), Some(Meaning::No), "renewed");
        assert_eq!((cache.verdicts.len(), cache.order.len()), (2, 2));
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut cache = Cache::new(3);
        for number in 0..200 {
            cache.put(key(number), Meaning::Yes, at(1_000), at(0));
            cache.put(key(7), Meaning::No, at(1_000), at(0));
            assert!(cache.order.len() <= 3 && cache.verdicts.len() <= 3);
        }
        assert_eq!(cache.get(&key(199), at(0)), Some(Meaning::Yes));
        assert_eq!(cache.get(&key(100), at(0)), None);
    }
}
