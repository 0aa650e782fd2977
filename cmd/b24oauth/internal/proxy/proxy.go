// Package proxy lets a program in any language call a portal without a token. It
// would have to keep one, renew it in time, once for all of its processes, and save
// the new pair before it is used; here it sends http://127.0.0.1:8025/rest/METHOD and
// the token is somebody else's care.
package proxy

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/cmd/b24oauth/internal/guard"
)

// Replayable is how long a body may be, in bytes, that is kept until the portal has
// answered, so that a request whose token was refused can be sent again. A longer
// one, or one of unknown length, is passed on as it comes.
const Replayable = 1 << 20

const prefix = "/rest/" // of what is passed on

// Options say who may use a proxy.
type Options struct {
	// Bearer is the secret that every request has to bring, as Authorization:
	// Bearer. Empty: none has to, and every program of this machine can call the
	// portal.
	Bearer string

	// Hosts are names and addresses, without ports, by which the proxy may be
	// asked for beside those of loopback.
	Hosts []string

	// AnyHost lets it be asked for by every name, as one is that listens at all
	// addresses of a machine or a container. It has no effect without Bearer: a web
	// page whose name leads here could call the portal.
	AnyHost bool

	Logger *slog.Logger // hears of requests that were not passed on

	// Repair returns the command that repairs an error of the grant.
	Repair func(error) string
}

// New returns a Handler that passes on what is asked of /rest/ to the REST methods of
// the portal whose grant is stored under key, with its token. It follows a portal
// that is renamed. Neither cookies nor the program's own Authorization reach the
// portal. An auth parameter of the program's is replaced, or the request refused where
// that cannot be done, in a multipart body and in one of version 3; those that are too
// long to be kept are not looked into. What the portal answers comes back as it is
// sent, but for cookies: on 127.0.0.1 those of all ports are one.
//
// A token that cannot be had is answered with an error in Bitrix24's form: 503 with
// Retry-After if it passes, and else 502. Neither is what clients take for an expired
// token, which is never the program's to renew.
func New(c *b24oauth.Config, key string, o Options) http.Handler {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 64 // one portal has all of them
	h := &handler{options: o, source: c.TokenSource(key)}
	h.proxy = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      &b24oauth.Transport{Source: h.source, Base: base},
		FlushInterval:  -1, // what the portal sends slowly is not held back
		ErrorLog:       slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
		ModifyResponse: h.modify,
		ErrorHandler:   h.failed,
	}
	if o.AnyHost && o.Bearer != "" {
		return guard.SameOrigin(h)
	}
	return guard.Loopback(h, o.Hosts...)
}

type handler struct {
	options Options
	source  *b24oauth.TokenSource
	proxy   *httputil.ReverseProxy
}

// call is what ServeHTTP has found out of a request, for what comes after it.
type call struct {
	base   *url.URL // of the portal's REST methods
	method string
	kept   bool   // its body can be sent again
	token  string // with which it is sent, if it cannot
}

type callKey struct{}

func callOf(r *http.Request) call { return r.Context().Value(callKey{}).(call) }

// ServeHTTP passes a request on if it may be.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.admits(r) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="b24oauth proxy"`)
		h.refuse(w, r, http.StatusUnauthorized, "PROXY_TOKEN_REQUIRED", "send the proxy's own token as Authorization: Bearer; b24oauth proxy has printed it, or was given it")
		return
	}
	method, ok := strings.CutPrefix(r.URL.Path, prefix)
	if !ok || method == "" || path.Clean(r.URL.Path) != strings.TrimSuffix(r.URL.Path, "/") || strings.ContainsAny(r.URL.Path, `\%`) {
		h.refuse(w, r, http.StatusNotFound, "NOT_A_METHOD", "only REST methods are passed on, such as /rest/crm.deal.list, and /rest/api/tasks.task.get of version 3")
		return
	}
	if webhook.MatchString(method) || bringsWebhook(r.URL.Query()) {
		h.refuse(w, r, http.StatusNotFound, "NO_TOKEN_NEEDED", "an incoming webhook has its secret in its address and needs no token: call the portal itself")
		return
	}
	endpoint, err := h.source.Endpoint(r.Context())
	if err != nil {
		h.failed(w, r, err)
		return
	}
	body, kept, err := keep(r)
	if err != nil {
		h.refuse(w, r, http.StatusBadRequest, "BODY_BROKE_OFF", "the request's body ended before its Content-Length")
		return
	}
	if name := broughtToken(r, method, body); name != "" {
		h.refuse(w, r, http.StatusBadRequest, "TOKEN_IN_BODY", "leave the field "+name+" out of the body: the portal would take it instead of the token that the proxy adds")
		return
	}
	c := call{base: endpoint, method: method, kept: kept}
	if !kept {
		t, err := h.source.TokenContext(r.Context())
		if err != nil {
			h.failed(w, r, err)
			return
		}
		c.token = t.AccessToken
	}
	h.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
}

