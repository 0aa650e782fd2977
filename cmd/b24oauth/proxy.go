package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/cmd/b24oauth/internal/proxy"
)

const proxyAddress = "127.0.0.1:8025"

type proxyOptions struct {
	listen, tokenFile   string
	noAuth, allowRemote bool
}

func (p *program) proxy() *cobra.Command {
	var o proxyOptions
	cmd := &cobra.Command{
		Use:     "proxy KEY",
		GroupID: groupCalls,
		Short:   "Let programs in any language call the portal without a token",
		Long: `Passes requests to /rest/METHOD on to the grant's portal, with its token, which is
renewed and saved as it is in a program of the package: who calls never meets an
expired one. It runs until it is interrupted.

Every request has to bring the proxy's own token, as Authorization: Bearer. It is
printed at the start, and another one each time, unless it comes from
B24OAUTH_PROXY_TOKEN or --token-file, which is not printed. With --no-auth every program of this machine, of
any user, can call the portal.

A body of up to 1 MiB is kept until the portal has answered. A longer one is passed on
as it comes; should the portal refuse the token then, which only happens if it ends
the token before its time, the answer is 503 with Retry-After.`,
		Example: `  b24oauth proxy example
  curl -H "Authorization: Bearer $TOKEN" -d 'filter[STAGE_ID]=NEW' http://127.0.0.1:8025/rest/crm.deal.list`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.keys,
		RunE: work(func(ctx context.Context, args []string) error {
			token, err := o.bearer()
			if err != nil {
				return err
			}
			host, _, err := net.SplitHostPort(o.listen)
			if err != nil {
				return misused("--listen %s: write an address and a port, such as %s", o.listen, proxyAddress)
			}
			if !isLoopback(host) && !o.allowRemote {
				return misused("--listen %s can be reached from other machines, over http that anybody on the way can read: listen at %s, or add --allow-remote if that is wanted", o.listen, proxyAddress)
			}
			return p.withConfig(func(c *b24oauth.Config) error { return p.runProxy(ctx, c, args[0], host, token, o) })
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", proxyAddress, "the proxy's address; port 0 is any free one")
	f.StringVar(&o.tokenFile, "token-file", "", "a file with the token that requests have to bring (default: $B24OAUTH_PROXY_TOKEN, or a new one)")
	f.BoolVar(&o.noAuth, "no-auth", false, "let every program of this machine call the portal")
	f.BoolVar(&o.allowRemote, "allow-remote", false, "listen at an address that other machines reach")
	return cmd
}

// proxyToken is what requests have to bring.
type proxyToken struct {
	value string // "": nothing
	given string // how a shell writes it, "" if it is new
}

// bearer returns the token that requests have to bring.
func (o proxyOptions) bearer() (proxyToken, error) {
	const least = 16
	token, err := fromFile(o.tokenFile, os.Getenv("B24OAUTH_PROXY_TOKEN"))
	switch {
	case err != nil:
		return proxyToken{}, err
	case o.noAuth && o.allowRemote:
		return proxyToken{}, misused("--no-auth and --allow-remote together would give the portal to the network: leave one of them out")
	case o.noAuth:
		return proxyToken{}, nil
	case token == "":
		return proxyToken{value: rand.Text()}, nil
	case len(token) < least:
		return proxyToken{}, misused("the proxy's token is shorter than %d characters, so that it can be guessed: make one with openssl rand -hex 32", least)
	case o.tokenFile != "":
		return proxyToken{token, "$(cat " + quote(o.tokenFile) + ")"}, nil
	}
	return proxyToken{token, "$B24OAUTH_PROXY_TOKEN"}, nil
}

// runProxy is the proxy until ctx ends.
func (p *program) runProxy(ctx context.Context, c *b24oauth.Config, key, host string, token proxyToken, o proxyOptions) error {
	c.Logger = p.logger()
	// What stays until somebody acts is better said now than to each request.
	source := c.TokenSource(key)
	var ofToken *b24oauth.TokenError
	if _, err := source.TokenContext(ctx); err != nil && (!errors.As(err, &ofToken) || ofToken.Permanent()) {
		return err
	}
	endpoint, err := source.Endpoint(ctx)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return withRepair(err, p.self("proxy", key, "--listen", net.JoinHostPort(host, "0")))
	}
	handler := proxy.New(c, key, proxy.Options{
		Bearer: token.value, Hosts: []string{host}, AnyHost: isEveryAddress(host), Logger: p.logger(),
		Repair: func(err error) string { return p.explain(&workError{err}).Repair },
	})
	at := "http://" + l.Addr().String() + "/rest/"
	if err := p.tellProxy(at, endpoint.String(), token); err != nil {
		return errors.Join(err, l.Close())
	}
	return serve(ctx, l, handler, p.logger())
}

// isEveryAddress reports whether a server that listens at host does so at every
// address of the machine.
func isEveryAddress(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// tellProxy prints how to call the proxy. A token that was given is not printed: who
// keeps it in a file or an environment does not look for it in a log.
func (p *program) tellProxy(at, endpoint string, token proxyToken) error {
	value := token.value
	if token.given != "" {
		value = ""
	}
	if p.asJSON {
		return p.printJSON(struct {
			URL    string `json:"url"`
			Portal string `json:"portal"`
			Token  string `json:"token,omitempty"`
		}{at, endpoint, value})
	}
	who := "Requests have to bring its token:  Authorization: Bearer " + value
	example := "curl -H 'Authorization: Bearer " + value + "' " + at + "profile"
	switch {
	case token.value == "":
		who = "Every program of this machine can call it: no token is asked for."
		example = "curl " + at + "profile"
	case token.given != "":
		who = "Requests have to bring the token that it was given, as Authorization: Bearer."
		example = "curl -H \"Authorization: Bearer " + token.given + "\" " + at + "profile"
	}
	_, err := fmt.Fprintf(p.out, "%s is passed on to %s\n%s\n  %s\nEnd it with Ctrl-C.\n", at, endpoint, who, example)
	return err
}

// serve answers requests until ctx ends, and lets those that run come to their end
// for as long as a deployment waits.
func serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		return errors.Join(fmt.Errorf("some requests were cut off: %w", err), server.Close())
	}
	return nil
}
