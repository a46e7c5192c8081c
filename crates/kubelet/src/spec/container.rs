//! The configuration of one container.

use std::collections::HashMap;

use api::core::pod::Pod;
use api::core::pod::container::Container;
use cri::v1;

use super::env::expand;
use super::{Error, ImageFacts, NodeFacts, resources, security};
use crate::termination;

/// What a container's configuration needs beside pod and node.
pub struct ContainerInputs<'a> {
    /// How often it was started before.
    pub attempt: u32,
    pub image: &'a ImageFacts,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<v1::Mount>,
    /// The running container whose processes an ephemeral one shall see.
    pub target: String,
}

/// The configuration of a container.
pub fn container(
    pod: &Pod,
    container: &Container,
    node: &NodeFacts,
    inputs: ContainerInputs<'_>,
) -> Result<v1::ContainerConfig, Error> {
    let meta = &pod.metadata;
    let values: HashMap<&str, &str> = inputs.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expanded = |texts: &[String]| texts.iter().map(|text| expand(text, &values)).collect();
    let mut annotations = HashMap::from([
        (termination::PATH.to_owned(), container.termination_message_path.clone()),
        (termination::POLICY.to_owned(), container.termination_message_policy.clone()),
        ("io.kubernetes.container.restartCount".to_owned(), inputs.attempt.to_string()),
    ]);
    if let Some(grace) = meta.deletion_grace_period_seconds.or(pod.spec.termination_grace_period_seconds) {
        annotations.insert("io.kubernetes.pod.terminationGracePeriod".to_owned(), grace.to_string());
    }
    let labels = HashMap::from([
        ("io.kubernetes.pod.name".to_owned(), meta.name.clone()),
        ("io.kubernetes.pod.namespace".to_owned(), meta.namespace.clone()),
        ("io.kubernetes.pod.uid".to_owned(), meta.uid.clone()),
        ("io.kubernetes.container.name".to_owned(), container.name.clone()),
    ]);
    let stop_signal = container.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref());
    let stop_signal = stop_signal.and_then(v1::Signal::from_str_name).unwrap_or(v1::Signal::RuntimeDefault);
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: container.name.clone(), attempt: inputs.attempt }),
        image: Some(v1::ImageSpec {
            image: inputs.image.reference.clone(),
            user_specified_image: container.image.clone(),
            ..Default::default()
        }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone(),
        envs: inputs
            .env
            .iter()
            .map(|(key, value)| v1::KeyValue { key: key.clone(), value: value.clone().into() })
            .collect(),
        mounts: inputs.mounts,
        labels,
        annotations,
        log_path: format!("{}/{}.log", container.name, inputs.attempt),
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources::of_container(pod, container, &node.allocatable)),
            security_context: Some(security::context(pod, container, inputs.image, &inputs.target)?),
        }),
        stop_signal: stop_signal.into(),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{node, pod};
    use super::*;

    #[test]
    fn a_container_is_told() {
        let pod = pod(r#"{"metadata":{"name":"web","namespace":"shop","uid":"u1"},"spec":{"containers":[{"name":"a",
            "image":"i:1","command":["sh","-c","echo $(WHO) $$(WHO) $(NOBODY)"],"terminationMessagePath":"/dev/t"}]}}"#);
        let image = ImageFacts { reference: "sha256:1".into(), ..ImageFacts::default() };
        let inputs = ContainerInputs {
            attempt: 3,
            image: &image,
            env: vec![("WHO".into(), "me".into())],
            mounts: vec![],
            target: String::new(),
        };
        let told = container(&pod, &pod.spec.containers[0], &node(), inputs).unwrap();
        assert_eq!(told.command[2], "echo me $(WHO) $(NOBODY)");
        assert_eq!(told.log_path, "a/3.log");
        assert_eq!(told.image.unwrap().user_specified_image, "i:1");
        assert_eq!(told.annotations[termination::PATH], "/dev/t");
        assert_eq!(told.labels["io.kubernetes.container.name"], "a");
    }
}
