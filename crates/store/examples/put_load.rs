//! Puts per second and their latency at 1, 16 and 64 clients in this process: `put_load [FOLDER] [SECONDS]`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use store::{Config, LocalStore, Store};

/// What is put: about the size of a small object.
const VALUE: usize = 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(|| std::env::temp_dir().join("skiff-put-load"), PathBuf::from);
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!("{:>8} {:>10} {:>10} {:>10} {:>12}", "clients", "puts/s", "p50 ms", "p99 ms", "puts a sync");
    for clients in [1usize, 16, 64] {
        let path = folder.join(format!("{}-{clients}", std::process::id()));
        let store = Arc::new(LocalStore::open(&path, Config::default())?);
        runtime.block_on(run(store, clients, Duration::from_secs(seconds)))?;
        std::fs::remove_dir_all(&path)?;
    }
    Ok(())
}

async fn run(store: Arc<LocalStore>, clients: usize, life: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let before = store.stats().await?.syncs;
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut took = Vec::new();
                for n in 0u64.. {
                    let sent = Instant::now();
                    let key = format!("/registry/load/{client}/{}", n % 1000);
                    store.put(key.into(), Bytes::from(vec![b'x'; VALUE])).await?;
                    took.push(sent.elapsed());
                    if begun.elapsed() > life {
                        break;
                    }
                }
                Ok::<_, store::Error>(took)
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await??);
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let syncs = store.stats().await?.syncs - before;
    took.sort();
    let percentile = |p: usize| took[(took.len() - 1) * p / 100].as_secs_f64() * 1000.0;
    let (rate, shared) = (took.len() as f64 / elapsed, took.len() as f64 / syncs as f64);
    println!("{clients:>8} {rate:>10.0} {:>10.2} {:>10.2} {shared:>12.1}", percentile(50), percentile(99));
    Ok(())
}
