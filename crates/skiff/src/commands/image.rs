//! `skiff image`: the node's images, by the runtime's socket.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use runtime::grpc::Client;

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
                let client = Client::connect(&connection.socket).await?;
                for archive in archives {
                    let imported = import(&client, &archive, !unpinned).await;
                    imported.with_context(|| format!("cannot import {}", archive.display()))?;
                }
            }
            Image::List { connection } => list(&Client::connect(&connection.socket).await?).await?,
            Image::Pull { connection, images } => {
                let client = Client::connect(&connection.socket).await?;
                for name in images {
                    println!("{name}: {}", client.pull(&name).await?);
                }
            }
            Image::Remove { connection, images } => {
                let client = Client::connect(&connection.socket).await?;
                for name in images {
                    client.remove(&name).await?;
                    println!("{name}: removed");
                }
            }
        }
        Ok(())
    }
}

async fn import(client: &Client, archive: &Path, pinned: bool) -> anyhow::Result<()> {
    let input: Box<dyn Read + Send> = if archive == Path::new("-") {
        if std::io::stdin().is_terminal() {
            bail!("standard input is a terminal: pipe an archive into it");
        }
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(archive)?)
    };
    for image in client.import(input, pinned).await? {
        println!("{}: {}", image.names.first().unwrap_or(&image.id), image.id);
    }
    Ok(())
}

async fn list(client: &Client) -> anyhow::Result<()> {
    println!("{:<60} {:<20} {:>10}", "NAME", "ID", "SIZE");
    for image in client.images().await? {
        let id: String = image.id.chars().skip("sha256:".len()).take(12).collect();
        let names = if image.repo_tags.is_empty() { image.repo_digests } else { image.repo_tags };
        let names = if names.is_empty() { vec!["<none>".to_owned()] } else { names };
        for name in names {
            println!("{name:<60} {id:<20} {:>7} kB", image.size / 1000);
        }
    }
    Ok(())
}
