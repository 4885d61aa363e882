//! TLS for scrapers: certificate, key and client CA, read again when their files change.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use tokio_rustls::rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, IpAddr, PrivateKeyDer, ServerName, UnixTime,
};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{
    self, CertificateError, DigitallySignedStruct, DistinguishedName, InconsistentKeys,
    RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::probe::Workers;

/// How long a handshake or a scrape waits for a look at the files; after that the certificate in use
/// will do.
const LOOK: Duration = Duration::from_secs(2);

/// The system's own file of CA certificates holds a quarter of this.
const LONGEST_FILE: u64 = 1024 * 1024;

/// Where PEM text comes from.
#[derive(Clone)]
pub enum Pem {
    /// A file, read again when it changes.
    File(PathBuf),
    /// The web configuration file itself.
    Inline(String),
}

/// What is asked of clients: the names that Go gives to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// `NoClientCert`: no certificate.
    None,
    /// `RequestClientCert`: any certificate, or none.
    Request,
    /// `RequireAnyClientCert`: any certificate, whoever signed it.
    RequireAny,
    /// `VerifyClientCertIfGiven`: a certificate that the client CA signed, or none.
    VerifyIfGiven,
    /// `RequireAndVerifyClientCert`: a certificate that the client CA signed.
    RequireAndVerify,
}

/// Section `tls_server_config`, free of contradictions.
pub struct Settings {
    /// The certificate, and those that lead from it to its root.
    pub certificate: Pem,
    /// Its private key.
    pub key: Pem,
    /// What is asked of clients.
    pub client_auth: ClientAuth,
    /// Who signs clients' certificates; `None` only where `client_auth` verifies none.
    pub client_ca: Option<Pem>,
    /// A client's certificate must be for one of these DNS names, addresses and URIs; any if empty.
    pub allowed_sans: Vec<String>,
    /// TLS 1.2, 1.3 or both.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// Cipher suites and key exchanges to choose from.
    pub provider: Arc<CryptoProvider>,
}

/// One of the three that may be files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Certificate,
    Key,
    ClientCa,
}

/// What is wrong with one of them, and what to do.
#[derive(Debug)]
pub struct Fault {
    /// Which of them.
    pub part: Part,
    /// What is wrong.
    pub flaw: Flaw,
}

/// What is wrong with a file or with the text in its place.
#[derive(Debug)]
pub struct Flaw {
    /// In words, without the file's name.
    pub sentence: String,
    /// True where it could not be read, which may be otherwise a moment later.
    pub may_pass: bool,
}

impl From<String> for Flaw {
    /// Of what the text says.
    fn from(sentence: String) -> Self {
        Self {
            sentence,
            may_pass: false,
        }
    }
}

impl Settings {
    fn pem(&self, part: Part) -> Option<&Pem> {
        match part {
            Part::Certificate => Some(&self.certificate),
            Part::Key => Some(&self.key),
            Part::ClientCa => self.client_ca.as_ref(),
        }
    }

    /// Reads what the files hold now.
    fn server_config(&self) -> Result<ServerConfig, Fault> {
        let fault = |part| move |flaw: Flaw| Fault { part, flaw };
        let chain = certificates(&self.certificate).map_err(fault(Part::Certificate))?;
        let key = private_key(&self.key).map_err(fault(Part::Key))?;
        let key = self.provider.key_provider.load_private_key(key);
        let key = key.map_err(|_| {
            let sentence = "this kind of private key is not supported: make an ECDSA key (P-256 \
                            or P-384), an Ed25519 key, or an RSA key of 2048 to 8192 bits";
            fault(Part::Key)(sentence.to_owned().into())
        })?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                let sentence =
                    "this is not the key of the certificate: give the two that were made together";
                return Err(fault(Part::Key)(sentence.to_owned().into()));
            }
            Err(error) => {
                let sentence = format!("the first certificate cannot be used ({error}): renew it");
                return Err(fault(Part::Certificate)(sentence.into()));
            }
        }
        let verifier = self.client_verifier().map_err(fault(Part::ClientCa))?;
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.versions)
            .map_err(|error| {
                let sentence = format!("TLS cannot be set up: {error}");
                fault(Part::Certificate)(sentence.into())
            })?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::new(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Who judges clients' certificates; `None` if they are not asked for one.
    fn client_verifier(&self) -> Result<Option<ClientVerifier>, Flaw> {
        let chain = match (&self.client_ca, self.client_auth) {
            (_, ClientAuth::None) => return Ok(None),
            (Some(ca), ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify) => {
                let mut roots = RootCertStore::empty();
                // Text between the certificates, and those of a kind that TLS does not take, do
                // no harm.
                roots.add_parsable_certificates(certificates(ca)?);
                let provider = self.provider.clone();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| format!("no client can be verified by it ({error})"))?;
                Some(verifier)
            }
            _ => None,
        };
        Ok(Some(ClientVerifier {
            chain,
            mandatory: matches!(
                self.client_auth,
                ClientAuth::RequireAny | ClientAuth::RequireAndVerify
            ),
            allowed_sans: self.allowed_sans.clone(),
            algorithms: self.provider.signature_verification_algorithms,
        }))
    }
}

