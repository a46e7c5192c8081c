// Command schema prints the API types of upstream's Go packages as JSON: structs with their tags, named types, constants.
//
// `cargo xtask import` runs it and compares the facts with our own pages.
package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
)

type field struct {
	Go       string   `json:"go"`
	Type     string   `json:"type"`
	JSON     string   `json:"json"`
	Protobuf string   `json:"protobuf"`
	Patch    string   `json:"patch"`
	MergeKey string   `json:"mergeKey"`
	Embedded bool     `json:"embedded"`
	Markers  []string `json:"markers"`
}

type typeDecl struct {
	Name       string   `json:"name"`
	Underlying string   `json:"underlying"`
	Struct     bool     `json:"struct"`
	Fields     []field  `json:"fields"`
	Markers    []string `json:"markers"`
	File       string   `json:"file"`
}

type pkg struct {
	Dir    string              `json:"dir"`
	Types  []typeDecl          `json:"types"`
	Consts map[string][]string `json:"consts"`
}

func expr(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.Ident:
		return t.Name
	case *ast.SelectorExpr:
		return expr(t.X) + "." + t.Sel.Name
	case *ast.StarExpr:
		return "*" + expr(t.X)
	case *ast.ArrayType:
		return "[]" + expr(t.Elt)
	case *ast.MapType:
		return "map[" + expr(t.Key) + "]" + expr(t.Value)
	case *ast.InterfaceType:
		return "interface"
	}
	return fmt.Sprintf("?%T", e)
}

func markers(groups ...*ast.CommentGroup) []string {
	out := []string{}
	for _, g := range groups {
		if g == nil {
			continue
		}
		for _, c := range g.List {
			for _, line := range strings.Split(c.Text, "\n") {
				line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "//"))
				if strings.HasPrefix(line, "+") {
					out = append(out, line)
				}
			}
		}
	}
	return out
}

func structFields(s *ast.StructType) []field {
	out := []field{}
	for _, f := range s.Fields.List {
		tag := reflect.StructTag("")
		if f.Tag != nil {
			tag = reflect.StructTag(strings.Trim(f.Tag.Value, "`"))
		}
		made := field{
			Type: expr(f.Type), JSON: tag.Get("json"), Protobuf: tag.Get("protobuf"),
			Patch: tag.Get("patchStrategy"), MergeKey: tag.Get("patchMergeKey"), Markers: markers(f.Doc, f.Comment),
		}
		if len(f.Names) == 0 {
			made.Embedded = true
			parts := strings.Split(strings.TrimPrefix(made.Type, "*"), ".")
			made.Go = parts[len(parts)-1]
			out = append(out, made)
		}
		for _, n := range f.Names {
			made.Go = n.Name
			out = append(out, made)
		}
	}
	return out
}

func read(dir string) (*pkg, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	p := &pkg{Dir: dir, Consts: map[string][]string{}}
	set := token.NewFileSet()
	for _, name := range names {
		base := filepath.Base(name)
		if strings.HasSuffix(base, "_test.go") || strings.HasPrefix(base, "generated.") || strings.HasPrefix(base, "zz_generated") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range g.Specs {
				switch spec := s.(type) {
				case *ast.TypeSpec:
					t := typeDecl{Name: spec.Name.Name, File: base, Fields: []field{}}
					// Markers such as +genclient may stand in a comment block of their own above the doc comment.
					groups := []*ast.CommentGroup{}
					for _, c := range file.Comments {
						gap := set.Position(g.Pos()).Line - set.Position(c.End()).Line
						if c.End() < g.Pos() && gap <= 8 && c != g.Doc && onlyMarkers(c) {
							groups = append(groups, c)
						}
					}
					groups = append(groups, g.Doc, spec.Doc)
					t.Markers = markers(groups...)
					if st, ok := spec.Type.(*ast.StructType); ok {
						t.Struct = true
						t.Fields = structFields(st)
					} else {
						t.Underlying = expr(spec.Type)
					}
					p.Types = append(p.Types, t)
				case *ast.ValueSpec:
					if g.Tok != token.CONST {
						continue
					}
					typ := ""
					if spec.Type != nil {
						typ = expr(spec.Type)
					}
					for i, v := range spec.Values {
						switch lit := v.(type) {
						case *ast.BasicLit:
							p.Consts[typ] = append(p.Consts[typ], spec.Names[i].Name+"="+lit.Value)
						case *ast.CallExpr:
							// ResourceName("cpu") and the like.
							if inner, ok := lit.Args[0].(*ast.BasicLit); ok && len(lit.Args) == 1 {
								p.Consts[expr(lit.Fun)] = append(p.Consts[expr(lit.Fun)], spec.Names[i].Name+"="+inner.Value)
							}
						}
					}
				}
			}
		}
	}
	return p, nil
}

func onlyMarkers(c *ast.CommentGroup) bool {
	for _, line := range c.List {
		if !strings.HasPrefix(strings.TrimSpace(strings.TrimPrefix(line.Text, "//")), "+") {
			return false
		}
	}
	return true
}

func main() {
	out := map[string]*pkg{}
	for _, arg := range os.Args[1:] {
		name, dir, ok := strings.Cut(arg, "=")
		if !ok {
			fmt.Fprintln(os.Stderr, "usage: schema NAME=DIR ...")
			os.Exit(2)
		}
		p, err := read(dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		out[name] = p
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", " ")
	if err := enc.Encode(out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
