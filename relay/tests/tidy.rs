//! Keeps the house: rooms import one way, nothing below the worker knows a clock or a socket,
//! `unsafe` stays in one file, files stay short. Every rule is a plain function with a test that
//! sees it fail.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the workspace.
struct Source {
    /// Path below the workspace, with `/`.
    path: String,
    /// The whole text.
    text: String,
}

impl Source {
    /// The lines that ship, with their numbers: no comments, no modules under `#[cfg(test)]`.
    fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut lines = Vec::new();
        let mut all = self.text.lines().enumerate().map(|(number, line)| (number + 1, line));
        if self.is_test() {
            return lines.into_iter();
        }
        while let Some((number, line)) = all.next() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            lines.push((number, line));
            if line != "#[cfg(test)]" {
                continue;
            }
            // A module of tests, behind its other attributes, ends in its line or at its brace.
            while let Some((number, line)) = all.next() {
                if line.starts_with("#[") {
                    continue;
                }
                let item = line.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
                if !item.starts_with("mod ") {
                    lines.push((number, line));
                } else if item.ends_with('{') {
                    let _ = all.find(|(_, line)| *line == "}");
                }
                break;
            }
        }
        lines.into_iter()
    }

    /// How many modules the file lies deep in its crate; a room is 1.
    fn depth(&self) -> usize {
        let Some(inside) = self.path.strip_prefix("relay/src/") else { return usize::MAX };
        inside.trim_end_matches("/mod.rs").split('/').count()
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests/")
            || self.path.ends_with("tests.rs")
            || self.path.contains("/contract")
            || self.path.contains("/benches/")
            || self.path.contains("/testing")
    }

    /// The room that a file of the relay library belongs to.
    fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("relay/src/")?;
        Some(inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs"))
    }
}

type Rule = fn(&Source) -> Vec<String>;

const RULES: &[(&str, Rule)] = &[
    ("rooms import one way", imports),
    ("no way around the rooms' rule", detours),
    ("below the worker nothing is ordered by chance", chance),
    ("pure rooms name no clock, chance, socket, thread, lock or logger", purity),
    ("the clock is read in one file of the worker", clock),
    ("the reactor knows no RTMP", reactor_knows_no_rtmp),
    ("unsafe stays in reactor/uring.rs", unsafe_code),
    ("files are short", file_length),
    ("comments are at most 100 columns wide", comment_width),
    ("files say why they exist", opening_words),
    ("nothing is left for later", leftovers),
    ("secrets are compared in constant time", constant_time),
];

/// Rooms that each room may import, besides itself and `limits`.
const IMPORTS: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("wire", &[]),
    ("session", &["wire"]),
    ("stream", &["wire"]),
    ("access", &["wire"]),
    ("cluster", &[]),
    ("reactor", &[]),
    ("tls", &[]),
    ("worker", &["wire", "session", "stream", "access", "cluster", "reactor", "tls"]),
    ("control", &["worker", "config", "access", "tls"]),
    ("config", &["worker", "access", "tls", "cluster"]),
    (
        "node",
        &[
            "wire", "session", "stream", "access", "cluster", "reactor", "tls", "worker",
            "control", "config",
        ],
    ),
    ("top", &["config"]),
    ("main", &["node", "config", "top"]),
];

fn imports(source: &Source) -> Vec<String> {
    let Some(room) = source.room() else { return Vec::new() };
    let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == room) else {
        return if room == "lib" { Vec::new() } else { vec![format!("'{room}' is no known room")] };
    };
    let prefix = if room == "main" { "relay::" } else { "crate::" };
    let mut wrong = Vec::new();
    for (number, line) in source.shipped() {
        for (at, _) in line.match_indices(prefix) {
            let rest = &line[at + prefix.len()..];
            let named: String =
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let known = IMPORTS.iter().any(|(name, _)| *name == named);
            let fine = named == room || named == "limits" || allowed.contains(&named.as_str());
            if known && !fine {
                wrong.push(format!("{number}: '{room}' imports '{named}'"));
            }
        }
    }
    wrong
}

