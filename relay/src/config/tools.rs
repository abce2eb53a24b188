//! The commands beside running a node: `relay key` and `relay sign`, which make secrets and what is
//! signed with them, and the arguments of `relay top`.
//!
//! The first two print what an operator hands out and end. Nothing of it is kept or logged.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{secrets, text};
use crate::access::{
    Action, Claim, Network, key_line, password_hash, signed_name, signing_secrets,
};

/// Bytes of chance in a key that is made here.
const KEY_BYTES: usize = 24;

/// Longest key or password that is read.
const TYPED_BYTES_MAX: u64 = 1024;

/// The commands, for the parser of arguments.
pub(super) fn commands() -> [Command; 3] {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let sign = Command::new("sign")
        .about("Sign a URL for the rule \"signed FILE\" and print it")
        .arg(option("secrets", "FILE", "The file of secrets; its first one signs").required(true))
        .arg(
            option("action", "publish|play", "What the URL is for")
                .value_parser(["publish", "play"])
                .default_value("play"),
        )
        .arg(
            option("expires", "TIME", "How long it holds, such as \"90s\", \"12h\"")
                .default_value("1h"),
        )
        .arg(
            option("address", "ADDR", "The only address or network (CIDR) that may use it")
                .value_parser(|text: &str| text.parse::<Network>().map_err(|_| NO_NETWORK)),
        )
        .arg(
            Arg::new("url").value_name("URL").required(true).help(
                "The stream, such as rtmp://host/live/name or http://host:1935/live/name.flv",
            ),
        );
    let stdin = Arg::new("stdin")
        .long("stdin")
        .action(ArgAction::SetTrue)
        .help("Take the key or password from standard input instead of making one");
    let key = Command::new("key")
        .about("Make a stream key, or a user's password, and the line of a file for it")
        .arg(option("user", "NAME", "Make a password for this user (the rule \"password FILE\")"))
        .arg(stdin)
        .arg(
            Arg::new("name")
                .value_name("STREAM")
                .required(true)
                .value_parser(value_parser!(String))
                .help("The stream's name within its application; * stands for anything"),
        );
    let top = Command::new("top")
        .about("Show a relay's streams, cores and losses in the terminal, live")
        .arg(
            option("api", "URL", "The relay's address for operators")
                .default_value("http://localhost:8935"),
        )
        .arg(option(
            "token-file",
            "FILE",
            "A file whose first line that is no comment is a token of the API",
        ))
        .arg(
            option("interval", "TIME", "From one look to the next, 200ms to 60s")
                .default_value("2s"),
        )
        .arg(
            Arg::new("cluster")
                .long("cluster")
                .action(ArgAction::SetTrue)
                .help("All nodes of the relay's cluster together"),
        )
        .arg(
            Arg::new("once")
                .long("once")
                .action(ArgAction::SetTrue)
                .help("Look for a second, print one table and end"),
        );
    [sign, key, top]
}

const NO_NETWORK: &str = "an address or network such as 203.0.113.7 or 2001:db8::/32";

/// Runs one of them: what to print, or what was wrong as one sentence.
pub(super) fn run(name: &str, matches: &ArgMatches) -> Result<String, String> {
    match name {
        "sign" => sign(matches),
        _ => key(matches),
    }
}

/// What `relay top` is to show.
#[derive(Clone, PartialEq, Eq)]
pub struct Top {
    /// Where the API is.
    pub api: String,
    /// What to show it, if anything.
    pub token: Option<String>,
    /// From one look to the next.
    pub interval: Duration,
    /// All nodes of the relay's cluster.
    pub cluster: bool,
    /// One table, and no terminal.
    pub once: bool,
}

impl Default for Top {
    fn default() -> Self {
        let api = "http://localhost:8935".to_owned();
        Self { api, token: None, interval: Duration::from_secs(2), cluster: false, once: false }
    }
}

impl fmt::Debug for Top {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Top").field("api", &self.api).finish_non_exhaustive()
    }
}

