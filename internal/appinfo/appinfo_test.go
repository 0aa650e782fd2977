package appinfo_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth/internal/appinfo"
	"github.com/b24go/b24oauth/internal/tokenresponse"
)

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{"Retry-After": {"7"}}}
}

const whole = `{"result":{"client_id":"local.1","scope":"crm,user","expires":"2026-12-31T23:59:59+00:00","user_id":1,
	"install":{"installed":true,"version":2,"status":"T","scope":"crm,user","domain":"example.bitrix24.com","uri":"https://example.bitrix24.com",
		"client_endpoint":"https://example.bitrix24.com/rest/","member_id":"a223","member_type":"cloud","date_finish":"2027-01-31T00:00:00+03:00"}},
	"time":{"start":1.0,"finish":1.1}}`

func TestReadsWhatAnAnswerTells(t *testing.T) {
	want := appinfo.Info{
		ClientID: "local.1", MemberID: "a223", ClientEndpoint: "https://example.bitrix24.com/rest/",
		UserID: 1, Scope: "crm,user", Status: "T", Version: 2, Installed: true,
		Expires:   time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC),
		PaidUntil: time.Date(2027, 1, 30, 21, 0, 0, 0, time.UTC),
	}
	for name, body := range map[string]string{
		"as it is":              whole,
		"numbers as strings":    strings.NewReplacer(`:1,`, `:"1",`, `:2,`, `:"2",`, `:true`, `:"Y"`).Replace(whole),
		"a true that is a one":  strings.Replace(whole, `:true`, `:1`, 1),
		"a byte more after it":  whole + "\n",
		"something new besides": strings.Replace(whole, `"scope"`, `"more":[{}],"scope"`, 1),
	} {
		got, failure := appinfo.Read(answer(200, body))
		if failure != nil {
			t.Errorf("%s: %+v", name, failure)
			continue
		}
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for name, gone := range map[string]string{
		"no user":             `"user_id":1,`,
		"no end of a payment": `,"date_finish":"2027-01-31T00:00:00+03:00"`,
	} {
		if _, failure := appinfo.Read(answer(200, strings.Replace(whole, gone, "", 1))); failure != nil {
			t.Errorf("%s: %+v", name, failure)
		}
	}
	got, failure := appinfo.Read(answer(200, strings.NewReplacer(`"2026-12-31T23:59:59+00:00"`, `false`, `"user_id":1`, `"user_id":[]`).Replace(whole)))
	if failure != nil || !got.Expires.IsZero() || got.UserID != 0 {
		t.Errorf("values of another kind: %+v, %+v", got, failure)
	}
}

// What does not name application and portal confirms nothing, and refuses
// nothing.
func TestAnAnswerThatIsNotUnderstoodHasNoCode(t *testing.T) {
	for name, resp := range map[string]*http.Response{
		"no client id":    answer(200, strings.Replace(whole, `"local.1"`, `""`, 1)),
		"no member id":    answer(200, strings.Replace(whole, `"a223"`, `null`, 1)),
		"no endpoint":     answer(200, strings.Replace(whole, `"client_endpoint"`, `"endpoint"`, 1)),
		"an empty list":   answer(200, `{"result":{"client_id":"local.1","install":[]}}`),
		"no result":       answer(200, `{"result":[]}`),
		"a list":          answer(200, `[]`),
		"null":            answer(200, `null`),
		"a web page":      answer(200, `<html>`),
		"nothing":         answer(200, ``),
		"cut off":         answer(200, whole[:200]),
		"another status":  answer(500, whole),
		"a redirect":      answer(302, whole),
		"too large":       answer(200, whole+strings.Repeat(" ", 64<<10)),
		"an error of []":  answer(400, `{"error":[]}`),
		"a broken answer": {StatusCode: 200, Body: io.NopCloser(iotest.ErrReader(errors.New("broken")))},
	} {
		info, failure := appinfo.Read(resp)
		if info != nil || failure == nil || failure.Code != "" || failure.Err == nil || failure.StatusCode != resp.StatusCode {
			t.Errorf("%s: %+v, %+v", name, info, failure)
		}
	}
}

func TestReadsTheCodeOfARefusal(t *testing.T) {
	for body, want := range map[string]tokenresponse.Failure{
		`{"error":"expired_token","error_description":"The access token provided has expired."}`: {Code: "expired_token", Description: "The access token provided has expired."},
		`{"error":"NOT_INSTALLED"}`:              {Code: "NOT_INSTALLED"},
		`{"error":"a b","result":{}}`:            {Code: tokenresponse.UnreadableCode},
		`{"error":17,"error_description":[1,2]}`: {Code: "17"},
	} {
		want.StatusCode, want.RetryAfter = 401, 7*time.Second
		info, failure := appinfo.Read(answer(401, body))
		if info != nil || failure == nil {
			t.Errorf("%s: %+v", body, info)
			continue
		}
		if diff := cmp.Diff(want, *failure); diff != "" {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(200, whole)
	f.Add(401, `{"error":"expired_token","error_description":"x"}`)
	f.Add(200, `{"result":{"client_id":1,"install":[]}}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		info, failure := appinfo.Read(answer(status, body))
		switch {
		case (info == nil) == (failure == nil):
			t.Errorf("%+v and %+v", info, failure)
		case info != nil && (status != 200 || info.ClientID == "" || info.MemberID == "" || info.ClientEndpoint == ""):
			t.Errorf("status %d: %+v", status, info)
		case failure != nil && (failure.Code == "") == (failure.Err == nil):
			t.Errorf("%+v", failure)
		}
	})
}
