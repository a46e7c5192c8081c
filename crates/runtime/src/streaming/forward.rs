//! Port-forward: each pair of SPDY streams is one connection to a port inside the pod.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::shim::ShimClient;
use crate::streaming::spdy::{Session, Stream};
use crate::{Error, Result, Runtime};

/// Pairs that are waiting for their second stream.
const MAX_WAITING: usize = 256;

/// Serves forwarded connections until the client goes.
pub(super) async fn over_spdy(runtime: &Runtime, pod: &str, mut session: Session) -> Result<()> {
    let shim = runtime.pod(pod)?.shim()?;
    let mut waiting: HashMap<String, Stream> = HashMap::new();
    while let Some(stream) = session.accept().await {
        let request = match stream.header("requestid") {
            // Clients of old send no identity: their two streams follow each other.
            "" if stream.header("streamtype") == "error" => stream.id().to_string(),
            "" => stream.id().saturating_sub(2).to_string(),
            id => id.to_owned(),
        };
        let Some(other) = waiting.remove(&request) else {
            if waiting.len() >= MAX_WAITING {
                return Err(Error::Invalid("too many halves of forwarded connections".to_owned()));
            }
            waiting.insert(request, stream);
            continue;
        };
        let (error, data) = if stream.header("streamtype") == "error" { (stream, other) } else { (other, stream) };
        let shim = shim.clone();
        tokio::spawn(async move {
            let port = data.header("port").to_owned();
            let (_, trouble) = error.split();
            if let Err(failure) = connection(&shim, &port, data).await {
                let _ = trouble.send(Bytes::from(format!("error forwarding port {port} to the pod: {failure}"))).await;
            }
            let _ = trouble.finish().await;
        });
    }
    Ok(())
}

async fn connection(shim: &ShimClient, port: &str, data: Stream) -> Result<()> {
    let port: u16 = port.parse().map_err(|_| Error::Invalid(format!("{port:?} is no port")))?;
    let (mut from_client, to_client) = data.split();
    let stream = match shim.dial(port).await {
        Ok(stream) => stream,
        Err(error) => {
            let _ = to_client.finish().await;
            return Err(error);
        }
    };
    let (mut reader, mut writer) = stream.into_split();
    let inward = async {
        while let Some(bytes) = from_client.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = writer.shutdown().await;
    };
    let outward = async {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(n) = reader.read(&mut buffer).await {
            if n == 0 || to_client.send(Bytes::copy_from_slice(&buffer[..n])).await.is_err() {
                break;
            }
        }
        let _ = to_client.finish().await;
    };
    tokio::join!(inward, outward);
    Ok(())
}
