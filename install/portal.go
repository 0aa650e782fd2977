package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/tokenresponse"
)

const (
	portalBudget = 5 * time.Second // for one question to a portal
	maxAnswer    = 64 << 10
)

// errNoWord is the error of a portal that did not say who a user is. It passes.
var errNoWord = errors.New("b24oauth/install: the portal did not say who the user is")

// portalUser is a user of a portal.
type portalUser struct {
	id    int64
	admin bool
}

// mayInstall reports whether the user's pair may take the place of what is stored.
func (u portalUser) mayInstall(have *b24oauth.Grant) bool {
	return u.admin || have != nil && have.UserID != 0 && have.UserID == u.id
}

// portalClient returns the client for questions to portals, whose addresses come
// from requests that anybody can send: it follows no redirect and reaches nothing
// that only this program can.
func portalClient(base http.RoundTripper, allowPrivate bool) *http.Client {
	if base == nil {
		dialer := &net.Dialer{Timeout: portalBudget}
		if !allowPrivate {
			dialer.Control = func(_, to string, _ syscall.RawConn) error {
				if at, err := netip.ParseAddrPort(to); err != nil || !address.IsPublic(at.Addr()) {
					return errors.New("the portal's name leads to a private address: set AllowPrivate of install.Handler if that is meant")
				}
				return nil
			}
		}
		base = &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: portalBudget, MaxIdleConnsPerHost: 1, IdleConnTimeout: 10 * time.Second, ForceAttemptHTTP2: true}
	}
	return &http.Client{Transport: base, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// askUserAfter is askUser for the only copy of a new pair, which is lost without an
// answer: it asks up to three times.
func (h *Handler) askUserAfter(ctx context.Context, renewed *b24oauth.Grant) (u portalUser, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*portalBudget)
	defer cancel()
	for try := range 3 {
		if u, err = h.askUser(ctx, renewed.ClientEndpoint, renewed.AccessToken); err == nil || try == 2 {
			break
		}
		pause := time.NewTimer(500 * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return u, err
		}
	}
	return u, err
}

// askUser asks a portal, by its method profile, who a token acts for.
func (h *Handler) askUser(ctx context.Context, endpoint, token string) (u portalUser, err error) {
	defer func() {
		if err != nil {
			err = redact.Error(err, token)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, portalBudget)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"profile", strings.NewReader(url.Values{"auth": {token}}.Encode()))
	if err != nil {
		return u, fmt.Errorf("%w: %w", errNoWord, err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := h.client.Do(req)
	if err != nil {
		return u, fmt.Errorf("%w: %w", errNoWord, redact.WithoutURL(err))
	}
	defer resp.Body.Close()
	var answer struct {
		Error  json.RawMessage
		Result struct {
			ID    json.RawMessage
			Admin bool
		}
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil {
		return u, fmt.Errorf("%w: status %d, and no JSON that is understood", errNoWord, resp.StatusCode)
	}
	var code string
	_ = json.Unmarshal(answer.Error, &code) // no string is no code
	if resp.StatusCode >= 400 && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests && code != "" && code != "CONNECTION_ERROR" {
		// Asked again it would say so again, and what waits for that takes the place
		// of others.
		return u, fmt.Errorf("b24oauth/install: the portal refuses to say who the user is (status %d, %s)", resp.StatusCode, tokenresponse.ReadableCode(code))
	}
	u.id, err = strconv.ParseInt(strings.Trim(string(answer.Result.ID), `"`), 10, 64)
	if err != nil || u.id <= 0 || resp.StatusCode != http.StatusOK || len(answer.Error) > 0 {
		return portalUser{}, fmt.Errorf("%w: status %d", errNoWord, resp.StatusCode)
	}
	u.admin = answer.Result.Admin
	return u, nil
}
