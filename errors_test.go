package b24oauth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
)

// refusal is an answer of the authorization server that is no token, and what
// is to come of it.
type refusal struct {
	name   string
	srv    tokenServer
	kind   error
	code   string
	status int
	text   string // what Error says after the grant's name
}

func refusals() []refusal {
	const server = "the authorization server oauth.bitrix.info"
	const again = ": authorize the application on the portal again and store the new grant with Config.Save"
	html := answers(502, "<html><body>Bad Gateway</body></html>", "Content-Type", "text/html")
	code := func(kind error, status int, code, hint string) refusal {
		text := fmt.Sprintf("%s answered %s (status %d)", server, code, status)
		return refusal{code, answers(status, `{"error":"`+code+`"}`, "Content-Type", "application/json"), kind, code, status, text + hint}
	}
	passing := func(name string, srv tokenServer, status int, text string) refusal {
		return refusal{name, srv, b24oauth.ErrUnavailable, "", status, text}
	}
	status := func(s string) string { return "no token from " + server + " (status " + s + "): " }
	const (
		busy      = "it is temporarily unavailable; "
		notJSON   = "the answer is no JSON object, or a damaged one"
		webPage   = "the answer is a web page instead of JSON"
		empty     = "the answer is empty"
		nothing   = "the answer is neither a token nor an error code"
		address   = ": if it stays so, check Config.TokenURL"
		redirect  = "the answer is a redirect, which is not followed with the client secret: check Config.TokenURL"
		malformed = ": the authorization server found the request malformed: check Config.TokenURL and Config.TokenMethod"
	)
	return []refusal{
		code(b24oauth.ErrMisconfigured, 200, "wrong_client", ": the authorization server does not know this client id: check Config.ClientID (BITRIX24_CLIENT_ID)"),
		code(b24oauth.ErrMisconfigured, 400, "invalid_client", ": check Config.ClientSecret (BITRIX24_CLIENT_SECRET) and that the application is installed on the portal"),
		code(b24oauth.ErrReauthorize, 400, "invalid_grant", ": the refresh token or code is unknown or used up, perhaps by a copy of the grant in another Store"+again),
		code(b24oauth.ErrMisconfigured, 400, "invalid_request", malformed),
		code(b24oauth.ErrMisconfigured, 400, "unsupported_grant_type", malformed),
		code(b24oauth.ErrMisconfigured, 400, "unauthorized_client", ": the application may not use this grant: check its card in Bitrix24"),
		code(b24oauth.ErrReauthorize, 401, "expired_token", ": the refresh token has expired"+again),
		code(b24oauth.ErrReauthorize, 401, "NOT_INSTALLED", ": the application is not installed on the portal any more: install it again"),
		code(b24oauth.ErrPaymentRequired, 401, "PAYMENT_REQUIRED", ": the portal's subscription, or the paid or trial period of the application there, has ended; the grant may work again after payment"),
		code(b24oauth.ErrMisconfigured, 403, "insufficient_scope", ": Config.Scopes asks for more than the application's card allows"),
		code(b24oauth.ErrMisconfigured, 403, "invalid_scope", ": Config.Scopes asks for what the application's card does not know"),
		code(b24oauth.ErrPaymentRequired, 403, "verification_needed", ": the self-hosted portal has no valid licence; the grant may work again when it has"),
		// The code decides, whatever its case and the status.
		code(b24oauth.ErrReauthorize, 200, "Invalid_Grant", ": the refresh token or code is unknown or used up, perhaps by a copy of the grant in another Store"+again),
		code(b24oauth.ErrReauthorize, 500, "EXPIRED_TOKEN", ": the refresh token has expired"+again),
		code(b24oauth.ErrReauthorize, 200, "not_installed", ": the application is not installed on the portal any more: install it again"),
		code(b24oauth.ErrPaymentRequired, 200, "VERIFICATION_NEEDED", ": the self-hosted portal has no valid licence; the grant may work again when it has"),
		// Codes that nobody has explained are taken as passing.
		code(b24oauth.ErrUnavailable, 400, "brand_new_code", ""),
		code(b24oauth.ErrUnavailable, 401, "QUERY_LIMIT_EXCEEDED", ""),
		{"a code with a description", answers(400, `{"error":"invalid_grant","error_description":"  Refresh \"token\"\nis bad "}`), b24oauth.ErrReauthorize, "invalid_grant", 400,
			server + ` answered invalid_grant (status 400, "  Refresh \"token\"\nis bad "): the refresh token or code is unknown or used up, perhaps by a copy of the grant in another Store` + again},
		{"a code unfit for a log", answers(400, `{"error":"in\nvalid <b>"}`), b24oauth.ErrUnavailable, "unreadable_code", 400, server + " answered unreadable_code (status 400)"},
		{"a code without end", answers(400, `{"error":"`+strings.Repeat("a", 65)+`"}`), b24oauth.ErrUnavailable, "unreadable_code", 400, server + " answered unreadable_code (status 400)"},
		{"a code and a token", answers(200, `{"error":"invalid_client","access_token":"a"}`), b24oauth.ErrMisconfigured, "invalid_client", 200,
			server + " answered invalid_client (status 200): check Config.ClientSecret (BITRIX24_CLIENT_SECRET) and that the application is installed on the portal"},

		passing("500 HTML", answers(500, "<!DOCTYPE html>"), 500, status("500")+busy+webPage),
		passing("502 HTML", html, 502, status("502")+busy+webPage),
		passing("200 HTML", answers(200, "\r\n <html>"), 200, status("200")+webPage+address),
		passing("503", answers(503, ""), 503, status("503")+busy+empty),
		passing("504 broken JSON", answers(504, `{"error":"inv`), 504, status("504")+busy+notJSON),
		passing("520 text", answers(520, "origin error"), 520, status("520")+busy+notJSON),
		passing("429 HTML", answers(429, "<html>"), 429, status("429")+busy+webPage),
		passing("403 HTML", answers(403, "<html>"), 403, status("403")+webPage),
		passing("405 HTML", answers(405, "<html>"), 405, status("405")+webPage+address),
		code(b24oauth.ErrUnavailable, 503, "QUERY_LIMIT_EXCEEDED", ": it is temporarily unavailable"),
		passing("408", answers(408, "timeout"), 408, status("408")+busy+notJSON),
		passing("429", answers(429, "{}"), 429, status("429")+busy+nothing),
		passing("429 with Retry-After", answers(429, "{}", "Retry-After", "120"), 429, status("429")+busy+nothing+"; it wants to be left alone for 2m0s"),
		passing("404", answers(404, "404 page not found"), 404, status("404")+notJSON+address),
		passing("400 without a code", answers(400, `{"error":null}`), 400, status("400")+nothing),
		passing("500 with a token", answers(500, `{"access_token":"a"}`), 500, status("500")+busy+nothing),
		passing("200, empty", answers(200, ""), 200, status("200")+empty+address),
		passing("200, blank", answers(200, " \n"), 200, status("200")+empty+address),
		passing("200, JSON null", answers(200, "null"), 200, status("200")+notJSON+address),
		passing("200, a JSON list", answers(200, `[{"access_token":"a"}]`), 200, status("200")+notJSON+address),
		passing("200, a JSON string", answers(200, `"access_token"`), 200, status("200")+notJSON+address),
		passing("200, truncated JSON", answers(200, `{"access_token":"a","refresh_tok`), 200, status("200")+notJSON+address),
		passing("200, no access token", answers(200, `{"refresh_token":"r","expires_in":3600}`), 200, status("200")+nothing+address),
		passing("200, an empty access token", answers(200, `{"access_token":"","refresh_token":"r"}`), 200, status("200")+nothing+address),
		passing("200, an access token that is a list", answers(200, `{"access_token":["a"]}`), 200, status("200")+nothing+address),
		passing("200, an error that is an object", answers(200, `{"error":{"code":"x"}}`), 200, status("200")+nothing+address),
		passing("200, over 1 MiB", answers(200, `{"access_token":"`+strings.Repeat("a", 1<<20)+`"}`), 200, status("200")+"the answer is larger than 1 MiB"+address),
		passing("a redirect", answers(302, "", "Location", "https://evil.example/"), 302, status("302")+redirect),
		passing("a redirect that asks for the same again", answers(307, "", "Location", "/oauth/token/"), 307, status("307")+redirect),
		passing("a redirect to nowhere", answers(301, `{"access_token":"a"}`), 301, status("301")+redirect),
		passing("a redirect that cannot be read", answers(302, "", "Location", "https://%zz/\x7f"), 302, status("302")+redirect),
		passing("a broken connection", func(*http.Request) (*http.Response, error) { return nil, io.EOF }, 0, "no answer from "+server+": EOF"),
		passing("a broken answer", func(req *http.Request) (*http.Response, error) {
			resp, _ := answers(200, "")(req)
			resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"access_token":"a"`), failingReader{io.ErrUnexpectedEOF}))
			return resp, nil
		}, 200, status("200")+"the answer broke off: unexpected EOF"),
		passing("a panic of the user's transport", func(*http.Request) (*http.Response, error) { panic("oops") }, 0,
			"no answer from "+server+": Config.TokenClient panicked: a value of type string"),
	}
}

func TestRefusalTellsItsKindAndWhatToDo(t *testing.T) {
	for _, test := range refusals() {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, requests := counted(test.srv)
				c := endpointConfig(srv)
				before := spent()
				after, err := renewed(t, c, before)
				var te *b24oauth.TokenError
				if !errors.As(err, &te) {
					t.Fatalf("error %v, want a *TokenError", err)
				}
				if want := `b24oauth: grant "portal": ` + test.text; err.Error() != want {
					t.Errorf("Error():\n got %s\nwant %s", err, want)
				}
				for _, kind := range []error{b24oauth.ErrReauthorize, b24oauth.ErrMisconfigured, b24oauth.ErrPaymentRequired, b24oauth.ErrUnavailable, b24oauth.ErrNoGrant, b24oauth.ErrOutdated} {
					if errors.Is(err, kind) != (kind == test.kind) {
						t.Errorf("errors.Is(err, %q) is %v", kind, !(kind == test.kind))
					}
				}
				passing := test.kind == b24oauth.ErrUnavailable
				if te.Permanent() == passing || te.Code != test.code || te.StatusCode != test.status || te.Key != key {
					t.Errorf("Permanent %v, Code %q, StatusCode %d, Key %q", te.Permanent(), te.Code, te.StatusCode, te.Key)
				}
				want := int64(1)
				if passing && !strings.Contains(test.name, "Retry-After") {
					want = 3
				}
				if got := requests.Load(); got != want {
					t.Errorf("%d requests, want %d", got, want)
				}
				if diff := cmp.Diff(before, after, butForItsVerdict); diff != "" {
					t.Errorf("the stored grant was touched (-before +after):\n%s", diff)
				}
				wantVerdict := b24oauth.Refusal{}
				if test.kind == b24oauth.ErrReauthorize {
					wantVerdict = b24oauth.Refusal{Code: test.code, At: time.Now().UTC()}
				}
				if diff := cmp.Diff(wantVerdict, after.Refused); diff != "" {
					t.Errorf("the stored verdict (-want +got):\n%s", diff)
				}

				var re *oauth2.RetrieveError
				if errors.As(err, &re) != (test.status != 0) {
					t.Fatalf("errors.As to *oauth2.RetrieveError with status %d: %v", test.status, re)
				}
				if re != nil {
					wantRE := oauth2.RetrieveError{Response: &http.Response{StatusCode: test.status, Status: re.Response.Status}, ErrorCode: test.code, ErrorDescription: te.Description}
					if re.Body != nil || re.Response.Request != nil || re.Response.Header != nil || re.Response.Body != nil ||
						re.Response.StatusCode != wantRE.Response.StatusCode || re.ErrorCode != wantRE.ErrorCode || re.ErrorDescription != wantRE.ErrorDescription {
						t.Errorf("RetrieveError %+v carries more than the status and the code", re)
					}
				}
				data, jsonErr := json.Marshal(map[string]any{"error": err})
				var back map[string]string
				if jsonErr != nil || json.Unmarshal(data, &back) != nil || back["error"] != err.Error() {
					t.Errorf("as JSON: %s %v", data, jsonErr)
				}
			})
		})
	}
}

func TestServerThatCannotBeReachedIsAPassingFailure(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := "http://" + l.Addr().String() + "/oauth/token/"
	l.Close()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)

	t.Run("group", func(t *testing.T) {
		for _, test := range []struct{ name, tokenURL, text string }{
			{"connection refused", refusing, "connection refused"},
			{"untrusted certificate", untrusted.URL + "/oauth/token/", "certificate"},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				c := endpointConfig(nil, func(c *b24oauth.Config) { c.TokenClient, c.TokenURL = nil, test.tokenURL })
				before := spent()
				after, err := renewed(t, c, before)
				host := strings.Split(test.tokenURL, "/")[2]
				if !errors.Is(err, b24oauth.ErrUnavailable) || !strings.Contains(err.Error(), "no answer from the authorization server "+host+": ") || !strings.Contains(err.Error(), test.text) {
					t.Errorf("error %v; want one that names %s and says %q", err, host, test.text)
				}
				if opErr := new(net.OpError); test.name == "connection refused" && !errors.As(err, &opErr) {
					t.Errorf("error %v hides its *net.OpError", err)
				}
				if strings.Contains(err.Error(), "?") {
					t.Errorf("error %v tells the query", err)
				}
				if diff := cmp.Diff(before, after, butForItsLineage); diff != "" {
					t.Errorf("the stored grant was touched (-before +after):\n%s", diff)
				}
			})
		}
	})
}

func TestTimeoutOfAnExchangeIsRecognisable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := endpointConfig(tokenServer(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}))
		_, err := c.Exchange(t.Context(), "the-code", "")
		var timeout interface{ Timeout() bool }
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("error %v is not recognisable as a timeout", err)
		}
	})
}

func TestErrorWithoutAReasonIsReportedAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := endpointConfig(tokenServer(func(*http.Request) (*http.Response, error) {
			return nil, &url.Error{Op: "Get", URL: "https://x/?a=b"}
		})).Exchange(t.Context(), "the-code", "")
		if want := "b24oauth: no answer from the authorization server oauth.bitrix.info: no reason given"; err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	})
}

// A dead or missing grant that is repeated makes a caller wait for nothing.
func TestRetryingLeavesAPermanentErrorAlone(t *testing.T) {
	type asked interface {
		error
		Timeout() bool
		Temporary() bool
	}
	policies := map[string]func(error) bool{
		"what net.Error and *url.Error are asked": func(err error) bool {
			e, ok := errors.AsType[asked](err)
			return ok && (e.Temporary() || e.Timeout())
		},
		"go-retryablehttp's, as TokenError says": func(err error) bool {
			if e, ok := errors.AsType[*b24oauth.TokenError](err); ok && e.Permanent() {
				return false
			}
			again, _ := retryablehttp.DefaultRetryPolicy(context.Background(), nil, err)
			return again
		},
	}
	for name, c := range map[string]struct {
		answer tokenServer
		key    string
		again  bool
	}{
		"a dead grant":             {answers(400, `{"error":"invalid_grant"}`), key, false},
		"a missing grant":          {nil, "nothing", false},
		"a wrong secret":           {answers(400, `{"error":"invalid_client"}`), key, false},
		"a payment to be made":     {answers(401, `{"error":"PAYMENT_REQUIRED"}`), key, false},
		"maintenance":              {answers(503, "<html>"), key, true},
		"a connection that breaks": {func(*http.Request) (*http.Response, error) { return nil, io.EOF }, key, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			config := endpointConfig(c.answer)
			if err := config.Save(t.Context(), key, spent()); err != nil {
				t.Fatal(err)
			}
			_, err := config.Client(c.key).Get("https://portal.bitrix24.com/rest/profile")
			for policy, again := range policies {
				if again(err) != c.again {
					t.Errorf("%s repeats %s: %v; want %v (%v)", policy, name, !c.again, c.again, err)
				}
			}
		})
	}
}
