// Command differential answers cases with upstream's own code, so that ours can be compared with it.
//
// It reads one JSON case a line and writes one JSON result a line: {"ok": value} or {"error": text}.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/managedfields/managedfieldstest"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/util/jsonpath"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// testCase is one line of input; which fields count depends on Op.
type testCase struct {
	Op         string            `json:"op"`
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Object     json.RawMessage   `json:"object"`
	Patch      json.RawMessage   `json:"patch"`
	Text       string            `json:"text"`
	Labels     map[string]string `json:"labels"`
	Seconds    int64             `json:"seconds"`
	Steps      []step            `json:"steps"`
}

// step is one write of a sequence of applies and updates.
type step struct {
	Verb    string         `json:"verb"`
	Manager string         `json:"manager"`
	Force   bool           `json:"force"`
	Object  map[string]any `json:"object"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: differential <folder with upstream's OpenAPI v3 documents>")
		os.Exit(2)
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
		} else if value, err := answer(c, os.Args[1]); err != nil {
			result["error"] = err.Error()
		} else {
			result["ok"] = value
		}
		line, err := json.Marshal(result)
		if err != nil {
			line = []byte(`{"error":"result cannot be written"}`)
		}
		out.Write(line)
		out.WriteByte('\n')
	}
}

func answer(c testCase, folder string) (value any, err error) {
	defer func() {
		if p := recover(); p != nil {
			value, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	switch c.Op {
	case "strategic":
		return strategic(c)
	case "json":
		patch, err := jsonpatch.DecodePatch(c.Patch)
		if err != nil {
			return nil, err
		}
		return raw(patch.Apply(c.Object))
	case "merge":
		return raw(jsonpatch.MergePatch(c.Object, c.Patch))
	case "labels":
		selector, err := labels.Parse(c.Text)
		if err != nil {
			return nil, err
		}
		return []any{selector.String(), selector.Matches(labels.Set(c.Labels))}, nil
	case "fields":
		selector, err := fields.ParseSelector(c.Text)
		if err != nil {
			return nil, err
		}
		return []any{selector.String(), selector.Matches(fields.Set(c.Labels))}, nil
	case "jsonpath":
		return path(c)
	case "duration":
		d := time.Duration(c.Seconds) * time.Second
		return []any{duration.HumanDuration(d), duration.ShortHumanDuration(d)}, nil
	case "sequence":
		return sequence(c, folder)
	}
	return nil, fmt.Errorf("unknown op %q", c.Op)
}

func raw(text []byte, err error) (any, error) {
	return json.RawMessage(text), err
}

func gvk(c testCase) schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(c.APIVersion, c.Kind)
}

func strategic(c testCase) (any, error) {
	object, err := scheme.Scheme.New(gvk(c))
	if err != nil {
		return nil, err
	}
	var original, patch map[string]any
	if err := utiljson.Unmarshal(c.Object, &original); err != nil {
		return nil, err
	}
	if err := utiljson.Unmarshal(c.Patch, &patch); err != nil {
		return nil, err
	}
	return strategicpatch.StrategicMergeMapPatch(original, patch, object)
}

func path(c testCase) (any, error) {
	var object any
	if err := utiljson.Unmarshal(c.Object, &object); err != nil {
		return nil, err
	}
	parser := jsonpath.New("case").AllowMissingKeys(true)
	if err := parser.Parse("{" + c.Text + "}"); err != nil {
		return nil, err
	}
	results, err := parser.FindResults(object)
	if err != nil {
		return nil, err
	}
	texts := []string{}
	for _, block := range results {
		for _, result := range block {
			var text bytes.Buffer
			if err := parser.PrintResults(&text, []reflect.Value{reflect.ValueOf(result.Interface())}); err != nil {
				return nil, err
			}
			texts = append(texts, text.String())
		}
	}
	return texts, nil
}

var converters = map[string]managedfields.TypeConverter{}

// converter reads the published document of a group and version.
func converter(apiVersion, folder string) (managedfields.TypeConverter, error) {
	if found, ok := converters[apiVersion]; ok {
		return found, nil
	}
	name := "api__" + apiVersion
	if strings.Contains(apiVersion, "/") {
		name = "apis__" + strings.ReplaceAll(apiVersion, "/", "__")
	}
	text, err := os.ReadFile(filepath.Join(folder, name+"_openapi.json"))
	if err != nil {
		return nil, err
	}
	var document spec3.OpenAPI
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	models := map[string]*spec.Schema{}
	for name, model := range document.Components.Schemas {
		models[name] = model
	}
	made, err := managedfields.NewTypeConverter(models, false)
	if err != nil {
		return nil, err
	}
	converters[apiVersion] = made
	return made, nil
}

// sequence runs writes one after the other and answers with what each left behind, times removed and
// managers in an order that does not depend on them.
func sequence(c testCase, folder string) (any, error) {
	types, err := converter(c.APIVersion, folder)
	if err != nil {
		return nil, err
	}
	manager := managedfieldstest.NewFakeFieldManager(types, gvk(c))
	live := &unstructured.Unstructured{Object: map[string]any{"apiVersion": c.APIVersion, "kind": c.Kind}}
	results := []any{}
	for _, step := range c.Steps {
		object := &unstructured.Unstructured{Object: step.Object}
		var out any
		var err error
		if step.Verb == "apply" {
			out, err = manager.Apply(live.DeepCopy(), object, step.Manager, step.Force)
		} else {
			// The server keeps what names an object.
			object.SetUID(live.GetUID())
			if object.GetUID() == "" && len(results) > 0 {
				object.SetUID("1")
			}
			out, err = manager.Update(live.DeepCopy(), object, step.Manager)
		}
		if err != nil {
			results = append(results, map[string]any{"error": err.Error()})
			continue
		}
		live = out.(*unstructured.Unstructured).DeepCopy()
		shown := live.DeepCopy()
		entries := shown.GetManagedFields()
		for i := range entries {
			entries[i].Time = nil
		}
		sort.Slice(entries, func(i, j int) bool {
			a, b := entries[i], entries[j]
			return string(a.Operation)+" "+a.Manager < string(b.Operation)+" "+b.Manager
		})
		shown.SetManagedFields(entries)
		results = append(results, map[string]any{"ok": shown.Object})
	}
	return results, nil
}
