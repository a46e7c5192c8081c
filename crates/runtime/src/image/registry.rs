//! Downloads images from registries: mirrors first, with the authentication they ask for, resuming what broke off.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use cri::v1::AuthConfig;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde::Deserialize;
use transport::{Client, ClientTls, Dialer, Resolver, Trust};

use crate::error::blocking;
use crate::image::ImageStore;
use crate::image::archive::Found;
use crate::image::content::Digest;
use crate::image::format::{self, Document, INDEX_TYPES, ImageConfig, MANIFEST_TYPES, MAX_DOCUMENT, MAX_LAYERS};
use crate::image::reference::Reference;
use crate::{Error, Result};

/// The host that serves the default registry's API.
const DEFAULT_HOST: (&str, &str) = ("docker.io", "registry-1.docker.io");
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// A download that brings nothing for so long has broken off.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 8;
const MAX_TRIES: u32 = 4;
const MAX_TOKEN: usize = 1 << 20;
const MAX_BLOB: u64 = 64 << 30;

/// Settings of registries by their host; `*` is for all others.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// By host, as names of images say it.
    #[serde(default)]
    pub registries: BTreeMap<String, Registry>,
}

/// Settings of one registry.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Registry {
    /// Addresses to ask first, in order, such as `https://mirror.example:5000`.
    pub mirrors: Vec<String>,
    /// Asks the registry itself without TLS. Loopback is always asked so.
    pub plain_http: bool,
    /// Believes any certificate.
    pub insecure_skip_verify: bool,
    /// A PEM file with the authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// User name, for the registry and its mirrors.
    pub username: String,
    /// Password.
    pub password: String,
}

/// Reads a file with [`Settings`] as it stands; one that says nothing, or what is not understood, is refused.
pub fn read_settings(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).map_err(Error::file(path))?;
    let read: serde_json::Result<Settings> = serde_json::from_slice(&bytes);
    read.map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))?;
    Ok(bytes)
}

/// The registries of a node.
#[derive(Debug)]
pub struct Registries {
    path: PathBuf,
    dialer: Dialer,
    /// Clients by what distinguishes their TLS settings, so that connections are used again.
    clients: Mutex<BTreeMap<String, Client>>,
}

/// One address to ask.
struct Endpoint {
    /// Scheme and authority.
    base: String,
    /// For a mirror, the registry it stands in for.
    namespace: Option<String>,
    client: Client,
    credentials: Option<(String, String)>,
    /// What was granted after the last challenge.
    authorization: tokio::sync::Mutex<Option<String>>,
    host: String,
}

impl Registries {
    /// With settings from a file, which need not exist.
    pub fn new(path: PathBuf) -> Result<Self> {
        Ok(Self { path, dialer: Dialer::direct(Resolver::system()), clients: Mutex::default() })
    }

