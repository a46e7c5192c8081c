// Openapi compares the two forms of a version 2 document: openapi JSON PROTOBUF, both files.
//
// The JSON is made into messages as upstream does it, and must say the same as the messages that were served.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 3 {
		fatal(fmt.Errorf("usage: openapi JSON PROTOBUF"))
	}
	text, err := os.ReadFile(os.Args[1])
	fatal(err)
	served, err := os.ReadFile(os.Args[2])
	fatal(err)
	want, err := openapi_v2.ParseDocument(text)
	fatal(err)
	got := &openapi_v2.Document{}
	fatal(proto.Unmarshal(served, got))
	if fields := got.ProtoReflect().GetUnknown(); len(fields) > 0 {
		fatal(fmt.Errorf("fields that nobody knows"))
	}
	plain(want.ProtoReflect())
	plain(got.ProtoReflect())
	if !proto.Equal(want, got) {
		differ(want.ProtoReflect(), got.ProtoReflect(), "document")
		os.Exit(1)
	}
	fmt.Printf("%d definitions and %d paths are the same\n",
		len(got.Definitions.AdditionalProperties), len(got.Paths.Path))
}

// plain writes each YAML text as JSON, which has one way to say a thing.
func plain(message protoreflect.Message) {
	if found, ok := message.Interface().(*openapi_v2.Any); ok {
		var value any
		fatal(yaml.Unmarshal([]byte(found.Yaml), &value))
		text, err := json.Marshal(value)
		fatal(err)
		found.Yaml, found.Value = string(text), nil
		return
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		each(field, value, func(_ int, inner protoreflect.Message) { plain(inner) })
		return true
	})
}

func each(field protoreflect.FieldDescriptor, value protoreflect.Value, do func(int, protoreflect.Message)) {
	switch {
	case field.Kind() != protoreflect.MessageKind:
	case field.IsList():
		for i := 0; i < value.List().Len(); i++ {
			do(i, value.List().Get(i).Message())
		}
	default:
		do(0, value.Message())
	}
}

// differ says where the first difference is.
func differ(want, got protoreflect.Message, place string) bool {
	if proto.Equal(want.Interface(), got.Interface()) {
		return false
	}
	fields := want.Descriptor().Fields()
	for i := 0; i < fields.Len(); i++ {
		field, below := fields.Get(i), false
		here := fmt.Sprintf("%s.%s", place, field.Name())
		wanted, found := want.Get(field), got.Get(field)
		if wanted.Equal(found) {
			continue
		}
		if field.IsList() && wanted.List().Len() == found.List().Len() || !field.IsList() && want.Has(field) && got.Has(field) {
			each(field, wanted, func(i int, inner protoreflect.Message) {
				other := found
				if field.IsList() {
					other = found.List().Get(i)
				}
				below = below || differ(inner, other.Message(), fmt.Sprintf("%s[%d]", here, i))
			})
		}
		if !below {
			fmt.Fprintf(os.Stderr, "%s: want %v, got %v\n", here, wanted, found)
		}
		return true
	}
	return false
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}