// admits reports whether the request brings the proxy's own token.
func (h *handler) admits(r *http.Request) bool {
	if h.options.Bearer == "" {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare([]byte(strings.TrimSpace(token)), []byte(h.options.Bearer)) == 1
}

// keep reads a body that is short enough, so that it can be sent again: the request
// of a server cannot do that by itself.
func keep(r *http.Request) (data []byte, kept bool, err error) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil, true, nil
	}
	if r.ContentLength < 0 || r.ContentLength > Replayable {
		return nil, false, nil
	}
	data = make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, data); err != nil {
		return nil, false, err
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	return data, true, nil
}

// rewrite addresses the request to the portal. What is of the program and of its
// browser stays here: a portal would take its Authorization for the token.
func rewrite(p *httputil.ProxyRequest) {
	c := callOf(p.In)
	to := *c.base
	to.Path += c.method
	to.RawQuery = p.In.URL.RawQuery
	p.Out.URL = &to
	p.Out.Host = ""
	for _, name := range []string{"Authorization", "Cookie", "Origin", "Referer", "Via", "X-Real-Ip"} {
		p.Out.Header.Del(name)
	}
	for name := range p.Out.Header {
		if strings.HasPrefix(name, "Sec-Fetch-") || strings.HasPrefix(name, "X-Forwarded-") {
			p.Out.Header.Del(name)
		}
	}
	if p.Out.Header.Get("User-Agent") == "" {
		p.Out.Header.Set("User-Agent", "") // or net/http would add its own
	}
}

// modify changes what a program could not go on with.
func (h *handler) modify(resp *http.Response) error {
	resp.Header.Del("Set-Cookie")
	c := callOf(resp.Request)
	if err := h.redirect(resp, c); err != nil {
		resp.Body.Close() // nobody reads it
		return err
	}
	if resp.StatusCode == http.StatusUnauthorized && !c.kept {
		return h.again(resp, c.token)
	}
	return nil
}

// again answers a refusal of a token whose request could not be repeated, since its
// body was too long to be kept. If the token was renewed for that, a program that knows
// of none is told to send the request again; if not, the portal's answer is its own.
func (h *handler) again(resp *http.Response, sent string) error {
	t, err := h.source.TokenContext(resp.Request.Context())
	if err != nil || t.AccessToken == sent {
		return nil
	}
	resp.Body.Close() // nobody reads it
	return errSendAgain
}

var errSendAgain = errors.New("the portal refused the token, and the request's body was too long to be kept for a second time: the token is renewed, so send the request again")

// failed answers a request that could not be passed on.
func (h *handler) failed(w http.ResponseWriter, r *http.Request, err error) {
	ofToken, isToken := errors.AsType[*b24oauth.TokenError](err)
	switch {
	case r.Context().Err() != nil:
		// Who has only ended its sending still reads, and would take an answer that
		// nobody wrote for an empty one that is right.
		panic(http.ErrAbortHandler)
	case errors.Is(err, errSendAgain):
		w.Header().Set("Retry-After", "1")
		h.refuse(w, r, http.StatusServiceUnavailable, "TOKEN_RENEWED", err.Error())
	case errors.Is(err, errMoved):
		w.Header().Set("Retry-After", "5")
		h.refuse(w, r, http.StatusServiceUnavailable, "PORTAL_MOVED", err.Error())
	case isToken && !ofToken.Permanent():
		w.Header().Set("Retry-After", "5")
		h.refuse(w, r, http.StatusServiceUnavailable, "TOKEN_UNAVAILABLE", ofToken.Error())
	case isToken:
		h.refuse(w, r, http.StatusBadGateway, "NO_TOKEN", ofToken.Error()+"; to repair it: "+h.options.Repair(err))
	default:
		h.refuse(w, r, http.StatusBadGateway, "PORTAL_UNREACHABLE", "the portal cannot be reached: "+err.Error())
	}
}

// webhook is the path of one, with its secret.
var webhook = regexp.MustCompile(`^(api/)?[0-9]+/`)

// refuse answers in the form of Bitrix24's errors, which clients of a portal read. The
// log has no part of the address: it may be a webhook's, or have a token in its query.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, status int, code, description string) {
	h.options.Logger.WarnContext(r.Context(), "b24oauth proxy: request not passed on", slog.Int("status", status), slog.String("code", code), slog.String("because", description))
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	// A failure means that the program has gone.
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": description})
}
