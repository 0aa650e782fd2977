package b24oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/lifetime"
	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/safehttp"
)

// answer is the body of a token answer, success or failure.
type answer struct {
	AccessToken    text `json:"access_token"`
	RefreshToken   text `json:"refresh_token"`
	ExpiresIn      text `json:"expires_in"`
	Expires        text `json:"expires"`
	Scope          text `json:"scope"`
	Status         text `json:"status"`
	MemberID       text `json:"member_id"`
	UserID         text `json:"user_id"`
	ClientEndpoint text `json:"client_endpoint"`
	ServerEndpoint text `json:"server_endpoint"`
	Error          text `json:"error"`
	Description    text `json:"error_description"`
}

// text is a JSON string or number, as Bitrix24 writes either for the other.
// Any other value counts as absent.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	switch data[0] {
	case '"':
		return json.Unmarshal(data, (*string)(t))
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		*t = text(data)
	default:
		*t = ""
	}
	return nil
}

// readAnswer turns what one token request came to into a grant, whose
// lifetime counts from asked, or the reason why there is none.
func readAnswer(resp *http.Response, err error, asked time.Time) (*Grant, *TokenError) {
	if err != nil {
		if _, ok := errors.AsType[*safehttp.StrayedError](err); ok {
			return nil, configError("%w", redact.WithoutURL(err))
		}
		return nil, unavailable("%w", redact.WithoutURL(err))
	}
	defer resp.Body.Close()
	fail := func(format string, args ...any) (*Grant, *TokenError) {
		e := unavailable(format, args...)
		e.StatusCode, e.retryAfter = resp.StatusCode, askedPause(resp.Header.Get("Retry-After"))
		return nil, e
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fail("the answer broke off: %w", redact.WithoutURL(err))
	case len(body) > maxAnswer:
		return fail("the answer is larger than 1 MiB")
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return fail("the answer is a redirect, which is not followed with the client secret: check Config.TokenURL")
	case len(bytes.TrimSpace(body)) == 0:
		return fail("the answer is empty")
	case bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")):
		return fail("the answer is a web page instead of JSON, as a proxy or a server under maintenance sends it: if it stays so, check Config.TokenURL")
	}
	var a answer
	if json.Unmarshal(body, &a) != nil {
		return fail("the answer is no JSON object, or a damaged one: if it stays so, check Config.TokenURL")
	}
	if a.Error != "" {
		_, e := fail("")
		e.Err, e.Code, e.Description = nil, errorCode(string(a.Error)), string(a.Description)
		e.kind = kindOfCode(e.Code)
		return nil, e
	}
	if resp.StatusCode/100 != 2 || a.AccessToken == "" {
		return fail("the answer is neither a token nor an error code: if it stays so, check Config.TokenURL")
	}
	return a.grant(asked), nil
}

func (a *answer) grant(asked time.Time) *Grant {
	asked = asked.Round(0) // without the monotonic clock, which stops while a machine sleeps
	g := &Grant{
		MemberID:       string(a.MemberID),
		ClientEndpoint: string(a.ClientEndpoint),
		ServerEndpoint: string(a.ServerEndpoint),
		AccessToken:    string(a.AccessToken),
		RefreshToken:   string(a.RefreshToken),
		Issued:         asked,
		Expiry:         asked.Add(lifetime.Of(string(a.ExpiresIn), string(a.Expires), asked)),
		Scope:          string(a.Scope),
		Status:         string(a.Status),
	}
	if id, err := strconv.ParseInt(string(a.UserID), 10, 64); err == nil {
		g.UserID = id
	}
	if u, err := address.ParseEndpoint(g.ClientEndpoint); err == nil {
		g.ClientEndpoint = u.String()
	}
	return g
}

// merge returns old with what fresh brings. An answer never erases what it
// does not carry, and what it carries wrongly is left aside: the tokens in it
// are the only copy there is.
func (c *Config) merge(old, fresh *Grant) *Grant {
	g := old.clone()
	g.ClientID = c.ClientID
	g.AccessToken, g.Issued, g.Expiry = fresh.AccessToken, fresh.Issued, fresh.Expiry
	set := func(field *string, value string) {
		if value != "" {
			*field = value
		}
	}
	set(&g.RefreshToken, fresh.RefreshToken)
	set(&g.ApplicationToken, fresh.ApplicationToken)
	set(&g.MemberID, fresh.MemberID)
	set(&g.Status, fresh.Status)
	if g.Scope == "" || fresh.Scope != "app" {
		set(&g.Scope, fresh.Scope)
	}
	if fresh.UserID != 0 {
		g.UserID = fresh.UserID
	}
	set(&g.ServerEndpoint, c.trustedEndpoint(fresh.ServerEndpoint))
	for _, host := range fresh.FormerHosts {
		if !slices.Contains(g.FormerHosts, host) {
			g.FormerHosts = append(g.FormerHosts, host)
		}
	}
	g.moveTo(fresh.ClientEndpoint)
	return g
}

// moveTo makes endpoint the grant's portal and its present one a former
// address, if the two differ.
func (g *Grant) moveTo(endpoint string) {
	to, err := address.ParseEndpoint(endpoint)
	if err != nil {
		return
	}
	from, err := address.ParseEndpoint(g.ClientEndpoint)
	if err == nil && from.Host != to.Host {
		g.FormerHosts = append(slices.DeleteFunc(g.FormerHosts, func(h string) bool {
			return h == from.Host || h == to.Host
		}), from.Host)
	}
	g.ClientEndpoint = to.String()
}

// askedPause reads a Retry-After header, in either form; at most ten minutes
// are heeded, so that a slip at the server does not silence a grant for days.
func askedPause(header string) time.Duration {
	var pause time.Duration
	if s, err := strconv.ParseInt(header, 10, 32); err == nil {
		pause = time.Duration(s) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		pause = time.Until(at)
	}
	return min(max(pause, 0), maxAskedWait)
}
