package retry

import (
	"context"
	"net/http"
	"path"
	"strings"
)

// call is what the Policy has to know of a request.
type call struct {
	host, method string
	idempotent   bool // the portal executes it once, however often it is sent
}

type callKey struct{}

// callOf returns the call that the context carries, or that the answer belongs to.
func callOf(ctx context.Context, resp *http.Response) call {
	if c, ok := ctx.Value(callKey{}).(call); ok {
		return c
	}
	if resp != nil && resp.Request != nil {
		return newCall(resp.Request)
	}
	return call{}
}

// newCall reads a request. The method's name is the last part of the path, with webhooks
// and in version 3 too.
func newCall(r *http.Request) call {
	name := path.Base(r.URL.Path)
	if ext := strings.ToLower(path.Ext(name)); ext == ".json" || ext == ".xml" {
		name = name[:len(name)-len(ext)]
	}
	if !strings.ContainsFunc(name, func(c rune) bool { return c != '/' && c != '.' }) {
		name = ""
	}
	// Version 2 does not know the header, and would execute the call again.
	v3 := strings.Contains(r.URL.Path, "/rest/api/")
	return call{r.URL.Host, name, v3 && r.Header.Get("Idempotency-Key") != ""}
}
