//! Serves the store of a folder as etcd v3 on loopback until it is interrupted: `etcd FOLDER [PORT]`.

use std::path::Path;
use std::sync::Arc;

use store::{Config, LocalStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: etcd FOLDER [PORT]")?;
    let port = arguments.next().map_or(Ok(2379), |text| text.parse())?;
    let store = Arc::new(LocalStore::open(Path::new(&folder), Config::default())?);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("serving {folder} on {}", listener.local_addr()?);
    let stop = async {
        // An error means that no signal can be waited for: then the process is killed instead.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    store::grpc::serve(store, listener, stop).await?;
    Ok(())
}
