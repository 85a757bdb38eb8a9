//! TLS for connections: which certificates are accepted in each [`TlsMode`], and the upgrade's configuration.
//!
//! `verify-full` is rustls' own verification. `require` still checks that the server owns the key of the
//! certificate it shows (handshake signatures), and with a CA file also the certificate's chain. TLS 1.2 and
//! 1.3, ring.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::error::WireError;
use super::options::{ClientCertificate, ConnectOptions, TlsMode};

/// The configuration for a mode that uses TLS.
pub(crate) fn client_config(options: &ConnectOptions) -> Result<Arc<ClientConfig>, WireError> {
    let ca_file = options.tls_ca_file.as_deref();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| roots_error(None, &error))?;
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
            let fail = |error| roots_error(Some(&client.cert_file), &error);
            builder.with_client_auth_cert(chain, key).map_err(fail)?
        }
    };
    Ok(Arc::new(config))
}

/// The name that a certificate must be for.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, WireError> {
    ServerName::try_from(host.to_owned()).map_err(|_| WireError::TlsHandshake {
        host: host.to_owned(),
        reason: "this is no host name that a certificate can be for".to_owned(),
    })
}

fn own_certificate(
    client: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), WireError> {
    let (cert, key) = (&client.cert_file, &client.key_file);
    let fail = |path: &Path, reason: &dyn std::fmt::Display| roots_error(Some(path), reason);
    let chain = CertificateDer::pem_file_iter(cert).map_err(|error| fail(cert, &error))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| fail(cert, &error))?;
    Ok((chain, PrivateKeyDer::from_pem_file(key).map_err(|error| fail(key, &error))?))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, WireError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let fail = |reason: &dyn std::fmt::Display| roots_error(Some(path), reason);
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fail(&error))? {
                roots.add(certificate.map_err(|error| fail(&error))?).map_err(|error| fail(&error))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(roots_error(ca_file, &"there are none"));
    }
    Ok(roots)
}

fn roots_error(path: Option<&Path>, reason: &dyn std::fmt::Display) -> WireError {
    WireError::TlsRoots { path: path.map(Path::to_owned), reason: reason.to_string() }
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
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
