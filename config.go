package b24oauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/b24go/b24oauth/internal/address"
)

// Defaults and limits of Config.
const (
	defaultEarlyExpiry    = 60 * time.Second
	defaultRefreshTimeout = 15 * time.Second

	idleLimit  = 2 * time.Hour   // after which a source that nobody uses is forgotten
	sweepPause = 1 * time.Minute // between two searches for such sources
)

// Config is one Bitrix24 application: its credentials, and where its grants
// are kept. Fill it in once, share it by pointer, and do not change it after
// its first use; all methods may then be called concurrently.
type Config struct {
	// ClientID and ClientSecret are the application's credentials, from its
	// card in Bitrix24. Both are required.
	ClientID, ClientSecret string

	// TokenURL is the authorization server's token URL. Empty: the server
	// that the grant names in ServerEndpoint, if it is one of Bitrix24's own,
	// TokenURLGlobal if it names none, and an error without any request if it
	// names a stranger, since the client secret would go there. It must be
	// https, except on loopback.
	TokenURL string

	// TokenMethod is the HTTP method of token requests: GET, which is what
	// Bitrix24 documents, or POST, which works as well and keeps the secrets
	// out of the URL and so out of a proxy's log. Empty: GET.
	TokenMethod string

	// Scopes are sent with a refresh if there are any. Bitrix24's servers
	// ignore them; PortalTokenURL's old form expects them.
	Scopes []string

	// Store keeps the grants. Nil: a MemoryStore of this Config, which loses
	// every refresh token at the program's end.
	Store Store

	// EarlyExpiry is how long before its expiry a token is renewed, but never
	// more than a quarter of its lifetime. 0: 60 s.
	EarlyExpiry time.Duration

	// RefreshTimeout bounds the exchange of one refresh token, repeated
	// requests included, and before it the waiting for exclusivity in the
	// Store. A caller's own context bounds only that caller's waiting.
	// 0: 15 s. A Store with leases must grant them for this and 10 s more.
	RefreshTimeout time.Duration

	// HTTPClient sends token requests, by way of a copy that follows no
	// redirect and never sends a request twice. Its Transport must do neither:
	// an answer that it says to have fetched from elsewhere is an error. If the
	// Transport is go-retryablehttp's, the client inside of it is used instead,
	// since it repeats requests and logs their URLs. Nil: a client that keeps no
	// connection alive, with TLS 1.2 at least, and with the proxies of the
	// environment, except for this machine itself.
	HTTPClient *http.Client

	// Logger gets a line for every renewal and every failure, without
	// secrets. Nil: silent.
	Logger *slog.Logger

	// OnEvent is told what the Logger is told, for metrics and tracing. Calls
	// may be concurrent. It must not block: callers wait for it. A panic in it is
	// logged and otherwise ignored.
	OnEvent func(context.Context, Event)

	memory MemoryStore // used if Store is nil

	mu      sync.Mutex // guards what follows, never held while anything waits
	sources map[string]*TokenSource
	busy    map[*TokenSource]struct{} // with a renewal in flight or a pair not saved
	swept   time.Time                 // when idle sources were last looked for
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
	case c.EarlyExpiry < 0 || c.RefreshTimeout < 0:
		return configError("Config.EarlyExpiry and Config.RefreshTimeout must not be negative")
	}
	if c.TokenURL != "" {
		_, err := c.tokenURL("")
		return err
	}
	return nil
}

