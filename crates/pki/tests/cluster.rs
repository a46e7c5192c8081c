//! A whole hierarchy judged by rustls: real handshakes between what it issues, and refusals of what it did not.

use pki::issue::{CA_LIFETIME, Ca, KeyUsage, LEAF_LIFETIME, Leaf};
use pki::{Authority, Chain, Credential, Csr, Hierarchy, Identity, PrivateKey, Usage};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

fn roots(chain: &Chain) -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(chain.roots().iter().cloned());
    Arc::new(store)
}

/// Runs a mutually authenticated handshake in memory; returns the client's chain as the server saw it.
fn handshake(
    server: &Credential,
    server_trust: &Chain,
    client: &Credential,
    client_trust: &Chain,
    name: &str,
) -> Result<Vec<CertificateDer<'static>>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots(client_trust), provider.clone())
        .build()
        .unwrap();
    let server_config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(server.chain.clone(), server.key_der())?;
    let client_config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(server_trust))
        .with_client_auth_cert(client.chain.clone(), client.key_der())?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut c = ClientConnection::new(Arc::new(client_config), name)?;
    let mut s = ServerConnection::new(Arc::new(server_config))?;
    for _ in 0..10 {
        let mut wire = Vec::new();
        while c.wants_write() {
            c.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            s.read_tls(&mut rest).unwrap();
            s.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while s.wants_write() {
            s.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            c.read_tls(&mut rest).unwrap();
            c.process_new_packets()?;
        }
    }
    assert!(!c.is_handshaking() && !s.is_handshaking());
    Ok(s.peer_certificates().unwrap().iter().map(|c| c.clone().into_owned()).collect())
}

#[test]
fn what_the_hierarchy_issues_shakes_hands() {
    let dir = tempfile::tempdir().unwrap();
    let h = Hierarchy::open(dir.path()).unwrap();
    let server = h.server("kube-apiserver", ["kubernetes.default", "localhost", "127.0.0.1", "::1"]).unwrap();
    let (servers, clients) = (h.trust(Authority::Server).unwrap(), h.trust(Authority::Client).unwrap());
    let node = h.client(&Identity::Node("n1".into())).unwrap();
    for name in ["kubernetes.default", "localhost", "127.0.0.1", "::1"] {
        let seen = handshake(&server, &servers, &node, &clients, name).unwrap();
        let who = clients.verify(&seen, Usage::Client, SystemTime::now()).unwrap();
        assert_eq!(
            (who.common_name.as_str(), who.organizations.as_slice()),
            ("system:node:n1", &["system:nodes".to_owned()][..])
        );
    }
    assert!(handshake(&server, &servers, &node, &clients, "example.com").is_err());
    assert!(handshake(&server, &servers, &node, &clients, "127.0.0.2").is_err());
    // An identity of one authority means nothing to another, nor does a server's certificate make a client.
    let proxy = h.client(&Identity::FrontProxyClient).unwrap();
    assert!(handshake(&server, &servers, &proxy, &clients, "localhost").is_err());
    assert!(handshake(&server, &servers, &server, &servers, "localhost").is_err());
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = Hierarchy::open(elsewhere.path()).unwrap().client(&Identity::Admin).unwrap();
    assert!(handshake(&server, &servers, &stranger, &clients, "localhost").is_err());
}

#[test]
fn files_are_private_kept_and_remade_only_when_needed() {
    let dir = tempfile::tempdir().unwrap();
    let h = Hierarchy::open(dir.path()).unwrap();
    h.prepare().unwrap();
    let admin = h.client(&Identity::Admin).unwrap();
    let server = h.server("kube-apiserver", ["a"]).unwrap();
    let signer = h.token_signer("i").unwrap();
    let token = signer.sign(&pki::jwt::Claims { exp: i64::MAX, ..Default::default() }).unwrap();

    let again = Hierarchy::open(dir.path()).unwrap();
    assert_eq!(again.client(&Identity::Admin).unwrap().chain, admin.chain);
    assert_eq!(again.server("kube-apiserver", ["a"]).unwrap().chain, server.chain);
    assert_ne!(again.server("kube-apiserver", ["a", "b"]).unwrap().chain, server.chain);
    again.token_verifier(vec!["i".into()]).unwrap().verify(&token, SystemTime::now()).unwrap();

    let issued = dir.path().join("issued/admin.pem");
    for damage in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", &server.to_pem()] {
        std::fs::write(&issued, damage).unwrap();
        let remade = again.client(&Identity::Admin).unwrap();
        assert_eq!(remade.info().unwrap().organizations, ["system:masters"]);
    }
    assert!(again.client(&Identity::Node("../x".into())).is_err());
    for folder in [dir.path().to_owned(), dir.path().join("issued")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if entry.path().is_dir() { 0o700 } else { 0o600 }, "{:?}", entry.path());
        }
    }
    // A damaged authority is an error, never silently replaced: every certificate out there depends on it.
    std::fs::write(dir.path().join("client-ca.pem"), "x").unwrap();
    assert!(Hierarchy::open(dir.path()).unwrap().client(&Identity::Admin).is_err());
}

