//! Answers to the servers' authentication plugins: pure functions of password and challenge.
//!
//! The exchange itself is in `handshake`. Supported are `mysql_native_password` and `caching_sha2_password`
//! (manual pages "Native Pluggable Authentication" and "Caching SHA-2 Pluggable Authentication"); every other
//! plugin is refused by name, those that want the password in clear text among them.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::error::WireError;
use super::rsa::PublicKey;

/// Length of the servers' random challenge.
pub(crate) const CHALLENGE_BYTES: usize = 20;

/// The random bytes that a server sends for each authentication.
pub(crate) type Challenge = [u8; CHALLENGE_BYTES];

/// A plugin that freshet can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthPlugin {
    Native,
    CachingSha2,
}

impl AuthPlugin {
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"mysql_native_password" => Some(AuthPlugin::Native),
            b"caching_sha2_password" => Some(AuthPlugin::CachingSha2),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            AuthPlugin::Native => "mysql_native_password",
            AuthPlugin::CachingSha2 => "caching_sha2_password",
        }
    }

    /// The first answer to a challenge; nothing for an empty password.
    pub(crate) fn answer(self, password: &str, challenge: &Challenge) -> Vec<u8> {
        if password.is_empty() {
            return Vec::new();
        }
        match self {
            AuthPlugin::Native => native_answer(password, challenge).to_vec(),
            AuthPlugin::CachingSha2 => caching_sha2_answer(password, challenge).to_vec(),
        }
    }
}

/// SHA1(password) XOR SHA1(challenge, SHA1(SHA1(password))).
fn native_answer(password: &str, challenge: &Challenge) -> [u8; 20] {
    let once = Sha1::digest(password);
    let twice = Sha1::digest(once);
    let mut answer: [u8; 20] = Sha1::new().chain_update(challenge).chain_update(twice).finalize().into();
    answer.iter_mut().zip(once).for_each(|(byte, mask)| *byte ^= mask);
    answer
}

/// SHA256(password) XOR SHA256(SHA256(SHA256(password)), challenge).
fn caching_sha2_answer(password: &str, challenge: &Challenge) -> [u8; 32] {
    let once = Sha256::digest(password);
    let twice = Sha256::digest(once);
    let mut answer: [u8; 32] = Sha256::new().chain_update(twice).chain_update(challenge).finalize().into();
    answer.iter_mut().zip(once).for_each(|(byte, mask)| *byte ^= mask);
    answer
}

/// The password for the full exchange of `caching_sha2_password` without TLS: ended by a zero, XORed with the
/// challenge, encrypted under the key that the server sent.
pub(crate) fn encrypted_password(
    password: &str,
    challenge: &Challenge,
    key_pem: &[u8],
) -> Result<Vec<u8>, WireError> {
    let key = PublicKey::from_pem(key_pem)
        .ok_or_else(|| WireError::protocol("the server's RSA key is not readable"))?;
    let mut message = password.as_bytes().to_vec();
    message.push(0);
    message.iter_mut().zip(challenge.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    let cipher = key.encrypt(&message, rand::random());
    cipher.ok_or_else(|| WireError::Auth { what: "the password does not fit the server's RSA key; use TLS" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    const CHALLENGE: &Challenge =
        b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14";

    /// Expected values computed with Python's hashlib from the formulas of the manual.
    #[test]
    fn answers_match_the_formulas() {
        assert_eq!(hex(&AuthPlugin::Native.answer("secret", CHALLENGE)), NATIVE);
        assert_eq!(hex(&AuthPlugin::CachingSha2.answer("secret", CHALLENGE)), SHA2);
    }

    #[test]
    fn an_empty_password_is_an_empty_answer() {
        assert!(AuthPlugin::Native.answer("", CHALLENGE).is_empty());
        assert!(AuthPlugin::CachingSha2.answer("", CHALLENGE).is_empty());
    }

    #[test]
    fn other_plugins_are_not_known() {
        for name in
            ["mysql_clear_password", "client_ed25519", "parsec", "sha256_password", "mysql_old_password"]
        {
            assert_eq!(AuthPlugin::from_name(name.as_bytes()), None);
        }
    }

    const NATIVE: &str = "b32bb3a583e1340c0a1108d58b1be49781ad8c2f";
    const SHA2: &str = "746ebe205d56a0707acb3e796e834e0dd7b1d61743b26bd5202c7a623230c7c9";
}
