//go:build tools

// Package etcd pins the store of upstream's API server and its tools: the version that Kubernetes v1.37.2 pins.
package etcd

import (
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/etcdutl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
