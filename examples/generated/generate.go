// Package generated is what generators of clients make of a portal's OpenAPI document,
// once b24oauth openapi has repaired it, and how their clients are used: with nothing but
// the http.Client of b24oauth.
//
// The document, written for this in the form that portals have, is in
// internal/openapi/testdata; as it comes, both generators refuse it.
package generated

//go:generate go tool oapi-codegen -generate types,client -package oapi -o oapi/client.gen.go ../../internal/openapi/testdata/repaired.json
//go:generate go tool ogen --config ogen.yml --target ogen --package ogen --clean ../../internal/openapi/testdata/repaired.json
