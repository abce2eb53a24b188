//! What differs between two readings, what of it is live, and what is hidden.

use super::super::{Command, load};
use super::*;

fn read(file: &str) -> Effective {
    let path = std::env::temp_dir().join(format!("relay-reload-{}.toml", fastrand::u64(..)));
    std::fs::write(&path, file).unwrap();
    let arguments = [OsString::from("--config"), path.clone().into()];
    let loaded = load(arguments, []);
    std::fs::remove_file(path).unwrap();
    match loaded {
        Ok(Command::Run(effective)) => *effective,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_differs_is_listed_and_what_needs_a_restart_stays_as_it_was() {
    let old = read("[limits]\nlog_span = \"9s\"\nmail_ring_max = 64\n[apps.a]\njoin = \"live\"\n");
    let new = read(
        "[node]\nworkers = 7\n[limits]\nlog_span = \"8s\"\nmail_ring_max = 128\n[apps.b]\nflush = \
         \"20ms\"\n[log]\nlevel = \"warn\"\nformat = \"json\"\n",
    );
    let changes = old.changes(&new);
    let find = |name: &str| {
        let change = changes.iter().find(|change| change.name == name);
        let change = change.unwrap_or_else(|| panic!("{name}: {changes:?}"));
        (change.from.as_deref(), change.to.as_deref(), change.live)
    };
    assert_eq!(find("limits.log_span"), (Some("\"9s\""), Some("\"8s\""), true));
    assert_eq!(find("limits.mail_ring_max"), (Some("64"), Some("128"), false));
    assert_eq!(find("node.workers"), (Some("\"auto\""), Some("7"), false));
    // Sections come and go; what changes is what holds for their applications.
    assert_eq!(find("apps.a.join"), (Some("\"live\""), Some("\"gop\""), true));
    assert_eq!(find("apps.b.flush"), (Some("\"auto\""), Some("\"20ms\""), true));
    let of_apps = changes.iter().filter(|change| change.name.starts_with("apps."));
    assert_eq!(of_apps.count(), 2, "{changes:?}");
    assert_eq!(find("log.level"), (Some("\"info\""), Some("\"warn\""), true));
    assert_eq!(find("log.format"), (Some("\"text\""), Some("\"json\""), false));

    let force = new.clone().as_far_as_live(&old);
    assert_eq!(force.config.settings.limits.log_span.as_secs(), 8);
    assert_eq!(force.config.settings.limits.mail_ring_max, 64);
    assert_eq!((force.config.node.workers, force.config.log.format), (None, old.config.log.format));
    // Reading the same again tells the same restart again, and nothing else.
    let left = force.changes(&new);
    let left: Vec<_> = left.iter().map(|change| (change.name.as_str(), change.live)).collect();
    let expected =
        [("node.workers", false), ("limits.mail_ring_max", false), ("log.format", false)];
    assert_eq!(left, expected);
    assert!(new.changes(&new).is_empty());
}

#[test]
fn listeners_and_certificates_stay_as_they_were() {
    let old = read(
        "[listen]\nproxy_from = \"10.0.0.0/8\"\n[[listeners]]\naddress = \"[::]:443\"\nspeaks = \
         \"rtmp\"\n",
    );
    let new = read("[tls]\ntickets = 2\n[[tls.certificates]]\ncertificate = \"a\"\nkey = \"b\"\n");
    let force = new.clone().as_far_as_live(&old);
    assert_eq!(force.config.listeners, old.config.listeners);
    assert_eq!(force.config.tls, old.config.tls);
    assert_eq!(force.config.settings.listeners, old.config.settings.listeners);
    assert_eq!(force.config.settings.proxy_from, old.config.settings.proxy_from);
    assert_eq!(old.changes(&force), []);
    assert!(force.changes(&new).iter().all(|change| !change.live));
}

#[test]
fn every_section_is_decided() {
    let effective = read("[apps.live]\n");
    let mut sections: Vec<_> = effective.rows.iter().map(|row| row.section.as_str()).collect();
    sections.dedup();
    for section in sections {
        // A new section belongs into `is_live` and here.
        let restart = ["node", "listen", "tls", "sockets", "cluster"];
        let live = ["limits", "overflow", "http_flv", "access", "outside", "drain", "api", "log"];
        let known = restart.contains(&section) || live.contains(&section);
        assert!(known || section.starts_with("apps."), "[{section}]");
        let rows = effective.rows.iter().filter(|row| row.section == section);
        let any_live = rows.clone().any(Row::is_live);
        assert_eq!(any_live, !restart.contains(&section), "[{section}]");
    }
}

#[test]
fn values_are_shown_without_secrets() {
    fn check(name: &str, value: &str, shown: &str) {
        let row = Row {
            section: "x".to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
            source: Source::Default,
            why: "",
        };
        assert_eq!(row.shown_value(), shown, "{name}");
    }
    check("token_file", "\"/run/token\"", "\"/run/token\"");
    check("secret", "\"abc\"", "\"***\"");
    check("hook_secret", "\"abc\"", "\"***\"");
    check("publishers_per_key_max", "5", "5");
    check("url", "\"http://u:p@h/a?token=1\"", "\"http://***@h/a?***\"");
    check("url", "\"http://h/a\"", "\"http://h/a\"");
    check("to", "\"rtmp://a, rtmp://u:p@b:1/x\"", "\"rtmp://a, rtmp://***@b:1/x\"");
    check("list", "[\"http://h?x\", \"y\"]", "[\"http://h?***\", \"y\"]");
    check("plain", "7", "7");
    check("on_play", "\"http://h:8080/secret/play\"", "\"http://h:8080/***\"");
    check("on_play", "\"https://u:p@h/secret?x=1\"", "\"https://***@h/***\"");
    check("on_play", "\"http://h?secret\"", "\"http://h/***\"");
    check("on_play", "[\"http://a/\", \"http://b/x/y\"]", "[\"http://a/\", \"http://b/***\"]");
    check("on_play", "\"http://[::1]:8080\"", "\"http://[::1]:8080\"");
    check("on_play", "\"\"", "\"\"");
}
