//! Claims whose volume is a folder of this node.

use std::path::PathBuf;

use api::core::persistentvolume::PersistentVolume;
use api::core::persistentvolumeclaim::PersistentVolumeClaim;
use client::Client;

/// Where the volume of a claim is on this node.
pub async fn path(client: &Client, namespace: &str, name: &str) -> Result<PathBuf, String> {
    let claim: PersistentVolumeClaim = client.get(namespace, name).await.map_err(|status| {
        if status.is_not_found() { format!("persistentvolumeclaim {name:?} not found") } else { status.to_string() }
    })?;
    if claim.status.phase != "Bound" || claim.spec.volume_name.is_empty() {
        return Err("PVC is not bound".to_owned());
    }
    let volume: PersistentVolume = client.get("", &claim.spec.volume_name).await.map_err(|s| s.to_string())?;
    let source = &volume.spec.persistent_volume_source;
    if let Some(host) = &source.host_path {
        let path = PathBuf::from(&host.path);
        super::places::check_host_path(&path, host.type_.as_deref().unwrap_or("DirectoryOrCreate"))?;
        return Ok(path);
    }
    if let Some(local) = &source.local {
        let path = PathBuf::from(&local.path);
        super::places::check_host_path(&path, "Directory")?;
        return Ok(path);
    }
    Err(format!("the volume {:?} is of a kind that this node does not support", volume.metadata.name))
}
