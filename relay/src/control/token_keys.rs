//! The keys of tokens that rules name by URL: fetched here, and sent to every worker.
//!
//! Each set is fetched at the start, every `token_keys_refresh`, and when a worker met a token
//! whose key is not there, but never twice within [`REFETCH_SECONDS`]. While fetching fails the
//! keys of before are used, up to `token_keys_keep`.

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::access::{Fetched, FetchedKeys, KeySet, REFETCH_SECONDS};
use crate::limits::Limits;
use crate::worker::handle::WorkerHandle;
use crate::worker::report::Query;
use crate::worker::settings::Settings;

/// How often is looked whether a worker wants keys.
const LOOK: Duration = Duration::from_millis(200);

/// One set of keys.
struct Source {
    url: String,
    keys: Option<KeySet>,
    /// When these keys came, and when they were last tried to be had, in seconds since 1970.
    fetched: u64,
    tried: Option<u64>,
    is_under_way: bool,
}

/// The URLs that rules name, each once.
pub(super) fn urls(settings: &Settings) -> Vec<String> {
    let apps = settings.apps.values().chain([&settings.other_apps]);
    let rules = apps.flat_map(|app| [&app.publish, &app.play]);
    let mut urls: Vec<_> = rules.flat_map(|rules| rules.key_urls()).map(str::to_owned).collect();
    urls.sort_unstable();
    urls.dedup();
    urls
}

/// Keeps the keys of the URLs fresh, as they are listed at each look, for as long as it runs.
pub(super) async fn keep<F, A>(
    in_force: impl Fn() -> (Vec<String>, Limits),
    workers: Vec<WorkerHandle>,
    unix: impl Fn() -> u64,
    fetch: F,
) where
    F: Fn(String, usize) -> A,
    A: Future<Output = Result<Vec<u8>, String>>,
{
    let mut sources: Vec<Source> = Vec::new();
    let mut ticks = tokio::time::interval(LOOK);
    // Side by side: one server that hangs holds up nobody's keys but its own.
    let mut under_way = FuturesUnordered::new();
    // A worker whose inbox was full hears of it at the next look.
    let mut unsent = Vec::new();
    let mut wanted_before = 0;
    loop {
        let fetched = tokio::select! {
            _ = ticks.tick() => None,
            fetched = under_way.next(), if !under_way.is_empty() => fetched,
        };
        let (urls, limits) = in_force();
        follow(&mut sources, urls);
        if let Some((url, fetched)) = fetched {
            let of_url = |source: &&mut Source| source.url == url;
            if let Some(source) = sources.iter_mut().find(of_url) {
                source.take(fetched, unix(), &limits);
                unsent.clone_from(&workers);
            }
        }
        let wanted: u64 = workers.iter().map(|worker| worker.cells.token_keys_wanted.get()).sum();
        let is_wanted = wanted != wanted_before;
        wanted_before = wanted;
        for source in &mut sources {
            if source.is_due(unix(), is_wanted, &limits) {
                source.is_under_way = true;
                let (url, within) = (source.url.clone(), limits.token_keys_wait_max);
                let fetching = fetch(url.clone(), limits.token_keys_bytes_max);
                under_way.push(async move {
                    let fetched = tokio::time::timeout(within, fetching).await;
                    (url, fetched.unwrap_or_else(|_| Err("no answer in time".to_owned())))
                });
            }
        }
        if !unsent.is_empty() {
            let keys: FetchedKeys = sources.iter().filter_map(Source::share).collect();
            unsent.retain(|worker| worker.ask(Query::TokenKeys(keys.clone())).is_err());
        }
    }
}

/// Makes the sources those of these URLs.
fn follow(sources: &mut Vec<Source>, urls: Vec<String>) {
    sources.retain(|source| urls.contains(&source.url));
    for url in urls {
        if sources.iter().all(|source| source.url != url) {
            sources.push(Source::new(url));
        }
    }
}

impl Source {
    fn new(url: String) -> Self {
        Self { url, keys: None, fetched: 0, tried: None, is_under_way: false }
    }

    fn is_due(&self, unix: u64, is_wanted: bool, limits: &Limits) -> bool {
        if self.is_under_way {
            return false;
        }
        let Some(tried) = self.tried else { return true };
        let is_old = self.fetched.saturating_add(limits.token_keys_refresh.as_secs()) <= unix;
        let asks = is_wanted || is_old || self.keys.is_none();
        asks && tried.saturating_add(REFETCH_SECONDS) <= unix
    }