func (c *Config) store() Store {
	if c.Store != nil {
		return c.Store
	}
	return &c.memory
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
// enough for each request, and returns the same source for the same key, so
// that renewals are shared; a source that was idle for two hours may be
// replaced by a new one.
func (c *Config) TokenSource(key string) *TokenSource {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.sources[key]
	if !ok {
		c.sweep(now)
		if c.sources == nil {
			c.sources = make(map[string]*TokenSource)
		}
		s = &TokenSource{cfg: c, key: key, slot: make(chan struct{}, 1)}
		c.sources[key] = s
	}
	s.touch(now)
	return s
}

// sweep forgets idle sources. Their Stores know all that they know, or they
// would be busy.
func (c *Config) sweep(now time.Time) {
	if now.Sub(c.swept) < sweepPause {
		return
	}
	c.swept = now
	for key, s := range c.sources {
		if _, busy := c.busy[s]; !busy && s.idleSince(now) > idleLimit {
			delete(c.sources, key)
		}
	}
}

// setBusy records whether s has work that Flush must see to. A source that
// was forgotten as idle and is used after all is the key's again, unless
// another has taken its place.
func (c *Config) setBusy(s *TokenSource, busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !busy {
		delete(c.busy, s)
		return
	}
	if c.busy == nil {
		c.busy = make(map[*TokenSource]struct{})
	}
	c.busy[s] = struct{}{}
	if _, ok := c.sources[s.key]; !ok && c.sources != nil {
		c.sources[s.key] = s
	}
}

// Client returns an http.Client whose requests carry the access token of the
// grant stored under key: [Transport] with this Config's source over
// http.DefaultTransport. Call [Config.Flush] before the program ends.
func (c *Config) Client(key string) *http.Client {
	return &http.Client{Transport: &Transport{Source: c.TokenSource(key)}}
}

// Save stores a grant that comes from elsewhere, such as an installation or
// [Config.Exchange], in place of whatever is stored under key; a source that
// had given up on the old one goes on with it. What the same portal's old
// grant knew and g does not say, such as the application token, is kept.
//
// If g names another address of the portal than the stored grant, requests to
// the old address are no longer the portal's: that one was renamed into the
// other is believed only of the authorization server.
//
// The error is a *[TokenError], and then nothing is stored: for an empty key,
// a grant without tokens, without a portal that they may be sent to, with an
// authorization server that is neither known nor configured, one of another
// application, one that this program has already exchanged or replaced, one
// without a refresh token over one that has it; ErrUnavailable if the Store
// fails. If ctx ends while Save waits its turn, the error is ctx's.
func (c *Config) Save(ctx context.Context, key string, g *Grant) error {
	if err := c.check(); err != nil {
		return err
	}
	if key == "" {
		return errEmptyKey
	}
	switch {
	case g == nil || g.AccessToken == "" && g.RefreshToken == "":
		return configError("Save was called with a grant without tokens")
	case g.ClientID != "" && g.ClientID != c.ClientID:
		return wrongApplication(g.ClientID, c.ClientID)
	}
	if _, err := address.ParseEndpoint(g.ClientEndpoint); err != nil && (g.ClientEndpoint != "" || g.AccessToken != "") {
		return configError("Save was called with a grant that names no portal a token may be sent to: %w", err)
	}
	if _, err := c.tokenURL(g.ServerEndpoint); err != nil {
		return err
	}
	return c.TokenSource(key).replace(ctx, g)
}

// Flush waits for the renewals in flight and saves every token pair that the
// Store has not taken yet. Call it before the program ends; calls made
// afterwards need another Flush. The error names the grants whose pair is
// still unsaved.
func (c *Config) Flush(ctx context.Context) error {
	c.mu.Lock()
	busy := make([]*TokenSource, 0, len(c.busy))
	for s := range c.busy {
		busy = append(busy, s)
	}
	c.mu.Unlock()
	var errs []error
	for _, s := range busy {
		if err := s.flush(ctx); err != nil {
			errs = append(errs, fmt.Errorf("b24oauth: grant %q: its newest token pair is not saved: %w", s.key, err))
		}
	}
	return errors.Join(errs...)
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

var errEmptyKey = configError("the grant's key is empty: give each grant a key of its own, such as the portal's member_id")

func wrongApplication(got, want string) *TokenError {
	return configError("the grant belongs to the application %q and Config.ClientID is %q: use the key of this application's grant", got, want)
}
