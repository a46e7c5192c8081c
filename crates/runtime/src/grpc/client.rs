//! Asks a runtime on a socket about images: what commands need.

use std::io::Read;
use std::path::Path;

use cri::archives::ImportRequest;
use cri::archives::archive_service_client::ArchiveServiceClient;
use cri::v1;
use cri::v1::image_service_client::ImageServiceClient;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::error::blocking;
use crate::{Error, Result};

/// An archive travels in parts of this size.
const PART: usize = 1 << 20;

/// An image that an archive brought.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Its identity.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
}

/// A connection to a runtime.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Connects to a runtime's socket.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://runtime").connect_with_connector(connector).await;
        let unreachable =
            || Error::Unavailable(format!("cannot reach the runtime at {}: is it running?", socket.display()));
        Ok(Self { channel: channel.map_err(|_| unreachable())? })
    }

    /// All images.
    pub async fn images(&self) -> Result<Vec<v1::Image>> {
        let listed = ImageServiceClient::new(self.channel.clone()).list_images(v1::ListImagesRequest::default()).await;
        Ok(listed.map_err(said)?.into_inner().images)
    }

    /// Downloads an image; tells its identity.
    pub async fn pull(&self, name: &str) -> Result<String> {
        let request = v1::PullImageRequest { image: Some(spec(name)), ..v1::PullImageRequest::default() };
        let pulled = ImageServiceClient::new(self.channel.clone()).pull_image(request).await;
        Ok(pulled.map_err(said)?.into_inner().image_ref)
    }

    /// Removes an image that must be there.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let mut client = ImageServiceClient::new(self.channel.clone());
        let status = client.image_status(v1::ImageStatusRequest { image: Some(spec(name)), verbose: false });
        if status.await.map_err(said)?.into_inner().image.is_none() {
            return Err(Error::NotFound { what: "image", id: name.to_owned() });
        }
        client.remove_image(v1::RemoveImageRequest { image: Some(spec(name)) }).await.map_err(said)?;
        Ok(())
    }

    /// Brings the images of an archive in.
    pub async fn import(&self, mut archive: Box<dyn Read + Send>, pinned: bool) -> Result<Vec<Imported>> {
        let (sender, parts) = mpsc::channel(4);
        let reading = tokio::spawn(blocking(move || {
            loop {
                let mut part = vec![0; PART];
                let n = archive.read(&mut part).map_err(Error::io("cannot read the archive"))?;
                part.truncate(n);
                if n == 0 || sender.blocking_send(ImportRequest { pinned, part }).is_err() {
                    return Ok(());
                }
            }
        }));
        let imported = ArchiveServiceClient::new(self.channel.clone()).import(ReceiverStream::new(parts)).await;
        reading.await.map_err(|e| Error::Internal(e.to_string()))??;
        let images = imported.map_err(said)?.into_inner().images.into_iter();
        Ok(images.map(|image| Imported { id: image.id, names: image.names }).collect())
    }
}

fn spec(name: &str) -> v1::ImageSpec {
    v1::ImageSpec { image: name.to_owned(), ..v1::ImageSpec::default() }
}

fn said(status: tonic::Status) -> Error {
    Error::State(status.message().to_owned())
}