    fn take(&mut self, fetched: Result<Vec<u8>, String>, unix: u64, limits: &Limits) {
        (self.tried, self.is_under_way) = (Some(unix), false);
        // A query may be a secret.
        let url = self.url.split('?').next().unwrap_or_default();
        match fetched.and_then(|bytes| KeySet::parse_fetched(&bytes)) {
            Ok(keys) => {
                if self.keys.as_ref() != Some(&keys) {
                    tracing::info!(url, ?keys, "keys of tokens fetched");
                }
                self.keys = Some(keys);
                self.fetched = unix;
            }
            Err(why) => {
                let over = self.fetched.saturating_add(limits.token_keys_keep.as_secs()) <= unix;
                self.keys = self.keys.take().filter(|_| !over);
                let kept = self.keys.is_some();
                tracing::warn!(url, why, kept, "keys of tokens could not be fetched");
            }
        }
    }

    fn share(&self) -> Option<(String, Fetched)> {
        let tried = self.tried?;
        Some((self.url.clone(), Fetched { keys: self.keys.clone(), tried }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const JWKS: &[u8] = include_bytes!("../access/test_keys/jwks.json");

    #[test]
    fn keys_are_fetched_when_they_are_old_or_wanted_and_kept_for_a_while() {
        let limits = Limits {
            token_keys_refresh: Duration::from_secs(300),
            token_keys_keep: Duration::from_secs(1_000),
            ..Limits::default()
        };
        let mut source = Source::new("https://a/b?c".to_owned());
        assert!(source.share().is_none() && source.is_due(0, false, &limits));
        source.take(Err("no answer".to_owned()), 1_000, &limits);
        assert!(source.share().unwrap().1.keys.is_none());
        assert!(!source.is_due(1_029, true, &limits) && source.is_due(1_030, false, &limits));
        source.take(Ok(JWKS.to_vec()), 2_000, &limits);
        assert!(source.share().unwrap().1.keys.is_some());
        assert!(!source.is_due(2_029, true, &limits) && source.is_due(2_030, true, &limits));
        assert!(!source.is_due(2_299, false, &limits) && source.is_due(2_300, false, &limits));
        for (unix, kept) in [(2_300, true), (2_999, true), (3_000, false)] {
            source.take(Ok(b"garbage".to_vec()), unix, &limits);
            let share = source.share().unwrap().1;
            assert_eq!((share.keys.is_some(), share.tried), (kept, unix));
        }
        assert!(source.is_due(3_030, false, &limits));
    }

    #[test]
    fn sources_follow_the_urls_and_keep_their_keys() {
        let urls = |list: &[&str]| list.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        let mut sources = Vec::new();
        follow(&mut sources, urls(&["a", "b"]));
        sources[1].take(Ok(JWKS.to_vec()), 1, &Limits::default());
        follow(&mut sources, urls(&["b", "c"]));
        let found: Vec<_> = sources.iter().map(|one| (&*one.url, one.keys.is_some())).collect();
        assert_eq!(found, [("b", true), ("c", false)]);
    }

    #[test]
    fn each_url_of_all_rules_is_fetched_once() {
        let rules = |list: &[&str]| {
            let read = &mut |_: &str| Err("no file".to_owned());
            crate::access::Rules::parse(list.iter().copied(), read).unwrap()
        };
        let mut settings = Settings::default();
        assert!(urls(&settings).is_empty());
        settings.other_apps.play = rules(&["private", "jwt RS256 https://b/"]);
        settings.other_apps.publish = rules(&["private and jwt RS256 https://a/ aud=x"]);
        let mut app = settings.other_apps.clone();
        app.play = rules(&["jwt ES256 https://c/"]);
        settings.apps.insert("live".to_owned(), app);
        assert_eq!(urls(&settings), ["https://a/", "https://b/", "https://c/"]);
    }

    #[tokio::test]
    async fn a_server_that_hangs_holds_up_no_others_keys() {
        let (workers, queries) = crate::control::testing::workers(1);
        let list = ["https://hangs/1", "https://hangs/2", "https://fine/"].map(str::to_owned);
        let in_force = || (list.to_vec(), Limits::default());
        let fetch = |url: String, _| async move {
            if url.contains("hangs") {
                std::future::pending::<()>().await;
            }
            Ok(JWKS.to_vec())
        };
        let keeping = keep(in_force, workers, || 1_000, fetch);
        // Much sooner than those that hang are given up.
        let _ = tokio::time::timeout(Duration::from_secs(1), keeping).await;
        let Some(Query::TokenKeys(keys)) = queries[0].next() else { panic!("nothing came") };
        let keys = format!("{keys:?}");
        assert!(keys.contains("https://fine/") && !keys.contains("hangs"), "{keys}");
    }
}
