//! Settings from the configuration file, which is TOML.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::key::{Given, Key};
use super::{Source, fronts, settings};

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The settings of a file, in its order, or why there are none, as one sentence.
pub(super) fn read(path: &Path) -> Result<Vec<Given>, String> {
    let shown = path.display().to_string();
    let fail = |why: String| format!("The configuration file {shown} {why}.");
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| fail(format!("cannot be read: {error}")))?;
    if u64::try_from(text.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(fail(format!("is longer than {FILE_BYTES_MAX} bytes")));
    }
    parse(&shown, &text)
}

/// The settings of a text; `name` is what to call it in sentences.
pub(super) fn parse(name: &str, text: &str) -> Result<Vec<Given>, String> {
    let root = DeTable::parse(text).map_err(|error| {
        let line = line(text, error.span().map_or(0, |span| span.start));
        let why = error.message().trim_end_matches('.').replace('\n', ", ");
        format!("The configuration file {name} is not TOML at line {line}: {why}.")
    })?;
    let mut given = Vec::new();
    walk(name, text, &mut Vec::new(), root.get_ref(), &mut given);
    given.sort_by_key(|(position, _)| *position);
    Ok(given.into_iter().map(|(_, given)| given).collect())
}

/// Recursion is bounded by the TOML parser's own limit on nesting.
fn walk(
    name: &str,
    text: &str,
    parts: &mut Vec<String>,
    table: &DeTable<'_>,
    out: &mut Vec<(usize, Given)>,
) {
    for (key, value) in table {
        parts.push(key.get_ref().to_string());
        let start = key.span().start;
        // A table that exists may be empty; another one is looked at like a value, so that a
        // mistyped section is found even when all of its lines are commented out.
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() || is_section(parts) => {
                walk(name, text, parts, inner, out);
            }
            DeValue::Array(items) if is_numbered(parts) && !items.is_empty() => {
                for (index, item) in items.iter().enumerate() {
                    parts.push((index + 1).to_string());
                    match item.get_ref() {
                        DeValue::Table(inner) => walk(name, text, parts, inner, out),
                        _ => {
                            let value = text.get(item.span()).unwrap_or_default().to_owned();
                            let source = Source::File(name.to_owned(), line(text, start));
                            out.push((
                                start,
                                Given { key: Key(parts.clone()), text: value, source },
                            ));
                        }
                    }
                    parts.pop();
                }
            }
            other => {
                let value = match other {
                    DeValue::String(value) => value.to_string(),
                    DeValue::Integer(value) if value.radix() == 10 => value.as_str().to_owned(),
                    _ => text.get(value.span()).unwrap_or_default().to_owned(),
                };
                let source = Source::File(name.to_owned(), line(text, start));
                out.push((start, Given { key: Key(parts.clone()), text: value, source }));
            }
        }
        parts.pop();
    }
}

/// Whether the name is that of numbered tables (`[[listeners]]`).
fn is_numbered(parts: &[String]) -> bool {
    [fronts::LISTENERS, fronts::CERTIFICATES]
        .contains(&&*parts.iter().map(String::as_str).collect::<Vec<_>>())
}

fn is_section(parts: &[String]) -> bool {
    match parts {
        [section] => settings::sections().any(|known| known == section),
        [section, _] => section == settings::APPS,
        _ => false,
    }
}

/// The number of the line, from 1, that holds a byte offset.
fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
