package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/cmd/b24oauth/internal/sandbox"
)

// sandboxAddress is where the sandbox's portal is, if nothing else is said.
const sandboxAddress = "127.0.0.1:8024"

func (p *program) sandbox() *cobra.Command {
	o := sandboxOptions{}
	cmd := &cobra.Command{
		Use:     "sandbox",
		GroupID: groupDevelop,
		Short:   "A portal to develop against, for programs in any language",
		Long: `Runs a Bitrix24 portal and its authorization server on this machine until it is
interrupted, and prints how to reach it and a grant that works. Nothing leaves the
machine, and no account is needed.

The portal answers crm.deal.list and crm.contact.list with a few of each, profile with
the user, and any other method with the parameters that it understood. Its page at
/_sandbox/ shows requests as they come, and makes happen what happens in production:
tokens that expire or die, a portal that is renamed, limits, lost answers. Scripts do
the same by POST /_sandbox/{install,expire,kill,rename,limit,cut,trigger}.

Started again at the same address it has the same client id and secret, and the same
portal's member_id, so a program needs no other configuration: b24oauth trigger
ONAPPINSTALL brings it a new grant. The tokens of before do not work any more.

The authorization server is at the port three above the portal's. With --json the one
line that is printed comes when both are ready:
{"portal","endpoint","token_url","client_id","client_secret","grant":{…}}`,
		Example: "  b24oauth sandbox\n  b24oauth sandbox --token-lifetime 30s --listen 127.0.0.1:9000\n  curl -X POST http://127.0.0.1:8024/_sandbox/expire\n  curl -s -X POST http://127.0.0.1:8024/_sandbox/install | b24oauth import demo",
		Args:    cobra.NoArgs,
		RunE:    work(func(ctx context.Context, _ []string) error { return p.runSandbox(ctx, o) }),
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", sandboxAddress, "the portal's address; port 0 is any free one")
	f.BoolVar(&o.allowRemote, "allow-remote", false, "listen at an address that other machines reach, where whoever does can read and do everything in the sandbox")
	f.DurationVar(&o.lifetime, "token-lifetime", time.Hour, "how long access tokens live, in whole seconds")
	f.StringVar(&o.redirect, "redirect", "", "the address in the application's card, to which the code flow sends a browser (default: it is shown what to copy)")
	f.BoolVar(&o.singleUse, "single-use", true, "a refresh token works only once, as a program should expect")
	return cmd
}

type sandboxOptions struct {
	listen, redirect       string
	allowRemote, singleUse bool
	lifetime               time.Duration
}

// ready is what the sandbox prints. It contains secrets, of no real portal.
type ready struct {
	Portal       string        `json:"portal"`
	Endpoint     string        `json:"endpoint"`
	TokenURL     string        `json:"token_url"`
	ClientID     string        `json:"client_id"`
	ClientSecret string        `json:"client_secret"`
	Grant        sandbox.Grant `json:"grant"`
}

// runSandbox is a portal until ctx ends.
func (p *program) runSandbox(ctx context.Context, o sandboxOptions) error {
	if o.lifetime < time.Second {
		return misused("--token-lifetime %v: a token lives a second at least; to end all tokens at once press Expire on the page, or POST /_sandbox/expire", o.lifetime)
	}
	if u, err := url.Parse(o.redirect); err != nil || o.redirect != "" && u.Host == "" {
		return misused("--redirect must be an address, such as http://127.0.0.1:8026/")
	}
	authorization, hosts, err := o.addresses()
	if err != nil {
		return err
	}
	srv, err := b24test.Listen(o.listen, authorization)
	if err != nil {
		return withRepair(err, p.self("sandbox", "--listen", "127.0.0.1:0"))
	}
	defer srv.Close()
	srv.SetLifetime(o.lifetime)
	srv.SetSingleUse(o.singleUse)
	srv.SetRedirect(o.redirect)
	log := p.logger()
	srv.Watch(func(r b24test.Request) {
		log.Debug("request", slog.String("method", r.Method), slog.String("path", r.Path), slog.Int("status", r.Status), slog.String("code", r.Code))
	})
	page := sandbox.Open(srv, hosts...)
	err = p.tellReady(ready{srv.URL(), srv.Endpoint(), srv.TokenURL(), srv.ClientID(), srv.ClientSecret(), page.Install()})
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// addresses returns where the authorization server listens, and the names by which
// the page may be asked for beside those of loopback.
func (o sandboxOptions) addresses() (authorization string, hosts []string, err error) {
	host, port, err := net.SplitHostPort(o.listen)
	n, portErr := strconv.Atoi(port)
	if err != nil || portErr != nil || n < 0 || n > 65532 {
		return "", nil, misused("--listen %s: write an address and a port up to 65532, such as %s", o.listen, sandboxAddress)
	}
	if n != 0 {
		n += 3 // 8027 beside 8024, where 8025 is the proxy's and 8026 what login listens at
	}
	if !isLoopback(host) {
		if !o.allowRemote {
			return "", nil, misused("--listen %s can be reached from other machines, and whoever does can read and do everything in the sandbox: listen at %s, or add --allow-remote if that is wanted", o.listen, sandboxAddress)
		}
		hosts = []string{host}
	}
	return net.JoinHostPort(host, strconv.Itoa(n)), hosts, nil
}

// tellReady prints how to reach the sandbox: as text, with lines to copy into a shell.
func (p *program) tellReady(r ready) error {
	if p.asJSON {
		return p.printJSON(r)
	}
	grant, err := json.Marshal(r.Grant)
	if err != nil {
		return err
	}
	sandboxPage, err := url.JoinPath(r.Portal, sandbox.Path)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.out, `A portal to develop against:  %s
Its page:                     %s
End it with Ctrl-C.

# The application, for a program or for b24oauth in another terminal:
export BITRIX24_CLIENT_ID=%s
export BITRIX24_CLIENT_SECRET=%s
export BITRIX24_TOKEN_URL=%s

# A grant, stored as demo, and a call with it:
b24oauth import demo <<'GRANT'
%s
GRANT
b24oauth call demo crm.deal.list

# The same as a user would do it, who authorizes the application in a browser:
b24oauth login --portal %s --key demo

# What an installation sends, to a program that listens for it:
b24oauth trigger ONAPPINSTALL --forward-to http://127.0.0.1:8080/bitrix%s
`, r.Portal, sandboxPage, r.ClientID, r.ClientSecret, r.TokenURL, grant, r.Portal, sandboxFlag(r.Portal))
	return err
}

// sandboxFlag is the flag by which trigger finds a sandbox, "" if it needs none.
func sandboxFlag(portal string) string {
	if portal == "http://"+sandboxAddress {
		return ""
	}
	return " --sandbox " + portal
}
