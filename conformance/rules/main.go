// Command rules defaults, prepares and validates objects as upstream's strategies do, and prints what came of it.
//
// It reads a JSON list of {resource, object} and prints a JSON list of {object, errors, failure}: the object after
// defaults, and the causes for which a create would be refused. The test `rules` of crate api compares ours with it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/certificates/install"
	_ "k8s.io/kubernetes/pkg/apis/coordination/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/discovery/install"
	_ "k8s.io/kubernetes/pkg/apis/flowcontrol/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/node/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	_ "k8s.io/kubernetes/pkg/apis/scheduling/install"
	_ "k8s.io/kubernetes/pkg/apis/storage/install"
	"k8s.io/kubernetes/pkg/capabilities"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingwebhookconfiguration"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingwebhookconfiguration"
	"k8s.io/kubernetes/pkg/registry/apps/controllerrevision"
	"k8s.io/kubernetes/pkg/registry/apps/daemonset"
	"k8s.io/kubernetes/pkg/registry/apps/deployment"
	"k8s.io/kubernetes/pkg/registry/apps/replicaset"
	"k8s.io/kubernetes/pkg/registry/apps/statefulset"
	"k8s.io/kubernetes/pkg/registry/autoscaling/horizontalpodautoscaler"
	"k8s.io/kubernetes/pkg/registry/batch/cronjob"
	"k8s.io/kubernetes/pkg/registry/batch/job"
	"k8s.io/kubernetes/pkg/registry/certificates/certificates"
	"k8s.io/kubernetes/pkg/registry/coordination/lease"
	"k8s.io/kubernetes/pkg/registry/core/configmap"
	"k8s.io/kubernetes/pkg/registry/core/endpoint"
	"k8s.io/kubernetes/pkg/registry/core/limitrange"
	"k8s.io/kubernetes/pkg/registry/core/namespace"
	"k8s.io/kubernetes/pkg/registry/core/node"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolume"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim"
	"k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/kubernetes/pkg/registry/core/podtemplate"
	"k8s.io/kubernetes/pkg/registry/core/replicationcontroller"
	"k8s.io/kubernetes/pkg/registry/core/resourcequota"
	"k8s.io/kubernetes/pkg/registry/core/secret"
	"k8s.io/kubernetes/pkg/registry/core/service"
	"k8s.io/kubernetes/pkg/registry/core/serviceaccount"
	"k8s.io/kubernetes/pkg/registry/discovery/endpointslice"
	"k8s.io/kubernetes/pkg/registry/flowcontrol/flowschema"
	"k8s.io/kubernetes/pkg/registry/flowcontrol/prioritylevelconfiguration"
	"k8s.io/kubernetes/pkg/registry/networking/ingress"
	"k8s.io/kubernetes/pkg/registry/networking/ingressclass"
	"k8s.io/kubernetes/pkg/registry/networking/ipaddress"
	"k8s.io/kubernetes/pkg/registry/networking/networkpolicy"
	"k8s.io/kubernetes/pkg/registry/networking/servicecidr"
	"k8s.io/kubernetes/pkg/registry/node/runtimeclass"
	"k8s.io/kubernetes/pkg/registry/policy/poddisruptionbudget"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrole"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrolebinding"
	"k8s.io/kubernetes/pkg/registry/rbac/role"
	"k8s.io/kubernetes/pkg/registry/rbac/rolebinding"
	"k8s.io/kubernetes/pkg/registry/scheduling/priorityclass"
	"k8s.io/kubernetes/pkg/registry/storage/csidriver"
	"k8s.io/kubernetes/pkg/registry/storage/csinode"
	"k8s.io/kubernetes/pkg/registry/storage/csistoragecapacity"
	"k8s.io/kubernetes/pkg/registry/storage/storageclass"
	"k8s.io/kubernetes/pkg/registry/storage/volumeattachment"
	"k8s.io/kubernetes/pkg/registry/storage/volumeattributesclass"
)

