//! Downloads from a registry that asks for tokens, redirects, breaks off, and lies.

mod images;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cri::v1::AuthConfig;
use images::{Layout, Packing};
use runtime::Error;
use runtime::image::ImageStore;
use runtime::image::registry::Registries;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A request's path with its query, and its headers in lower case.
struct Asked {
    path: String,
    headers: HashMap<String, String>,
}

/// An answer; one that promises more than it sends breaks off.
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    promised: usize,
}

fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    let body = body.into();
    Reply { status, headers: Vec::new(), promised: body.len(), body }
}

impl Reply {
    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

type Log = Arc<Mutex<Vec<String>>>;

/// Serves answers on loopback; gives its address and the paths asked for.
async fn serve(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> (String, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let log: Log = Arc::default();
    let (seen, answer) = (log.clone(), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (seen, answer) = (seen.clone(), answer.clone());
            tokio::spawn(async move {
                let mut text = Vec::new();
                let mut buffer = [0; 4096];
                while !text.windows(4).any(|w| w == b"\r\n\r\n") {
                    match stream.read(&mut buffer).await {
                        Ok(n) if n > 0 => text.extend_from_slice(&buffer[..n]),
                        _ => return,
                    }
                }
                let text = String::from_utf8(text).unwrap();
                let mut lines = text.lines();
                let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
                let headers = lines.filter_map(|line| line.split_once(": "));
                let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
                seen.lock().unwrap().push(path.clone());
                let reply = answer(&Asked { path, headers });
                let mut head = format!(
                    "HTTP/1.1 {} X\r\nContent-Length: {}\r\nConnection: close\r\n",
                    reply.status, reply.promised
                );
                for (name, value) in reply.headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                let _ = stream.write_all(format!("{head}\r\n").as_bytes()).await;
                let _ = stream.write_all(&reply.body).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (address, log)
}

struct Lab {
    folder: tempfile::TempDir,
    store: Arc<ImageStore>,
    registries: Registries,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(ImageStore::open(&folder.path().join("images")).unwrap());
        let registries = Registries::new(folder.path().join("registries.json")).unwrap();
        Self { folder, store, registries }
    }

    async fn pull(&self, name: &str, auth: Option<&AuthConfig>) -> runtime::Result<String> {
        self.registries.pull(&self.store, name, auth).await.map(|id| id.to_string())
    }
}

/// The blobs of a small image by digest, and its manifest's digest.
fn image() -> (HashMap<String, Vec<u8>>, String) {
    let mut layout = Layout::new();
    let random: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let layer = images::archive(&[images::file("data", &random)]);
    let manifest = layout.image(&[layer], Packing::Gzip, json!({"Cmd": ["x"]}));
    let digest = manifest["digest"].as_str().unwrap().to_owned();
    (layout.blobs.into_iter().map(|(hex, bytes)| (format!("sha256:{hex}"), bytes)).collect(), digest)
}

fn found(blobs: &HashMap<String, Vec<u8>>, manifest: &str, path: &str) -> Reply {
    let name = path.rsplit('/').next().unwrap().split('?').next().unwrap();
    let digest = if path.contains("/manifests/") && !name.starts_with("sha256:") { manifest } else { name };
    match blobs.get(digest) {
        Some(bytes) => reply(200, bytes.clone()),
        None => reply(404, "no"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_and_stay_with_the_registry() {
    let (blobs, manifest) = image();
    let (blobs, stored) = (Arc::new(blobs), manifest.clone());
    let storage = blobs.clone();
    // Where blobs really are: must never see the token.
    let (elsewhere, _) = serve(move |asked| {
        assert!(!asked.headers.contains_key("authorization"), "the token was given away");
        found(&storage, "", &asked.path)
    })
    .await;
    let (tokens, asked_for) = serve(|asked| {
        // user:secret
        assert_eq!(asked.headers.get("authorization").map(String::as_str), Some("Basic dXNlcjpzZWNyZXQ="));
        reply(200, r#"{"token":"granted"}"#)
    })
    .await;
    let realm = format!("Bearer realm=\"http://{tokens}/token\",service=\"test\",scope=\"repository:team/app:pull\"");
    let (registry, _) = serve(move |asked| {
        if asked.headers.get("authorization").map(String::as_str) != Some("Bearer granted") {
            return reply(401, "").with("WWW-Authenticate", realm.clone());
        }
        if asked.path.contains("/blobs/") {
            return reply(307, "").with("Location", format!("http://{elsewhere}{}", asked.path));
        }
        found(&blobs, &stored, &asked.path)
    })
    .await;
    let lab = Lab::new();
    let auth = AuthConfig { username: "user".into(), password: "secret".into(), ..Default::default() };
    let name = format!("{registry}/team/app:1");
    let id = lab.pull(&name, Some(&auth)).await.unwrap();
    assert_eq!(asked_for.lock().unwrap().as_slice(), ["/token?scope=repository%3Ateam%2Fapp%3Apull&service=test"]);
    let image = lab.store.find(&name).unwrap();
    assert_eq!((image.image.id.to_string(), image.digests), (id, vec![format!("{registry}/team/app@{manifest}")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_download_goes_on_where_it_stopped() {
    let (blobs, manifest) = image();
    let layer = blobs.iter().max_by_key(|(_, bytes)| bytes.len()).map(|(digest, _)| digest.clone()).unwrap();
    let ranges: Log = Arc::default();
    let seen = ranges.clone();
    let (registry, _) = serve(move |asked| {
        if !asked.path.ends_with(&layer) {
            return found(&blobs, &manifest, &asked.path);
        }
        let bytes = &blobs[&layer];
        match asked.headers.get("range") {
            None => Reply { promised: bytes.len(), ..reply(200, &bytes[..bytes.len() / 2]) },
            Some(range) => {
                seen.lock().unwrap().push(range.clone());
                let start: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
                let value = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
                reply(206, &bytes[start..]).with("Content-Range", value)
            }
        }
    })
    .await;
    let lab = Lab::new();
    lab.pull(&format!("{registry}/app:1"), None).await.unwrap();
    let ranges = ranges.lock().unwrap();
    assert!(ranges.len() == 1 && ranges[0] != "bytes=0-", "{ranges:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_refused_and_do_not_stay() {
    let (mut blobs, manifest) = image();
    let layer = blobs.iter().max_by_key(|(_, bytes)| bytes.len()).map(|(digest, _)| digest.clone()).unwrap();
    if let Some(byte) = blobs.get_mut(&layer).and_then(|bytes| bytes.last_mut()) {
        *byte ^= 1;
    }
    let asked_for = manifest.clone();
    let (registry, _) = serve(move |asked| found(&blobs, &manifest, &asked.path)).await;
    let lab = Lab::new();
    assert!(matches!(lab.pull(&format!("{registry}/app:1"), None).await, Err(Error::Corrupt(_))));
    assert!(lab.store.list().is_empty());
    for part in ["content/sha256", "content/ingest", "layers"] {
        assert_eq!(std::fs::read_dir(lab.folder.path().join("images").join(part)).unwrap().count(), 0, "{part}");
    }
    // A manifest that is not the one asked for by digest.
    let (liar, _) = serve(|_| reply(200, "{}")).await;
    assert!(matches!(lab.pull(&format!("{liar}/app@{asked_for}"), None).await, Err(Error::Corrupt(_))));
    assert!(lab.pull(&format!("{registry}/app:none"), None).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_first_and_settings_are_read_anew() {
    let (blobs, manifest) = image();
    let (mirror, log) = serve(move |asked| found(&blobs, &manifest, &asked.path)).await;
    let (broken, broken_log) = serve(|_| reply(500, "no")).await;
    let lab = Lab::new();
    let settings = |mirrors: &[&String]| {
        let mirrors: Vec<String> = mirrors.iter().map(|mirror| format!("http://{mirror}")).collect();
        let value = json!({"registries": {"nowhere.invalid": {"mirrors": mirrors}}});
        std::fs::write(lab.folder.path().join("registries.json"), value.to_string()).unwrap();
    };
    settings(&[&broken]);
    assert!(lab.pull("nowhere.invalid/team/app:1", None).await.is_err());
    assert!(!broken_log.lock().unwrap().is_empty());
    settings(&[&broken, &mirror]);
    lab.pull("nowhere.invalid/team/app:1", None).await.unwrap();
    assert_eq!(log.lock().unwrap()[0], "/v2/team/app/manifests/1?ns=nowhere.invalid");
    assert!(lab.store.find("nowhere.invalid/team/app:1").is_some());
    std::fs::write(lab.folder.path().join("registries.json"), "{broken").unwrap();
    assert!(matches!(lab.pull("nowhere.invalid/team/app:1", None).await, Err(Error::Invalid(_))));
}