/// TLS as it is spoken now.
pub struct Tls {
    state: Arc<State>,
    workers: Workers,
}

struct State {
    settings: Settings,
    loaded: Mutex<Loaded>,
}

/// What was made of the files.
struct Loaded {
    config: Arc<ServerConfig>,
    /// Of the files that it was made of.
    stamps: Stamps,
    /// Why the files as they are now are not in use; `None` while they are.
    fault: Option<String>,
}

impl Tls {
    /// Reads certificate, key and client CA.
    pub fn load(settings: Settings) -> Result<Self, Fault> {
        let stamps = Stamps::of(&settings);
        let config = Arc::new(settings.server_config()?);
        let loaded = Mutex::new(Loaded {
            config,
            stamps,
            fault: None,
        });
        Ok(Self {
            state: Arc::new(State { settings, loaded }),
            workers: Workers::default(),
        })
    }

    /// What is asked of clients.
    pub fn client_auth(&self) -> ClientAuth {
        self.state.settings.client_auth
    }

    /// The handshake with a new connection, by the files as they are now.
    pub async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Whatever comes of it: no reason to keep scrapers out.
        self.refresh(Instant::now() + LOOK).await;
        let config = self.state.loaded().config.clone();
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Takes over files that changed. False if they could not be used, or looked at by `deadline`,
    /// so that older ones still are.
    pub async fn refresh(&self, deadline: Instant) -> bool {
        let state = self.state.clone();
        let refresh = move || state.refresh();
        let deadline = deadline.min(Instant::now() + LOOK);
        let looked = self.workers.run_one("TLS files", deadline, refresh).await;
        if looked.is_none() {
            self.state.loaded().keep(
                "looking at the TLS files took too long: see whether a file system hangs, or \
                 threads have run out"
                    .to_owned(),
            );
        }
        self.state.loaded().fault.is_none()
    }
}

impl Loaded {
    /// Goes on with what is in use, and says why once.
    fn keep(&mut self, fault: String) {
        if self.fault.as_ref() != Some(&fault) {
            warn!(
                error = fault,
                "the TLS files cannot be used; those read before stay in use"
            );
        }
        self.fault = Some(fault);
    }
}

impl State {
    fn loaded(&self) -> std::sync::MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over files that changed, all together or none.
    fn refresh(&self) {
        // Before they are read: what changes meanwhile is seen by the next look.
        let stamps = Stamps::of(&self.settings);
        {
            let mut loaded = self.loaded();
            if stamps == loaded.stamps {
                if loaded.fault.take().is_some() {
                    info!("the TLS files are those in use again");
                }
                return;
            }
        }
        let outcome = self.settings.server_config();
        let mut loaded = self.loaded();
        match outcome {
            Ok(config) => {
                loaded.config = Arc::new(config);
                loaded.stamps = stamps;
                loaded.fault = None;
                info!("the TLS files changed and are in use");
            }
            // Without their stamps: what failed may pass and leave no other trace.
            Err(Fault { part, flaw }) => {
                let file = match self.settings.pem(part) {
                    Some(Pem::File(path)) => path.display().to_string(),
                    _ => "the web configuration".to_owned(),
                };
                loaded.keep(format!("{file}: {}", flaw.sentence));
            }
        }
    }
}

/// By what a changed file is known. `None` for what is no file, or cannot be looked at.
#[derive(PartialEq, Eq)]
struct Stamps([Option<[i64; 6]>; 3]);

