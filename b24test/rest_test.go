package b24test_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	v3Denied = `{"error":{"code":"BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION","message":"Access denied"}}`

	expiredJSON = `{"error":"expired_token","error_description":"The access token provided has expired."}`
	expiredXML  = `<response><error>expired_token</error><error_description>The access token provided has expired</error_description></response>`
	invalidJSON = `{"error":"invalid_token","error_description":"Unable to get application by token"}`
	invalidXML  = `<response><error>invalid_token</error><error_description>Unable to get application by token</error_description></response>`
	missingJSON = `{"error":"NO_AUTH_FOUND","error_description":"Wrong authorization data"}`
	missingXML  = `<response><error>NO_AUTH_FOUND</error><error_description>Wrong authorization data</error_description></response>`
)

func TestRefusalsAreThoseOfTheProtocol(t *testing.T) {
	srv := newServer(t)
	expired := srv.Install().AccessToken
	srv.ExpireAccessTokens()
	const v3Code = "BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION"

	for _, tt := range []struct {
		path, body, contentType, code string
	}{
		{"/rest/crm.deal.list?auth=" + expired, expiredJSON, "application/json; charset=utf-8", "expired_token"},
		{"/rest/crm.deal.list.json?auth=" + expired, expiredJSON, "application/json; charset=utf-8", "expired_token"},
		{"/rest//crm.deal.list?auth=" + expired, expiredJSON, "application/json; charset=utf-8", "expired_token"},
		{"/rest/batch?auth=" + expired, expiredJSON, "application/json; charset=utf-8", "expired_token"},
		{"/rest/crm.deal.list.xml?auth=" + expired, expiredXML, "text/xml; charset=utf-8", "expired_token"},
		{"/rest/api/tasks.task.get?auth=" + expired, v3Denied, "application/json; charset=utf-8", v3Code},
		{"/rest/crm.deal.list?auth=guess", invalidJSON, "application/json; charset=utf-8", "invalid_token"},
		{"/rest/crm.deal.list.xml?auth=guess", invalidXML, "text/xml; charset=utf-8", "invalid_token"},
		{"/rest/api/tasks.task.get?auth=guess", v3Denied, "application/json; charset=utf-8", v3Code},
		{"/rest/crm.deal.list", missingJSON, "application/json; charset=utf-8", "NO_AUTH_FOUND"},
		{"/rest/crm.deal.list.xml", missingXML, "text/xml; charset=utf-8", "NO_AUTH_FOUND"},
		{"/rest/api/tasks.task.get", v3Denied, "application/json; charset=utf-8", v3Code},
		{"/rest/1/secret/crm.deal.list?auth=guess", `{"error":"INVALID_CREDENTIALS","error_description":"Invalid request credentials"}`,
			"application/json; charset=utf-8", "INVALID_CREDENTIALS"},
		{"/rest/api/1/secret/tasks.task.get?auth=guess", v3Denied, "application/json; charset=utf-8", v3Code},
	} {
		srv.Reset()
		a := get(t, srv, srv.URL()+tt.path)
		if a.status != 401 || a.body != tt.body || a.header.Get("Content-Type") != tt.contentType {
			t.Errorf("%s: %d %s\n%s", tt.path, a.status, a.header.Get("Content-Type"), a.body)
		}
		r := last(t, srv.Requests())
		if r.Status != 401 || r.Code != tt.code || srv.Refusals() != 1 {
			t.Errorf("%s: log says %d %q, %d refusals", tt.path, r.Status, r.Code, srv.Refusals())
		}
	}
}

func TestMethodsAnswerWhatTheyUnderstood(t *testing.T) {
	srv := newServer(t)
	token := srv.Install().AccessToken
	echo := func(method string, params map[string]any) map[string]any {
		return map[string]any{"method": method, "params": params}
	}
	none := map[string]any{}

	for _, tt := range []struct {
		name string
		req  *http.Request
		want any
	}{
		{"v2", request(t, "GET", srv.Endpoint()+"crm.deal.list?filter[ID]=7&auth="+token, "", ""),
			echo("crm.deal.list", map[string]any{"filter": map[string]any{"ID": "7"}})},
		{"json suffix, doubled slash", request(t, "GET", srv.Endpoint()+"/crm.deal.list.json?access_token="+token, "", ""),
			echo("crm.deal.list", none)},
		{"profile", request(t, "GET", srv.Endpoint()+"profile?auth="+token, "", ""),
			map[string]any{"ID": "1", "ADMIN": true, "NAME": "Test", "LAST_NAME": "User 1"}},
		{"v3", request(t, "POST", srv.Endpoint()+"api/tasks.task.get?auth="+token, jsonType, `{"id":5}`),
			echo("tasks.task.get", map[string]any{"id": 5.0})},
		{"v3 takes no parameters from the query", request(t, "POST", srv.Endpoint()+"api/tasks.task.get?id=6&auth="+token, jsonType, `{"id":5}`),
			echo("tasks.task.get", map[string]any{"id": 5.0})},
		{"webhook", request(t, "GET", srv.URL()+"/rest/12/secret/profile.json", "", ""),
			map[string]any{"ID": "12", "ADMIN": true, "NAME": "Test", "LAST_NAME": "User 12"}},
		{"v3 webhook", request(t, "POST", srv.URL()+"/rest/api/12/secret/tasks.task.get", jsonType, `{"id":5}`),
			echo("tasks.task.get", map[string]any{"id": 5.0})},
		{"v3 batch", request(t, "POST", srv.Endpoint()+"api/batch?auth="+token, jsonType, `[{"method":"a.b","query":{"id":5}},{"method":"c.d"}]`),
			[]any{echo("a.b", map[string]any{"id": 5.0}), echo("c.d", none)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := do(t, srv, tt.req)
			if a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
			o := a.object(t)
			if diff := cmp.Diff(tt.want, o["result"]); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if _, ok := o["time"].(map[string]any)["start"].(float64); !ok {
				t.Errorf("no time in %s", a.body)
			}
			if strings.Contains(a.body, token) {
				t.Error("the answer tells the token")
			}
		})
	}
}