#[test]
fn requests_are_signed_with_their_names_and_our_usages() {
    let now = SystemTime::now();
    let ca = Ca::generate("ca", CA_LIFETIME, now).unwrap();
    let key = PrivateKey::generate().unwrap();
    let mut leaf = Leaf::server("system:node:n", ["n", "10.0.0.1", "fd00::1"]);
    leaf.organizations = vec!["system:nodes".into(), "second".into()];
    let csr = Csr::from_pem(Csr::create(&leaf, &key).unwrap().as_bytes()).unwrap();
    assert_eq!((csr.common_name.as_str(), &csr.organizations), ("system:node:n", &leaf.organizations));
    let usages = [KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment, KeyUsage::ServerAuth];
    let cert = ca.sign_csr(&csr, &usages, Duration::from_secs(600), now).unwrap();
    let info = ca.chain().verify(std::slice::from_ref(&cert), Usage::Server, now).unwrap();
    assert_eq!((info.common_name.as_str(), &info.organizations), ("system:node:n", &leaf.organizations));
    assert_eq!((info.dns_names, info.ips), (leaf.dns_names, leaf.ips));
    assert!(info.server_auth && !info.client_auth && !info.is_ca);
    let certs = [cert];
    assert!(ca.chain().verify(&certs, Usage::Client, now).is_err());
    assert!(ca.chain().verify(&certs, Usage::Server, now + Duration::from_secs(601)).is_err());
    assert!(ca.chain().verify(&certs, Usage::Server, now - Duration::from_secs(3000)).is_ok(), "back-dated");
    assert!(ca.chain().verify(&[], Usage::Client, now).is_err());
}

#[test]
fn tampered_requests_are_refused() {
    let pem = Csr::create(&Leaf::client("u", &["g"]), &PrivateKey::generate().unwrap()).unwrap();
    use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject};
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap();
    let good = Csr::from_der(&der).unwrap();
    for i in 0..der.len() {
        let mut bad = der.to_vec();
        bad[i] ^= 1;
        // Outside the signed part a bit may be flipped without effect; what is read must not change.
        assert!(Csr::from_der(&bad).map_or(true, |csr| csr == good), "byte {i}");
        assert!(Csr::from_der(&der[..i]).is_err(), "cut at {i}");
    }
    for text in ["", "junk", &(pem.clone() + &pem)] {
        assert!(Csr::from_pem(text.as_bytes()).is_err());
    }
}

#[test]
fn leaves_never_outlive_their_authority() {
    let now = SystemTime::now();
    let ca = Ca::generate("ca", Duration::from_secs(1000), now).unwrap();
    let (_, cert) = ca.issue_pair(&Leaf::client("u", &[]), LEAF_LIFETIME, now).unwrap();
    let info = pki::CertInfo::from_der(&cert).unwrap();
    assert_eq!(info.not_after, ca.info().unwrap().not_after);
    assert!(ca.issue_pair(&Leaf::client("u", &[]), LEAF_LIFETIME, now + Duration::from_secs(1000)).is_err());
    assert_eq!(Ca::from_pem(&ca.to_pem()).unwrap().cert(), ca.cert());
    let other = Ca::generate("ca", Duration::from_secs(1000), now).unwrap();
    assert!(Ca::new(PrivateKey::from_pem(&other.to_pem()).unwrap(), ca.trusted()).is_err(), "foreign key");
    let both = Ca::from_pem(&(ca.to_pem() + &other.bundle_pem())).unwrap();
    let (_, old) = other.issue_pair(&Leaf::client("u", &[]), LEAF_LIFETIME, now).unwrap();
    assert!(both.chain().verify(&[old], Usage::Client, now).is_ok(), "an earlier authority stays trusted");
}

#[test]
fn kubeconfigs_carry_a_working_identity() {
    let dir = tempfile::tempdir().unwrap();
    let h = Hierarchy::open(dir.path()).unwrap();
    let path = dir.path().join("kubeconfig");
    h.kubeconfig(&Identity::Admin, "https://127.0.0.1:6443").unwrap().write(&path).unwrap();
    let config = pki::kubeconfig::Kubeconfig::read(&path, None).unwrap();
    let load = |s: &Option<pki::kubeconfig::Source>| String::from_utf8(s.as_ref().unwrap().load().unwrap()).unwrap();
    let admin =
        Credential::from_pem(&(load(&config.user.client_key) + &load(&config.user.client_certificate))).unwrap();
    let server = h.server("s", ["127.0.0.1"]).unwrap();
    let trust = Chain::from_pem(&load(&config.cluster.certificate_authority)).unwrap();
    handshake(&server, &trust, &admin, &h.trust(Authority::Client).unwrap(), "127.0.0.1").unwrap();
    let token = pki::token::JoinToken::generate(h.ca(Authority::Server).unwrap().cert(), "node").unwrap();
    assert!(token.names_ca(&trust.roots()[0]));
}

#[test]
fn who_only_looks_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("pki");
    assert!(Hierarchy::existing(&place).is_none() && !place.exists());
    let made = Hierarchy::open(&place).unwrap();
    made.ca(Authority::Client).unwrap();
    assert!(Hierarchy::existing(&place).is_none());
    made.prepare().unwrap();
    let seen = Hierarchy::existing(&place).unwrap();
    assert_eq!(seen.ca(Authority::Server).unwrap().bundle_pem(), made.ca(Authority::Server).unwrap().bundle_pem());
}
