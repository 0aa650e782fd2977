package b24oauth_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

const noAuthFound = `{"error":"NO_AUTH_FOUND","error_description":"Wrong authorization data"}`

func TestPortalThatCannotReadTheBodyIsExplained(t *testing.T) {
	for _, c := range []struct {
		name, path, kind, body string
		placement              b24oauth.Placement
		quiet                  bool // the Logger takes no Debug
		answer                 b24test.Answer
		says                   string // "": nothing
	}{
		{name: "JSON that is no UTF-8", kind: jsonType, body: "{\"a\":\"\xE4\"}", says: "no JSON to PHP"},
		{name: "JSON with a bracket too many", kind: jsonType, body: `{"a":1}}`, says: "no JSON to PHP"},
		{name: "a form", kind: formType, body: "a=1", says: "post_max_size"},
		{name: "in another case", kind: jsonType, body: `{"a":1}`, answer: b24test.Answer{Status: 401, Body: strings.ToLower(noAuthFound)}, says: "no JSON to PHP"},
		{name: "in XML", path: ".xml", kind: jsonType, body: `{"a":1}`, answer: b24test.Answer{Status: 401, Body: "<response><error>NO_AUTH_FOUND</error></response>"}, says: "no JSON to PHP"},

		{name: "a body that has no token", kind: "text/plain", body: "x"},
		{name: "JSON with the token in the query", kind: jsonType, body: "{}", placement: b24oauth.PlaceQuery},
		{name: "JSON with the token in the header", kind: jsonType, body: "{}", placement: b24oauth.PlaceHeader},
		{name: "JSON with a byte-order mark", kind: jsonType, body: "\uFEFF{}"},
		{name: "another code", kind: jsonType, body: "{}", answer: b24test.Answer{Status: 401, Body: `{"error":"insufficient_scope"}`}},
		{name: "another status", kind: jsonType, body: "{}", answer: b24test.Answer{Status: 400, Body: noAuthFound}},
		{name: "a Logger that does not want it", kind: jsonType, body: "{}", quiet: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			level := slog.LevelDebug
			if c.quiet {
				level = slog.LevelInfo
			}
			p := newProgram(t, func(config *b24oauth.Config) {
				config.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))
			})
			p.accept(t)
			if c.answer.Status == 0 {
				c.answer = b24test.Answer{Status: 401, Body: noAuthFound}
			}
			p.RefuseNext(1, c.answer)
			tr := p.over(p.base())
			tr.Placement = c.placement
			resp, err := tr.RoundTrip(post(t, p.Endpoint()+"crm.deal.add"+c.path, c.kind, c.body))
			if err != nil || text(t, resp) != c.answer.Body {
				t.Fatalf("%v, %v; want the portal's answer, whole", resp, err)
			}
			p.check(t, "", outcome{c.answer.Status, 1, 0}, resp.StatusCode)
			got := log.String()
			if strings.Contains(got, "found no token") != (c.says != "") || !strings.Contains(got, c.says) {
				t.Errorf("logged %q, want it to say %q", got, c.says)
			}
			if strings.Contains(got, token(t, p.source)) || c.says != "" && !strings.Contains(got, "key="+key) {
				t.Errorf("logged %q", got)
			}
		})
	}
}

func TestPortalReadsNoJSONThatIsNoUTF8(t *testing.T) {
	p := newProgram(t)
	resp, err := p.client.Do(post(t, p.Endpoint()+"crm.deal.add", jsonType, "{\"a\":\"\xE4\"}"))
	if err != nil || text(t, resp) != noAuthFound {
		t.Errorf("%v, %v; want NO_AUTH_FOUND", resp, err)
	}
	p.check(t, "", outcome{401, 1, 0}, resp.StatusCode)
}
