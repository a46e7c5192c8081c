//! `skiff image`: the node's images, by the runtime's socket.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use cri::archives::ImportRequest;
use cri::archives::archive_service_client::ArchiveServiceClient;
use cri::v1;
use cri::v1::image_service_client::ImageServiceClient;
use tonic::transport::{Channel, Endpoint, Uri};

const PART: usize = 1 << 20;

/// Where the runtime is.
#[derive(Args)]
pub struct Connection {
    /// The runtime's socket
    #[arg(long, default_value = "/run/skiff/cri.sock", env = "SKIFF_SOCKET")]
    socket: PathBuf,
}

/// Commands about images.
#[derive(Subcommand)]
pub enum Image {
    /// Bring the images of archives in: OCI layouts or what docker save writes, plain, gzip or zstd
    Import {
        #[command(flatten)]
        connection: Connection,
        /// The archives; - is standard input
        #[arg(required = true)]
        archives: Vec<PathBuf>,
        /// Let the images be collected when disk space is short
        #[arg(long)]
        unpinned: bool,
    },
    /// List the images
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Download images
    Pull {
        #[command(flatten)]
        connection: Connection,
        /// Names of images
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Remove images with all their names
    Remove {
        #[command(flatten)]
        connection: Connection,
        /// Names or identities of images
        #[arg(required = true)]
        images: Vec<String>,
    },
}

impl Image {
    /// Carries the command out.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        super::block_on(self.carry_out())?;
        Ok(ExitCode::SUCCESS)
    }

    async fn carry_out(self) -> anyhow::Result<()> {
        match self {
            Image::Import { connection, archives, unpinned } => {
                let channel = connect(&connection.socket).await?;
                for archive in archives {
                    import(channel.clone(), &archive, !unpinned)
                        .await
                        .with_context(|| format!("cannot import {}", archive.display()))?;
                }
            }
            Image::List { connection } => list(connect(&connection.socket).await?).await?,
            Image::Pull { connection, images } => {
                let mut client = ImageServiceClient::new(connect(&connection.socket).await?);
                for name in images {
                    let image = Some(v1::ImageSpec { image: name.clone(), ..v1::ImageSpec::default() });
                    let request = v1::PullImageRequest { image, ..v1::PullImageRequest::default() };
                    let pulled = client.pull_image(request).await.map_err(said)?;
                    println!("{name}: {}", pulled.into_inner().image_ref);
                }
            }
            Image::Remove { connection, images } => {
                let mut client = ImageServiceClient::new(connect(&connection.socket).await?);
                for name in images {
                    let spec = Some(v1::ImageSpec { image: name.clone(), ..v1::ImageSpec::default() });
                    let status = client.image_status(v1::ImageStatusRequest { image: spec.clone(), verbose: false });
                    if status.await.map_err(said)?.into_inner().image.is_none() {
                        bail!("image {name} not found");
                    }
                    client.remove_image(v1::RemoveImageRequest { image: spec }).await.map_err(said)?;
                    println!("{name}: removed");
                }
            }
        }
        Ok(())
    }
}

fn said(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}

async fn connect(socket: &Path) -> anyhow::Result<Channel> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    let connected = Endpoint::from_static("http://runtime").connect_with_connector(connector).await;
    connected.with_context(|| format!("cannot reach the runtime at {}: is it running?", socket.display()))
}

async fn import(channel: Channel, archive: &Path, pinned: bool) -> anyhow::Result<()> {
    let mut input: Box<dyn Read + Send> = if archive == Path::new("-") {
        if std::io::stdin().is_terminal() {
            bail!("standard input is a terminal: pipe an archive into it");
        }
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(archive)?)
    };
    let (sender, parts) = tokio::sync::mpsc::channel(4);
    let reading = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        loop {
            let mut part = vec![0; PART];
            let n = input.read(&mut part)?;
            part.truncate(n);
            if n == 0 || sender.blocking_send(ImportRequest { pinned, part }).is_err() {
                return Ok(());
            }
        }
    });
    let mut client = ArchiveServiceClient::new(channel);
    let imported = client.import(tokio_stream::wrappers::ReceiverStream::new(parts)).await;
    reading.await??;
    for image in imported.map_err(said)?.into_inner().images {
        let name = image.names.first().unwrap_or(&image.id);
        println!("{name}: {}", image.id);
    }
    Ok(())
}

async fn list(channel: Channel) -> anyhow::Result<()> {
    let mut client = ImageServiceClient::new(channel);
    let images = client.list_images(v1::ListImagesRequest::default()).await.map_err(said)?.into_inner().images;
    println!("{:<60} {:<20} {:>10}", "NAME", "ID", "SIZE");
    for image in images {
        let id: String = image.id.chars().skip("sha256:".len()).take(12).collect();
        let names = if image.repo_tags.is_empty() { image.repo_digests } else { image.repo_tags };
        let names = if names.is_empty() { vec!["<none>".to_owned()] } else { names };
        for name in names {
            println!("{name:<60} {id:<20} {:>7} kB", image.size / 1000);
        }
    }
    Ok(())
}
