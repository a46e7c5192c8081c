//! Query options of the streaming and proxying subresources.

use apimachinery::{Api, Time};

/// PodLogOptions: is the query of a log read.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodLogOptions")]
pub struct PodLogOptions {
    #[api(1, omitempty)]
    pub container: String,
    #[api(2, omitempty)]
    pub follow: bool,
    #[api(3, omitempty)]
    pub previous: bool,
    #[api(4, omitempty)]
    pub since_seconds: Option<i64>,
    #[api(5, omitempty)]
    pub since_time: Option<Time>,
    #[api(6, omitempty)]
    pub timestamps: bool,
    #[api(7, omitempty)]
    pub tail_lines: Option<i64>,
    #[api(8, omitempty)]
    pub limit_bytes: Option<i64>,
    #[api(9, json = "insecureSkipTLSVerifyBackend", omitempty)]
    pub insecure_skip_tls_verify_backend: bool,
    #[api(10, omitempty)]
    pub stream: Option<String>,
}

/// PodAttachOptions: is the query of an attach.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodAttachOptions")]
pub struct PodAttachOptions {
    #[api(1, omitempty)]
    pub stdin: bool,
    #[api(2, omitempty)]
    pub stdout: bool,
    #[api(3, omitempty)]
    pub stderr: bool,
    #[api(4, omitempty)]
    pub tty: bool,
    #[api(5, omitempty)]
    pub container: String,
}

/// PodExecOptions: is the query of an exec.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodExecOptions")]
pub struct PodExecOptions {
    #[api(1, omitempty)]
    pub stdin: bool,
    #[api(2, omitempty)]
    pub stdout: bool,
    #[api(3, omitempty)]
    pub stderr: bool,
    #[api(4, omitempty)]
    pub tty: bool,
    #[api(5, omitempty)]
    pub container: String,
    #[api(6, list = "atomic")]
    pub command: Vec<String>,
}

/// PodPortForwardOptions: is the query of a port forward.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodPortForwardOptions")]
pub struct PodPortForwardOptions {
    #[api(1, omitempty, list = "atomic")]
    pub ports: Vec<i32>,
}

/// PodProxyOptions: is the query of a proxied request to a pod.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodProxyOptions")]
pub struct PodProxyOptions {
    #[api(1, omitempty)]
    pub path: String,
}

/// NodeProxyOptions: is the query of a proxied request to a node.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeProxyOptions")]
pub struct NodeProxyOptions {
    #[api(1, omitempty)]
    pub path: String,
}

/// ServiceProxyOptions: is the query of a proxied request to a service.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ServiceProxyOptions")]
pub struct ServiceProxyOptions {
    #[api(1, omitempty)]
    pub path: String,
}
