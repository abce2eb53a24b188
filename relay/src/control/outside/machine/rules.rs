//! Which rules hold for which stream: those of the configuration, by application, and those that
//! were added while the node runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Machine, app_of};
use crate::worker::outside::{OutsideKind, Watch};
use crate::worker::outside_url::{OutsideRule, PullWhen};
use crate::worker::settings::AppSettings;

impl Machine {
    /// The rules of the configuration, each with its section: those that a section has from
    /// another one are left out.
    pub(in crate::control::outside) fn configured(
        &self,
        kind: OutsideKind,
    ) -> Vec<(&str, &OutsideRule)> {
        let of = |app: &'_ AppSettings| match kind {
            OutsideKind::Push => Arc::clone(&app.push),
            OutsideKind::Pull => Arc::clone(&app.pull),
        };
        let common = of(&self.settings.other_apps);
        let mut rows: Vec<(&str, &OutsideRule)> = Vec::new();
        let mut sections: Vec<(&str, &AppSettings)> =
            self.settings.apps.iter().map(|(app, values)| (app.as_str(), values)).collect();
        sections.sort_unstable_by_key(|(app, _)| *app);
        for (app, values) in sections {
            if !Arc::ptr_eq(&of(values), &common) {
                let rules = match kind {
                    OutsideKind::Push => &values.push,
                    OutsideKind::Pull => &values.pull,
                };
                rows.extend(rules.iter().map(|rule| (app, rule)));
            }
        }
        let rules = match kind {
            OutsideKind::Push => &self.settings.other_apps.push,
            OutsideKind::Pull => &self.settings.other_apps.pull,
        };
        rows.extend(rules.iter().map(|rule| ("*", rule)));
        rows
    }

    /// Names that are pulled whether somebody plays them or not.
    pub(super) fn always(&self) -> Vec<Arc<str>> {
        let always = |rule: &&OutsideRule| rule.when == PullWhen::Always;
        let name = |app: &str, rule: &OutsideRule| -> Option<Arc<str>> {
            Some(format!("{app}/{}", rule.stream.as_deref()?).into())
        };
        let configured = self.settings.apps.iter().flat_map(|(app, values)| {
            // A section of many applications has no one name.
            let rules = (!app.ends_with('*')).then(|| values.pull.iter()).into_iter().flatten();
            rules.filter(always).filter_map(move |rule| name(app, rule))
        });
        let added = self.added.values().filter(|added| added.kind == OutsideKind::Pull);
        let added = added.filter(|added| always(&&*added.rule));
        configured.chain(added.filter_map(|added| name(&added.app, &added.rule))).collect()
    }

    /// Whether a name is one of them.
    pub(super) fn is_always(&self, name: &str) -> bool {
        self.rules(OutsideKind::Pull, name).iter().any(|rule| rule.when == PullWhen::Always)
    }

    /// Whether another node has a stream.
    pub(in crate::control::outside) fn is_elsewhere(&self, name: &str) -> bool {
        self.names.get(name).is_some_and(|state| state.elsewhere)
    }

    pub(super) fn of_interest(&self) -> Watch {
        let has = |push: &[OutsideRule], pull: &[OutsideRule]| !push.is_empty() || !pull.is_empty();
        let settings = &self.settings;
        let all = has(&settings.other_apps.push, &settings.other_apps.pull);
        let own = settings.apps.iter().filter(|(_, app)| has(&app.push, &app.pull));
        let mut apps: BTreeSet<String> = own.map(|(name, _)| name.clone()).collect();
        let asked = settings
            .apps
            .iter()
            .filter(|(_, app)| app.hooks.may_forward() || app.hooks.may_fetch());
        apps.extend(asked.map(|(name, _)| name.clone()));
        // What was begun goes on, whatever a reload took away.
        let named = self.forwarded.keys().chain(self.fetched.keys());
        apps.extend(named.map(|name| app_of(name).to_owned()));
        let other = &settings.other_apps.hooks;
        let all = all || other.may_forward() || other.may_fetch();
        if all || apps.iter().any(|app| app.ends_with('*')) {
            return Watch::Everything;
        }
        apps.extend(self.added.values().map(|added| added.app.clone()));
        if apps.is_empty() { Watch::Nothing } else { Watch::Apps(apps) }
    }

    /// The rules of a kind for a stream, those of the configuration first.
    pub(super) fn rules(&self, kind: OutsideKind, name: &str) -> Vec<Arc<OutsideRule>> {
        let app = app_of(name);
        let values = self.settings.app(app);
        let configured = match kind {
            OutsideKind::Push => &values.push,
            OutsideKind::Pull => &values.pull,
        };
        let configured = configured.iter().cloned().map(Arc::new);
        let added = self.added.values().filter(|added| added.kind == kind && added.app == app);
        let added = added.map(|added| Arc::clone(&added.rule));
        configured.chain(added).filter(|rule| rule.is_for(name)).collect()
    }
}