    /// The settings as the file has them now.
    fn settings(&self) -> Result<Settings> {
        match fs::read(&self.path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|e| Error::Invalid(format!("{}: {e}", self.path.display())))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Settings::default()),
            Err(e) => Err(Error::File { path: self.path.clone(), source: e }),
        }
    }

    fn client(&self, registry: &Registry, secure: bool) -> Result<Client> {
        // Without TLS there is nothing that distinguishes clients.
        let key = match (secure, registry.insecure_skip_verify, &registry.ca_file) {
            (false, ..) => "plain".to_owned(),
            (_, true, _) => "insecure".to_owned(),
            (_, _, None) => "system".to_owned(),
            (_, _, Some(path)) => {
                let changed = fs::metadata(path).and_then(|m| m.modified()).ok();
                format!("{} {changed:?}", path.display())
            }
        };
        if let Some(client) = self.clients.lock().get(&key) {
            return Ok(client.clone());
        }
        let mut builder = Client::builder(self.dialer.clone()).proxy_from_env().idle_timeout(Duration::from_secs(20));
        if secure {
            let tls = match &registry.ca_file {
                _ if registry.insecure_skip_verify => ClientTls::insecure(),
                Some(path) => ClientTls::trusting(Trust::from_pem(&fs::read(path).map_err(Error::file(path))?)?),
                None => ClientTls::trusting(Trust::system()?),
            };
            builder = builder.tls(tls);
        }
        let client = builder.build()?;
        self.clients.lock().insert(key, client.clone());
        Ok(client)
    }

    fn endpoints(&self, reference: &Reference, auth: Option<&AuthConfig>) -> Result<Vec<Endpoint>> {
        let settings = self.settings()?;
        let registry = settings.registries.get(&reference.registry).or_else(|| settings.registries.get("*"));
        let registry = registry.cloned().unwrap_or_default();
        let configured =
            (!registry.username.is_empty()).then(|| (registry.username.clone(), registry.password.clone()));
        let credentials = match auth.map(credentials).transpose()?.flatten() {
            Some(given) => Some(given),
            None => configured,
        };
        let bearer = auth.map(|auth| auth.registry_token.clone()).filter(|token| !token.is_empty());
        let endpoint = |base: &str, namespace: Option<String>| -> Result<Endpoint> {
            let uri: Uri = base.parse().map_err(|_| Error::Invalid(format!("{base:?} is no address of a registry")))?;
            let host = uri.authority().map(|a| a.to_string()).unwrap_or_default();
            let secure = uri.scheme_str() == Some("https");
            if host.is_empty() || !(secure || uri.scheme_str() == Some("http")) {
                return Err(Error::Invalid(format!("{base:?} is no http or https address")));
            }
            Ok(Endpoint {
                base: base.trim_end_matches('/').to_owned(),
                namespace,
                client: self.client(&registry, secure)?,
                credentials: credentials.clone(),
                authorization: tokio::sync::Mutex::new(bearer.as_ref().map(|token| format!("Bearer {token}"))),
                host,
            })
        };
        let mut all = Vec::new();
        for mirror in &registry.mirrors {
            all.push(endpoint(mirror, Some(reference.registry.clone()))?);
        }
        let host = if reference.registry == DEFAULT_HOST.0 { DEFAULT_HOST.1 } else { &reference.registry };
        let scheme = if registry.plain_http || is_loopback(host) { "http" } else { "https" };
        all.push(endpoint(&format!("{scheme}://{host}"), None)?);
        Ok(all)
    }

    /// Downloads an image and takes it up; tells its identity.
    pub async fn pull(&self, store: &Arc<ImageStore>, name: &str, auth: Option<&AuthConfig>) -> Result<Digest> {
        let reference = Reference::parse(name)?;
        let mut first_error = None;
        for endpoint in self.endpoints(&reference, auth)? {
            let download = endpoint.download(store, &reference);
            match store.arrive(download).await {
                Ok(id) => return Ok(id),
                Err(error) => {
                    tracing::debug!(host = %endpoint.host, image = name, %error, "a registry did not give an image");
                    first_error = first_error.or(Some(error));
                }
            }
        }
        Err(first_error.unwrap_or_else(|| Error::Internal("a registry has no address".to_owned())))
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host });
    name == "localhost" || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// User name and password of a request.
fn credentials(auth: &AuthConfig) -> Result<Option<(String, String)>> {
    if !auth.username.is_empty() {
        return Ok(Some((auth.username.clone(), auth.password.clone())));
    }
    if auth.auth.is_empty() {
        return Ok(None);
    }
    let bad = || Error::Invalid("the credentials are not base64 of user:password".to_owned());
    let plain = BASE64.decode(auth.auth.trim()).map_err(|_| bad())?;
    let plain = String::from_utf8(plain).map_err(|_| bad())?;
    let (user, password) = plain.split_once(':').ok_or_else(bad)?;
    Ok(Some((user.to_owned(), password.trim_end_matches('\0').to_owned())))
}

impl Endpoint {
    fn trouble(&self, reason: impl Into<String>) -> Error {
        Error::Registry { host: self.host.clone(), reason: reason.into() }
    }

