// Package check tells whether a grant works, and who has to act if it does not.
// It does what a person would do by hand: look at what is stored, renew it if
// asked to, and call a method of the portal.
//
//	report, err := check.Run(ctx, config, "example", check.Options{Expire: true})
//	fmt.Print(report)
package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/b24go/b24oauth"
)

// Options say how thorough a check is. The zero value looks and calls.
type Options struct {
	// Expire renews the grant before the call, as if its token had expired: that
	// alone shows that the refresh token works and the new pair is stored. Each
	// check with it costs an exchange, so do not do it on a schedule: Bitrix24
	// blocks applications that do.
	Expire bool

	// Base sends the call to the portal. Nil: http.DefaultTransport.
	Base http.RoundTripper
}

// Report is what a check has found. It has no secrets, and can be shown to who
// asked, if he may know which portal it is.
type Report struct {
	Key string `json:"key"`
	OK  bool   `json:"ok"`

	// Who has to act if it is not OK, and how. Empty if nobody does.
	Who    Who    `json:"who,omitempty"`
	Advice string `json:"advice,omitempty"`

	Portal      string    `json:"portal,omitempty"` // the base of its REST methods
	MemberID    string    `json:"member_id,omitempty"`
	UserID      int64     `json:"user_id,omitempty"`
	Scope       string    `json:"scope,omitempty"`
	Issued      time.Time `json:"issued,omitzero"` // when the pair was; a refresh token lives for 30 days from then
	Expiry      time.Time `json:"expiry,omitzero"` // of the access token
	FormerHosts []string  `json:"former_hosts,omitempty"`

	Steps []Step `json:"steps"`
}

// Step is a part of a check.
type Step struct {
	Name   string        `json:"name"` // grant, renewal, stored, clock, call or renamed
	OK     bool          `json:"ok"`
	Took   time.Duration `json:"took_ns"`
	Detail string        `json:"detail"` // what was found, or the error
}

// Who has to act.
type Who string

const (
	User     Who = "a user of the portal" // authorizes or installs the application again
	Operator Who = "the operator"         // of the program: its configuration, Store or clock
	Owner    Who = "the portal's owner"   // pays
	Nobody   Who = "nobody: it will pass" // the server, the portal or the Store is not to be had
)

const (
	callBudget = 15 * time.Second
	mostSkew   = time.Minute // as much as tokens are renewed early
)

