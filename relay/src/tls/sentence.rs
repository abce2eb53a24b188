//! What went wrong in TLS, as an operator reads it: rustls names its errors for programmers.
//!
//! Nothing here decides anything; the error has been judged before.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Why TLS failed, as the end of a sentence.
#[must_use]
pub fn sentence(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => certificate(why),
        Error::AlertReceived(alert) => received(*alert),
        Error::PeerIncompatible(why) => incompatible(why),
        Error::PeerMisbehaved(why) => words(&format!("{why:?}")),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what came is no TLS".to_owned()
        }
        Error::InvalidMessage(why) => format!("a message is malformed ({})", words(&of(why))),
        Error::InappropriateMessage { got_type, .. } => out_of_turn(&of(got_type)),
        Error::InappropriateHandshakeMessage { got_type, .. } => out_of_turn(&of(got_type)),
        Error::NoCertificatesPresented => "it shows no certificate".to_owned(),
        Error::DecryptError => "what came cannot be decrypted".to_owned(),
        Error::NoApplicationProtocol => "no application protocol is common to both".to_owned(),
        error => words(&error.to_string()),
    }
}

fn out_of_turn(got: &str) -> String {
    format!("a message came out of turn ({})", words(got))
}

fn certificate(why: &CertificateError) -> String {
    let text = match why {
        CertificateError::BadEncoding => "it is malformed",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet"
        }
        CertificateError::Revoked => "it was revoked",
        CertificateError::UnknownIssuer => "it is issued by nobody who is trusted here",
        CertificateError::BadSignature => "it is not signed by who it says",
        CertificateError::NotValidForName => "it is for another name",
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented = match presented.as_slice() {
                [] => "none".to_owned(),
                names => names.iter().map(|name| plain_name(name)).collect::<Vec<_>>().join(", "),
            };
            return format!("it is not for {}; its names: {presented}", expected.to_str());
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it may not be used by a server"
        }
        CertificateError::Other(other) => match other.0.to_string().as_str() {
            "CaUsedAsEndEntity" => {
                "it is that of an authority (basicConstraints CA:TRUE), not of a server"
            }
            "UnsupportedCertVersion" => "it is of another version of X.509 than 3",
            text => return words(text),
        },
        why => return words(&of(why)),
    };
    text.to_owned()
}

/// A name of a certificate: rustls shows its kind around it, `DnsName("a.example")`.
fn plain_name(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

fn received(alert: AlertDescription) -> String {
    let text = match alert {
        AlertDescription::UnknownCA => "it does not know who issued the certificate",
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "it does not accept the certificate"
        }
        AlertDescription::CertificateExpired => "for it the certificate has expired",
        AlertDescription::CertificateRevoked => "for it the certificate was revoked",
        AlertDescription::UnsupportedCertificate => "it does not take certificates of this kind",
        AlertDescription::ProtocolVersion => "it does not speak this version of TLS",
        AlertDescription::HandshakeFailure => "nothing that both sides offer fits together",
        AlertDescription::InsufficientSecurity => "the ciphers are too weak for it",
        AlertDescription::UnrecognisedName => "it has no certificate for this name",
        AlertDescription::UserCanceled => "it broke off",
        alert => return words(&of(&alert)),
    };
    text.to_owned()
}

fn incompatible(why: &PeerIncompatible) -> String {
    let text = match why {
        PeerIncompatible::NoCipherSuitesInCommon => "no cipher suite is common to both sides",
        PeerIncompatible::NoKxGroupsInCommon => "no key exchange is common to both sides",
        PeerIncompatible::NoSignatureSchemesInCommon => {
            "no way to sign is common to both sides, or none fits the certificate"
        }
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => {
            "the other side speaks neither TLS 1.2 nor 1.3"
        }
        why => return words(&of(why)),
    };
    text.to_owned()
}

fn of(name: &impl std::fmt::Debug) -> String {
    format!("{name:?}")
}

/// The name of an error as words: `EndEntityUsedAsCa` is "end entity used as ca".
fn words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 8);
    let mut before = ' ';
    for letter in name.chars() {
        let begins = letter.is_ascii_uppercase() && before.is_ascii_lowercase();
        if begins {
            words.push(' ');
        }
        let lower = begins || (words.is_empty() && letter.is_ascii_uppercase());
        words.push(if lower { letter.to_ascii_lowercase() } else { letter });
        before = letter;
    }
    words
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{OtherError, PeerMisbehaved};

    use super::*;

    #[derive(Debug)]
    struct Named(&'static str);

    impl std::fmt::Display for Named {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Named {}

    #[test]
    fn errors_are_sentences() {
        fn check(error: impl Into<Error>, expected: &str) {
            assert_eq!(sentence(&error.into()), expected);
        }
        let other = |name| CertificateError::Other(OtherError(Arc::new(Named(name))));
        check(
            other("CaUsedAsEndEntity"),
            "it is that of an authority (basicConstraints CA:TRUE), not of a server",
        );
        check(other("EndEntityUsedAsCa"), "end entity used as ca");
        check(CertificateError::UnknownIssuer, "it is issued by nobody who is trusted here");
        check(CertificateError::UnhandledCriticalExtension, "unhandled critical extension");
        check(
            Error::AlertReceived(AlertDescription::CertificateUnknown),
            "it does not accept the certificate",
        );
        check(Error::AlertReceived(AlertDescription::DecodeError), "decode error");
        check(Error::AlertReceived(AlertDescription::Unknown(0xfe)), "alert description(0xfe)");
        check(PeerIncompatible::NoCipherSuitesInCommon, "no cipher suite is common to both sides");
        check(PeerMisbehaved::MissingKeyShare, "missing key share");
        check(
            Error::InvalidMessage(InvalidMessage::TrailingData("a")),
            "a message is malformed (trailing data(\"a\"))",
        );
        check(Error::InvalidMessage(InvalidMessage::InvalidContentType), "what came is no TLS");
        check(
            Error::InappropriateMessage {
                expect_types: Vec::new(),
                got_type: rustls::ContentType::ApplicationData,
            },
            "a message came out of turn (application data)",
        );
    }
}