/// Paths that `imports` cannot read: lists and aliases of the crate, and `super` out of the room.
fn detours(source: &Source) -> Vec<String> {
    if source.room().is_none_or(|room| matches!(room, "lib" | "main")) {
        return Vec::new();
    }
    let mut wrong = banned(source, &["crate::{", "crate::*", "use crate as", "extern crate self"]);
    for (number, line) in source.shipped() {
        let mut rest = line;
        while let Some(at) = rest.find("super::") {
            let mut levels = 0;
            rest = &rest[at..];
            while let Some(shorter) = rest.strip_prefix("super::") {
                levels += 1;
                rest = shorter;
            }
            if levels >= source.depth() || rest.starts_with("{super::") {
                wrong.push(format!("{number}: leaves the room by super"));
            }
        }
    }
    wrong
}

/// The standard maps are ordered anew in every process, so a run would not follow from its seed.
fn chance(source: &Source) -> Vec<String> {
    match source.room() {
        Some("wire" | "session" | "stream" | "access" | "cluster") => {
            banned(source, &["HashMap", "HashSet", "RandomState"])
        }
        Some("reactor") => banned(source, &["RandomState"]),
        _ => Vec::new(),
    }
}

fn purity(source: &Source) -> Vec<String> {
    const BANNED: &[&str] = &[
        "Instant",
        "SystemTime",
        "std::thread",
        "std::fs",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "Mutex",
        "RwLock",
        "fastrand",
        "tracing::",
        "log::info",
        "log::warn",
        "log::debug",
        "println!",
        "mio::",
        "tokio",
    ];
    if !matches!(source.room(), Some("wire" | "session" | "stream" | "access" | "cluster")) {
        return Vec::new();
    }
    banned(source, BANNED)
}

fn clock(source: &Source) -> Vec<String> {
    let exempt = source.path == "relay/src/worker/clock.rs";
    let watched = matches!(source.room(), Some("worker" | "reactor"));
    if watched && !exempt {
        banned(source, &["Instant::now", "SystemTime::now"])
    } else {
        Vec::new()
    }
}

fn reactor_knows_no_rtmp(source: &Source) -> Vec<String> {
    if source.room() != Some("reactor") {
        return Vec::new();
    }
    banned(source, &["rtmp", "Rtmp", "chunk_stream", "publish", "player"])
}

fn unsafe_code(source: &Source) -> Vec<String> {
    if source.path == "relay/src/reactor/uring.rs" {
        return Vec::new();
    }
    // Spelt in two halves so that this file does not name it.
    let word = concat!("uns", "afe");
    let mut wrong = banned(source, &[&format!("{word} {{"), &format!("{word} fn")]);
    // In whatever attribute: allow, expect, warn, cfg_attr.
    wrong.extend(banned(source, &[&format!("{word}_code")]));
    wrong
}

fn file_length(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines > 600 {
        vec![format!("{lines} lines: find the second idea in it")]
    } else {
        Vec::new()
    }
}

fn comment_width(source: &Source) -> Vec<String> {
    let wide = |line: &str| line.trim_start().starts_with("//") && line.chars().count() > 100;
    let lines = source.text.lines().enumerate();
    lines.filter(|(_, line)| wide(line)).map(|(n, _)| format!("{}: too wide", n + 1)).collect()
}

fn opening_words(source: &Source) -> Vec<String> {
    // A `tests.rs` beside its parent is explained by its parent.
    if source.text.starts_with("//!") || source.path.ends_with("/tests.rs") {
        Vec::new()
    } else {
        vec!["1: the file does not open with //! and its reason".to_owned()]
    }
}

fn leftovers(source: &Source) -> Vec<String> {
    let words = ["TO", "FIX", "XX"].map(|half| match half {
        "TO" => "TODO",
        "FIX" => "FIXME",
        _ => "XXX",
    });
    if source.path.ends_with("tests/tidy.rs") {
        return Vec::new();
    }
    let lines = source.text.lines().enumerate();
    lines
        .filter(|(_, line)| {
            words.iter().any(|word| line.contains(word))
                || line.contains("todo!(")
                || line.contains("unimplemented!(")
                || line.contains("#[ignore")
        })
        .map(|(number, line)| format!("{}: {}", number + 1, line.trim()))
        .collect()
}

/// Where something that a peer shows meets what is known of a secret: the file, the function, and
/// the comparison in it that takes the same time whatever it finds.
const COMPARISONS: &[(&str, &str, &str)] = &[
    ("relay/src/access/authmod.rs", "step", ".ct_eq("),
    ("relay/src/access/authmod.rs", "is_fresh", ".ct_eq("),
    ("relay/src/access/signed.rs", "judge", ".verify_slice("),
    ("relay/src/access/stream_keys.rs", "is", ".ct_eq("),
    ("relay/src/cluster/hello.rs", "proves", ".verify_slice("),
    ("relay/src/config/api.rs", "hold", ".fold("),
];