/// The arguments of `relay top`, or what was wrong as one sentence.
pub(super) fn top(matches: &ArgMatches) -> Result<Top, String> {
    let given = |name| matches.get_one::<String>(name).map_or("", String::as_str);
    let least = Duration::from_millis(200);
    let interval = text::time(given("interval"));
    let interval = interval.filter(|time| (least..=Duration::from_secs(60)).contains(time));
    let interval = interval.ok_or_else(|| {
        let said = text::shown(given("interval"));
        format!("--interval is \"{said}\", but it must be a time from \"200ms\" to \"60s\".")
    })?;
    let token = match given("token-file") {
        "" => None,
        path => {
            let wrong = |why: &str| format!("--token-file must name a file of a token: {why}.");
            let file = secrets::read(path).map_err(|why| wrong(&why))?;
            let file = String::from_utf8(file).map_err(|_| wrong("it is not UTF-8 text"))?;
            let mut lines = file.lines().map(str::trim);
            let token = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
            Some(token.ok_or_else(|| wrong("it has none"))?.to_owned())
        }
    };
    let once = matches.get_flag("once");
    let cluster = matches.get_flag("cluster");
    Ok(Top { api: given("api").to_owned(), token, interval, cluster, once })
}

fn sign(matches: &ArgMatches) -> Result<String, String> {
    let given = |name| matches.get_one::<String>(name).map_or("", String::as_str);
    let (path, url) = (given("secrets"), given("url"));
    let wrong = |why: String| format!("The URL cannot be signed: --secrets must name {why}.");
    let secrets =
        secrets::read(path).map_err(|why| wrong(format!("a file that can be read: {why}")))?;
    let secrets = signing_secrets(path, &secrets).map_err(wrong)?;
    let secret = secrets.first().ok_or("The URL cannot be signed: there is no secret.")?;
    let time = text::time(given("expires")).filter(|time| *time >= Duration::from_secs(1));
    let time = time.ok_or_else(|| {
        format!(
            "--expires is \"{}\", but it must be a time such as \"90s\" or \"12h\".",
            given("expires")
        )
    })?;
    let name = signed_name(url).ok_or_else(|| {
        format!(
            "\"{}\" is no URL of a stream: it must be like rtmp://host/live/name.",
            text::shown(url)
        )
    })?;
    let action = if given("action") == "publish" { Action::Publish } else { Action::Play };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let expires = now.saturating_add(time).as_secs();
    let address = matches.get_one::<Network>("address").copied();
    let query = Claim { action, name: name.as_str(), expires, address }.sign(secret);
    let mark = if url.contains('?') { '&' } else { '?' };
    Ok(format!("{url}{mark}{query}\n"))
}

fn key(matches: &ArgMatches) -> Result<String, String> {
    let name = matches.get_one::<String>("name").map_or("", String::as_str);
    let user = matches.get_one::<String>("user");
    let fine = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    if !fine(name) || name.starts_with('#') || user.is_some_and(|user| !fine(user)) {
        return Err("Names of streams and users must not be empty or hold spaces.".to_owned());
    }
    let secret = if matches.get_flag("stdin") { typed()? } else { made()? };
    let salt: String = made()?.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let (line, what) = match user {
        Some(user) => (format!("{user} {}", password_hash(user, &salt, &secret)), "password"),
        None => (key_line(&salt, &secret), "key"),
    };
    Ok(format!("line: {name} {line}\n{what}: {secret}\n"))
}

fn made() -> Result<String, String> {
    let mut bytes = [0; KEY_BYTES];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| format!("No key can be made: /dev/urandom cannot be read: {error}."))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn typed() -> Result<String, String> {
    let mut text = String::new();
    let read = io::stdin().take(TYPED_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| format!("Standard input cannot be read: {error}."))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err("What standard input holds must be one word.".to_owned());
    }
    Ok(text.to_owned())
}
