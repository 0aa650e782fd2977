package b24test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// dialect is how a call is answered: it follows from the address.
type dialect int

const (
	v2JSON dialect = iota
	v2XML
	v3
)

const v3Denied = "BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION"

// success answers a call with what its method returned.
func (d dialect) success(started time.Time, result any) Answer {
	answer := map[string]any{"result": result, "time": timing(started)}
	if d == v2XML {
		var b strings.Builder
		writeXML(&b, "response", answer)
		return xmlAnswer(http.StatusOK, b.String())
	}
	return jsonAnswer(http.StatusOK, answer)
}

// failure answers a call with an error.
func (d dialect) failure(status int, code, description string) Answer {
	switch d {
	case v2XML:
		var b strings.Builder
		b.WriteString("<response>")
		writeXML(&b, "error", code)
		writeXML(&b, "error_description", strings.TrimSuffix(description, "."))
		b.WriteString("</response>")
		return xmlAnswer(status, b.String())
	case v3:
		return jsonAnswer(status, map[string]any{"error": map[string]string{"code": code, "message": description}})
	}
	return jsonAnswer(status, restError{code, description})
}

// denied refuses a token. Version 3 does not tell why.
func (d dialect) denied(code, description string) Answer {
	if d == v3 {
		code, description = v3Denied, "Access denied"
	}
	return d.failure(http.StatusUnauthorized, code, description)
}

// restError is an error of v2 in the order in which portals write it.
type restError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

func jsonAnswer(status int, v any) Answer {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("b24test: cannot encode an answer: %v", err))
	}
	return Answer{Status: status, Body: string(body)}
}

func xmlAnswer(status int, body string) Answer {
	return Answer{status, http.Header{"Content-Type": {"text/xml; charset=utf-8"}}, body}
}

// htmlAnswer is what the web server in front of Bitrix24 says itself.
func htmlAnswer(status int) Answer {
	text := fmt.Sprintf("%d %s", status, http.StatusText(status))
	body := fmt.Sprintf("<html>\n<head><title>%s</title></head>\n<body><h1>%[1]s</h1></body>\n</html>\n", text)
	return Answer{status, http.Header{"Content-Type": {"text/html"}}, body}
}

// timing is the time that Bitrix24 adds to its answers.
func timing(started time.Time) map[string]any {
	now := time.Now()
	seconds := func(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
	return map[string]any{
		"start":       seconds(started),
		"finish":      seconds(now),
		"duration":    now.Sub(started).Seconds(),
		"processing":  0,
		"date_start":  started.Format(time.RFC3339),
		"date_finish": now.Format(time.RFC3339),
		"operating":   0,
	}
}

// writeXML writes a value as Bitrix24 does: a list as a sequence of items, a
// map as an element for each of its keys.
func writeXML(b *strings.Builder, name string, value any) {
	b.WriteString("<" + name + ">")
	switch v := value.(type) {
	case map[string]any:
		for _, key := range sortedKeys(v) {
			writeXML(b, elementName(key), v[key])
		}
	case []any:
		for _, item := range v {
			writeXML(b, "item", item)
		}
	case nil:
	default:
		xml.EscapeText(b, fmt.Append(nil, v))
	}
	b.WriteString("</" + name + ">")
}

// elementName makes a parameter's name one that XML allows.
func elementName(key string) string {
	name := strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, key)
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		return "item" + name
	}
	return name
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
