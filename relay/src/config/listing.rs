//! The settings as text: for `--check`, with the values in force, and for `--help`.

use super::fronts::ITEM_SETTINGS;
use super::key::Key;
use super::settings::{ANY_APP, APPS};
use super::{Row, Source};

/// The configuration in force as a file that would give the same one, with the source of each
/// value, and the default where somebody set another.
pub(super) fn check(rows: &[Row], defaults: &[Row]) -> String {
    let mut out = String::new();
    let mut section = "";
    for row in rows {
        if row.section != section {
            section = &row.section;
            out.push_str(if out.is_empty() { "" } else { "\n" });
            out.push_str(&format!("[{section}]\n"));
        }
        for line in wrap(row.why, 96) {
            out.push_str(&format!("# {line}\n"));
        }
        out.push_str(&format!("{} = {} # {}", row.name, row.value, row.source));
        match default_of(row, defaults) {
            Some(default) if row.source != Source::Default => {
                out.push_str(&format!("; default: {}\n", default.value));
            }
            _ => out.push('\n'),
        }
    }
    out
}

/// The default of a setting; that of an application is the one of all applications.
fn default_of<'a>(row: &Row, defaults: &'a [Row]) -> Option<&'a Row> {
    let any_app = Key::new(&[APPS, ANY_APP, &row.name]).section();
    let is_app = row.section.starts_with(&format!("{APPS}."));
    let section = if is_app { &any_app } else { &row.section };
    defaults.iter().find(|default| default.section == *section && default.name == row.name)
}

/// Every setting with its default and meaning, below the flags of `--help`.
pub(super) fn help(rows: &[Row]) -> String {
    let mut out = String::from(
        "Settings (flags > environment, as RELAY_SECTION__NAME > configuration file > default):\n",
    );
    let mut section = "";
    for row in rows {
        if row.section != section {
            section = &row.section;
            out.push_str(&format!("\n  [{section}]\n"));
        }
        out.push_str(&format!("  {} = {}\n", row.name, row.value));
        for line in wrap(row.why, 90) {
            out.push_str(&format!("      {line}\n"));
        }
    }
    let mut table: &[&str] = &[];
    for item in ITEM_SETTINGS {
        if item.table != table {
            table = item.table;
            out.push_str(&format!("\n  [[{}]] (any number of them)\n", table.join(".")));
        }
        out.push_str(&format!("  {}\n", item.name));
        for line in wrap(item.why, 90) {
            out.push_str(&format!("      {line}\n"));
        }
    }
    out.push_str(
        "\nSettings of [apps.\"*\"] hold for every application without a section of its own, such as \
         [apps.\"live\"],\nor of a beginning of its name, such as [apps.\"live*\"]; of these the longest holds.\nNames of applications are compared letter by letter, in variables too: \
         RELAY_APPS__live__JOIN is about \"live\",\nRELAY_APPS__LIVE__JOIN about \"LIVE\".\nExit codes: 0 ended in order, 1 cannot start, 2 bad configuration or \
         arguments.",
    );
    out
}

/// Breaks a text between words into lines of at most `width` characters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
