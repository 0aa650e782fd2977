// Package openapi makes the description that a portal gives of its REST API, version
// 3, one that generators of clients take. As it comes they refuse it: PHP writes an
// empty object as [], arrays do not say of what, no operation has a name and no error
// is described; and the clients that they would make could read no list, which is
// declared an array and really is an object with the array in it.
//
// It is what the method rest.documentation.openapi answers.
package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxSize is how large a document may be, in bytes: some hundred methods take
// about a megabyte.
const MaxSize = 64 << 20

// Repair returns the document as generators take it, and how many methods it
// describes. A document that needs nothing, such as one that was repaired before, comes
// back as it is, but for the order of its names and its white space. What Repair does
// not know it leaves alone. The error says what the data is instead of a description,
// and quotes nothing of it but a portal's error code.
func Repair(data []byte) (repaired []byte, methods int, _ error) {
	doc, err := read(data)
	if err != nil {
		return nil, 0, err
	}
	r := repair{doc: doc, schemas: object(doc, "components", "schemas")}
	r.objects(doc, "")
	r.names()
	methods = r.operations()
	for _, schema := range r.schemas {
		r.schema(schema, inAnswers)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return nil, 0, fmt.Errorf("b24oauth/openapi: %w", err)
	}
	return out.Bytes(), methods, nil
}

// node is a JSON object.
type node = map[string]any

// read reads a document, with numbers as they stand there.
func read(data []byte) (node, error) {
	const wanted = "b24oauth/openapi: this is no OpenAPI document"
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%s: it is larger than %d MiB", wanted, MaxSize>>20)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var doc node
	if err := dec.Decode(&doc); err != nil || doc == nil {
		return nil, errors.New(wanted + ": a JSON object was expected")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New(wanted + ": something follows its JSON object")
	}
	version, _ := doc["openapi"].(string)
	if strings.HasPrefix(version, "3.") {
		return doc, nil
	}
	if e, failed := doc["error"]; failed {
		return nil, fmt.Errorf("%s: the portal answered the error %.100q", wanted, code(e))
	}
	return nil, errors.New(wanted + ": it does not say which version of OpenAPI it is, 3.0.0 is expected; ask the method rest.documentation.openapi of version 3")
}

// code returns the code of a portal's error, of either version.
func code(e any) string {
	if v3, ok := e.(node); ok {
		e = v3["code"]
	}
	s, _ := e.(string)
	return s
}

// repair is a document while it is repaired.
type repair struct {
	doc     node
	schemas node // components.schemas
}

// object returns the object within n under these names, which is made if it is
// missing.
func object(n node, names ...string) node {
	for _, name := range names {
		child, ok := n[name].(node)
		if !ok {
			child = make(node)
			n[name] = child
		}
		n = child
	}
	return n
}

// objectNames are the names under which OpenAPI has an object, in which PHP writes an
// empty one as an array.
var objectNames = map[string]bool{
	"additionalProperties": true, "callbacks": true, "components": true, "content": true, "discriminator": true,
	"encoding": true, "examples": true, "headers": true, "items": true, "links": true, "mapping": true, "not": true,
	"paths": true, "properties": true, "requestBodies": true, "requestBody": true, "responses": true, "schema": true,
	"schemas": true, "securitySchemes": true, "variables": true,
}

// listNames are the names of lists that OpenAPI does not allow to be empty.
var listNames = map[string]bool{"required": true, "enum": true, "allOf": true, "anyOf": true, "oneOf": true}

// data are the names under which anything may stand, which is nobody's to change.
var data = map[string]bool{"default": true, "example": true, "value": true}

// objects makes objects of the empty arrays that stand for one, and drops empty
// lists. in is the name under which n stands: within properties, say, a name is the
// user's and means nothing.
func (r *repair) objects(n node, in string) {
	named := in == "properties" || in == "schemas" || in == "responses" || in == "paths" || in == "mapping" || in == "variables" || in == "headers"
	for name, value := range n {
		list, isList := value.([]any)
		switch {
		case !named && (data[name] || strings.HasPrefix(name, "x-")):
			continue
		case isList && len(list) == 0 && (named && in != "mapping" || objectNames[name]):
			n[name] = make(node)
		case isList && len(list) == 0 && listNames[name] && !named:
			delete(n, name)
		case isList:
			for _, element := range list {
				if e, ok := element.(node); ok {
					r.objects(e, "")
				}
			}
		}
		if child, ok := n[name].(node); ok {
			within := name
			if named {
				within = ""
			}
			r.objects(child, within)
		}
	}
}
