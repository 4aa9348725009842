//! TLS by the certificate and key of the configuration.

use std::path::Path;
use std::sync::Arc;

use freshet_config::Http;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::HttpError;

/// What makes connections private; `None` where there is no certificate.
pub(super) fn acceptor(http: &Http) -> Result<Option<TlsAcceptor>, HttpError> {
    let Some(tls) = &http.tls else { return Ok(None) };
    let wrong = |key: &'static str, path: &Path, problem: String| HttpError::Tls {
        key,
        path: path.to_owned(),
        problem,
    };
    let no_certificate = |problem| wrong("http.tls.certificate", &tls.certificate, problem);
    let certificates = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| no_certificate(format!("not readable as PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(no_certificate("holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .map_err(|error| wrong("http.tls.key", &tls.key, format!("not readable as a key in PEM: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(|error| no_certificate(format!("does not fit the key: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}
