//! One alarm a pod: when something of its files is due.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::Changed;

/// The alarms of the pods of a node.
pub struct Alarms {
    changed: Changed,
    set: Mutex<HashMap<String, AbortHandle>>,
}

impl Alarms {
    /// `changed` is called with a pod's uid when its alarm goes off.
    pub fn new(changed: Changed) -> Alarms {
        Alarms { changed, set: Mutex::default() }
    }

    /// Sets a pod's alarm, in place of the one before; `at` is in seconds since 1970.
    pub fn set(&self, uid: &str, at: i64) {
        let (changed, pod) = (self.changed.clone(), uid.to_owned());
        let wait = Duration::from_secs((at - crate::seconds()).max(1) as u64);
        let alarm = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            changed(&pod);
        });
        if let Some(old) = self.set.lock().insert(uid.to_owned(), alarm.abort_handle()) {
            old.abort();
        }
    }

    /// A pod is gone.
    pub fn forget(&self, uid: &str) {
        if let Some(alarm) = self.set.lock().remove(uid) {
            alarm.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn the_last_alarm_counts_and_those_of_gone_pods_are_silent() {
        let (to, mut rung) = tokio::sync::mpsc::unbounded_channel();
        let alarms = Alarms::new(Arc::new(move |uid: &str| to.send(uid.to_owned()).unwrap()));
        let now = crate::seconds();
        alarms.set("gone", now + 86_400);
        alarms.set("a", now + 86_400);
        alarms.set("a", now - 5);
        alarms.forget("gone");
        assert_eq!(rung.recv().await.unwrap(), "a");
        drop(alarms);
        // Nothing waits any more that could ring.
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), rung.recv()).await, Ok(None));
    }
}
