//! Lets machines into the cluster: the authority's certificate for anyone, certificates for who has the join token.
//!
//! `GET /skiff/v1/authority` gives the certificates by which the server is known; a joining machine compares them with
//! the hash in its token before it shows the secret. `POST /skiff/v1/join` with the secret gives what the gate gives.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use apimachinery::{Status, Value, codec::json};
use http::Method;
use http::header::AUTHORIZATION;

use crate::pipeline::Request;
use crate::respond::{self, Response};

const PREFIX: &str = "/skiff/v1/";
/// What a joining machine may send.
const MAX_BODY: usize = 64 << 10;

/// Who lets machines in.
pub trait Gate: Send + Sync + 'static {
    /// The certificates of the authority that signs servers, as PEM.
    fn authority(&self) -> String;

    /// Answers a machine that has shown a secret.
    ///
    /// # Errors
    /// 401 for a wrong secret; 400 and 403 for requests that are not granted.
    fn admit<'a>(
        &'a self,
        secret: &'a str,
        request: Value,
    ) -> Pin<Box<dyn Future<Output = Result<Value, Status>> + Send + 'a>>;
}

/// The gate, once there is one.
#[derive(Default)]
pub struct Gates(OnceLock<Arc<dyn Gate>>);

impl Gates {
    pub fn set(&self, gate: Arc<dyn Gate>) {
        let _ = self.0.set(gate);
    }

    /// Whether a path is the gate's, and there is one.
    pub(crate) fn of(&self, path: &str) -> Option<&Arc<dyn Gate>> {
        self.0.get().filter(|_| path.starts_with(PREFIX))
    }
}

/// Answers a request to the gate. It does its own authentication: machines that join have no user yet.
pub(crate) async fn handle(gate: &Arc<dyn Gate>, request: Request) -> Result<Response, Status> {
    let path = request.info.path.strip_prefix(PREFIX).unwrap_or_default();
    match (&request.parts.method, path) {
        (&Method::GET, "authority") => {
            Ok(respond::respond(200, "application/x-pem-file", respond::full(gate.authority())))
        }
        (&Method::POST, "join") => {
            let shown = request.parts.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
            let secret = shown.and_then(|v| v.strip_prefix("Bearer ")).ok_or_else(Status::unauthorized)?.to_owned();
            let body = transport::body::read_all(request.body, MAX_BODY).await;
            let body = body.map_err(|e| Status::bad_request(e.to_string()))?;
            let asked = json::parse(&body).map_err(|e| Status::bad_request(e.to_string()))?;
            let answer = gate.admit(&secret, asked).await?;
            Ok(respond::respond(200, "application/json", respond::full(json::encode_free(&answer))))
        }
        _ => Ok(crate::pipeline::page_not_found()),
    }
}
