//! A certificate authority and a server certificate of a test's own, made with the `openssl` command.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{During as _, Result, run};

const CONFIG: &str = "[req]
distinguished_name=dn
prompt=no
[dn]
CN=freshet test
[ca]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
[client]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=clientAuth
[server]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
";

/// The names a server certificate is made for unless told otherwise.
pub(super) const LOCAL_NAMES: &str = "DNS:localhost,IP:127.0.0.1";

/// Files of a client's certificate.
#[derive(Clone, Debug)]
pub struct TlsClient {
    /// Its certificate, signed by the server's authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Files of a server's TLS set-up.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The authority's certificate, for clients that verify.
    pub ca: PathBuf,
    /// The server's certificate.
    pub cert: PathBuf,
    /// The server's key.
    pub key: PathBuf,
}

impl Tls {
    /// Makes an authority and a certificate for `names` (`DNS:...,IP:...`) in `dir`.
    ///
    /// # Panics
    /// When `openssl` fails or is not installed.
    #[must_use]
    pub fn generate(dir: &Path, names: &str) -> Self {
        Self::try_generate(dir, names).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes a certificate for a client of this common name.
    ///
    /// # Panics
    /// When `openssl` fails.
    #[must_use]
    pub fn client(&self, name: &str) -> TlsClient {
        let dir = self.ca.parent().unwrap_or_else(|| Path::new("."));
        let openssl = |args: &str| {
            run(Command::new("openssl").args(args.split(' ')).current_dir(dir))
                .unwrap_or_else(|error| panic!("{error}"));
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config openssl.cnf";
        openssl(&format!("req {key} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        let sign =
            "-CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile openssl.cnf -extensions client";
        openssl(&format!("x509 -req -in {name}.csr {sign} -out {name}.pem"));
        TlsClient { cert: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) }
    }

    pub(super) fn try_generate(dir: &Path, names: &str) -> Result<Self> {
        std::fs::create_dir_all(dir).during(format!("Cannot create {}", dir.display()))?;
        let config = format!("{CONFIG}subjectAltName={names}\n");
        std::fs::write(dir.join("openssl.cnf"), config).during("Cannot write openssl.cnf")?;
        let openssl = |args: &str| run(Command::new("openssl").args(args.split(' ')).current_dir(dir));
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config openssl.cnf";
        openssl(&format!("req -x509 {key} -extensions ca -days 3650 -keyout ca.key -out ca.pem"))?;
        openssl(&format!("req {key} -subj /CN=localhost -keyout server.key -out server.csr"))?;
        let sign = "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650";
        openssl(&format!("{sign} -extfile openssl.cnf -extensions server -out server.pem"))?;
        Ok(Self { ca: dir.join("ca.pem"), cert: dir.join("server.pem"), key: dir.join("server.key") })
    }
}