    async fn download(&self, store: &Arc<ImageStore>, reference: &Reference) -> Result<Found> {
        let wanted = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        };
        let (target, document) = self.manifest(store, reference, &wanted).await?;
        let (manifest, document) = if document.is_index() {
            let chosen = document.choose()?.digest.clone();
            self.manifest(store, reference, &chosen.to_string()).await?
        } else {
            (target.clone(), document)
        };
        let config = document.config.ok_or_else(|| Error::Corrupt("the manifest has no configuration".to_owned()))?;
        if document.layers.len() > MAX_LAYERS {
            return Err(Error::Corrupt(format!("the image has more than {MAX_LAYERS} layers")));
        }
        if config.size > MAX_DOCUMENT {
            return Err(Error::Corrupt("the configuration is too long".to_owned()));
        }
        self.blob(store, reference, &config.digest, config.size).await?;
        let parsed: ImageConfig = format::read("configuration", &store.content().read(&config.digest, MAX_DOCUMENT)?)?;
        let chain = format::chain_ids(&parsed.rootfs.diff_ids);
        for (at, layer) in document.layers.iter().enumerate() {
            let here = chain.get(at).is_some_and(|chain| store.layers().get(chain).is_some());
            if !here {
                self.blob(store, reference, &layer.digest, layer.size).await?;
            }
        }
        Ok(Found { target, manifest, names: vec![reference.to_string()], original: true })
    }

    async fn manifest(
        &self,
        store: &Arc<ImageStore>,
        reference: &Reference,
        wanted: &str,
    ) -> Result<(Digest, Document)> {
        let promised = Digest::parse(wanted).ok();
        let mut headers = HeaderMap::new();
        for kind in INDEX_TYPES.iter().chain(&MANIFEST_TYPES) {
            headers.append(header::ACCEPT, header::HeaderValue::from_static(kind));
        }
        let path = format!("/v2/{}/manifests/{wanted}", reference.repository);
        let response = self.get(&path, reference, &headers).await?;
        let response = match response.status() {
            StatusCode::OK => response,
            StatusCode::NOT_FOUND => return Err(Error::NotFound { what: "image", id: reference.to_string() }),
            status => return Err(self.trouble(format!("asked for {reference}, it answers {status}"))),
        };
        let kind =
            response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let limit = usize::try_from(MAX_DOCUMENT).unwrap_or(usize::MAX);
        let bytes = tokio::time::timeout(STALL_TIMEOUT, transport::body::read_all(response.into_body(), limit)).await;
        let bytes = bytes.map_err(|_| self.trouble("it stopped in the middle of a manifest"))??;
        let digest = Digest::of(&bytes);
        if let Some(promised) = promised
            && promised != digest
        {
            return Err(Error::Corrupt(format!("asked for {promised}, {} gave {digest}", self.host)));
        }
        let mut document: Document = format::read("manifest", &bytes)?;
        if document.media_type.is_empty() {
            document.media_type = kind;
        }
        let store = store.clone();
        blocking(move || store.content().put(&bytes)).await?;
        Ok((digest, document))
    }

    /// Brings a blob in, going on where an earlier try stopped.
    async fn blob(&self, store: &Arc<ImageStore>, reference: &Reference, digest: &Digest, size: u64) -> Result<()> {
        if store.content().size(digest).is_some() {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.blob_once(store, reference, digest, size).await {
                Err(error) if tries < MAX_TRIES && is_passing(&error) => {
                    tracing::debug!(host = %self.host, %digest, %error, "a download broke off and goes on");
                    tokio::time::sleep(Duration::from_millis(200 << tries)).await;
                }
                done => return done,
            }
        }
    }

    async fn blob_once(
        &self,
        store: &Arc<ImageStore>,
        reference: &Reference,
        digest: &Digest,
        size: u64,
    ) -> Result<()> {
        let mut writer = store.content().resume(digest)?;
        let mut headers = HeaderMap::new();
        if writer.length() > 0 && (size == 0 || writer.length() < size) {
            let range = format!("bytes={}-", writer.length());
            headers
                .insert(header::RANGE, range.parse().map_err(|_| Error::Internal("a range is malformed".to_owned()))?);
        } else if writer.length() > 0 && writer.length() == size {
            return tokio::task::block_in_place(|| writer.commit(Some(digest))).map(|_| ());
        } else {
            writer.restart()?;
        }
        let path = format!("/v2/{}/blobs/{digest}", reference.repository);
        let response = self.get(&path, reference, &headers).await?;
        match response.status() {
            StatusCode::OK => writer.restart()?,
            StatusCode::PARTIAL_CONTENT => {
                let range =
                    response.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
                let start = range.strip_prefix("bytes ").and_then(|r| r.split('-').next()).and_then(|n| n.parse().ok());
                if start != Some(writer.length()) {
                    writer.restart()?;
                    return Err(self.trouble("it answers with another range than was asked for"));
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                writer.restart()?;
                return Err(self.trouble("it does not have the range that is missing"));
            }
            status => return Err(self.trouble(format!("asked for blob {digest}, it answers {status}"))),
        }
        let limit = if size > 0 { size } else { MAX_BLOB };
        let mut body = response.into_body();
        loop {
            let frame = tokio::time::timeout(STALL_TIMEOUT, body.frame()).await;
            let Some(frame) = frame.map_err(|_| self.trouble("a download stalled"))? else { break };
            let frame = frame.map_err(|e| self.trouble(format!("a download broke off: {e}")))?;
            if let Ok(bytes) = frame.into_data() {
                if writer.length() + bytes.len() as u64 > limit {
                    writer.restart()?;
                    return Err(Error::Corrupt(format!(
                        "blob {digest} is longer than the {limit} bytes it should have"
                    )));
                }
                tokio::task::block_in_place(|| writer.write(&bytes))?;
            }
        }
        if size > 0 && writer.length() < size {
            return Err(self.trouble("a download broke off"));
        }
        tokio::task::block_in_place(|| writer.commit(Some(digest))).map(|_| ())
    }

    /// Asks with what authorization there is; follows redirects, and answers one challenge.
    async fn get(&self, path: &str, reference: &Reference, headers: &HeaderMap) -> Result<Response<Incoming>> {
        let query = self.namespace.as_ref().map(|ns| format!("?ns={ns}")).unwrap_or_default();
        let first: Uri =
            format!("{}{path}{query}", self.base).parse().map_err(|_| self.trouble("its address is malformed"))?;
        let mut challenged = false;
        let (mut uri, mut redirects) = (first.clone(), 0);
        loop {
            let own = uri.authority() == first.authority() && uri.scheme() == first.scheme();
            let mut request = Request::builder().method(Method::GET).uri(&uri).header(header::USER_AGENT, "skiff");
            if let Some(all) = request.headers_mut() {
                all.extend(headers.clone());
            }
            // Authorization is for the registry alone, never for whom it sends us to.
            if own && let Some(granted) = &*self.authorization.lock().await {
                request = request.header(header::AUTHORIZATION, granted);
            }
            let request = request.body(transport::body::empty()).map_err(|e| self.trouble(e.to_string()))?;
            let response = self.client.send_within(HEAD_TIMEOUT, request).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED if own && !challenged => {
                    challenged = true;
                    self.answer_challenge(response.headers(), reference).await?;
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    return Err(
                        self.trouble(format!("access to {} is denied: check the credentials", reference.repository))
                    );
                }
                status if status.is_redirection() => {
                    redirects += 1;
                    let location =
                        response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
                    if redirects > MAX_REDIRECTS || location.is_empty() {
                        return Err(self.trouble("it redirects without end"));
                    }
                    uri =
                        resolve(&uri, location).ok_or_else(|| self.trouble(format!("it redirects to {location:?}")))?;
                }
                _ => return Ok(response),
            }
        }
    }

    async fn answer_challenge(&self, headers: &HeaderMap, reference: &Reference) -> Result<()> {
        let challenges = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
        let basic = self
            .credentials
            .as_ref()
            .map(|(user, password)| format!("Basic {}", BASE64.encode(format!("{user}:{password}"))));
        for challenge in challenges {
            let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
            if scheme.eq_ignore_ascii_case("basic")
                && let Some(basic) = &basic
            {
                *self.authorization.lock().await = Some(basic.clone());
                return Ok(());
            }
            if scheme.eq_ignore_ascii_case("bearer") {
                let token = self.token(&parameters(rest), basic.as_deref(), reference).await?;
                *self.authorization.lock().await = Some(format!("Bearer {token}"));
                return Ok(());
            }
        }
        Err(self.trouble("it asks for credentials, and there are none for it"))
    }

    async fn token(
        &self,
        parameters: &BTreeMap<String, String>,
        basic: Option<&str>,
        reference: &Reference,
    ) -> Result<String> {
        #[derive(Deserialize)]
        struct Granted {
            #[serde(default)]
            token: String,
            #[serde(default)]
            access_token: String,
        }
        let realm = parameters.get("realm").map(String::as_str).unwrap_or_default();
        let usual = format!("repository:{}:pull", reference.repository);
        let scope = parameters.get("scope").unwrap_or(&usual);
        let mut query = format!("scope={}", escape(scope));
        if let Some(service) = parameters.get("service") {
            query.push_str(&format!("&service={}", escape(service)));
        }
        let separator = if realm.contains('?') { '&' } else { '?' };
        let uri: Uri = format!("{realm}{separator}{query}")
            .parse()
            .map_err(|_| self.trouble("its token service has no address"))?;
        // A password must not travel in the clear because a registry says so.
        let basic = basic.filter(|_| uri.scheme_str() == Some("https") || uri.host().is_some_and(is_loopback));
        let mut request = Request::builder().uri(&uri).header(header::USER_AGENT, "skiff");
        if let Some(basic) = basic {
            request = request.header(header::AUTHORIZATION, basic);
        }
        let request = request.body(transport::body::empty()).map_err(|e| self.trouble(e.to_string()))?;
        let answer = self.client.fetch(HEAD_TIMEOUT, MAX_TOKEN, request).await?;
        if answer.status() != StatusCode::OK {
            return Err(self.trouble(format!("its token service answers {}: check the credentials", answer.status())));
        }
        let granted: Granted = format::read("token", answer.body())?;
        let token = if granted.token.is_empty() { granted.access_token } else { granted.token };
        if token.is_empty() { Err(self.trouble("its token service gives no token")) } else { Ok(token) }
    }
}