// Run checks the grant stored under key. Whatever is wrong with that is in the
// Report; the error is not nil only if ctx ended, or if config is nil.
func Run(ctx context.Context, config *b24oauth.Config, key string, o Options) (*Report, error) {
	if config == nil {
		return nil, errors.New("b24oauth/check: Run was called without a Config")
	}
	r := &Report{Key: key}
	source := config.TokenSource(key)
	ok := r.step("grant", func() (string, error) { return r.look(ctx, source) })
	if ok && o.Expire {
		begun := time.Now()
		ok = r.step("renewal", func() (string, error) {
			_, err := source.Renew(ctx, nil)
			return "the authorization server has renewed the pair", err
		}) && r.step("stored", func() (string, error) { return confirmStored(ctx, config, key, begun) })
		if ok {
			_, err := r.look(ctx, source)
			ok = err == nil
		}
	}
	if ok {
		r.OK = r.step("call", func() (string, error) { return r.call(ctx, config, key, o.Base) })
	}
	if was := r.Portal; r.OK {
		if _, err := r.look(ctx, source); err == nil && r.Portal != was {
			r.Steps = append(r.Steps, Step{Name: "renamed", OK: true, Detail: "the portal was renamed from " + was + " and is followed"})
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("b24oauth/check: gave up: %w", context.Cause(ctx))
	}
	return r, nil
}

// step does a part of the check and notes what came of it.
func (r *Report) step(name string, do func() (string, error)) bool {
	begun := time.Now()
	detail, err := do()
	if err != nil {
		detail = strings.TrimPrefix(err.Error(), "b24oauth: ")
		r.Who, r.Advice = whoActs(err)
	}
	r.Steps = append(r.Steps, Step{name, err == nil, time.Since(begun), detail})
	return err == nil
}

// whoActs says who has to act for an error, and how.
func whoActs(err error) (Who, string) {
	var p *portalError
	switch {
	case errors.As(err, &p):
		return p.who, p.advice
	case errors.Is(err, b24oauth.ErrReauthorize):
		return User, "install or authorize the application on the portal again"
	case errors.Is(err, b24oauth.ErrNoGrant):
		return User, "install the application on the portal; nothing is stored under this key"
	case errors.Is(err, b24oauth.ErrPaymentRequired):
		return Owner, "the subscription, licence or trial has ended; the grant may work again after payment"
	case errors.Is(err, b24oauth.ErrMisconfigured):
		return Operator, "correct what the error names"
	}
	return Nobody, "try again in a minute"
}

// look reads what is stored.
func (r *Report) look(ctx context.Context, source *b24oauth.TokenSource) (string, error) {
	g, err := source.Grant(ctx)
	if err != nil {
		return "", err
	}
	r.Portal, r.MemberID, r.UserID, r.Scope = g.ClientEndpoint, g.MemberID, g.UserID, g.Scope
	r.Issued, r.Expiry, r.FormerHosts = g.Issued, g.Expiry, g.FormerHosts
	if g.Refused.Code != "" {
		return "", &portalError{User, "install or authorize the application on the portal again", fmt.Sprintf("the authorization server refused the refresh token with %s at %s", g.Refused.Code, g.Refused.At.Format(time.RFC3339))}
	}
	detail := fmt.Sprintf("of %s, issued %v ago", g.ClientEndpoint, time.Since(g.Issued).Round(time.Second))
	if len(g.FormerHosts) > 0 {
		detail += ", renamed from " + g.FormerHosts[len(g.FormerHosts)-1]
	}
	return detail, nil
}

// confirmStored asks the Store itself whether it has the pair of a renewal that
// was begun then.
func confirmStored(ctx context.Context, config *b24oauth.Config, key string, begun time.Time) (string, error) {
	if err := config.Flush(ctx); err != nil {
		return "", err
	}
	if config.Store == nil {
		return "in memory only: Config.Store is not set", nil
	}
	g, err := config.Store.Load(ctx, key)
	if err != nil {
		return "", err
	}
	if g.Issued.Before(begun.Add(-time.Second)) { // a Store may round
		return "", &portalError{Operator, "see that no other program writes under this key, and that nobody restores backups", "the Store has an older pair than the new one"}
	}
	return "the Store has the new pair", nil
}

// portalError is what a check finds out by itself.
type portalError struct {
	who          Who
	advice, text string
}

func (e *portalError) Error() string { return e.text }

// call asks the portal who the grant's user is.
func (r *Report) call(ctx context.Context, config *b24oauth.Config, key string, base http.RoundTripper) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callBudget)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Portal+"profile", nil)
	if err != nil {
		return "", &portalError{Operator, "save a grant that names its portal", "the stored address of the portal cannot be used"}
	}
	client := &http.Client{Transport: &b24oauth.Transport{Source: config.TokenSource(key), Base: base}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	sent := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		if te, ok := errors.AsType[*b24oauth.TokenError](err); ok {
			return "", te
		}
		return "", &portalError{Nobody, "try again in a minute; if it stays, see whether this machine reaches the portal", "the portal cannot be reached: " + cause(err)}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", &portalError{Nobody, "try again in a minute", "the portal's answer broke off"}
	}
	r.clock(resp, sent)
	return judge(resp, data)
}

// cause returns an error without the URL that http.Client puts around it.
func cause(err error) string {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	return err.Error()
}

// clock notes whether this machine's clock is that of the portal: a token that is
// renewed late by it is refused first.
func (r *Report) clock(resp *http.Response, sent time.Time) {
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return
	}
	skew := sent.Sub(at).Round(time.Second)
	s := Step{Name: "clock", OK: skew.Abs() <= mostSkew, Detail: fmt.Sprintf("this machine's clock differs from the portal's by %v", skew)}
	if !s.OK {
		s.Detail += ": set it, or have it set by NTP"
	}
	r.Steps = append(r.Steps, s)
}
