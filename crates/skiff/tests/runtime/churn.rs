//! Many pods made and deleted while the daemon is killed again and again: nothing of them stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::RwLock;
use tonic::Status;

use crate::lab::{Lab, PATIENCE, runtime};
use crate::requests::{Client, container, ended, exec, log, pod, pods, remove, run_pod, start};

const PODS: usize = 200;
const WORKERS: usize = 4;
/// After so many pods the daemon is killed.
const BETWEEN_KILLS: usize = 16;

/// What the workers share.
struct Work {
    folder: PathBuf,
    socket: PathBuf,
    taken: AtomicUsize,
    done: AtomicUsize,
    /// How often the daemon was killed; locked while there is none.
    kills: RwLock<usize>,
}

/// Makes and deletes 200 pods, some at a time, killing the daemon in between.
pub async fn leaves_nothing(mut lab: Lab) {
    lab.start().await;
    lab.import();
    let before = lab.holds();
    let mut client = runtime(&lab.socket());
    // One that sees every kill.
    let witness = run_pod(&mut client, pod(&lab.folder, "witness", 0)).await.unwrap();
    let watching = start(&mut client, &witness, container("watching", "while :; do sleep 1; done")).await.unwrap();

    let work = Arc::new(Work {
        folder: lab.folder.clone(),
        socket: lab.socket(),
        taken: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
        kills: RwLock::new(0),
    });
    let workers: Vec<_> = (0..WORKERS).map(|_| tokio::spawn(worker(work.clone()))).collect();
    for kill in 1..=(PODS - 1) / BETWEEN_KILLS {
        while work.done.load(Ordering::Relaxed) < kill * BETWEEN_KILLS {
            assert!(!workers.iter().any(|worker| worker.is_finished() && work.taken.load(Ordering::Relaxed) < PODS));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Hits the workers in another step each time.
        tokio::time::sleep(Duration::from_millis((kill as u64 * 37) % 150)).await;
        lab.kill();
        *work.kills.write().await += 1;
        lab.start().await;
    }
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(work.done.load(Ordering::Relaxed), PODS);
    assert_eq!(exec(&mut client, &watching, "echo still here").await.unwrap(), (0, "still here\n".to_owned()));
    remove(&mut client, &witness).await.unwrap();
    assert_eq!(pods(&mut client, None).await.unwrap(), Vec::new());
    lab.holds_again(&before).await;
    lab.stop();
}

async fn worker(work: Arc<Work>) {
    let mut client = runtime(&work.socket);
    loop {
        let number = work.taken.fetch_add(1, Ordering::Relaxed);
        if number >= PODS {
            return;
        }
        let name = format!("pod-{number}");
        let mut attempt = 0;
        loop {
            let kills = *work.kills.read().await;
            match life(&mut client, &work.folder, &name, attempt, number).await {
                Ok(()) => break,
                Err(error) => {
                    // Only a killed daemon is an excuse.
                    told_of_a_kill(&work, kills, &error).await;
                    attempt += 1;
                    begin_anew(&mut client, &work, &name).await;
                }
            }
        }
        work.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// A pod's life, from nothing to nothing.
async fn life(client: &mut Client, folder: &Path, name: &str, attempt: u32, number: usize) -> Result<(), Status> {
    let code = i32::try_from(number % 100).unwrap_or(0);
    let sandbox = run_pod(client, pod(folder, name, attempt)).await?;
    let script = format!("echo I am {name}; hostname; exit {code}");
    let id = start(client, &sandbox, container(&format!("main-{attempt}"), &script)).await?;
    let end = ended(client, &id).await?;
    assert_eq!(end.exit_code, code, "{end:?}");
    let said = log(folder, name, &format!("main-{attempt}"));
    assert!(said.contains(&format!("stdout F I am {name}\n")) && said.ends_with(&format!(" F {name}\n")), "{said:?}");
    remove(client, &sandbox).await
}

async fn told_of_a_kill(work: &Work, kills: usize, error: &Status) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while *work.kills.read().await == kills {
        assert!(tokio::time::Instant::now() < deadline, "the daemon lives and says: {error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Takes away what the last attempt left, as an agent does that finds its pods by their labels.
async fn begin_anew(client: &mut Client, work: &Work, name: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let kills = *work.kills.read().await;
        let swept = async {
            for left in pods(client, Some(name)).await? {
                remove(client, &left.id).await?;
            }
            Ok::<_, Status>(())
        };
        match swept.await {
            Ok(()) => return,
            // There may be none yet, or it is killed again.
            Err(error) if tokio::time::Instant::now() > deadline => panic!("after {kills} kills: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