/// What secrets and their codes are called there.
const SECRET_WORDS: &[&str] =
    &["secret", "digest", "response", "signature", "password", "proof", "authentic", "code"];

/// The operator's own files, compared with each other.
const OWN_FILES: &[&str] =
    &["entry.proof == proof", "self.digest == other.digest", "key.family() =="];

fn constant_time(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, name, call) in COMPARISONS {
        if *path != source.path {
            continue;
        }
        let opening = [format!("fn {name}("), format!("fn {name}<")];
        let lines = source.shipped().map(|(_, line)| line);
        let mut body = lines.skip_while(|line| !opening.iter().any(|name| line.contains(name)));
        let head = body.next().unwrap_or_default();
        let indent = head.len() - head.trim_start().len();
        let ends = |line: &&str| !(line.trim() == "}" && line.find('}') == Some(indent));
        if !body.take_while(ends).any(|line| line.contains(call)) {
            wrong.push(format!("1: fn {name} does not compare by {call}..)"));
        }
    }
    let holds_secrets = source.path.starts_with("relay/src/access/")
        || COMPARISONS.iter().any(|(path, ..)| *path == source.path);
    if !holds_secrets {
        return wrong;
    }
    for (number, line) in source.shipped() {
        let compares = ["==", "!=", ".eq(", ".ne(", ".cmp("].iter().any(|way| line.contains(way));
        let is_own = OWN_FILES.iter().any(|own| line.contains(own));
        // Names of secrets, and not what merely begins like one.
        let mut words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        if compares && !is_own && words.any(|word| SECRET_WORDS.contains(&word)) {
            wrong.push(format!("{number}: {}", line.trim()));
        }
    }
    wrong
}

fn banned(source: &Source, words: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, line) in source.shipped() {
        for word in words {
            if line.contains(word) {
                wrong.push(format!("{number}: names {word}"));
            }
        }
    }
    wrong
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").into()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let root = workspace();
    let mut files = Vec::new();
    for part in ["relay", "loadgen", "bench"] {
        collect(&root.join(part), &mut files);
    }
    files.sort();
    files
        .into_iter()
        .map(|file| Source {
            path: file.strip_prefix(&root).expect("found below it").display().to_string(),
            text: fs::read_to_string(&file).expect("sources are text"),
        })
        .collect()
}