func TestXMLAnswers(t *testing.T) {
	srv := newServer(t)
	token := srv.Install().AccessToken
	a := get(t, srv, srv.Endpoint()+"crm.deal.list.xml?filter[%3EID]=7&select[]=a%26b&1=x&auth="+token)
	const want = `<response><result><method>crm.deal.list</method><params><item1>x</item1><filter><_ID>7</_ID></filter>` +
		`<select><item>a&amp;b</item></select></params></result><time>`
	if a.status != 200 || !strings.HasPrefix(a.body, want) || a.header.Get("Content-Type") != "text/xml; charset=utf-8" {
		t.Errorf("%d %s\n%s", a.status, a.header.Get("Content-Type"), a.body)
	}
}

func TestBatchAnswersUnderTheCommandsKeys(t *testing.T) {
	srv := newServer(t)
	token := srv.Install().AccessToken
	one := map[string]any{"method": "a.b", "params": map[string]any{"id": "5"}}
	two := map[string]any{"method": "c.d", "params": map[string]any{}}
	none := []any{}

	for _, tt := range []struct {
		name, contentType, body string
		result, failures        any
	}{
		{"form with names", formType, "cmd[x]=a.b%3Fid%3D5&cmd[y]=c.d", map[string]any{"x": one, "y": two}, none},
		{"form with a list", formType, "cmd[]=a.b%3Fid%3D5&cmd[]=c.d", []any{one, two}, none},
		{"JSON with names", jsonType, `{"cmd":{"x":"a.b?id=5","y":"c.d"}}`, map[string]any{"x": one, "y": two}, none},
		{"JSON with a list", jsonType, `{"cmd":["a.b?id=5&auth=other","c.d"]}`, []any{one, two}, none},
		{"a failing command", jsonType, `{"cmd":{"x":"a.b?id=5","y":"batch?cmd[]=c.d"}}`, map[string]any{"x": one}, map[string]any{
			"y": map[string]any{"error": "ERROR_BATCH_METHOD_NOT_ALLOWED", "error_description": "Method is not allowed for batch usage"},
		}},
		{"none", jsonType, `{}`, none, none},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := post(t, srv, srv.Endpoint()+"batch?auth="+token, tt.contentType, tt.body)
			result := a.object(t)["result"].(map[string]any)
			got := map[string]any{"result": result["result"], "result_error": result["result_error"]}
			want := map[string]any{"result": tt.result, "result_error": tt.failures}
			if diff := cmp.Diff(want, got); diff != "" || a.status != 200 {
				t.Errorf("status %d, result (-want +got):\n%s", a.status, diff)
			}
		})
	}
}

func TestBatchHasALimit(t *testing.T) {
	srv := newServer(t)
	token := srv.Install().AccessToken
	for n, status := range map[int]int{50: 200, 51: 400} {
		body, err := json.Marshal(map[string]any{"cmd": strings.Split(strings.Repeat("a.b ", n-1)+"a.b", " ")})
		if err != nil {
			t.Fatal(err)
		}
		a := post(t, srv, srv.Endpoint()+"batch?auth="+token, jsonType, string(body))
		if a.status != status || (status == 400) != strings.Contains(a.body, "ERROR_BATCH_LENGTH_EXCEEDED") {
			t.Errorf("%d commands: %d %.100s", n, a.status, a.body)
		}
	}
}

func TestHeadHasNoBody(t *testing.T) {
	srv := newServer(t)
	for auth, status := range map[string]int{"": 401, "?auth=" + srv.Install().AccessToken: 200} {
		a := do(t, srv, request(t, "HEAD", srv.Endpoint()+"crm.deal.list"+auth, "", ""))
		if a.status != status || a.body != "" {
			t.Errorf("%q: %d %q", auth, a.status, a.body)
		}
	}
}

func TestOtherAddressesAreNotFound(t *testing.T) {
	srv := newServer(t)
	for _, path := range []string{"/", "/rest", "/rest/", "/rest/api/", "/rest/a/b", "/rest/0/secret/profile", "/rest/x/secret/profile", "/rest/1/s/t/u"} {
		if a := get(t, srv, srv.URL()+path); a.status != 404 || !strings.HasPrefix(a.body, "<html>") {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if n := srv.Refusals(); n != 0 {
		t.Errorf("%d refusals", n)
	}
}

func TestUsersAreToldApart(t *testing.T) {
	srv := newServer(t)
	for _, want := range []string{"1", "2"} {
		access, _ := refresh(t, srv, srv.Install().RefreshToken)
		profile := get(t, srv, srv.Endpoint()+"profile?auth="+access).object(t)["result"].(map[string]any)
		if profile["ID"] != want {
			t.Errorf("the token acts for user %v, want %s", profile["ID"], want)
		}
	}
}
