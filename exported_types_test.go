package b24oauth_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/canary"
)

// exportedTypes are all types that the package exports, but those that hold
// nothing: interfaces and numbers.
var exportedTypes = map[string]any{
	"AppInfo":     new(b24oauth.AppInfo),
	"Config":      new(b24oauth.Config),
	"Event":       new(b24oauth.Event),
	"Grant":       new(b24oauth.Grant),
	"Lineage":     new(b24oauth.Lineage),
	"MemoryStore": new(b24oauth.MemoryStore),
	"Refusal":     new(b24oauth.Refusal),
	"TokenError":  new(b24oauth.TokenError),
	"TokenSource": new(b24oauth.TokenSource),
	"Transport":   new(b24oauth.Transport),
}

// mayTell are the fields that are no secrets, by their own contract. A field
// that is not here is taken for one.
var mayTell = map[string]bool{
	"AppInfo.ClientID": true, "AppInfo.MemberID": true, "AppInfo.ClientEndpoint": true, "AppInfo.Scope": true, "AppInfo.Status": true,
	"Config.ClientID": true,
	"Grant.ClientID":  true, "Grant.MemberID": true, "Grant.ClientEndpoint": true,
	"Event.Key": true, "Event.Token": true, "Event.Code": true, "Event.Host": true, "Event.Err": true,
	"TokenError.Key": true, "TokenError.Code": true, "TokenError.Description": true, "TokenError.Err": true,
	"TokenError.server": true, "TokenError.kind": true, "TokenError.hint": true, "TokenError.sought": true,
	"TokenSource.key": true, "outside.key": true,
	"Refusal.Code": true,
}

func TestGuarantee8EveryFieldOfEveryExportedType(t *testing.T) {
	secrets := canary.Of(canaryOfFields)
	for _, name := range declaredTypes(t) {
		v, ok := exportedTypes[name]
		if !ok {
			t.Errorf("%s is new: add it to exportedTypes", name)
			continue
		}
		fill(t, name, reflect.ValueOf(v).Elem(), 0)
		values := map[string]any{"*" + name: v}
		if name == "Grant" || name == "Event" {
			values[name] = reflect.ValueOf(v).Elem().Interface()
		}
		for name, v := range values {
			secrets.Check(t, name, canary.Value("it", v))
		}
	}
}

// declaredTypes returns the names of the exported types in the package's
// source that are neither interfaces nor numbers.
func declaredTypes(t *testing.T) (names []string) {
	t.Helper()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(gotoken.NewFileSet(), f.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !spec.Name.IsExported() {
				return true
			}
			switch spec.Type.(type) {
			case *ast.InterfaceType, *ast.Ident:
			default:
				names = append(names, spec.Name.Name)
			}
			return false
		})
	}
	if len(names) < len(exportedTypes) {
		t.Errorf("found the types %v only", names)
	}
	return names
}

const (
	canaryOfFields = "CANARYfield5d1e"
	maxDepth       = 10 // so that what leads back to itself comes to an end
)

// planted are the fields in which fill has put a canary.
var planted = make(map[string]bool)

// TestCanariesStandWhereSecretsDo sees to it that the walk gets to the bottom
// of a TokenSource: it could find nothing because it did not look.
func TestCanariesStandWhereSecretsDo(t *testing.T) {
	clear(planted)
	fill(t, "TokenSource", reflect.ValueOf(new(b24oauth.TokenSource)).Elem(), 0)
	for _, field := range []string{
		"heldGrant.text", "Portal.Scheme", "Portal.Host", "Portal.Path", "Token.AccessToken", "Token.raw",
		"Current.access", "Why.Refused", "Failure.Code", "Failure.Err", "Event.Access", "Config.ClientSecret",
	} {
		if !planted[field] {
			t.Errorf("no canary stands in %s", field)
		}
	}
}

// outside is the type that a Source of grants has for its outside.
func outside() reflect.Type {
	s := reflect.ValueOf(new(b24oauth.Config).TokenSource(key)).Elem()
	return s.FieldByName("source").FieldByName("out").Elem().Type().Elem()
}

