//! Numbered tables from every source, and what they may not be.

use super::super::draft::Draft;
use super::super::{Effective, environment, file, listing};
use super::*;

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Effective, Vec<String>> {
    let mut draft = Draft::new();
    draft.take(file::parse("relay.toml", text).unwrap());
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    draft.take(environment::read(variables).unwrap());
    draft.finish().map_err(|error| error.sentences)
}

const PAIR: &str = "[[tls.certificates]]\ncertificate = \"a.crt\"\nkey = \"a.key\"\n";

#[test]
fn tables_are_numbered_in_the_order_of_the_file_and_the_environment_wins() {
    let text = format!(
        "[listen]\nproxy_from = [\"10.0.0.0/8\", \"fd00::1\"]\n[[listeners]]\naddress = \
         \"[::]:443\"\nspeaks = \"rtmps, https\"\n[[listeners]]\naddress = \"[::]:80\"\nspeaks = \
         [\"http\"]\n[tls]\ntickets = 2\n{PAIR}"
    );
    let variables = [
        ("RELAY_TLS__CERTIFICATES__1__KEY", "b.key"),
        ("RELAY_TLS__CERTIFICATES__2__KEY", "C.key"),
        ("RELAY_TLS__CERTIFICATES__2__CERTIFICATE", "c.crt"),
        ("RELAY_LISTENERS__2__ADDRESS", "127.0.0.1:0"),
    ];
    let effective = read(&text, &variables).unwrap();
    let config = &effective.config;
    let files: Vec<_> = config
        .tls
        .certificates
        .iter()
        .map(|pair| (pair.certificate.to_str().unwrap(), pair.key.to_str().unwrap()))
        .collect();
    assert_eq!(files, [("a.crt", "b.key"), ("c.crt", "C.key")]);
    let found: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| (listener.address.unwrap().to_string(), shown(listener.speaks)))
        .collect();
    let expected = [("[::]:443", "rtmps, https"), ("127.0.0.1:0", "http")];
    assert_eq!(found, expected.map(|(at, speaks)| (at.to_owned(), speaks.to_owned())));
    assert_eq!(config.settings.listeners.len(), 3, "listen.rtmp is the first");
    assert_eq!(config.settings.listeners[0], Speaks::default());
    let trusted = |address: &str| config.settings.is_proxy(address.parse().unwrap());
    assert!(trusted("10.1.2.3") && trusted("fd00::1") && !trusted("fd00::2"));
    assert!(!trusted("11.0.0.1"));
    // What --check prints gives the same again.
    let printed = listing::check(&effective.rows, &Draft::new().rows());
    let again = read(&printed, &[]).unwrap();
    assert_eq!(again.config.tls, config.tls);
    assert_eq!(again.config.listeners, config.listeners);
    assert_eq!(again.config.settings.proxy_from, config.settings.proxy_from);
}

#[test]
fn mistakes_are_told_by_table_and_setting() {
    fn check(text: &str, expected: &str) {
        let sentences = read(text, &[]).unwrap_err();
        assert!(sentences.iter().any(|said| said.contains(expected)), "{text:?}: {sentences:?}");
    }
    let listener = |address: &str, speaks: &str| {
        format!("[[listeners]]\naddress = \"{address}\"\nspeaks = \"{speaks}\"\n")
    };
    check("[[tls.certificates]]\nkey = \"a\"\n", "tls.certificates.1.certificate is \"\"");
    check("[[tls.certificates]]\ncertificate = \"a\"\n", "tls.certificates.1.key is \"\"");
    check(&format!("{PAIR}[[tls.certificates]]\nkey = \"\"\n"), "tls.certificates.2.key is \"\"");
    check("[tls]\ntickets = 9\n", "tls.tickets is \"9\"");
    check("[[listeners]]\nspeaks = \"rtmp\"\n", "listeners.1.address is \"\"");
    check(&listener("[::]:443", "rtmps"), "more than TLS, since tls.certificates names none");
    check(&listener("[::]:443", ""), "listeners.1.speaks is \"\"");
    check(&listener("[::]:443", "rtmp, ftp"), "listeners.1.speaks is \"rtmp, ftp\"");
    check(&listener("host:443", "rtmp"), "listeners.1.address is \"host:443\"");
    check(&listener("[::]:1935", "rtmp"), "another address or port than listen.rtmp");
    check(&listener("0.0.0.0:8935", "rtmp"), "another address or port than listen.http");
    let twice = listener("[::]:80", "http") + &listener("127.0.0.1:80", "rtmp");
    check(&twice, "another address or port than listeners.1.address");
    check("[[listeners]]\nspeak = 1\n", "the nearest is listeners.1.speaks");
    check("[listeners.0]\naddress = \"[::]:80\"\n", "a table with a number from 1 to 64");
    check("[listeners.65]\naddress = \"[::]:80\"\n", "a table with a number from 1 to 64");
    check("[listen]\nproxy_from = \"10.0.0.0/33\"\n", "listen.proxy_from is \"10.0.0.0/33\"");
    check("listeners = [\"x\"]\n", "listeners");
}
