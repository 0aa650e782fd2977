package b24test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// maxInputVars is how many fields PHP takes from a query or a form before it
// drops the rest without a word (max_input_vars).
const maxInputVars = 1000

// readParams reads a request's parameters as PHP and the portal do: the query
// always, a form only with POST, and the body as JSON only with POST and if
// no form field was found. Where there is no JSON the last result is nil.
func readParams(r *http.Request, body []byte) (query, form map[string]any, posted any) {
	query = parseFields(r.URL.RawQuery)
	if r.Method != http.MethodPost {
		return query, nil, nil
	}
	contentType := r.Header.Get("Content-Type")
	essence, _, _ := strings.Cut(contentType, ";")
	essence = strings.TrimSpace(essence)
	switch {
	case strings.EqualFold(essence, "application/x-www-form-urlencoded"):
		form = parseFields(string(body))
	case strings.EqualFold(essence, "multipart/form-data"):
		form = parseMultipart(contentType, body)
	case essence == "application/json":
		posted = parseJSON(body)
	}
	return query, form, posted
}

// parseFields reads a query or a form.
func parseFields(s string) map[string]any {
	fields := newPHPArray()
	n := 0
	for pair := range strings.SplitSeq(s, "&") {
		if pair == "" {
			continue
		}
		if n++; n > maxInputVars {
			break
		}
		name, value, _ := strings.Cut(pair, "=")
		fields.register(unescape(name), unescape(value))
	}
	return fields.params()
}

// unescape decodes as PHP's urldecode does: what is no escape stays as it is.
func unescape(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if decoded, err := url.PathUnescape(s[i : i+3]); err == nil {
				b.WriteString(decoded)
				i += 2
				continue
			}
		}
		if s[i] == '+' {
			b.WriteByte(' ')
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// parseMultipart reads the fields of a multipart form, its files left out. A
// form that breaks off keeps the fields before.
func parseMultipart(contentType string, body []byte) map[string]any {
	fields := newPHPArray()
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return fields.params()
	}
	reader := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for n := 0; n < maxInputVars; {
		part, err := reader.NextPart()
		if err != nil {
			break
		}
		if part.FileName() != "" {
			continue
		}
		value, err := io.ReadAll(part)
		if err != nil {
			break
		}
		fields.register(part.FormName(), string(value))
		n++
	}
	return fields.params()
}

// parseJSON reads a JSON body; nil if it is none. As in PHP a byte-order mark
// or a byte that is no UTF-8 makes it none, and of a key that comes twice the
// last counts.
func parseJSON(body []byte) any {
	if !utf8.Valid(body) {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return nil
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil
	}
	return v
}

// merge lays parameters over others: of a name in several the last counts.
func merge(layers ...map[string]any) map[string]any {
	merged := make(map[string]any)
	for _, layer := range layers {
		maps.Copy(merged, layer)
	}
	return merged
}
