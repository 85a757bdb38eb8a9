//! RSA encryption under a server's public key: OAEP with SHA-1 and an empty label (RFC 8017, 7.1.1).
//!
//! Only what `caching_sha2_password` needs to send a password without TLS; no private keys, no signatures.
//! The key comes from the network: every length is checked, and its size is bounded.

use num_bigint::BigUint;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use sha1::{Digest, Sha1};

const HASH_BYTES: usize = 20;

/// Keys of 1024 to 16384 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 128..=2048;

/// A public key.
pub(crate) struct PublicKey {
    modulus: BigUint,
    exponent: BigUint,
    modulus_bytes: usize,
}

impl PublicKey {
    /// Reads a key from PEM ("BEGIN PUBLIC KEY"); `None` if it is none.
    pub(crate) fn from_pem(pem: &[u8]) -> Option<Self> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
        let (info, _) = der_value(&der, 0x30)?;
        let (_algorithm, info) = der_value(info, 0x30)?;
        let (bits, _) = der_value(info, 0x03)?;
        let (numbers, _) = der_value(bits.strip_prefix(&[0])?, 0x30)?;
        let (modulus, numbers) = der_value(numbers, 0x02)?;
        let (exponent, _) = der_value(numbers, 0x02)?;
        let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
        let usable = MODULUS_BYTES.contains(&modulus.len()) && (1..=8).contains(&exponent.len());
        usable.then(|| PublicKey {
            modulus: BigUint::from_bytes_be(modulus),
            exponent: BigUint::from_bytes_be(exponent),
            modulus_bytes: modulus.len(),
        })
    }

    /// Encrypts `message` with the random `seed`; `None` if it is too long for the key.
    pub(crate) fn encrypt(&self, message: &[u8], seed: [u8; HASH_BYTES]) -> Option<Vec<u8>> {
        let block_bytes = self.modulus_bytes - HASH_BYTES - 1;
        let padding = (block_bytes - HASH_BYTES - 1).checked_sub(message.len())?;
        let mut block = Sha1::digest([]).to_vec();
        block.resize(HASH_BYTES + padding, 0);
        block.push(1);
        block.extend_from_slice(message);
        mask(&mut block, &seed);
        let mut masked_seed = seed;
        mask(&mut masked_seed, &block);
        let encoded = BigUint::from_bytes_be(&[&masked_seed[..], &block[..]].concat());
        if self.modulus.bit(0) && encoded < self.modulus {
            let cipher = encoded.modpow(&self.exponent, &self.modulus).to_bytes_be();
            let mut out = vec![0; self.modulus_bytes.checked_sub(cipher.len())?];
            out.extend_from_slice(&cipher);
            return Some(out);
        }
        None
    }
}

/// XORs `bytes` with the mask that MGF1 makes of `seed`.
fn mask(bytes: &mut [u8], seed: &[u8]) {
    for (counter, part) in (0u32..).zip(bytes.chunks_mut(HASH_BYTES)) {
        let hash = Sha1::new().chain_update(seed).chain_update(counter.to_be_bytes()).finalize();
        part.iter_mut().zip(hash).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// The value of the DER element with `tag` at the start of `bytes`, and what follows it.
fn der_value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&[tag])?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7F => (usize::from(short), rest),
        0x81 => rest.split_first().map(|(byte, rest)| (usize::from(*byte), rest))?,
        0x82 => rest
            .split_first_chunk::<2>()
            .map(|(bytes, rest)| (usize::from(u16::from_be_bytes(*bytes)), rest))?,
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A key of 1024 bits made for this test with `openssl genrsa`.
    const PEM: &str = include_str!("testdata/rsa1024.pub.pem");
    /// Its private exponent.
    const PRIVATE: &str = include_str!("testdata/rsa1024.exponent.hex");

    #[test]
    fn what_is_encrypted_can_be_decrypted() {
        let key = PublicKey::from_pem(PEM.as_bytes()).unwrap();
        let seed = [7; HASH_BYTES];
        let cipher = key.encrypt(b"password\0", seed).unwrap();
        assert_eq!(cipher.len(), 128);
        let private = BigUint::parse_bytes(PRIVATE.trim().as_bytes(), 16).unwrap();
        let encoded = BigUint::from_bytes_be(&cipher).modpow(&private, &key.modulus).to_bytes_be();
        let (masked_seed, block) = encoded.split_at(HASH_BYTES);
        let (mut found_seed, mut block) = (masked_seed.to_vec(), block.to_vec());
        mask(&mut found_seed, &block);
        assert_eq!(found_seed, seed);
        mask(&mut block, &seed);
        assert!(block.starts_with(&Sha1::digest([])));
        assert!(block.ends_with(b"\x01password\0"));
    }

    #[test]
    fn a_message_too_long_is_refused() {
        let key = PublicKey::from_pem(PEM.as_bytes()).unwrap();
        assert!(key.encrypt(&[1; 86], [0; HASH_BYTES]).is_some());
        assert!(key.encrypt(&[1; 87], [0; HASH_BYTES]).is_none());
    }

    proptest! {
        #[test]
        fn broken_keys_never_panic(at in 0usize..270, byte in any::<u8>(), cut in 0usize..270) {
            let mut pem = PEM.as_bytes().to_vec();
            pem.truncate(pem.len() - cut.min(pem.len()));
            if let Some(old) = pem.get_mut(at) {
                *old = byte;
            }
            if let Some(key) = PublicKey::from_pem(&pem) {
                let _ = key.encrypt(b"x", [1; HASH_BYTES]);
            }
        }
    }
}
