package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/b24go/b24oauth"
)

// codeLife is how long Bitrix24 takes an authorization code.
const codeLife = 30 * time.Second

func (p *program) login() *cobra.Command {
	var portal, key, redirect string
	cmd := &cobra.Command{
		Use:     "login --portal NAME.bitrix24.com",
		GroupID: groupGrants,
		Short:   "Authorize the application on a portal, and store the grant",
		Long: `Authorizes the application on a portal by the code flow, and stores the grant.

Bitrix24 sends the browser to the address in the application's card, and to no other.
If that is one of this machine, such as http://127.0.0.1:8026/, name it by --redirect:
the command listens there. Otherwise copy the address that the browser has landed on
and paste it here within 30 seconds, which is how long the code in it lives.`,
		Example: "  b24oauth login --portal example.bitrix24.com --key example\n  b24oauth login --portal example.bitrix24.com --redirect http://127.0.0.1:8026/",
		Args:    cobra.NoArgs,
		RunE: work(func(ctx context.Context, _ []string) error {
			host, err := portalHost(portal)
			if err != nil {
				return err
			}
			if key == "" {
				key = host
			}
			return p.withConfig(func(c *b24oauth.Config) error {
				g, err := p.authorize(ctx, c, portal, host, redirect)
				if err != nil {
					return err
				}
				if err := c.Save(ctx, key, g); err != nil {
					return withRepair(err, p.self("login", "--portal", portal, "--key", "ANOTHER"))
				}
				return p.print(map[string]any{"key": key, "portal": hostOf(g), "user_id": g.UserID}, "stored "+shown(key)+", of "+hostOf(g))
			})
		}),
	}
	f := cmd.Flags()
	f.StringVar(&portal, "portal", "", "the portal's address")
	f.StringVar(&key, "key", "", "the key under which the grant is stored (default: the portal's host)")
	f.StringVar(&redirect, "redirect", "", "the address in the application's card, if it is http on this machine")
	if err := cmd.MarkFlagRequired("portal"); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

// portalHost returns the host of a portal, which a person gives by its name or by
// any of its addresses.
func portalHost(portal string) (string, error) {
	if !strings.Contains(portal, "://") {
		portal = "https://" + portal
	}
	u, err := url.Parse(portal)
	if err != nil || u.Hostname() == "" || u.User != nil {
		return "", misused("this is no portal: write --portal example.bitrix24.com")
	}
	return strings.ToLower(u.Host), nil
}

// authorize sends the user to the portal, and returns the grant that he comes back with.
func (p *program) authorize(ctx context.Context, c *b24oauth.Config, portal, host, redirect string) (*b24oauth.Grant, error) {
	if err := c.CheckStore(ctx); err != nil {
		return nil, fmt.Errorf("the Store takes nothing, so nobody was sent to the portal: %w", err)
	}
	state := rand.Text()
	back := p.pasted
	if redirect != "" {
		l, err := listenFor(redirect)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		back = func(ctx context.Context) (url.Values, error) { return landed(ctx, l, state) }
	}
	fmt.Fprintf(p.errOut, "Open this in a browser, as the portal's user who the application is to act for:\n\n  %s\n\n", c.AuthCodeURL(portal, state))
	q, err := back(ctx)
	if err != nil {
		return nil, err
	}
	again := p.self("login", "--portal", portal)
	if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 {
		return nil, withRepair(errors.New("this address does not come from the page that was opened now: its state is another one"), again)
	}
	if q.Get("code") == "" {
		return nil, withRepair(errors.New("the portal has sent no code: the user may not have agreed"), again)
	}
	g, err := c.Exchange(ctx, q.Get("code"), q.Get("server_domain"))
	if errors.Is(err, b24oauth.ErrReauthorize) {
		err = withRepair(fmt.Errorf("%w; a code lives for %v", err, codeLife), again)
	}
	if err == nil && hostOf(g) != host {
		err = withRepair(fmt.Errorf("the code is of the portal %s, and %s was asked for: nothing was stored", hostOf(g), host), p.self("login", "--portal", hostOf(g)))
	}
	return g, err
}

// pasted returns what stands in the address that the user pastes.
func (p *program) pasted(ctx context.Context) (url.Values, error) {
	fmt.Fprintf(p.errOut, "Then copy the address that the browser lands on, and paste it here within %v\n(the page itself may show an error: only its address counts): ", codeLife)
	line, err := p.readLine(ctx)
	if err != nil {
		return nil, fmt.Errorf("no address was pasted: %w", err)
	}
	u, err := url.Parse(line)
	if err != nil || u.RawQuery == "" {
		return nil, errors.New("what was pasted is no address with a code in it, such as https://…/?code=…&state=…")
	}
	return u.Query(), nil
}

// listenFor listens at the address in the application's card.
func listenFor(redirect string) (net.Listener, error) {
	u, err := url.Parse(redirect)
	if err != nil || u.Scheme != "http" || u.Port() == "" || !isLoopback(u.Hostname()) {
		return nil, misused("--redirect must be an address of this machine with a port, such as http://127.0.0.1:8026/")
	}
	return net.Listen("tcp", u.Host)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// landed waits for the browser, and for none that was not sent: others are told so.
func landed(ctx context.Context, l net.Listener, state string) (url.Values, error) {
	came := make(chan url.Values, 1)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer")
		if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 {
			http.Error(w, "This is not the page that b24oauth has opened.", http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, "The application is being authorized: see the terminal. This page can be closed.")
		select {
		case came <- q:
		default: // the same page once more
		}
	})}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case q := <-came:
		return q, server.Shutdown(ctx)
	case err := <-failed:
		return nil, err
	case <-ctx.Done():
		server.Close() // ends what is open; its error says no more
		return nil, ctx.Err()
	}
}
