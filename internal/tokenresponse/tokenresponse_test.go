package tokenresponse_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth/internal/lifetime"
	"github.com/b24go/b24oauth/internal/tokenresponse"
)

var sent = time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)

func read(status int, retryAfter, body string) (*tokenresponse.Tokens, *tokenresponse.Failure) {
	return tokenresponse.Read(&http.Response{
		StatusCode: status,
		Header:     http.Header{"Retry-After": {retryAfter}},
		Body:       io.NopCloser(strings.NewReader(body)),
	}, sent)
}

func TestTokensAreReadHoweverTheirNumbersAreWritten(t *testing.T) {
	want := &tokenresponse.Tokens{
		AccessToken: "a", RefreshToken: "r", Lifetime: 90 * time.Second, Scope: "crm", Status: "F", MemberID: "17",
		UserID: 5, ClientEndpoint: "https://portal.example/rest/", ServerEndpoint: "https://oauth.example/rest/",
	}
	const common = `"access_token":"a","refresh_token":"r","scope":"crm","status":"F","client_endpoint":"https://portal.example/rest/","server_endpoint":"https://oauth.example/rest/","more":{"error":"x"},`
	for _, rest := range []string{
		`"member_id":17,"user_id":5,"expires_in":90`,
		`"member_id":"17","user_id":"5","expires_in":"90","error":null`,
		`"member_id":"17","user_id":5,"expires":1785542490,"error":false`,
	} {
		got, failure := read(200, "", "{"+common+rest+"}")
		if failure != nil {
			t.Errorf("%s: %+v", rest, failure)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", rest, diff)
		}
	}
	got, failure := read(200, "", `{"access_token":"a","user_id":"nobody","expires_in":-1}`)
	if want := (&tokenresponse.Tokens{AccessToken: "a", Lifetime: lifetime.Default}); failure != nil || *got != *want {
		t.Errorf("%+v, %+v; want %+v", got, failure, want)
	}
}

func TestFailureHasItsCodeOrSaysWhatElseIsWrong(t *testing.T) {
	for _, c := range []struct {
		name, body, retryAfter string
		status                 int
		want                   tokenresponse.Failure
		says                   string
	}{
		{"a code", `{"error":"invalid_grant","error_description":"used up"}`, "", 200, tokenresponse.Failure{Code: "invalid_grant", Description: "used up"}, ""},
		{"a code beside a token", `{"access_token":"a","error":"wrong_client"}`, "", 200, tokenresponse.Failure{Code: "wrong_client"}, ""},
		{"a code that is none", `{"error":"a b"}`, "", 400, tokenresponse.Failure{Code: tokenresponse.UnreadableCode}, ""},
		{"a code that is too long", `{"error":"` + strings.Repeat("a", 65) + `"}`, "", 400, tokenresponse.Failure{Code: tokenresponse.UnreadableCode}, ""},
		{"an overload", `{}`, "120", 503, tokenresponse.Failure{RetryAfter: 2 * time.Minute}, "neither a token nor an error code"},
		{"a pause without end", `{}`, "86400", 429, tokenresponse.Failure{RetryAfter: tokenresponse.MaxRetryAfter}, "neither"},
		{"a pause that is over", `{}`, "Fri, 31 Dec 1999 23:59:59 GMT", 429, tokenresponse.Failure{}, "neither"},
		{"a pause below zero", `{}`, "-5", 429, tokenresponse.Failure{}, "neither"},
		{"tokens under a status of failure", `{"access_token":"a"}`, "", 500, tokenresponse.Failure{}, "neither"},
		{"no token", `{"refresh_token":"r"}`, "", 200, tokenresponse.Failure{}, "neither"},
		{"a redirect", `{"access_token":"a"}`, "", 302, tokenresponse.Failure{}, "redirect"},
		{"nothing", " \n", "", 200, tokenresponse.Failure{}, "empty"},
		{"a web page", "\n<html>", "", 200, tokenresponse.Failure{}, "web page"},
		{"damaged JSON", `{"access_token":"a"`, "", 200, tokenresponse.Failure{}, "no JSON object"},
		{"too much", `{"access_token":"a","x":"` + strings.Repeat("x", 1<<20) + `"}`, "", 200, tokenresponse.Failure{}, "larger than 1 MiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tokens, failure := read(c.status, c.retryAfter, c.body)
			if tokens != nil || failure == nil {
				t.Fatalf("%+v, %+v", tokens, failure)
			}
			if said := failure.Err; (said == nil) != (c.says == "") || said != nil && !strings.Contains(said.Error(), c.says) {
				t.Errorf("it says %v, want %q", said, c.says)
			}
			failure.Err, c.want.StatusCode = nil, c.status
			if diff := cmp.Diff(&c.want, failure); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnswerThatBreaksOffTellsNoURL(t *testing.T) {
	reset := errors.New("connection reset")
	body := iotest.ErrReader(&url.Error{Op: "Get", URL: "https://oauth.example/?refresh_token=secret", Err: reset})
	tokens, failure := tokenresponse.Read(&http.Response{StatusCode: 200, Body: io.NopCloser(body)}, sent)
	if tokens != nil || !errors.Is(failure.Err, reset) || strings.Contains(failure.Err.Error(), "secret") {
		t.Errorf("%+v, %v", tokens, failure.Err)
	}
}
