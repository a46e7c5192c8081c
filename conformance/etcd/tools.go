//go:build tools

// Package tools pins the store of upstream's API server, which is the reference that answers are compared with.
package tools

import _ "go.etcd.io/etcd/server/v3"
