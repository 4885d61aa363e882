//! TLS to a `rediss` server: which CA to trust, the handshake, and what is wrong with certificates.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};

use super::{Failure, Reason, Target, failure};

/// The CA certificates that Debian keeps, for endpoints without `ca_file`.
const SYSTEM_CA_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The system's own file holds a quarter of this.
const LONGEST_CA_FILE: u64 = 1024 * 1024;

/// TLS over a new connection.
pub async fn handshake(
    target: &Target<'_>,
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Failure> {
    let address = &target.address;
    let ca_file = target.endpoint.ca_file.clone();
    let ca_file = ca_file.unwrap_or_else(|| SYSTEM_CA_FILE.into());
    let shown = ca_file.display().to_string();

    let work = format!("CA of redis in {shown}");
    let load = move || trusting(&ca_file);
    let config = match target.workers.run_one(&work, target.deadline, load).await {
        Some(Ok(config)) => config,
        Some(Err(why)) => {
            let sentence = format!("reading the CA file {shown} to check {address}: {why}");
            return failure(Reason::Tls, sentence);
        }
        None => {
            let sentence = format!(
                "reading the CA file {shown} to check {address}: no answer in time: check its file \
                 system"
            );
            return failure(Reason::Tls, sentence);
        }
    };
    let Ok(name) = ServerName::try_from(host.to_owned()) else {
        let sentence = format!(
            "the TLS handshake with {address}: no certificate can be for such a host name: \
             correct `url`"
        );
        return failure(Reason::Tls, sentence);
    };
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.or_else(|error| {
        let why = fault(&error, host, &shown);
        failure(
            Reason::Tls,
            format!("the TLS handshake with {address}: {why}"),
        )
    })
}

/// Trusts what is signed by one of the certificates in the file.
fn trusting(ca_file: &Path) -> Result<ClientConfig, String> {
    let mut pem = Vec::new();
    File::open(ca_file)
        .and_then(|file| file.take(LONGEST_CA_FILE + 1).read_to_end(&mut pem))
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                "no such file: correct `ca_file`, or install ca-certificates".to_owned()
            }
            ErrorKind::PermissionDenied => {
                "permission denied: let the exporter's user read it".to_owned()
            }
            _ => format!("{error}"),
        })?;
    if pem.len() as u64 > LONGEST_CA_FILE {
        return Err("it is larger than 1 MiB: name the right file".to_owned());
    }
    let mut roots = RootCertStore::empty();
    // Text between the certificates, and those of a kind that TLS does not take, do no harm.
    let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err("it holds no certificate in PEM: name the right file".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Why the handshake failed, and what to do.
fn fault(error: &io::Error, host: &str, ca_file: &str) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(error)) => certificate_fault(error, host, ca_file),
        Some(error) => {
            format!("{error}: check that the port speaks TLS, and look at the server's log")
        }
        None => "it hung up: check that the port speaks TLS, and look at the server's log".into(),
    }
}

fn certificate_fault(error: &CertificateError, host: &str, ca_file: &str) -> String {
    match error {
        CertificateError::UnknownIssuer => format!(
            "its certificate is not signed by any CA in {ca_file}: name the file with the right \
             one in `ca_file`"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: renew it".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: check the clocks of both hosts".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "its certificate is not for {host}: use a name that stands in it as subjectAltName"
            )
        }
        error => format!("its certificate is not acceptable ({error}): replace it"),
    }
}
