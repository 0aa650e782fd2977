package b24oauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/ctxend"
	"github.com/b24go/b24oauth/internal/outgoing"
	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/registry"
	"github.com/b24go/b24oauth/internal/reserved"
	"github.com/b24go/b24oauth/internal/safehttp"
)

// Defaults and limits of Config.
const (
	defaultEarlyExpiry    = 60 * time.Second
	defaultRefreshTimeout = 15 * time.Second

	// A source that nobody has used for so long may go. One without a grant, of
	// which anybody can make any number who chooses the keys, may go soon.
	idleLimit    = 2 * time.Hour
	missingLimit = time.Minute
)

// Config is one Bitrix24 application: its credentials, and where its grants
// are kept. Fill it in once, share it by pointer, and do not change it after
// its first use; all methods may then be called concurrently.
type Config struct {
	// ClientID and ClientSecret are the application's credentials, from its
	// card in Bitrix24. Both are required.
	ClientID, ClientSecret string

	// FormerClientIDs are ClientIDs that the same application had before it was
	// deleted in Bitrix24 and added anew, by which a local application gets a new
	// one. [Config.Save] replaces their grants, which it refuses to do with any
	// other application's; until then the error is ErrReauthorize.
	FormerClientIDs []string

	// TokenURL is the authorization server's token URL. Empty: the server
	// that the grant names in ServerEndpoint, if it is one of Bitrix24's own,
	// TokenURLGlobal if it names none, and an error without any request if it
	// names a stranger, since the client secret would go there. Self-hosted
	// portals and legacy setups (PortalTokenURL) need theirs here. It must be
	// https, except on loopback.
	TokenURL string

	// TokenMethod is the HTTP method of token requests: GET, which is what
	// Bitrix24 documents, or POST, which works as well and keeps the secrets
	// out of the URL and so out of a proxy's log. Empty: GET.
	TokenMethod string

	// Scopes are sent with a refresh if there are any. Bitrix24's servers
	// ignore them; PortalTokenURL's old form expects them.
	Scopes []string

	// Store keeps the grants: filestore for one machine, sqlstore or redisstore
	// for several, sealedstore over one of them to encrypt the tokens. Nil: a
	// MemoryStore of this Config, which loses every refresh token at the
	// program's end, and of which the Logger gets a warning; set a MemoryStore
	// here if that is meant.
	Store Store

	// EarlyExpiry is how long before its expiry a token is renewed, but never
	// more than a quarter of its lifetime. 0: 60 s.
	EarlyExpiry time.Duration

	// RefreshTimeout bounds the exchange of one refresh token, repeated
	// requests included, and before it the waiting for exclusivity in the
	// Store. A caller's own context bounds only that caller's waiting. 0: 15 s.
	// A Store with leases must grant them for twice this and 10 s more, which
	// 45 s, their default, are for up to 17.5 s; if it does not, no token is
	// asked for, and the error is ErrMisconfigured.
	RefreshTimeout time.Duration

	// TokenClient sends token requests, by way of a copy that follows no
	// redirect, never sends a request twice and has no Timeout: RefreshTimeout
	// bounds what callers wait for, and an answer on its way is not thrown away. Its Transport must do neither:
	// an answer that it says to have fetched from elsewhere is an error. If the
	// Transport is go-retryablehttp's, the client inside of it is used instead,
	// since it repeats requests and logs their URLs. Nil: a client that keeps no
	// connection alive, with TLS 1.2 at least, and with the proxies of the
	// environment, except for this machine itself.
	TokenClient *http.Client

	// Logger gets a line for every renewal and every failure, without
	// secrets. Nil: silent.
	Logger *slog.Logger

	// OnEvent gets what the Logger gets, for metrics and tracing. Calls
	// may be concurrent. It must not block: callers wait for it. A panic in it is
	// logged and otherwise ignored.
	OnEvent func(context.Context, Event)

	memory   MemoryStore // used if Store is nil
	warned   atomic.Bool // that Store is nil
	attached atomic.Bool // the Store was given the Logger

	sources registry.Registry[TokenSource]
}

// ConfigFromEnv returns a Config with the credentials in the environment
// variables BITRIX24_CLIENT_ID and BITRIX24_CLIENT_SECRET. The error names
// the ones that are missing.
func ConfigFromEnv() (*Config, error) {
	c := &Config{
		ClientID:     os.Getenv("BITRIX24_CLIENT_ID"),
		ClientSecret: os.Getenv("BITRIX24_CLIENT_SECRET"),
	}
	var missing []string
	if c.ClientID == "" {
		missing = append(missing, "BITRIX24_CLIENT_ID")
	}
	if c.ClientSecret == "" {
		missing = append(missing, "BITRIX24_CLIENT_SECRET")
	}
	if len(missing) > 0 {
		return nil, configError("set %s to the credentials in the application's card in Bitrix24", strings.Join(missing, " and "))
	}
	return c, nil
}

