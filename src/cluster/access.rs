//! Everything that natgw does at an API server, by group, resource and verb: the one list of it.
//!
//! The chart's roles hold exactly this (`tests/chart.rs`), and the tests against a real API server run with nothing more.
//! There is no wildcard in it and no Secret: keys come to the process as files and variables.

/// One rule of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The resource, with its subresource.
    pub resource: &'static str,
    /// The only object; none where it is all of them.
    pub name: Option<&'static str>,
    /// The verbs, as a role has them.
    pub verbs: &'static [&'static str],
    /// What it is for.
    pub purpose: &'static str,
}

/// What is done in the whole cluster.
pub const CLUSTER: &[Access] = &[
    Access {
        group: "",
        resource: "pods",
        name: None,
        verbs: &["list", "watch", "patch"],
        purpose: "sees who asks and whose they are, and writes the annotation pod-dnat-status",
    },
    Access {
        group: "",
        resource: "pods/status",
        name: None,
        verbs: &["patch"],
        purpose: "writes the condition of the readiness gate",
    },
    Access {
        group: "",
        resource: "pods/finalizers",
        name: None,
        verbs: &["update"],
        purpose: "makes a PodDNAT block its pod's foreground deletion where OwnerReferencesPermissionEnforcement is on",
    },
    Access {
        group: "",
        resource: "namespaces",
        name: None,
        verbs: &["list", "watch"],
        purpose: "does not serve pods of a namespace that is terminating",
    },
    Access {
        group: "",
        resource: "namespaces",
        name: Some("kube-system"),
        verbs: &["get"],
        purpose: "knows the cluster by that namespace's UID",
    },
    Access {
        group: "",
        resource: "nodes",
        name: None,
        verbs: &["list", "watch"],
        purpose: "knows virtual nodes, whose pods cannot be served",
    },
    Access {
        group: "",
        resource: "events",
        name: None,
        verbs: &["create", "get", "patch"],
        purpose: "says on the pod what happened, and how often",
    },
    Access {
        group: "alibabacloud.com",
        resource: "poddnats",
        name: None,
        verbs: &["get", "list", "watch", "create", "update", "delete"],
        purpose: "keeps the claims",
    },
    Access {
        group: "alibabacloud.com",
        resource: "poddnats/status",
        name: None,
        verbs: &["update"],
        purpose: "publishes entries and conditions",
    },
    Access {
        group: "apiextensions.k8s.io",
        resource: "customresourcedefinitions",
        name: Some("poddnats.alibabacloud.com"),
        verbs: &["get", "list", "watch"],
        purpose: "finds out what the served CRD would prune, at start and whenever it changes",
    },
];

/// What is done in the namespace of the Lease, whose name is that of the configuration.
pub const NAMESPACE: &[Access] = &[
    Access {
        group: "coordination.k8s.io",
        resource: "leases",
        name: None,
        verbs: &["create"],
        purpose: "makes the lock where there is none; a creation cannot be held to a name",
    },
    Access {
        group: "coordination.k8s.io",
        resource: "leases",
        name: Some("natgw"),
        verbs: &["get", "update"],
        purpose: "takes, renews and gives back the lock",
    },
];
