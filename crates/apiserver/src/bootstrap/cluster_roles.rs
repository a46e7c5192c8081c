//! The ClusterRoles for people and components, as upstream's default policy grants them.

use super::policy::{ROLE, Role, named, rule, url};

/// Every ClusterRole of the default policy that belongs to no controller.
pub const CLUSTER_ROLES: &[Role] = &[
    Role { name: "admin", gathers: "admin", ..ROLE },
    Role { name: "cluster-admin", rules: &[rule("*", "*", "*"), url("*", "*")], ..ROLE },
    Role { name: "edit", part_of: "admin", gathers: "edit", ..ROLE },
    Role {
        name: "system:aggregate-to-admin",
        part_of: "admin",
        rules: &[
            rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
            rule(
                "create,delete,deletecollection,get,list,patch,update,watch",
                "rbac.authorization.k8s.io",
                "rolebindings,roles",
            ),
        ],
        ..ROLE
    },
    Role {
        name: "system:aggregate-to-edit",
        part_of: "edit",
        rules: &[
            rule("get,list,watch", "", "pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy"),
            rule("impersonate", "", "serviceaccounts"),
            rule(
                "create,delete,deletecollection,patch,update",
                "",
                "pods,pods/attach,pods/exec,pods/portforward,pods/proxy",
            ),
            rule("create", "", "pods/eviction"),
            rule(
                "create,delete,deletecollection,patch,update",
                "",
                "configmaps,persistentvolumeclaims,replicationcontrollers,replicationcontrollers/scale,secrets,serviceaccounts,services,services/proxy",
            ),
            rule("create", "", "serviceaccounts/token"),
            rule("create,delete,deletecollection,patch,update", ",events.k8s.io", "events"),
            rule(
                "create,delete,deletecollection,patch,update",
                "apps",
                "daemonsets,deployments,deployments/rollback,deployments/scale,replicasets,replicasets/scale,statefulsets,statefulsets/scale",
            ),
            rule("create,delete,deletecollection,patch,update", "autoscaling", "horizontalpodautoscalers"),
            rule("create,delete,deletecollection,patch,update", "batch", "cronjobs,jobs"),
            rule(
                "create,delete,deletecollection,patch,update",
                "extensions",
                "daemonsets,deployments,deployments/rollback,deployments/scale,ingresses,networkpolicies,replicasets,replicasets/scale,replicationcontrollers/scale",
            ),
            rule("create,delete,deletecollection,patch,update", "policy", "poddisruptionbudgets"),
            rule("create,delete,deletecollection,patch,update", "networking.k8s.io", "ingresses,networkpolicies"),
            rule("create,delete,deletecollection,get,list,patch,update,watch", "coordination.k8s.io", "leases"),
            rule(
                "create,delete,deletecollection,patch,update",
                "resource.k8s.io",
                "resourceclaims,resourceclaimtemplates",
            ),
        ],
        ..ROLE
    },
    Role {
        name: "system:aggregate-to-view",
        part_of: "view",
        rules: &[
            rule(
                "get,list,watch",
                "",
                "configmaps,endpoints,persistentvolumeclaims,persistentvolumeclaims/status,pods,replicationcontrollers,replicationcontrollers/scale,serviceaccounts,services,services/status",
            ),
            rule(
                "get,list,watch",
                "",
                "bindings,limitranges,namespaces/status,pods/log,pods/status,replicationcontrollers/status,resourcequotas,resourcequotas/status",
            ),
            rule("get,list,watch", "", "namespaces"),
            rule("get,list,watch", ",events.k8s.io", "events"),
            rule("get,list,watch", "discovery.k8s.io", "endpointslices"),
            rule(
                "get,list,watch",
                "apps",
                "controllerrevisions,daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status,replicasets,replicasets/scale,replicasets/status,statefulsets,statefulsets/scale,statefulsets/status",
            ),
            rule("get,list,watch", "autoscaling", "horizontalpodautoscalers,horizontalpodautoscalers/status"),
            rule("get,list,watch", "batch", "cronjobs,cronjobs/status,jobs,jobs/status"),
            rule(
                "get,list,watch",
                "extensions",
                "daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status,ingresses,ingresses/status,networkpolicies,replicasets,replicasets/scale,replicasets/status,replicationcontrollers/scale",
            ),
            rule("get,list,watch", "policy", "poddisruptionbudgets,poddisruptionbudgets/status"),
            rule("get,list,watch", "networking.k8s.io", "ingresses,ingresses/status,networkpolicies"),
            rule("get,list,watch", "resource.k8s.io", "resourceclaims,resourceclaims/status,resourceclaimtemplates"),
        ],
        ..ROLE
    },
    Role {
        name: "system:auth-delegator",
        rules: &[
            rule("create", "authentication.k8s.io", "tokenreviews"),
            rule("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
        ..ROLE
    },
    Role {
        name: "system:basic-user",
        rules: &[
            rule("create", "authorization.k8s.io", "selfsubjectaccessreviews,selfsubjectrulesreviews"),
            rule("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
        ..ROLE
    },
    Role {
        name: "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        rules: &[rule("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient")],
        ..ROLE
    },
    Role {
        name: "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        rules: &[rule("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient")],
        ..ROLE
    },
    Role {
        name: "system:certificates.k8s.io:kube-apiserver-client-approver",
        rules: &[named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client")],
        ..ROLE
    },
    Role {
        name: "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        rules: &[named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet")],
        ..ROLE
    },
    Role {
        name: "system:certificates.k8s.io:kubelet-serving-approver",
        rules: &[named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kubelet-serving")],
        ..ROLE
    },
    Role {
        name: "system:certificates.k8s.io:legacy-unknown-approver",
        rules: &[named("approve", "certificates.k8s.io", "signers", "kubernetes.io/legacy-unknown")],
        ..ROLE
    },
    Role {
        name: "system:cluster-trust-bundle-discovery",
        rules: &[rule("get,list,watch", "certificates.k8s.io", "clustertrustbundles")],
        ..ROLE
    },
    Role {
        name: "system:discovery",
        rules: &[url(
            "get",
            "/api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,/version,/version/",
        )],
        ..ROLE
    },
    Role {
        name: "system:heapster",
        rules: &[
            rule("get,list,watch", "", "events,namespaces,nodes,pods"),
            rule("get,list,watch", "extensions", "deployments"),
        ],
        ..ROLE
    },
    Role { name: "system:kube-aggregator", rules: &[rule("get,list,watch", "", "endpoints,services")], ..ROLE },
    Role {
        name: "system:kube-controller-manager",
        rules: &[
            rule("create,patch,update", ",events.k8s.io", "events"),
            rule("create", "coordination.k8s.io", "leases"),
            named("get,update", "coordination.k8s.io", "leases", "kube-controller-manager"),
            rule("create", "", "secrets,serviceaccounts"),
            rule("delete", "", "secrets"),
            rule("get", "", "configmaps,namespaces,secrets,serviceaccounts"),
            rule("update", "", "secrets,serviceaccounts"),
            rule("create", "authentication.k8s.io", "tokenreviews"),
            rule("create", "authorization.k8s.io", "subjectaccessreviews"),
            rule("list,watch", "*", "*"),
            rule("create", "", "serviceaccounts/token"),
        ],
        ..ROLE
    },
    Role { name: "system:kube-dns", rules: &[rule("list,watch", "", "endpoints,services")], ..ROLE },
    Role {
        name: "system:kube-scheduler",
        rules: &[
            rule("create,patch,update", ",events.k8s.io", "events"),
            rule("create", "coordination.k8s.io", "leases"),
            named("get,list,update,watch", "coordination.k8s.io", "leases", "kube-scheduler"),
            rule(
                "create,delete,deletecollection,get,list,patch,update,watch",
                "coordination.k8s.io",
                "leasecandidates",
            ),
            rule("get,list,watch", "", "nodes"),
            rule("delete,get,list,watch", "", "pods"),
            rule("create", "", "bindings,pods/binding"),
            rule("patch,update", "", "pods/status"),
            rule("get,list,watch", "", "replicationcontrollers,services"),
            rule("get,list,watch", "apps,extensions", "replicasets"),
            rule("get,list,watch", "apps", "statefulsets"),
            rule("get,list,watch", "policy", "poddisruptionbudgets"),
            rule("get,list,watch", "", "persistentvolumeclaims,persistentvolumes"),
            rule("create", "authentication.k8s.io", "tokenreviews"),
            rule("create", "authorization.k8s.io", "subjectaccessreviews"),
            rule("get,list,watch", "storage.k8s.io", "csinodes"),
            rule("get,list,watch", "storage.k8s.io", "volumeattachments"),
            rule("get,list,watch", "", "namespaces"),
            rule("get,list,watch", "storage.k8s.io", "csidrivers"),
            rule("get,list,watch", "storage.k8s.io", "csistoragecapacities"),
            rule("get,list,watch", "resource.k8s.io", "deviceclasses"),
            rule("get,list,patch,update,watch", "resource.k8s.io", "resourceclaims"),
            rule("get,list,patch,update,watch", "resource.k8s.io", "resourceclaims/status"),
            rule("update", "", "pods/finalizers"),
            rule("get,list,watch", "resource.k8s.io", "resourceslices"),
            rule("create,delete", "resource.k8s.io", "resourceclaims"),
            rule("get,list,watch", "resource.k8s.io", "devicetaintrules"),
            rule("patch,update", "resource.k8s.io", "resourceclaims/binding"),
        ],
        ..ROLE
    },
    Role {
        name: "system:kubelet-api-admin",
        rules: &[
            rule("get,list,watch", "", "nodes"),
            rule("proxy", "", "nodes"),
            rule("*", "", "nodes/log,nodes/metrics,nodes/proxy,nodes/stats"),
            rule("*", "", "nodes/configz,nodes/healthz,nodes/pods"),
        ],
        ..ROLE
    },
    Role {
        name: "system:monitoring",
        rules: &[
            url("get", "/flagz,/healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/slis,/readyz,/readyz/*,/statusz"),
            rule("get", "", "nodes/metrics"),
        ],
        ..ROLE
    },
    Role {
        name: "system:node",
        rules: &[
            rule("create", "authentication.k8s.io", "tokenreviews"),
            rule("create", "authorization.k8s.io", "localsubjectaccessreviews,subjectaccessreviews"),
            rule("get,list,watch", "", "services"),
            rule("create,get,list,watch", "", "nodes"),
            rule("patch,update", "", "nodes/status"),
            rule("patch,update", "", "nodes"),
            rule("create,patch,update", ",events.k8s.io", "events"),
            rule("get,list,watch", "", "pods"),
            rule("create,delete", "", "pods"),
            rule("patch,update", "", "pods/status"),
            rule("create", "", "pods/eviction"),
            rule("get,list,watch", "", "configmaps,secrets"),
            rule("get", "", "persistentvolumeclaims,persistentvolumes"),
            rule("get", "", "endpoints"),
            rule("create,get,list,watch", "certificates.k8s.io", "certificatesigningrequests"),
            rule("create,delete,get,patch,update", "coordination.k8s.io", "leases"),
            rule("get", "storage.k8s.io", "volumeattachments"),
            rule("create", "", "serviceaccounts/token"),
            rule("get,patch,update", "", "persistentvolumeclaims/status"),
            rule("get,list,watch", "storage.k8s.io", "csidrivers"),
            rule("create,delete,get,patch,update", "storage.k8s.io", "csinodes"),
            rule("get,list,watch", "node.k8s.io", "runtimeclasses"),
            rule("get", "resource.k8s.io", "resourceclaims"),
            rule("deletecollection", "resource.k8s.io", "resourceslices"),
            rule("get,list,watch", "certificates.k8s.io", "clustertrustbundles"),
            rule("get", "", "serviceaccounts"),
            rule("create,get,list,watch", "certificates.k8s.io", "podcertificaterequests"),
        ],
        ..ROLE
    },
    Role {
        name: "system:node-bootstrapper",
        rules: &[rule("create,get,list,watch", "certificates.k8s.io", "certificatesigningrequests")],
        ..ROLE
    },
    Role {
        name: "system:node-problem-detector",
        rules: &[
            rule("get", "", "nodes"),
            rule("patch", "", "nodes/status"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
        ..ROLE
    },
    Role {
        name: "system:node-proxier",
        rules: &[
            rule("list,watch", "", "endpoints,services"),
            rule("get,list,watch", "", "nodes"),
            rule("create,patch,update", ",events.k8s.io", "events"),
            rule("list,watch", "networking.k8s.io", "servicecidrs"),
            rule("list,watch", "discovery.k8s.io", "endpointslices"),
        ],
        ..ROLE
    },
    Role {
        name: "system:persistent-volume-provisioner",
        rules: &[
            rule("create,delete,get,list,watch", "", "persistentvolumes"),
            rule("get,list,update,watch", "", "persistentvolumeclaims"),
            rule("get,list,watch", "storage.k8s.io", "storageclasses"),
            rule("watch", "", "events"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
        ..ROLE
    },
    Role {
        name: "system:public-info-viewer",
        rules: &[url("get", "/healthz,/livez,/readyz,/version,/version/")],
        ..ROLE
    },
    Role {
        name: "system:service-account-issuer-discovery",
        rules: &[url(
            "get",
            "/.well-known/openid-configuration,/.well-known/openid-configuration/,/openid/v1/jwks,/openid/v1/jwks/",
        )],
        ..ROLE
    },
    Role {
        name: "system:volume-scheduler",
        rules: &[
            rule("get,list,patch,update,watch", "", "persistentvolumes"),
            rule("get,list,watch", "storage.k8s.io", "storageclasses"),
            rule("get,list,patch,update,watch", "", "persistentvolumeclaims"),
        ],
        ..ROLE
    },
    Role { name: "view", part_of: "edit", gathers: "view", ..ROLE },
];