// check finds the mistakes that would make every renewal fail.
func (c *Config) check() error {
	switch {
	case c.ClientID == "":
		return configError("Config.ClientID is empty: set it, or BITRIX24_CLIENT_ID for ConfigFromEnv")
	case c.ClientSecret == "":
		return configError("Config.ClientSecret is empty: set it, or BITRIX24_CLIENT_SECRET for ConfigFromEnv")
	case c.TokenMethod != "" && c.TokenMethod != http.MethodGet && c.TokenMethod != http.MethodPost:
		return configError("Config.TokenMethod is %q: it must be GET, POST or empty", c.TokenMethod)
	case c.TokenClient != nil && safehttp.LeadsTo(c.TokenClient.Transport, isTransport):
		return configError("Config.TokenClient's Transport is, or leads to, a Transport, which would wait for the very token that is asked for: give TokenClient what sends the requests")
	case c.EarlyExpiry < 0 || c.RefreshTimeout < 0:
		return configError("Config.EarlyExpiry and Config.RefreshTimeout must not be negative")
	}
	if c.TokenURL != "" {
		_, err := c.tokenURL("")
		return err
	}
	return nil
}

// isTransport reports whether rt is a Transport, or a type that embeds one.
func isTransport(rt http.RoundTripper) bool {
	_, ok := rt.(interface{ placement() outgoing.Placement })
	return ok
}

func (c *Config) earlyExpiry() time.Duration {
	if c.EarlyExpiry > 0 {
		return c.EarlyExpiry
	}
	return defaultEarlyExpiry
}

func (c *Config) refreshTimeout() time.Duration {
	if c.RefreshTimeout > 0 {
		return c.RefreshTimeout
	}
	return defaultRefreshTimeout
}

// TokenSource returns the source of tokens for the grant stored under key. It
// reads nothing yet: a missing grant shows at the first use. It is cheap
// enough for each request, and returns the same source for the same key as
// long as anybody uses it, so that renewals are shared.
func (c *Config) TokenSource(key string) *TokenSource {
	now := time.Now()
	create := func() *TokenSource {
		s := &TokenSource{cfg: c, key: key}
		s.source.Init((*outside)(s), c.earlyExpiry(), c.refreshTimeout())
		s.used.Store(now.UnixNano())
		return s
	}
	s := c.sources.Get(key, now, create, func(s *TokenSource) bool { return s.isIdle(now) })
	s.touch(now.UnixNano())
	return s
}

// Client returns an http.Client whose requests carry the access token of the
// grant stored under key: [Transport] with this Config's source over
// http.DefaultTransport. Call [Config.Flush] before the program ends.
func (c *Config) Client(key string) *http.Client {
	return &http.Client{Transport: &Transport{Source: c.TokenSource(key)}}
}

// Save stores a grant that comes from elsewhere, such as an installation or
// [Config.Exchange], in place of whatever is stored under key; a source that
// had given up on the old one goes on with it. What the old grant knew of the
// portal and g does not say, such as the application token, is kept; what belongs
// to the tokens, such as the UserID, is not.
//
// If g names another address of the portal than the stored grant, requests to
// the old address are no longer the portal's: that one was renamed into the
// other is believed only of the authorization server.
//
// The error is a *[TokenError], and then nothing is stored, unless it is the
// Store that failed: it may have stored the grant without being able to say so.
// It is ErrMisconfigured for an empty key, a grant without tokens, without a
// portal that they may be sent to, with an authorization server that is neither
// known nor configured, one of another application, one without a refresh token
// over one that has it, and, until that is deleted, one over a grant of another
// portal, or of another application that is none of Config.FormerClientIDs; ErrOutdated if the stored grant descends from g or has replaced it;
// ErrUnavailable if the Store fails, or ErrMisconfigured if it says that this
// will not pass. If ctx ends while Save waits for the Store, the error is ctx's.
// Saving the stored pair once more is no error, and lifts a verdict on it.
func (c *Config) Save(ctx context.Context, key string, g *Grant) error {
	if err := c.checkGiven("Save", key, g); err != nil {
		return err
	}
	return c.TokenSource(key).replace(ctx, g)
}

// checkGiven finds what is wrong with a grant from elsewhere, by itself.
func (c *Config) checkGiven(method, key string, g *Grant) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := checkKey(key); err != nil {
		return err
	}
	switch {
	case g == nil || g.AccessToken == "" && g.RefreshToken == "":
		return configError("%s was called with a grant without tokens", method)
	case g.ClientID != "" && g.ClientID != c.ClientID:
		return configError("%s was called with a grant that belongs to the application %q and Config.ClientID is %q: save it with the Config of that application", method, g.ClientID, c.ClientID)
	}
	if _, err := address.ParseEndpoint(g.ClientEndpoint); err != nil && (g.ClientEndpoint != "" || g.AccessToken != "") {
		return configError("%s was called with a grant that names no portal a token may be sent to: %w: set Grant.ClientEndpoint to the address at which the portal's REST methods are reached, such as https://example.bitrix24.com/rest/, and save it again: its tokens are still good", method, redact.Error(err, c.ClientSecret, g.AccessToken, g.RefreshToken))
	}
	_, err := c.tokenURL(g.ServerEndpoint)
	return err
}