/// Whether trying again may help.
fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Registry { .. } | Error::Transport(_))
}

/// Where a redirect leads.
fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return location.parse().ok();
    }
    let path = location.strip_prefix('/')?;
    format!("{}://{}/{path}", from.scheme_str()?, from.authority()?).parse().ok()
}

/// The parameters of a challenge: `name="value",…`.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([',', ' ']).to_ascii_lowercase();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.insert(name, value.to_owned());
        rest = after;
    }
    found
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_taken_apart() {
        let found = parameters(
            r#"realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#,
        );
        assert_eq!(found["realm"], "https://auth.example/token");
        assert_eq!(found["service"], "registry.example");
        assert_eq!(found["scope"], "repository:a/b:pull,push");
        assert_eq!(escape("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
    }

    #[test]
    fn only_loopback_goes_without_tls() {
        for (host, loopback) in
            [("localhost:5000", true), ("127.0.0.1", true), ("[::1]:5000", true), ("10.0.0.1:5000", false)]
        {
            assert_eq!(is_loopback(host), loopback, "{host}");
        }
    }

    #[test]
    fn redirects_stay_where_they_are_told() {
        let from: Uri = "https://r.example/v2/a".parse().unwrap();
        assert_eq!(resolve(&from, "/x?y=1").unwrap().to_string(), "https://r.example/x?y=1");
        assert_eq!(resolve(&from, "https://cdn.example/z").unwrap().host(), Some("cdn.example"));
        assert!(resolve(&from, "ftp://x/").is_none());
    }
}
