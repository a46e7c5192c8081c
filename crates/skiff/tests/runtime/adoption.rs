//! A daemon that is killed: containers run on, and the next one knows them, their output and their ends.

use std::fs;

use cri::v1::{ContainerState, Mount, StopContainerRequest};

use crate::lab::{Lab, runtime};
use crate::requests::{container, ended, exec, log, logged, pod, remove, run_pod, start, status};

/// Two containers live through the death of their daemon: one runs on, one ends while there is no daemon.
pub async fn containers_outlive_the_daemon(mut lab: Lab) {
    lab.start().await;
    lab.import();
    let before = lab.holds();
    let mut client = runtime(&lab.socket());
    let folder = lab.folder.clone();
    let gate = folder.join("gate");
    fs::create_dir(&gate).unwrap();

    let sandbox = run_pod(&mut client, pod(&folder, "outlives", 0)).await.unwrap();
    let ticking = "trap 'echo bye; exit 3' TERM; n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.05; done";
    let lasting = start(&mut client, &sandbox, container("lasting", ticking)).await.unwrap();
    let mut config =
        container("ending", "while [ ! -e /gate/open ]; do sleep 0.05; done; echo late; sh -c 'kill -9 $$'; exit 9");
    config.mounts = vec![Mount {
        container_path: "/gate".to_owned(),
        host_path: gate.display().to_string(),
        readonly: true,
        ..Mount::default()
    }];
    let ending = start(&mut client, &sandbox, config).await.unwrap();
    logged(&folder, "outlives", "lasting", "tick 2\n").await;
    // The identity of a process: its number and when it began.
    let init = "sed 's/.*) //' /proc/1/stat | cut -d' ' -f20";
    let began = exec(&mut client, &lasting, init).await.unwrap();
    assert_eq!(began.0, 0, "{}", began.1);

    lab.kill();
    // What they say without a daemon is kept.
    let ticks = log(&folder, "outlives", "lasting").lines().count();
    logged(&folder, "outlives", "lasting", &format!("tick {}\n", ticks + 5)).await;
    fs::write(gate.join("open"), "").unwrap();
    logged(&folder, "outlives", "ending", "stdout F late\n").await;

    lab.start().await;
    assert_eq!(status(&mut client, &lasting).await.unwrap().state, ContainerState::ContainerRunning as i32);
    assert_eq!(exec(&mut client, &lasting, init).await.unwrap(), began);
    let end = ended(&mut client, &ending).await.unwrap();
    assert_eq!((end.exit_code, end.reason.as_str()), (9, "Error"));
    assert!(end.finished_at >= end.started_at && end.started_at > 0, "{end:?}");
    client.stop_container(StopContainerRequest { container_id: lasting.clone(), timeout: 60 }).await.unwrap();
    assert_eq!(ended(&mut client, &lasting).await.unwrap().exit_code, 3);
    assert!(log(&folder, "outlives", "lasting").ends_with("stdout F bye\n"));

    remove(&mut client, &sandbox).await.unwrap();
    lab.holds_again(&before).await;
    lab.stop();
}
