//! Which names changed that the control thread wants to hear of.
//!
//! What is told is how a name stands when it is told, not each change: so nothing waits but names,
//! each once, and whoever is slow to listen hears the last word. If too many wait, all names are
//! told anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Worker;
use super::outside::{NameNews, News, Watch};
use super::publish::app_of;

/// Most names that wait.
const NAMES_MAX: usize = 65_536;

/// The names.
#[derive(Debug, Default)]
pub(super) struct Notes {
    watch: Watch,
    changed: BTreeSet<Arc<str>>,
    /// The listener is to forget what it heard.
    anew: bool,
    /// Some names were passed over.
    overrun: bool,
}

impl Notes {
    /// From now on these are listened for; `names` are those that there are.
    pub(super) fn begin(&mut self, watch: Watch, names: impl Iterator<Item = Arc<str>>) {
        self.watch = watch;
        self.changed.extend(names);
    }

    /// All names that are listened for are told anew: some were passed over.
    pub(super) fn begin_anew(&mut self, names: impl Iterator<Item = Arc<str>>) {
        (self.anew, self.overrun) = (true, false);
        self.changed = names.collect();
    }

    /// What is listened for.
    pub(super) fn watched(&self) -> &Watch {
        &self.watch
    }

    /// A name changed.
    pub(super) fn note(&mut self, name: &Arc<str>) {
        if self.watch == Watch::Nothing || !self.watch.holds(app_of(name)) {
            return;
        }
        if self.changed.len() >= NAMES_MAX {
            self.overrun = true;
        } else {
            self.changed.insert(Arc::clone(name));
        }
    }

    /// Tells of the names that changed, as long as `send` takes it. False: names were passed over,
    /// and it is to begin anew.
    pub(super) fn tell(
        &mut self,
        how: &dyn Fn(&Arc<str>) -> NameNews,
        send: &mut dyn FnMut(News) -> bool,
    ) -> bool {
        if self.anew {
            self.anew = !send(News::Anew);
            if self.anew {
                return true;
            }
        }
        while let Some(name) = self.changed.first() {
            if !send(News::Name(how(name))) {
                return true;
            }
            self.changed.pop_first();
        }
        !self.overrun
    }
}

impl Worker {
    /// Tells the control thread how names stand that changed.
    pub(super) fn tell_names(&mut self) {
        if let Some(registrar) = &mut self.registrar {
            let (road, links) = (self.shared.news(), &self.links);
            registrar.tell(&mut |mut news| {
                if let News::Name(name) = &mut news {
                    name.elsewhere = links.is_kept_elsewhere(&name.name);
                    // What is published here is wanted by who plays it on other nodes, too.
                    let here = name.live.is_some() || name.grace;
                    name.wanted |= here && links.is_fed_elsewhere(&name.name);
                }
                road.send(news).is_ok()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_once_however_often_they_change_and_anew_when_too_many_wait() {
        let name = |text: &str| -> Arc<str> { text.into() };
        let how = |name: &Arc<str>| {
            let name = Arc::clone(name);
            NameNews {
                name,
                live: None,
                elsewhere: false,
                grace: false,
                wanted: false,
                marks: "".into(),
            }
        };
        let told = |notes: &mut Notes, room: usize| {
            let mut told = Vec::new();
            let mut send = |news| {
                let fits = told.len() < room;
                if fits {
                    told.push(match news {
                        News::Name(news) => news.name.to_string(),
                        _ => "anew".to_owned(),
                    });
                }
                fits
            };
            let complete = notes.tell(&how, &mut send);
            (told, complete)
        };
        let mut notes = Notes::default();
        notes.note(&name("live/a"));
        assert_eq!(told(&mut notes, 9), (vec![], true));
        let apps = Watch::Apps(["live".to_owned()].into());
        notes.begin(apps, [name("live/a")].into_iter());
        for text in ["live/b", "live/a", "other/a", "live/b"] {
            notes.note(&name(text));
        }
        assert_eq!(told(&mut notes, 0), (vec![], true));
        assert_eq!(told(&mut notes, 1), (vec!["live/a".to_owned()], true));
        assert_eq!(told(&mut notes, 9), (vec!["live/b".to_owned()], true));
        for number in 0..=NAMES_MAX {
            notes.note(&name(&format!("live/{number}")));
        }
        let (all, complete) = told(&mut notes, usize::MAX);
        assert_eq!((all.len(), complete), (NAMES_MAX, false));
        notes.begin_anew([name("live/c")].into_iter());
        let anew = vec!["anew".to_owned(), "live/c".to_owned()];
        assert_eq!(told(&mut notes, 9), (anew, true));
    }
}