#[test]
fn the_house_is_tidy() {
    let sources = sources();
    assert!(sources.len() > 10, "the sources were not found");
    let mut wrong = String::new();
    for (name, rule) in RULES {
        for source in &sources {
            for line in rule(source) {
                wrong.push_str(&format!("{}:{line} ({name})\n", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_top_level_is_fixed() {
    const FIXED: &[&str] = &[
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE",
        "README.md",
        "bench",
        "dashboards",
        "k8s",
        "loadgen",
        "relay",
        "rustfmt.toml",
        "target",
    ];
    for entry in fs::read_dir(workspace()).expect("the workspace can be read") {
        let name = entry.expect("the entry can be read").file_name().into_string().expect("text");
        assert!(
            name.starts_with('.') || FIXED.contains(&name.as_str()),
            "'{name}' at the top level"
        );
    }
}

#[test]
fn every_rule_has_been_seen_failing() {
    let check = |rule: Rule, path: &str, text: &str, fails: bool| {
        let source = Source { path: path.to_owned(), text: text.to_owned() };
        assert_eq!(!rule(&source).is_empty(), fails, "{path}: {text}");
    };
    check(imports, "relay/src/wire/amf0.rs", "use crate::stream::Log;", true);
    check(imports, "relay/src/stream/log.rs", "use crate::wire::message;", false);
    check(imports, "relay/src/stream/log.rs", "use crate::limits::Limits;", false);
    check(imports, "relay/src/session/server.rs", "fn f(l: crate::stream::Log) {}", true);
    check(imports, "relay/src/kitchen/sink.rs", "", true);
    check(imports, "relay/src/main.rs", "use relay::worker::Turn;", true);
    check(purity, "relay/src/stream/log.rs", "let now = Instant::now();", true);
    check(purity, "relay/src/stream/log.rs", "// never Instant::now()", false);
    const TESTS: &str = "#[cfg(test)]\n#[allow(x)]\nmod tests {\n    use fastrand;\n}\n";
    check(purity, "relay/src/stream/log.rs", TESTS, false);
    check(purity, "relay/src/stream/log.rs", &format!("{TESTS}use fastrand;"), true);
    for module in ["mod tests;", "#[path = \"x.rs\"]\nmod tests;", "pub(crate) mod testing;"] {
        let text = format!("#[cfg(test)]\n{module}\nuse fastrand;");
        check(purity, "relay/src/stream/log.rs", &text, true);
    }
    check(purity, "relay/src/stream/log.rs", "#[cfg(test)]\nuse fastrand;", true);
    check(detours, "relay/src/stream/log.rs", "use crate::{wire, worker};", true);
    check(detours, "relay/src/stream/log.rs", "use crate as all;", true);
    check(detours, "relay/src/stream/log.rs", "use super::segment;", false);
    check(detours, "relay/src/stream/log.rs", "use super::super::worker;", true);
    check(detours, "relay/src/stream/log.rs", "use super::{super::worker};", true);
    check(detours, "relay/src/stream/mod.rs", "use super::worker;", true);
    check(detours, "relay/src/limits.rs", "use super::worker;", true);
    check(detours, "relay/src/session/server/streams.rs", "use super::super::error;", false);
    check(detours, "relay/src/session/server/mod.rs", "use super::super::wire;", true);
    check(detours, "relay/src/main.rs", "use relay::{config, node};", false);
    check(chance, "relay/src/stream/log.rs", "use std::collections::HashMap;", true);
    check(chance, "relay/src/stream/log.rs", "use std::collections::BTreeMap;", false);
    check(chance, "relay/src/reactor/sim.rs", "RandomState::new()", true);
    check(chance, "relay/src/worker/local.rs", "use std::collections::HashMap;", false);
    check(unsafe_code, "relay/src/a.rs", concat!("#![expect(uns", "afe_code)]"), true);
    check(unsafe_code, "relay/src/a.rs", concat!("#[cfg_attr(x, allow(uns", "afe_code))]"), true);
    check(purity, "relay/src/wire/x.rs", "tracing::info!()", true);
    check(clock, "relay/src/worker/turn.rs", "Instant::now()", true);
    check(clock, "relay/src/worker/clock.rs", "Instant::now()", false);
    check(reactor_knows_no_rtmp, "relay/src/reactor/poll.rs", "fn publish() {}", true);
    check(unsafe_code, "relay/src/reactor/poll.rs", concat!("uns", "afe { f() }"), true);
    check(unsafe_code, "relay/src/reactor/uring.rs", concat!("uns", "afe { f() }"), false);
    check(file_length, "relay/src/a.rs", &"x\n".repeat(601), true);
    check(file_length, "relay/src/a.rs", &"x\n".repeat(600), false);
    check(comment_width, "relay/src/a.rs", &format!("// {}", "x".repeat(98)), true);
    check(comment_width, "relay/src/a.rs", &format!("// {}", "x".repeat(97)), false);
    check(opening_words, "relay/src/a.rs", "use x;", true);
    check(leftovers, "relay/src/a.rs", concat!("// TO", "DO: later"), true);
    check(leftovers, "relay/src/a.rs", concat!("to", "do!()"), true);
    let keys = "relay/src/access/stream_keys.rs";
    let is = |compares: &str| {
        format!("impl X {{\n    fn is(&self) -> bool {{\n        {compares}\n    }}\n}}\n")
    };
    check(constant_time, keys, &is("known.ct_eq(shown).into()"), false);
    check(constant_time, keys, &is("known.iter().eq(shown)"), true);
    check(constant_time, keys, &is("known == shown"), true);
    check(constant_time, keys, "fn other() {\n    a.ct_eq(b)\n}\n", true);
    check(constant_time, "relay/src/access/users.rs", "if response == expected {}", true);
    check(constant_time, "relay/src/access/users.rs", "if self.digest != digest {}", true);
    check(constant_time, "relay/src/access/users.rs", "if method == Method::Adobe {}", false);
    check(constant_time, "relay/src/worker/mail.rs", "if code == 7 {}", false);
}
