//! The Roles in system namespaces, and who is bound to what.

use super::policy::{BINDING, Binding, ROLE, Role, Subject, named, rule};

const fn user(name: &'static str) -> Subject {
    Subject::User(name)
}
const fn group(name: &'static str) -> Subject {
    Subject::Group(name)
}
const fn account(namespace: &'static str, name: &'static str) -> Subject {
    Subject::Account(namespace, name)
}

/// The roles in kube-system and kube-public.
pub const NAMESPACE_ROLES: &[Role] = &[
    Role {
        namespace: "kube-public",
        name: "system:controller:bootstrap-signer",
        rules: &[
            rule("get,list,watch", "", "configmaps"),
            named("update", "", "configmaps", "cluster-info"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
        ..ROLE
    },
    Role {
        namespace: "kube-system",
        name: "extension-apiserver-authentication-reader",
        rules: &[named("get,list,watch", "", "configmaps", "extension-apiserver-authentication")],
        ..ROLE
    },
    Role {
        namespace: "kube-system",
        name: "system::leader-locking-kube-controller-manager",
        rules: &[
            rule("create,get,list,update,watch", "coordination.k8s.io", "leases"),
            rule("create,get,list,update,watch", "coordination.k8s.io", "leasecandidates"),
        ],
        ..ROLE
    },
    Role {
        namespace: "kube-system",
        name: "system::leader-locking-kube-scheduler",
        rules: &[
            rule("create,get,list,update,watch", "coordination.k8s.io", "leases"),
            rule("create,get,list,update,watch", "coordination.k8s.io", "leasecandidates"),
        ],
        ..ROLE
    },
    Role {
        namespace: "kube-system",
        name: "system:controller:bootstrap-signer",
        rules: &[rule("get,list,watch", "", "secrets")],
        ..ROLE
    },
    Role {
        namespace: "kube-system",
        name: "system:controller:cloud-provider",
        rules: &[rule("create,get,list,watch", "", "configmaps")],
        ..ROLE
    },
    Role {
        namespace: "kube-system",
        name: "system:controller:token-cleaner",
        rules: &[rule("delete,get,list,watch", "", "secrets"), rule("create,patch,update", ",events.k8s.io", "events")],
        ..ROLE
    },
];

/// Who holds which ClusterRole.
pub const CLUSTER_BINDINGS: &[Binding] = &[
    Binding { name: "cluster-admin", subjects: &[group("system:masters")], ..BINDING },
    Binding { name: "system:basic-user", subjects: &[group("system:authenticated")], ..BINDING },
    Binding { name: "system:cluster-trust-bundle-discovery", subjects: &[group("system:serviceaccounts")], ..BINDING },
    Binding { name: "system:discovery", subjects: &[group("system:authenticated")], ..BINDING },
    Binding { name: "system:kube-controller-manager", subjects: &[user("system:kube-controller-manager")], ..BINDING },
    Binding { name: "system:kube-dns", subjects: &[account("kube-system", "kube-dns")], ..BINDING },
    Binding { name: "system:kube-scheduler", subjects: &[user("system:kube-scheduler")], ..BINDING },
    Binding { name: "system:monitoring", subjects: &[group("system:monitoring")], ..BINDING },
    Binding { name: "system:node", subjects: &[], ..BINDING },
    Binding { name: "system:node-proxier", subjects: &[user("system:kube-proxy")], ..BINDING },
    Binding {
        name: "system:public-info-viewer",
        subjects: &[group("system:authenticated"), group("system:unauthenticated")],
        ..BINDING
    },
    Binding {
        name: "system:service-account-issuer-discovery",
        subjects: &[group("system:serviceaccounts")],
        ..BINDING
    },
    Binding { name: "system:volume-scheduler", subjects: &[user("system:kube-scheduler")], ..BINDING },
];

/// Who holds which role in the system namespaces.
pub const NAMESPACE_BINDINGS: &[Binding] = &[
    Binding {
        namespace: "kube-public",
        name: "system:controller:bootstrap-signer",
        subjects: &[account("kube-system", "bootstrap-signer")],
        ..BINDING
    },
    Binding {
        namespace: "kube-system",
        name: "system::extension-apiserver-authentication-reader",
        role: "extension-apiserver-authentication-reader",
        subjects: &[user("system:kube-controller-manager"), user("system:kube-scheduler")],
    },
    Binding {
        namespace: "kube-system",
        name: "system::leader-locking-kube-controller-manager",
        subjects: &[
            user("system:kube-controller-manager"),
            account("kube-system", "kube-controller-manager"),
            account("kube-system", "leader-election-controller"),
        ],
        ..BINDING
    },
    Binding {
        namespace: "kube-system",
        name: "system::leader-locking-kube-scheduler",
        subjects: &[user("system:kube-scheduler"), account("kube-system", "kube-scheduler")],
        ..BINDING
    },
    Binding {
        namespace: "kube-system",
        name: "system:controller:bootstrap-signer",
        subjects: &[account("kube-system", "bootstrap-signer")],
        ..BINDING
    },
    Binding {
        namespace: "kube-system",
        name: "system:controller:cloud-provider",
        subjects: &[account("kube-system", "cloud-provider")],
        ..BINDING
    },
    Binding {
        namespace: "kube-system",
        name: "system:controller:token-cleaner",
        subjects: &[account("kube-system", "token-cleaner")],
        ..BINDING
    },
];
