//! Probes and lifecycle handlers of containers.

use apimachinery::{Api, IntOrString};

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.HTTPHeader")]
pub struct HTTPHeader {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub value: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.HTTPGetAction")]
pub struct HTTPGetAction {
    #[api(1, omitempty)]
    pub path: String,
    #[api(2, required)]
    pub port: IntOrString,
    #[api(3, omitempty)]
    pub host: String,
    #[api(4, omitempty, enumeration("HTTP", "HTTPS"))]
    pub scheme: String,
    #[api(5, omitempty, list = "atomic")]
    pub http_headers: Vec<HTTPHeader>,
    #[api(6, omitempty, enumeration("HTTP1", "HTTP2"))]
    pub protocol: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.TCPSocketAction")]
pub struct TCPSocketAction {
    #[api(1, required)]
    pub port: IntOrString,
    #[api(2, omitempty)]
    pub host: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.GRPCAction")]
pub struct GRPCAction {
    #[api(1, required)]
    pub port: i32,
    #[api(2, default = "\"\"")]
    pub service: Option<String>,
    #[api(3, omitempty, enumeration("Plaintext", "TLS"))]
    pub mode: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ExecAction")]
pub struct ExecAction {
    #[api(1, omitempty, list = "atomic")]
    pub command: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.SleepAction")]
pub struct SleepAction {
    #[api(1, required)]
    pub seconds: i64,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Probe")]
pub struct Probe {
    #[api(1, inline)]
    pub probe_handler: ProbeHandler,
    #[api(2, omitempty)]
    pub initial_delay_seconds: i32,
    #[api(3, omitempty)]
    pub timeout_seconds: i32,
    #[api(4, omitempty)]
    pub period_seconds: i32,
    #[api(5, omitempty)]
    pub success_threshold: i32,
    #[api(6, omitempty)]
    pub failure_threshold: i32,
    #[api(7, omitempty)]
    pub termination_grace_period_seconds: Option<i64>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ProbeHandler")]
pub struct ProbeHandler {
    #[api(1, omitempty)]
    pub exec: Option<ExecAction>,
    #[api(2, omitempty)]
    pub http_get: Option<HTTPGetAction>,
    #[api(3, omitempty)]
    pub tcp_socket: Option<TCPSocketAction>,
    #[api(4, omitempty)]
    pub grpc: Option<GRPCAction>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.LifecycleHandler")]
pub struct LifecycleHandler {
    #[api(1, omitempty)]
    pub exec: Option<ExecAction>,
    #[api(2, omitempty)]
    pub http_get: Option<HTTPGetAction>,
    #[api(3, omitempty)]
    pub tcp_socket: Option<TCPSocketAction>,
    #[api(4, omitempty)]
    pub sleep: Option<SleepAction>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Lifecycle")]
pub struct Lifecycle {
    #[api(1, omitempty)]
    pub post_start: Option<LifecycleHandler>,
    #[api(2, omitempty)]
    pub pre_stop: Option<LifecycleHandler>,
    #[api(
        3,
        omitempty,
        enumeration(
            "SIGABRT",
            "SIGALRM",
            "SIGBUS",
            "SIGCHLD",
            "SIGCLD",
            "SIGCONT",
            "SIGFPE",
            "SIGHUP",
            "SIGILL",
            "SIGINT",
            "SIGIO",
            "SIGIOT",
            "SIGKILL",
            "SIGPIPE",
            "SIGPOLL",
            "SIGPROF",
            "SIGPWR",
            "SIGQUIT",
            "SIGRTMAX",
            "SIGRTMAX-1",
            "SIGRTMAX-10",
            "SIGRTMAX-11",
            "SIGRTMAX-12",
            "SIGRTMAX-13",
            "SIGRTMAX-14",
            "SIGRTMAX-2",
            "SIGRTMAX-3",
            "SIGRTMAX-4",
            "SIGRTMAX-5",
            "SIGRTMAX-6",
            "SIGRTMAX-7",
            "SIGRTMAX-8",
            "SIGRTMAX-9",
            "SIGRTMIN",
            "SIGRTMIN+1",
            "SIGRTMIN+10",
            "SIGRTMIN+11",
            "SIGRTMIN+12",
            "SIGRTMIN+13",
            "SIGRTMIN+14",
            "SIGRTMIN+15",
            "SIGRTMIN+2",
            "SIGRTMIN+3",
            "SIGRTMIN+4",
            "SIGRTMIN+5",
            "SIGRTMIN+6",
            "SIGRTMIN+7",
            "SIGRTMIN+8",
            "SIGRTMIN+9",
            "SIGSEGV",
            "SIGSTKFLT",
            "SIGSTOP",
            "SIGSYS",
            "SIGTERM",
            "SIGTRAP",
            "SIGTSTP",
            "SIGTTIN",
            "SIGTTOU",
            "SIGURG",
            "SIGUSR1",
            "SIGUSR2",
            "SIGVTALRM",
            "SIGWINCH",
            "SIGXCPU",
            "SIGXFSZ"
        )
    )]
    pub stop_signal: Option<String>,
}
