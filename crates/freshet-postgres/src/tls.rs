//! TLS for tokio-postgres by rustls: which certificates each [`TlsMode`] accepts, and channel binding.
//!
//! `verify-full` is rustls' own verification. `require` still checks that the server owns the key of the
//! certificate it shows, and with a CA file also the certificate's chain. TLS 1.2 and 1.3, ring. The channel binding is `tls-server-end-point` (RFC 5929): the certificate hashed with the hash of
//! its own signature, SHA-256 where that is MD5 or SHA-1, and none where the signature has no hash (Ed25519).

use crate::options::{ClientCertificate, ConnectOptions, TlsMode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

/// Makes TLS sessions for one set of connect options.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
}

impl Tls {
    /// The configuration of `options.tls`; the message says what is wrong with the CA file.
    pub(crate) fn new(options: &ConnectOptions) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let ca_file = options.tls_ca_file.as_deref();
        let builder = match options.tls {
            TlsMode::VerifyFull => builder.with_root_certificates(roots(ca_file)?),
            TlsMode::Disable | TlsMode::Require => {
                let roots = ca_file.map(|path| roots(Some(path))).transpose()?;
                let verifier = Arc::new(ChainVerifier { provider, roots });
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
        };
        let config = match &options.tls_client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                let (chain, key) = own_certificate(client)?;
                let fail = |error| format!("Cannot use certificate {}: {error}", client.cert_file.display());
                builder.with_client_auth_cert(chain, key).map_err(fail)?
            }
        };
        Ok(Self { config: Arc::new(config) })
    }
}

impl Tls {
    /// A session over `stream`, and the hash for channel binding.
    pub(crate) async fn session<S>(&self, host: &str, stream: S) -> io::Result<(Stream<S>, Option<Vec<u8>>)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connector = <Self as MakeTlsConnect<S>>::make_tls_connect(&mut self.clone(), host)?;
        let session = connector.connect(stream).await?;
        let hash = session.end_point_hash();
        Ok((session, hash))
    }
}

impl<S> Stream<S> {
    fn end_point_hash(&self) -> Option<Vec<u8>> {
        let (_, session) = self.0.get_ref();
        session.peer_certificates().and_then(|chain| chain.first()).and_then(|first| end_point_hash(first))
    }
}

fn own_certificate(
    client: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let (cert, key) = (&client.cert_file, &client.key_file);
    let fail = |path: &Path, reason: &dyn Display| format!("Cannot read {}: {reason}", path.display());
    let chain = CertificateDer::pem_file_iter(cert).map_err(|error| fail(cert, &error))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| fail(cert, &error))?;
    Ok((chain, PrivateKeyDer::from_pem_file(key).map_err(|error| fail(key, &error))?))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let fail = |reason: &dyn Display| format!("Cannot read CA file {}: {reason}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fail(&error))? {
                roots.add(certificate.map_err(|error| fail(&error))?).map_err(|error| fail(&error))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    match ca_file {
        _ if !roots.is_empty() => Ok(roots),
        Some(path) => Err(format!("CA file {} holds no certificate", path.display())),
        None => Err("The system has no root certificates, name a CA file".to_owned()),
    }
}

impl<S> MakeTlsConnect<S> for Tls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type TlsConnect = Connector;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Connector> {
        let name = ServerName::try_from(domain.to_owned())
            .map_err(|_| io::Error::other("The host is no name that a certificate can be for"))?;
        Ok(Connector { config: self.config.clone(), name })
    }
}

/// Makes one TLS session.
pub(crate) struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl<S> TlsConnect<S> for Connector
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let connector = tokio_rustls::TlsConnector::from(self.config);
            Ok(Stream(connector.connect(self.name, stream).await?))
        })
    }
}

/// A TLS session.
pub(crate) struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        match self.end_point_hash() {
            Some(hash) => ChannelBinding::tls_server_end_point(hash),
            None => ChannelBinding::none(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Hash of a certificate for `tls-server-end-point`; `None` if its signature has no hash that we know.
fn end_point_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    match signature_hash(certificate)? {
        SignatureHash::Sha256 => Some(Sha256::digest(certificate).to_vec()),
        SignatureHash::Sha384 => Some(Sha384::digest(certificate).to_vec()),
        SignatureHash::Sha512 => Some(Sha512::digest(certificate).to_vec()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SignatureHash {
    /// Also in place of MD5 and SHA-1.
    Sha256,
    Sha384,
    Sha512,
}

/// Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OID, ... }, ... }
fn signature_hash(certificate: &[u8]) -> Option<SignatureHash> {
    let (certificate, _) = der(certificate, 0x30)?;
    let (_, rest) = der(certificate, 0x30)?;
    let (algorithm, _) = der(rest, 0x30)?;
    let (oid, _) = der(algorithm, 0x06)?;
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    let (last, family) = oid.split_last()?;
    match (family, *last) {
        (RSA, 4 | 5 | 11) | (ECDSA_SHA2, 2) => Some(SignatureHash::Sha256),
        (RSA, 12) | (ECDSA_SHA2, 3) => Some(SignatureHash::Sha384),
        (RSA, 13) | (ECDSA_SHA2, 4) => Some(SignatureHash::Sha512),
        _ if oid == ECDSA_SHA1 => Some(SignatureHash::Sha256),
        _ => None,
    }
}

/// Content of the DER element of that tag at the front, and what follows it.
fn der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (len.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
        }
        _ => return None,
    };
    if found == tag { rest.split_at_checked(len) } else { None }
}

/// Verifies the chain where there are roots, never the name, always the signatures.
#[derive(Debug)]
struct ChainVerifier {
    provider: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_follows_the_signature_algorithm() {
        let certificate = |oid: &[u8]| {
            let mut algorithm = vec![0x30, oid.len() as u8 + 2, 0x06, oid.len() as u8];
            algorithm.extend_from_slice(oid);
            let mut whole = vec![0x30, algorithm.len() as u8 + 2, 0x30, 0];
            whole.extend_from_slice(&algorithm);
            whole
        };
        let rsa = |last| signature_hash(&certificate(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, last]));
        assert_eq!(rsa(5), Some(SignatureHash::Sha256));
        assert_eq!(rsa(12), Some(SignatureHash::Sha384));
        assert_eq!(rsa(13), Some(SignatureHash::Sha512));
        assert_eq!(signature_hash(&certificate(&[0x2b, 0x65, 0x70])), None);
        assert_eq!(signature_hash(&[0x30, 0x85]), None);
    }
}
