//! Manifests and configurations of the tests.

use std::path::Path;

/// Writes a file as a whole: who follows it never sees a part of it.
pub fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

/// A Deployment of that many pods that ask for these ports.
pub fn deployment(replicas: usize, ports: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: game
spec:
  replicas: {replicas}
  selector:
    matchLabels:
      app: game
  template:
    metadata:
      labels:
        app: game
      annotations:
        k8s.aliyun.com/pod-dnat: \"true\"
        k8s.aliyun.com/pod-dnat-expose-port: \"{ports}\"
    spec:
      containers:
      - name: game
        image: game
"
    )
}

/// Bare pods `pod-NN` that ask for these ports.
pub fn pods(numbers: impl IntoIterator<Item = usize>, ports: &str) -> String {
    let pod = |number: usize| {
        format!(
            "---
apiVersion: v1
kind: Pod
metadata:
  name: pod-{number:02}
  annotations:
    k8s.aliyun.com/pod-dnat: \"\"
    k8s.aliyun.com/pod-dnat-expose-port: \"{ports}\"
spec:
  containers:
  - name: game
    image: game
"
        )
    };
    numbers.into_iter().map(pod).collect()
}

/// A configuration with one EIP of each gateway and the ports from 512 to `last`.
pub fn small_pool(last: u16) -> String {
    format!(
        "clusterID: c11ba338192
regionID: cn-hangzhou
vpcID: vpc-sandbox
enableControllers:
- natgw
networkController:
  natGwPool:
  - natgwId: ngw-sandbox-j
    zoneId: cn-hangzhou-j
    portRangeStart: 512
    portRangeEnd: {last}
    eips: [203.0.113.1]
  - natgwId: ngw-sandbox-k
    zoneId: cn-hangzhou-k
    portRangeStart: 512
    portRangeEnd: {last}
    eips: [203.0.113.4]
"
    )
}
