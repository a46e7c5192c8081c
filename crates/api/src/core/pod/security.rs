//! Security contexts of pods and containers.

use apimachinery::Api;

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Capabilities")]
pub struct Capabilities {
    #[api(1, omitempty, list = "atomic")]
    pub add: Vec<String>,
    #[api(2, omitempty, list = "atomic")]
    pub drop: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodSecurityContext")]
pub struct PodSecurityContext {
    #[api(1, omitempty)]
    pub se_linux_options: Option<SELinuxOptions>,
    #[api(8, omitempty)]
    pub windows_options: Option<WindowsSecurityContextOptions>,
    #[api(2, omitempty)]
    pub run_as_user: Option<i64>,
    #[api(6, omitempty)]
    pub run_as_group: Option<i64>,
    #[api(3, omitempty)]
    pub run_as_non_root: Option<bool>,
    #[api(4, omitempty, list = "atomic")]
    pub supplemental_groups: Vec<i64>,
    #[api(12, omitempty, enumeration("Merge", "Strict"))]
    pub supplemental_groups_policy: Option<String>,
    #[api(5, omitempty)]
    pub fs_group: Option<i64>,
    #[api(7, omitempty, list = "atomic")]
    pub sysctls: Vec<Sysctl>,
    #[api(9, omitempty, enumeration("Always", "OnRootMismatch"))]
    pub fs_group_change_policy: Option<String>,
    #[api(10, omitempty)]
    pub seccomp_profile: Option<SeccompProfile>,
    #[api(11, omitempty)]
    pub app_armor_profile: Option<AppArmorProfile>,
    #[api(13, omitempty)]
    pub se_linux_change_policy: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.SeccompProfile")]
pub struct SeccompProfile {
    #[api(1, required, enumeration("Localhost", "RuntimeDefault", "Unconfined"))]
    pub type_: String,
    #[api(2, omitempty)]
    pub localhost_profile: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.AppArmorProfile")]
pub struct AppArmorProfile {
    #[api(1, required, enumeration("Localhost", "RuntimeDefault", "Unconfined"))]
    pub type_: String,
    #[api(2, omitempty)]
    pub localhost_profile: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.SecurityContext")]
pub struct SecurityContext {
    #[api(1, omitempty)]
    pub capabilities: Option<Capabilities>,
    #[api(2, omitempty)]
    pub privileged: Option<bool>,
    #[api(3, omitempty)]
    pub se_linux_options: Option<SELinuxOptions>,
    #[api(10, omitempty)]
    pub windows_options: Option<WindowsSecurityContextOptions>,
    #[api(4, omitempty)]
    pub run_as_user: Option<i64>,
    #[api(8, omitempty)]
    pub run_as_group: Option<i64>,
    #[api(5, omitempty)]
    pub run_as_non_root: Option<bool>,
    #[api(6, omitempty)]
    pub read_only_root_filesystem: Option<bool>,
    #[api(7, omitempty)]
    pub allow_privilege_escalation: Option<bool>,
    #[api(9, omitempty, enumeration("Default", "Unmasked"))]
    pub proc_mount: Option<String>,
    #[api(11, omitempty)]
    pub seccomp_profile: Option<SeccompProfile>,
    #[api(12, omitempty)]
    pub app_armor_profile: Option<AppArmorProfile>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.SELinuxOptions")]
pub struct SELinuxOptions {
    #[api(1, omitempty)]
    pub user: String,
    #[api(2, omitempty)]
    pub role: String,
    #[api(3, omitempty)]
    pub type_: String,
    #[api(4, omitempty)]
    pub level: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.WindowsSecurityContextOptions")]
pub struct WindowsSecurityContextOptions {
    #[api(1, omitempty)]
    pub gmsa_credential_spec_name: Option<String>,
    #[api(2, omitempty)]
    pub gmsa_credential_spec: Option<String>,
    #[api(3, omitempty)]
    pub run_as_user_name: Option<String>,
    #[api(4, omitempty)]
    pub host_process: Option<bool>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Sysctl")]
pub struct Sysctl {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub value: String,
}
