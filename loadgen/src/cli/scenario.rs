//! Scenario files: the command line, said in TOML.
//!
//! Each key becomes the option of that name, before what the command line says itself; an option
//! given there too is left out of the file. So a file can say nothing that the command line cannot,
//! and is judged by the same rules.

use std::ffi::OsString;
use std::path::Path;

use toml::Value;

use crate::failure::Failure;

/// Puts the options of the scenario file, if the arguments name one, in front of the others.
///
/// # Errors
/// One sentence when the file cannot be read or holds what is no option.
pub(super) fn expand(arguments: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let Some(path) = named_file(&arguments) else { return Ok(arguments) };
    let name = path.to_string_lossy().into_owned();
    let text = std::fs::read_to_string(Path::new(&path))
        .map_err(|error| Failure::new(format!("{name} cannot be read: {error}")))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
        Failure::new(format!("{name}, line {line}: {}", error.message().replace('\n', " ")))
    })?;
    merge(&table, arguments).map_err(|why| Failure::new(format!("{name}: {why}")))
}

fn named_file(arguments: &[OsString]) -> Option<OsString> {
    for (place, argument) in arguments.iter().enumerate() {
        let argument = argument.to_str().unwrap_or_default();
        if argument == "--scenario" {
            return arguments.get(place + 1).cloned();
        }
        if let Some(path) = argument.strip_prefix("--scenario=") {
            return Some(path.into());
        }
    }
    None
}

fn merge(table: &toml::Table, arguments: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let mut arguments = arguments.into_iter();
    let mut merged: Vec<OsString> = arguments.next().into_iter().collect();
    let mut rest: Vec<OsString> = arguments.collect();
    let has_command = rest.first().is_some_and(|first| !first.to_string_lossy().starts_with('-'));
    if has_command {
        merged.push(rest.remove(0));
    } else if let Some(command) = table.get("command") {
        merged.push(command.as_str().ok_or("command is no text")?.into());
    }
    for (key, value) in table.iter().filter(|(key, _)| *key != "command") {
        let option = format!("--{}", key.replace('_', "-"));
        let given = rest.iter().any(|argument| {
            let argument = argument.to_string_lossy();
            argument == option.as_str() || argument.starts_with(&format!("{option}="))
        });
        if !given {
            merged.extend(said(&option, value)?.into_iter().map(OsString::from));
        }
    }
    merged.extend(rest);
    Ok(merged)
}

/// An option with its value, as one argument each.
fn said(option: &str, value: &Value) -> Result<Vec<String>, String> {
    Ok(match value {
        Value::Boolean(true) => vec![option.to_owned()],
        Value::Boolean(false) => Vec::new(),
        Value::String(text) => vec![format!("{option}={text}")],
        Value::Integer(number) => vec![format!("{option}={number}")],
        Value::Float(number) => vec![format!("{option}={number}")],
        Value::Array(values) => {
            let each: Result<Vec<_>, _> = values.iter().map(|value| said(option, value)).collect();
            each?.concat()
        }
        Value::Datetime(_) | Value::Table(_) => {
            return Err(format!("{} is neither text nor number", option.trim_start_matches('-')));
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn merged(toml: &str, arguments: &[&str]) -> Result<Vec<String>, String> {
        let table: toml::Table = toml.parse().unwrap();
        let arguments = arguments.iter().map(OsString::from).collect();
        let merged = merge(&table, arguments)?;
        Ok(merged.into_iter().map(|argument| argument.into_string().unwrap()).collect())
    }

    #[test]
    fn a_file_says_what_the_command_line_could() {
        let check = |toml: &str, arguments: &[&str], expected: &[&str]| {
            assert_eq!(merged(toml, arguments).unwrap(), expected);
        };
        check(
            "command = 'run'\nplayers = 5\nfps = 29.97\nreconnect = true\nquiet = false",
            &["loadgen", "--scenario", "x"],
            &["loadgen", "run", "--fps=29.97", "--players=5", "--reconnect", "--scenario", "x"],
        );
        check(
            "command = 'run'\nplayers = 5\ntarget = ['a', 'b']",
            &["loadgen", "storm", "--players", "7"],
            &["loadgen", "storm", "--target=a", "--target=b", "--players", "7"],
        );
        check(
            "server_pid = 5",
            &["loadgen", "run", "--server-pid=7"],
            &["loadgen", "run", "--server-pid=7"],
        );
    }

    #[test]
    fn what_is_no_option_is_refused() {
        assert!(merged("players = {a = 1}", &["loadgen", "run"]).is_err());
        assert!(merged("command = 5", &["loadgen"]).is_err());
    }
}
