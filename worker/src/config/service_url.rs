//! Addresses of services, which may carry a password.

use std::fmt;

/// A URL whose password shows in no text that it prints.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ServiceUrl(String);

impl ServiceUrl {
    /// Wraps `url`.
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with its password, for the client library alone.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// The part before the colon.
    pub(crate) fn scheme(&self) -> &str {
        self.0.split_once(':').map_or("", |(scheme, _)| scheme)
    }

    /// What follows `scheme:` or `scheme://`.
    pub(crate) fn location(&self) -> &str {
        let rest = self.0.split_once(':').map_or("", |(_, rest)| rest);
        rest.strip_prefix("//").unwrap_or(rest)
    }

    /// Whether a password stands in it: before the host, or as a parameter.
    pub(crate) fn has_password(&self) -> bool {
        self.redacted() != self.0
    }

    /// The URL with `***` for passwords.
    pub(crate) fn redacted(&self) -> String {
        let (base, parameters) = match self.0.split_once('?') {
            Some((base, parameters)) => (base, Some(parameters)),
            None => (self.0.as_str(), None),
        };
        let mut text = redacted_authority(base);
        for (number, parameter) in parameters.into_iter().flat_map(|p| p.split('&')).enumerate() {
            text.push(if number == 0 { '?' } else { '&' });
            match parameter.split_once('=') {
                Some((name, value)) if is_secret(name) && !value.is_empty() => {
                    text.push_str(name);
                    text.push_str("=***");
                }
                _ => text.push_str(parameter),
            }
        }
        text
    }
}

/// Hides `password` in `scheme://user:password@host`.
///
/// The last `@` ends the user part: a password that is not percent-encoded may hold others.
fn redacted_authority(base: &str) -> String {
    let Some((scheme, rest)) = base.split_once("://") else { return base.to_owned() };
    let Some((user_info, host)) = rest.rsplit_once('@') else { return base.to_owned() };
    match user_info.split_once(':') {
        Some((user, password)) if !password.is_empty() => format!("{scheme}://{user}:***@{host}"),
        _ => base.to_owned(),
    }
}

fn is_secret(parameter: &str) -> bool {
    let lower = parameter.to_lowercase();
    ["password", "passwd", "secret", "token"].iter().any(|word| lower.contains(word))
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl fmt::Debug for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_passwords_wherever_they_stand() {
        let hidden = |url| ServiceUrl::new(url).to_string();

        assert_eq!(hidden("postgres://p:s3cret@db/x"), "postgres://p:***@db/x");
        assert_eq!(hidden("amqp://p:a@b:c@mq:5672/%2f"), "amqp://p:***@mq:5672/%2f");
        assert_eq!(
            hidden("postgres://db/x?user=p&password=a"),
            "postgres://db/x?user=p&password=***"
        );
        assert_eq!(hidden("sqlite://var/prosector.db"), "sqlite://var/prosector.db");
        assert_eq!(format!("{:?}", ServiceUrl::new("amqp://u:p@h")), "amqp://u:***@h");
    }

    #[test]
    fn splits_scheme_and_location() {
        let url = ServiceUrl::new("sqlite://var/prosector.db");

        assert_eq!((url.scheme(), url.location()), ("sqlite", "var/prosector.db"));
        assert_eq!(ServiceUrl::new("embedded:").scheme(), "embedded");
        assert_eq!(ServiceUrl::new("file:///var/spool").location(), "/var/spool");
    }
}
