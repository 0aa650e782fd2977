package openapi

import (
	"maps"
	"slices"
	"strings"
)

// verbs are the operations that a path can have.
var verbs = []string{"post", "get", "put", "patch", "delete", "head", "options", "trace"}

// batch is the one method that answers with an array: of what its commands answer.
const batch = "/batch"

// operations repairs every operation, and says where they are. It returns how many
// methods there are.
func (r *repair) operations() (methods int) {
	if servers, _ := r.doc["servers"].([]any); len(servers) == 0 {
		r.doc["servers"] = []any{node{
			"url":         "https://{portal}/rest/api",
			"description": "The portal. A client takes the address of its own: the grant's client_endpoint, and api behind it.",
			"variables":   node{"portal": node{"default": "example.bitrix24.com"}},
		}}
	}
	paths := object(r.doc, "paths")
	taken := make(map[string]bool) // by what a generator makes of a name
	each := func(do func(path, verb string, operation node)) {
		for _, path := range slices.Sorted(maps.Keys(paths)) {
			item, _ := paths[path].(node)
			for _, verb := range verbs {
				if operation, ok := item[verb].(node); ok {
					do(path, verb, operation)
				}
			}
		}
	}
	each(func(_, _ string, operation node) {
		id, _ := operation["operationId"].(string)
		if taken[goName(id)] {
			delete(operation, "operationId")
		} else if id != "" {
			taken[goName(id)] = true
		}
	})
	each(func(path, verb string, operation node) {
		if id, _ := operation["operationId"].(string); id == "" {
			id = unused(operationID(path, verb), taken)
			operation["operationId"], taken[goName(id)] = id, true
		}
		r.request(operation)
		r.answers(path, operation)
	})
	return len(paths)
}

// operationID names an operation like its method: tasksTaskGet of /tasks.task.get. By
// another verb than POST it has that before it.
func operationID(path, verb string) string {
	name := camel(path)
	if verb != "post" {
		return verb + name
	}
	return strings.ToLower(name[:1]) + name[1:]
}

// request repairs what an operation is sent.
func (r *repair) request(operation node) {
	parameters, _ := operation["parameters"].([]any)
	for _, parameter := range parameters {
		if p, ok := parameter.(node); ok {
			r.schema(p["schema"], inRequests)
		}
	}
	body, _ := operation["requestBody"].(node)
	eachSchema(body, func(s node) { r.schema(s, inRequests) })
}

// answers repairs what an operation is answered, and adds the error that it can be.
func (r *repair) answers(path string, operation node) {
	responses := object(operation, "responses")
	for _, response := range responses {
		n, _ := response.(node)
		eachSchema(n, func(s node) {
			if path != batch {
				r.list(r.resolve(s))
			}
			r.time(r.resolve(s))
			r.schema(s, inAnswers)
		})
	}
	if _, ok := responses["default"]; !ok {
		responses["default"] = node{
			"description": "An error",
			"content":     node{"application/json": node{"schema": node{"$ref": schemaRef + r.errorSchema()}}},
		}
	}
}

// eachSchema calls do for each schema of a body, in whatever form it is sent.
func eachSchema(body node, do func(node)) {
	content, _ := body["content"].(node)
	for _, media := range content {
		if m, ok := media.(node); ok {
			if s, ok := m["schema"].(node); ok {
				do(s)
			}
		}
	}
}

// resolve returns the schema that s refers to, or s itself.
func (r *repair) resolve(s node) node {
	for range 32 { // a document may have references in a circle
		ref, _ := s["$ref"].(string)
		name, local := strings.CutPrefix(ref, schemaRef)
		target, ok := r.schemas[name].(node)
		if !local || !ok {
			return s
		}
		s = target
	}
	return s
}

// list has an answer whose result is declared an array say what it really is: an
// object with the array under items.
func (r *repair) list(answer node) {
	properties, _ := answer["properties"].(node)
	result, _ := properties["result"].(node)
	if result == nil || r.resolve(result)["type"] != "array" {
		return
	}
	properties["result"] = node{"type": "object", "required": []any{"items"}, "properties": node{"items": result}}
}

// time has an answer say that there is a time beside its result.
func (r *repair) time(answer node) {
	properties, _ := answer["properties"].(node)
	if _, ok := properties["result"]; !ok {
		return
	}
	if _, ok := properties["time"]; !ok {
		properties["time"] = node{"type": "object", "description": "How long the method took, and how much of its budget it has used", "additionalProperties": true}
	}
}

// errorSchema returns the name of the schema of errors, which is made if it is missing.
// Errors of version 3 are objects with a code, and those of a token or a limit a text.
func (r *repair) errorSchema() string {
	const name = "PortalError"
	if _, ok := r.schemas[name]; !ok {
		r.schemas[name] = node{
			"type": "object", "required": []any{"error"}, "properties": node{
				"error":             node{"description": "An object with code and message, or the code alone, as of a token that is refused or a limit"},
				"error_description": node{"type": "string"},
			},
		}
	}
	return name
}
