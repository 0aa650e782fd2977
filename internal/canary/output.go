package canary

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strings"

	"golang.org/x/oauth2"
)

// Output is what came out at some place.
type Output struct{ Place, Text string }

// Value is what fmt, log/slog, encoding/json and encoding/xml make of v: alone
// and within other values, where its own methods may not be asked.
func Value(what string, v any) []Output {
	var all []Output
	for _, shape := range []struct {
		name string
		v    any
	}{
		{"", v},
		{" in a slice", []any{v}},
		{" in a map", map[string]any{"x": v}},
		{" in a struct", struct{ X any }{v}},
		{" two deep", &struct{ X []any }{[]any{v}}},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			all = append(all, Output{what + shape.name + " under " + verb, fmt.Sprintf(verb, shape.v)})
		}
		data, err := json.Marshal(shape.v)
		all = append(all,
			Output{what + shape.name + " as JSON", fmt.Sprintf("%s %v", data, err)},
			Output{"a log line of " + what + shape.name, logged(shape.v)})
	}
	data, err := xml.Marshal(v)
	return append(all, Output{what + " as XML", fmt.Sprintf("%s %v", data, err)})
}

// LogHandler writes each record as text and as JSON, whatever its level.
func LogHandler(w io.Writer) slog.Handler {
	options := &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}
	return slog.NewMultiHandler(slog.NewTextHandler(w, options), slog.NewJSONHandler(w, options))
}

func logged(v any) string {
	var b strings.Builder
	slog.New(LogHandler(&b)).Debug("message", "v", v, slog.Group("group", slog.Any("v", v)))
	return b.String()
}

// Error is all that a program can get out of an error: each error within it as
// a Value, its exported fields, and the answers that it keeps.
func Error(err error) []Output {
	if err == nil {
		return nil
	}
	all := append(Value(fmt.Sprintf("the %T", err), err), fields(err)...)
	var retrieve *oauth2.RetrieveError
	if errors.As(err, &retrieve) && error(retrieve) != err { // which an As method may have made
		all = append(all, Value("the *oauth2.RetrieveError", retrieve)...)
		all = append(all, fields(retrieve)...)
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		all = append(all, Error(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, Error(inner)...)
		}
	}
	return all
}

// fields are the exported fields of the struct that err is or points to, and
// that struct by value, which has fewer methods to hide behind.
func fields(err error) []Output {
	v := reflect.ValueOf(err)
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	all := Value("the "+v.Type().String(), v.Interface())
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		place := "the " + f.Name + " of the " + v.Type().String()
		switch field := v.Field(i).Interface().(type) {
		case string:
			all = append(all, Output{place, field})
		case []byte:
			all = append(all, Output{place, string(field)})
		case *http.Response:
			all = append(all, Response(field)...)
		}
	}
	return all
}

// Response is what a caller has in hand with a response, but its body: what
// the server says there is the caller's.
func Response(resp *http.Response) []Output {
	if resp == nil {
		return nil
	}
	all := []Output{
		{"the status", resp.Status},
		{"the response's header", fmt.Sprint(resp.Header, resp.Trailer)},
		{"the response under %+v", fmt.Sprintf("%+v", resp)},
	}
	if resp.Request == nil {
		return all
	}
	all = append(all,
		Output{"resp.Request under %+v", fmt.Sprintf("%+v", resp.Request)},
		Output{"resp.Request", fmt.Sprint(resp.Request.URL, resp.Request.Header, resp.Request.Form, resp.Request.PostForm)},
	)
	return append(all, Response(resp.Request.Response)...)
}