impl Stamps {
    fn of(settings: &Settings) -> Self {
        let stamp = |part| match settings.pem(part)? {
            Pem::File(path) => path.metadata().ok().as_ref().map(stamp),
            Pem::Inline(_) => None,
        };
        Self([Part::Certificate, Part::Key, Part::ClientCa].map(stamp))
    }
}

fn stamp(file: &Metadata) -> [i64; 6] {
    [
        file.ino().cast_signed(),
        file.size().cast_signed(),
        file.mtime(),
        file.mtime_nsec(),
        // Whoever sets the modification time back cannot set this one.
        file.ctime(),
        file.ctime_nsec(),
    ]
}

/// The text of a file, or of the configuration.
fn text(pem: &Pem) -> Result<Vec<u8>, Flaw> {
    let path = match pem {
        Pem::Inline(text) => return Ok(text.clone().into_bytes()),
        Pem::File(path) => path,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            let sentence = match error.kind() {
                ErrorKind::NotFound => "no such file: check the path".to_owned(),
                ErrorKind::IsADirectory => "this is a directory: name the file in it".to_owned(),
                ErrorKind::PermissionDenied => {
                    "permission denied: let the exporter's user read it".to_owned()
                }
                _ => error.to_string(),
            };
            Flaw {
                sentence,
                may_pass: error.kind() != ErrorKind::IsADirectory,
            }
        })?;
    if bytes.len() as u64 > LONGEST_FILE {
        let sentence = "it is larger than 1 MiB: name the right file";
        return Err(sentence.to_owned().into());
    }
    Ok(bytes)
}

/// At least one certificate.
fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let text = text(pem)?;
    let found = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| broken_pem(&error))?;
    if found.is_empty() {
        let expected = "-----BEGIN CERTIFICATE-----";
        let sentence =
            format!("there is no certificate in it: give one in PEM, which begins with {expected}");
        return Err(sentence.into());
    }
    Ok(found)
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, Flaw> {
    let text = text(pem)?;
    // Both ways in which PEM says so.
    let is_encrypted = [
        &b"ENCRYPTED PRIVATE KEY-----"[..],
        b"Proc-Type: 4,ENCRYPTED",
    ]
    .iter()
    .any(|mark| text.windows(mark.len()).any(|part| part == *mark));
    if is_encrypted {
        let sentence = "the private key is encrypted, and nobody types its password when the \
                        exporter starts: write it without one (openssl pkey -in OLD -out NEW), \
                        readable for the exporter's user only";
        return Err(sentence.to_owned().into());
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let sentence = match error {
            pem::Error::NoItemsFound => "there is no private key in it: give one in PEM, which \
                                         begins with -----BEGIN PRIVATE KEY-----"
                .to_owned(),
            error => broken_pem(&error),
        };
        sentence.into()
    })
}

/// Never with a line of the text, which may be part of a key.
fn broken_pem(error: &pem::Error) -> String {
    let why = match error {
        pem::Error::MissingSectionEnd { .. } => "its last section has no -----END line",
        pem::Error::IllegalSectionStart { .. } => "a -----BEGIN line is damaged",
        pem::Error::Base64Decode(_) => "what stands between the lines is damaged",
        _ => "it is damaged",
    };
    format!("it is no valid PEM: {why}; copy the file anew")
}

/// Judges clients' certificates.
#[derive(Debug)]
struct ClientVerifier {
    /// By the client CA; `None` if whoever signed them will do.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    /// Whether clients without one are refused.
    mandatory: bool,
    allowed_sans: Vec<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        let chain = self.chain.as_ref();
        chain.map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(certificate, intermediates, now)?;
        }
        if self.allowed_sans.is_empty() || is_for_one_of(certificate, &self.allowed_sans) {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether the certificate bears exactly one of these names: a wildcard in it stands for itself.
fn is_for_one_of(certificate: &CertificateDer<'_>, names: &[String]) -> bool {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return false;
    };
    names.iter().any(|name| {
        if let Ok(address) = IpAddr::try_from(name.as_str()) {
            let address = ServerName::IpAddress(address);
            return certificate
                .verify_is_valid_for_subject_name(&address)
                .is_ok();
        }
        certificate.valid_dns_names().any(|found| found == name)
            || certificate.valid_uri_names().any(|found| found == name)
    })
}
