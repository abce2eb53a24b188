//! Settings of pushes and pulls: streams between this node and other servers. Names of streams on
//! other servers are keys there, so they are shown nowhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::settings::{AppSetting, SWITCHES, Setting, choose};
use super::text;
use crate::worker::outside_url::{OutsideRule, PullWhen, RuleFault};
use crate::worker::settings::AppSettings;

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        section: "outside",
        name: "ca_file",
        why: "PEM file with the authorities by which servers of rtmps and rtmpts pushes and pulls must be known; \"\": those that this host trusts.",
        flag: None,
        set: |config, text| {
            if text.contains(char::is_control) {
                return Err("the path of a file, or \"\"".to_owned());
            }
            let file = (!text.is_empty()).then(|| PathBuf::from(text));
            config.settings.outside.ca_file = file;
            Ok(())
        },
        get: |config| {
            let file = config.settings.outside.ca_file.as_ref();
            text::quoted(&file.map(|file| file.display().to_string()).unwrap_or_default())
        },
    },
    Setting {
        section: "outside",
        name: "enhanced",
        why: "Whether pushes and pulls name the capabilities of Enhanced RTMP when they connect, ReconnectRequest among them, \"true\" or \"false\"; some servers refuse what they do not know.",
        flag: None,
        set: |config, text| choose(&mut config.settings.outside.enhanced, SWITCHES, text),
        get: |config| config.settings.outside.enhanced.to_string(),
    },
];

pub(super) const APP_SETTINGS: &[AppSetting] = &[
    AppSetting {
        name: "push",
        why: "Where each stream is pushed to: a list of \"URL\" or, for one stream, \"NAME URL\". rtmp, rtmps, rtmpt and rtmpts; {app} and {name} stand for the stream's application and name; user:password@ before the host for servers that ask for them.",
        set: |app, text| rules(&mut app.push, text, OutsideRule::push),
        get: |app| shown(&app.push),
        inherit: |app, other| app.push = Arc::clone(&other.push),
    },
    AppSetting {
        name: "pull",
        why: "Where streams are pulled from: a list of \"URL\" or, for one stream, \"NAME URL\", while somebody plays it; or \"NAME URL always\", from the start on, which needs a section of one application. Of several for a stream the next is tried when one fails.",
        set: |app, text| rules(&mut app.pull, text, OutsideRule::pull),
        get: |app| shown(&app.pull),
        inherit: |app, other| app.pull = Arc::clone(&other.pull),
    },
];

/// Sections of many applications that would have streams pulled from the start on.
pub(super) fn nameless(apps: &BTreeMap<String, AppSettings>) -> Vec<String> {
    let always = |app: &AppSettings| app.pull.iter().any(|rule| rule.when == PullWhen::Always);
    let those = apps.iter().filter(|(name, app)| name.ends_with('*') && always(app));
    those.map(|(name, _)| name.clone()).collect()
}

fn rules(
    to: &mut Arc<[OutsideRule]>,
    text: &str,
    read: fn(&str) -> Result<OutsideRule, RuleFault>,
) -> Result<(), String> {
    let most = text::LIST_MAX;
    let listed = text::list(text).ok_or_else(|| format!("a list of at most {most} texts"))?;
    let rules: Result<Vec<_>, _> = listed.iter().map(|text| read(text)).collect();
    *to = rules.map_err(|fault| format!("a list of texts, each {fault}"))?.into();
    Ok(())
}

/// As the file has it, without what may be secret.
fn shown(rules: &Arc<[OutsideRule]>) -> String {
    let rules: Vec<_> = rules.iter().map(|rule| text::quoted(&rule.shown())).collect();
    format!("[{}]", rules.join(", "))
}