// Delete deletes the grant stored under key. What it stores in its place is a
// tombstone, so that neither another process that still has the tokens nor an
// installation that is delivered once more brings the grant back; a new
// authorization does. When Delete returns, every client of this Config has given
// up its token; other processes do at their next look at the Store, when
// their token runs out at the latest. Without a grant there is nothing to do,
// and no error.
//
// A grant of another application is deleted too: that is how an application that
// was deleted in Bitrix24 and added anew gets its key back.
//
// The error is a *[TokenError]: ErrMisconfigured for an empty key, a Config
// without its credentials or a Store that says that its failure will not pass, ErrUnavailable if the Store fails otherwise. If
// ctx ends while Delete waits for the Store, the error is ctx's.
func (c *Config) Delete(ctx context.Context, key string) error {
	s := c.TokenSource(key)
	if err := s.check(); err != nil {
		return err
	}
	if f := s.source.Delete(ctx); f != nil {
		return s.failure(f)
	}
	return nil
}

// Keys yields the keys of all grants in the Store, as [Lister] says, with the
// Store's own errors: ErrMisconfigured if they will not pass. If the Store is no
// Lister it yields one error, which wraps [errors.ErrUnsupported].
func (c *Config) Keys(ctx context.Context) iter.Seq2[string, error] {
	if l, ok := c.usedStore().(Lister); ok {
		return func(yield func(string, error) bool) {
			for key, err := range l.Keys(ctx) {
				if err == nil && reserved.Is(key) {
					continue
				}
				if !yield(key, err) {
					return
				}
			}
		}
	}
	return func(yield func(string, error) bool) {
		yield("", fmt.Errorf("b24oauth: Config.Store (%T) cannot list its keys: %w", c.store(), errors.ErrUnsupported))
	}
}

// Flush waits for the renewals in flight and saves every token pair that the
// Store has not taken yet, all at a time, trying again until ctx ends, or for
// ten seconds if it has no deadline. Call it before the program ends, with a
// context that has not ended, and not in a defer that log.Fatal or os.Exit
// skips; calls made afterwards need another Flush. The error names the grants
// whose pair is still unsaved.
func (c *Config) Flush(ctx context.Context) error {
	const atATime = 16 // so that thousands do not ask the Store for a connection at once
	slots := make(chan struct{}, atATime)
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex // guards what follows
		errs    []error
		secrets []string
	)
	for _, s := range c.sources.All() {
		if !s.source.Busy() {
			continue
		}
		wg.Go(func() {
			if f := s.source.Flush(ctx, slots); f != nil {
				mu.Lock()
				defer mu.Unlock()
				secrets = append(secrets, s.secrets()...)
				errs = append(errs, fmt.Errorf("b24oauth: grant %q: its newest token pair is not saved: %w", s.key, s.failure(f)))
			}
		})
	}
	wg.Wait()
	if store, ok := c.usedStore().(interface{ Flush(context.Context) error }); ok {
		errs = append(errs, store.Flush(ctx))
	}
	err := errors.Join(errs...)
	if err != nil && ctx.Err() != nil {
		return redact.Error(ctxend.Wrap("b24oauth: Flush: gave up", errors.Join(ctxend.Of(ctx), err)), secrets...)
	}
	return err
}

// String describes the application without its secret.
func (c *Config) String() string {
	if c == nil {
		return "<nil>"
	}
	return fmt.Sprintf("Config{client_id=%q store=%T}", c.ClientID, c.store())
}

// Format implements [fmt.Formatter] for every verb, without the secret.
func (c *Config) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// LogValue implements [slog.LogValuer], without the secret.
func (c *Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText is always an error. It keeps encoding/json and the like from
// writing the client secret.
func (c *Config) MarshalText() ([]byte, error) {
	return nil, errors.New("b24oauth: a Config is not marshalled: it contains the client secret")
}

// checkKey finds what is wrong with a grant's key.
func checkKey(key string) error {
	switch {
	case key == "":
		return configError("the grant's key is empty: give each grant a key of its own, such as the portal's member_id")
	case reserved.Is(key):
		return configError("the grant's key is one that package install reserves for what is not proven yet: choose another one")
	}
	return nil
}

// ownership says why a stored grant of the application with that ClientID is not
// to be used; nil if it is this one's.
func (c *Config) ownership(clientID string) *TokenError {
	switch {
	case clientID == "" || clientID == c.ClientID:
		return nil
	case slices.Contains(c.FormerClientIDs, clientID):
		return &TokenError{kind: ErrReauthorize, Err: fmt.Errorf("the stored grant belongs to %q, which is one of Config.FormerClientIDs and cannot be renewed any more: install or authorize the application %q on the portal, and store the new grant with Config.Save", clientID, c.ClientID)}
	}
	return configError("the stored grant belongs to the application %q and Config.ClientID is %q: give each application keys of its own; if it is the same application, which was deleted in Bitrix24 and added anew, list the old ClientID in Config.FormerClientIDs, or delete its grant with Config.Delete, and store the new one with Config.Save", clientID, c.ClientID)
}
