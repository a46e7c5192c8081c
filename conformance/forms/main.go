// Command forms answers cases about leaf values, decoding and custom resource schemas with upstream's own code.
//
// It reads one JSON case a line and writes one JSON result a line: {"ok": value} or {"error": text}.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	structuraldefaulting "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	apiservervalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
)

// testCase is one line of input; which fields count depends on Op.
type testCase struct {
	Op         string                           `json:"op"`
	APIVersion string                           `json:"apiVersion"`
	Kind       string                           `json:"kind"`
	Text       string                           `json:"text"`
	Object     any                              `json:"object"`
	Old        any                              `json:"old"`
	Schema     *apiextensionsv1.JSONSchemaProps `json:"schema"`
}

func main() {
	if err := apiextensionsv1.AddToScheme(scheme.Scheme); err != nil {
		panic(err)
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for in.Scan() {
		var c testCase
		result := map[string]any{}
		if err := utiljson.Unmarshal(in.Bytes(), &c); err != nil {
			result["error"] = "case: " + err.Error()
		} else if value, err := answer(c); err != nil {
			result["error"] = err.Error()
		} else {
			result["ok"] = value
		}
		var line bytes.Buffer
		encoder := json.NewEncoder(&line)
		if err := encoder.Encode(result); err != nil {
			line.Reset()
			line.WriteString("{\"error\":\"result cannot be written\"}\n")
		}
		out.Write(line.Bytes())
	}
}

func answer(c testCase) (any, error) {
	switch c.Op {
	case "quantity":
		q, err := resource.ParseQuantity(c.Text)
		if err != nil {
			return nil, err
		}
		return map[string]any{"text": q.String(), "value": q.Value(), "milli": q.MilliValue()}, nil
	case "duration":
		var d metav1.Duration
		if err := json.Unmarshal([]byte(c.Text), &d); err != nil {
			return nil, err
		}
		return d, nil
	case "time":
		var t metav1.Time
		if err := json.Unmarshal([]byte(c.Text), &t); err != nil {
			return nil, err
		}
		return t, nil
	case "microtime":
		var t metav1.MicroTime
		if err := json.Unmarshal([]byte(c.Text), &t); err != nil {
			return nil, err
		}
		return t, nil
	case "yaml":
		text, err := yaml.YAMLToJSON([]byte(c.Text))
		if err != nil {
			return nil, err
		}
		return string(text), nil
	case "write":
		text, err := yaml.Marshal(c.Object)
		return string(text), err
	case "json", "strictyaml":
		return decode(c)
	case "resource":
		return customResource(c)
	case "schema":
		return schemaErrors(c), nil
	}
	return nil, fmt.Errorf("no such operation: %s", c.Op)
}

// decode reads an object strictly and writes it again.
func decode(c testCase) (any, error) {
	options := serializer.SerializerOptions{Strict: true, Yaml: c.Op == "strictyaml"}
	codec := serializer.NewSerializerWithOptions(serializer.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, options)
	gv, err := schema.ParseGroupVersion(c.APIVersion)
	if err != nil {
		return nil, err
	}
	gvk := gv.WithKind(c.Kind)
	object, _, err := codec.Decode([]byte(c.Text), &gvk, nil)
	result := map[string]any{}
	if err != nil {
		if !runtime.IsStrictDecodingError(err) {
			return nil, err
		}
		result["strict"] = err.Error()
	}
	var text bytes.Buffer
	plain := serializer.NewSerializerWithOptions(serializer.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, serializer.SerializerOptions{})
	if err := plain.Encode(object, &text); err != nil {
		return nil, err
	}
	result["object"] = text.String()
	return result, nil
}

func internalSchema(c testCase) (*apiextensions.JSONSchemaProps, error) {
	internal := &apiextensions.JSONSchemaProps{}
	err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(c.Schema, internal, nil)
	return internal, err
}

// customResource prunes, defaults and validates an object, or an update of it.
func customResource(c testCase) (any, error) {
	internal, err := internalSchema(c)
	if err != nil {
		return nil, err
	}
	structural, err := structuralschema.NewStructural(internal)
	if err != nil {
		return nil, err
	}
	validator, _, err := apiservervalidation.NewSchemaValidator(internal)
	if err != nil {
		return nil, err
	}
	unknown := pruning.PruneWithOptions(c.Object, structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	structuraldefaulting.PruneNonNullableNullsWithoutDefaults(c.Object, structural)
	structuraldefaulting.Default(c.Object, structural)
	var errs field.ErrorList
	if c.Old == nil {
		errs = apiservervalidation.ValidateCustomResource(nil, c.Object, validator)
		errs = append(errs, listtype.ValidateListSetsAndMaps(nil, structural, c.Object.(map[string]any))...)
	} else {
		correlated := common.NewCorrelatedObject(c.Object, c.Old, &model.Structural{Structural: structural})
		errs = apiservervalidation.ValidateCustomResourceUpdate(nil, c.Object, c.Old, validator, apiservervalidation.WithRatcheting(correlated))
		repeated := listtype.ValidateListSetsAndMaps(nil, structural, c.Object.(map[string]any))
		if len(listtype.ValidateListSetsAndMaps(nil, structural, c.Old.(map[string]any))) == 0 {
			errs = append(errs, repeated...)
		}
	}
	return map[string]any{"object": c.Object, "unknown": unknown, "errors": texts(errs)}, nil
}

// schemaErrors checks a definition with one version of this schema.
func schemaErrors(c testCase) any {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	crd.Name = "widgets.example.com"
	crd.Spec.Group = "example.com"
	crd.Spec.Scope = "Namespaced"
	crd.Spec.Names = apiextensionsv1.CustomResourceDefinitionNames{Plural: "widgets", Singular: "widget", Kind: "Widget", ListKind: "WidgetList"}
	crd.Spec.Versions = []apiextensionsv1.CustomResourceDefinitionVersion{{
		Name: "v1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: c.Schema},
	}}
	crd.Status.StoredVersions = []string{"v1"}
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
	internal := &apiextensions.CustomResourceDefinition{}
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(crd, internal, nil); err != nil {
		return []string{err.Error()}
	}
	return texts(crdvalidation.ValidateCustomResourceDefinition(context.Background(), internal))
}

func texts(errs field.ErrorList) []string {
	lines := []string{}
	for _, err := range errs {
		lines = append(lines, err.Error())
	}
	sort.Strings(lines)
	return lines
}