var strategies = map[string]rest.RESTCreateStrategy{
	"v1/configmaps":                           configmap.Strategy,
	"v1/endpoints":                            endpoint.Strategy,
	"v1/limitranges":                          limitrange.Strategy,
	"v1/namespaces":                           namespace.Strategy,
	"v1/nodes":                                node.Strategy,
	"v1/persistentvolumes":                    persistentvolume.Strategy,
	"v1/persistentvolumeclaims":               persistentvolumeclaim.Strategy,
	"v1/pods":                                 pod.Strategy,
	"v1/podtemplates":                         podtemplate.Strategy,
	"v1/replicationcontrollers":               replicationcontroller.Strategy,
	"v1/resourcequotas":                       resourcequota.Strategy,
	"v1/secrets":                              secret.Strategy,
	"v1/services":                             service.Strategy,
	"v1/serviceaccounts":                      serviceaccount.Strategy,
	"apps/v1/controllerrevisions":             controllerrevision.Strategy,
	"apps/v1/daemonsets":                      daemonset.Strategy,
	"apps/v1/deployments":                     deployment.Strategy,
	"apps/v1/replicasets":                     replicaset.Strategy,
	"apps/v1/statefulsets":                    statefulset.Strategy,
	"autoscaling/v2/horizontalpodautoscalers": horizontalpodautoscaler.Strategy,
	"batch/v1/cronjobs":                       cronjob.Strategy,
	"batch/v1/jobs":                           job.Strategy,
	"certificates.k8s.io/v1/certificatesigningrequests":               certificates.Strategy,
	"coordination.k8s.io/v1/leases":                                   lease.Strategy,
	"discovery.k8s.io/v1/endpointslices":                              endpointslice.Strategy,
	"flowcontrol.apiserver.k8s.io/v1/flowschemas":                     flowschema.Strategy,
	"flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations":     prioritylevelconfiguration.Strategy,
	"networking.k8s.io/v1/ingresses":                                  ingress.Strategy,
	"networking.k8s.io/v1/ingressclasses":                             ingressclass.Strategy,
	"networking.k8s.io/v1/ipaddresses":                                ipaddress.Strategy,
	"networking.k8s.io/v1/networkpolicies":                            networkpolicy.Strategy,
	"networking.k8s.io/v1/servicecidrs":                               servicecidr.Strategy,
	"node.k8s.io/v1/runtimeclasses":                                   runtimeclass.Strategy,
	"policy/v1/poddisruptionbudgets":                                  poddisruptionbudget.Strategy,
	"rbac.authorization.k8s.io/v1/clusterroles":                       clusterrole.Strategy,
	"rbac.authorization.k8s.io/v1/clusterrolebindings":                clusterrolebinding.Strategy,
	"rbac.authorization.k8s.io/v1/roles":                              role.Strategy,
	"rbac.authorization.k8s.io/v1/rolebindings":                       rolebinding.Strategy,
	"scheduling.k8s.io/v1/priorityclasses":                            priorityclass.Strategy,
	"storage.k8s.io/v1/csidrivers":                                    csidriver.Strategy,
	"storage.k8s.io/v1/csinodes":                                      csinode.Strategy,
	"storage.k8s.io/v1/csistoragecapacities":                          csistoragecapacity.Strategy,
	"storage.k8s.io/v1/storageclasses":                                storageclass.Strategy,
	"storage.k8s.io/v1/volumeattachments":                             volumeattachment.Strategy,
	"storage.k8s.io/v1/volumeattributesclasses":                       volumeattributesclass.Strategy,
	"admissionregistration.k8s.io/v1/mutatingwebhookconfigurations":   mutatingwebhookconfiguration.Strategy,
	"admissionregistration.k8s.io/v1/validatingwebhookconfigurations": validatingwebhookconfiguration.Strategy,
}

type input struct {
	Resource string          `json:"resource"`
	Kind     string          `json:"kind"`
	Group    string          `json:"group"`
	Version  string          `json:"version"`
	Object   json.RawMessage `json:"object"`
}

type output struct {
	Object  any      `json:"object,omitempty"`
	Errors  []string `json:"errors"`
	Failure string   `json:"failure,omitempty"`
	Skipped bool     `json:"skipped,omitempty"`
}

func run(in input) (out output) {
	defer func() {
		if r := recover(); r != nil {
			out.Failure = fmt.Sprint("panic: ", r)
		}
	}()
	out.Errors = []string{}
	gv := schema.GroupVersion{Group: in.Group, Version: in.Version}
	strategy := strategies[gv.String()+"/"+in.Resource]
	if strategy == nil || reflect.ValueOf(strategy).Kind() == reflect.Ptr && reflect.ValueOf(strategy).IsNil() {
		out.Skipped = true
		return
	}
	versioned, err := legacyscheme.Scheme.New(gv.WithKind(in.Kind))
	if err != nil {
		out.Failure = err.Error()
		return
	}
	if err := json.Unmarshal(in.Object, versioned); err != nil {
		out.Failure = err.Error()
		return
	}
	legacyscheme.Scheme.Default(versioned)
	versioned.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	out.Object = versioned.DeepCopyObject()
	internal, err := legacyscheme.Scheme.UnsafeConvertToVersion(versioned.DeepCopyObject(), runtime.InternalGroupVersioner)
	if err != nil {
		out.Failure = err.Error()
		return
	}
	ctx := genericapirequest.WithNamespace(context.Background(), "")
	if strategy.NamespaceScoped() {
		ctx = genericapirequest.WithNamespace(ctx, "default")
	}
	ctx = genericapirequest.WithUser(ctx, &user.DefaultInfo{Name: "ann"})
	ctx = genericapirequest.WithRequestInfo(ctx, &genericapirequest.RequestInfo{
		IsResourceRequest: true, Verb: "create", APIGroup: in.Group, APIVersion: in.Version, Resource: in.Resource,
	})
	accessor, err := meta.Accessor(internal)
	if err != nil {
		out.Failure = err.Error()
		return
	}
	rest.FillObjectMetaSystemFields(accessor)
	accessor.SetUID("00000000-0000-0000-0000-000000000000")
	if strategy.NamespaceScoped() {
		accessor.SetNamespace("default")
	}
	err = rest.BeforeCreate(strategy, ctx, internal)
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		if details := status.Status().Details; details != nil {
			for _, cause := range details.Causes {
				out.Errors = append(out.Errors, cause.Field+": "+cause.Message)
			}
		}
	}
	if err != nil && len(out.Errors) == 0 {
		out.Failure = err.Error()
	}
	return
}

func main() {
	capabilities.Setup(true, 0)
	var inputs []input
	if err := json.NewDecoder(os.Stdin).Decode(&inputs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	outputs := make([]output, 0, len(inputs))
	for _, in := range inputs {
		outputs = append(outputs, run(in))
	}
	if err := json.NewEncoder(os.Stdout).Encode(outputs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