// fill puts a canary wherever there is room for a secret in v, unexported
// fields included.
func fill(t *testing.T, path string, v reflect.Value, depth int) {
	t.Helper()
	if mayTell[path] || depth > maxDepth {
		return
	}
	if given, ok := interfaces()[path]; ok {
		planted[path] = true
		v.Set(reflect.ValueOf(given))
		return
	}
	switch v.Kind() {
	case reflect.String:
		planted[path] = true
		v.SetString(canaryOfFields)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(canaryOfFields))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, path, v.Index(0), depth+1)
	case reflect.Array:
		for i := range v.Len() {
			fill(t, path, v.Index(i), depth+1)
		}
	case reflect.Map:
		value := reflect.New(v.Type().Elem()).Elem()
		fill(t, path, value, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		if v.Type().Key().Kind() == reflect.String {
			v.SetMapIndex(reflect.ValueOf("key"), value)
		}
	case reflect.Interface:
		if path != "Source.out" {
			t.Errorf("%s is new: say in interfaces what has a secret there", path)
			return
		}
		v.Set(made(t, path, outside(), depth))
	case reflect.Pointer:
		if pointed := made(t, path, v.Type().Elem(), depth); pointed.IsValid() {
			v.Set(pointed)
		}
	case reflect.Struct:
		if store := v.Addr().MethodByName("Store"); store.IsValid() && strings.HasPrefix(v.Type().String(), "atomic.Pointer[") {
			if pointed := made(t, path, store.Type().In(0).Elem(), depth); pointed.IsValid() {
				store.Call([]reflect.Value{pointed})
			}
			return
		}
		weak := strings.HasPrefix(v.Type().String(), "weak.Pointer[") // it holds nothing
		if foreign[v.Type().String()] || weak || v.NumField() == 0 {
			return
		}
		if !ours(v.Type()) {
			t.Errorf("%s is new: say in foreign whether %s has room for a secret", path, v.Type())
			return
		}
		for i := range v.NumField() {
			field := v.Field(i)
			field = reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem() // also if it is unexported
			fill(t, plainName(v.Type())+"."+v.Type().Field(i).Name, field, depth+1)
		}
	case reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint32, reflect.Uint64, reflect.Chan:
	default:
		t.Errorf("%s is new: say in interfaces what has a secret there", path)
	}
}

// made returns a pointer to a filled value, or none if the type has no room
// for a secret.
func made(t *testing.T, path string, pointed reflect.Type, depth int) reflect.Value {
	t.Helper()
	if foreign[pointed.String()] {
		return reflect.Value{}
	}
	v := reflect.New(pointed)
	if ours(pointed) {
		path = plainName(pointed)
	}
	fill(t, path, v.Elem(), depth+1)
	return v
}

// foreign are the structs of others in which we keep no secret, or which are
// printed as addresses wherever they stand.
var foreign = map[string]bool{
	"time.Time": true, "time.Timer": true, "sync.Mutex": true, "sync.Once": true, "keylock.Locks": true, "atomic.Bool": true, "atomic.Int64": true, "atomic.Uint32": true,
	"http.Client": true, "slog.Logger": true, "unique.Handle[github.com/b24go/b24oauth.common]": true,
}

// ours reports whether the fields of a type are ours to fill: those of the
// package and of its internal ones, and of the token that it keeps.
func ours(t reflect.Type) bool {
	root := reflect.TypeFor[b24oauth.Grant]().PkgPath()
	return t.PkgPath() == root || strings.HasPrefix(t.PkgPath(), root+"/internal/") || t == reflect.TypeFor[oauth2.Token]()
}

// plainName is a type's name without its parameters.
func plainName(t reflect.Type) string {
	name, _, _ := strings.Cut(t.Name(), "[")
	return name
}

// interfaces are values with secrets in plain sight for the fields that are
// interfaces.
func interfaces() map[string]any {
	type plain struct{ Secret string }
	store := struct {
		plain
		b24oauth.Store
	}{plain{canaryOfFields}, nil}
	base := struct {
		plain
		http.RoundTripper
	}{plain{canaryOfFields}, nil}
	return map[string]any{
		"Config.Store":     store,
		"Transport.Base":   base,
		"Transport.Source": leakySource{&oauth2.Token{AccessToken: canaryOfFields}},
		"Config.OnEvent":   func(context.Context, b24oauth.Event) {},
		"TokenError.Err":   errors.New("a cause"),
		"Failure.Err":      errors.New(canaryOfFields),
		"Token.raw":        canaryOfFields,
	}
}
