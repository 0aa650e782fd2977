package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/cmd/b24oauth/internal/stores"
)

// refreshLife is how long Bitrix24 takes a refresh token after it was issued.
const refreshLife = 30 * 24 * time.Hour

// grantStatus is what status tells of a grant.
type grantStatus struct {
	Key    string `json:"key"`
	OK     bool   `json:"ok"`
	Portal string `json:"portal,omitempty"`
	UserID int64  `json:"user_id,omitempty"`
	Scope  string `json:"scope,omitempty"`

	Expiry       time.Time `json:"expiry,omitzero"`        // of the access token
	Issued       time.Time `json:"issued,omitzero"`        // the pair was
	RefreshUntil time.Time `json:"refresh_until,omitzero"` // how long the refresh token may still live

	RefusedCode string    `json:"refused_code,omitempty"`
	RefusedAt   time.Time `json:"refused_at,omitzero"`

	Error  string `json:"error,omitempty"`
	Repair string `json:"repair,omitempty"`

	status int // with which the command ends for it
}

func (p *program) status() *cobra.Command {
	return &cobra.Command{
		Use:     "status [KEY…]",
		GroupID: groupGrants,
		Short:   "Show the stored grants, and which of them must be authorized again",
		Long: `Shows each stored grant: its portal and user, until when its access token works,
how old its refresh token is and how long that may still live (Bitrix24 takes one
for 30 days), and since when and why the authorization server refuses it.

It asks nobody but the Store; check asks the portal. The exit status is 4 if one of
the grants must be authorized again.`,
		Example:           "  b24oauth status\n  b24oauth status --json | jq 'select(.ok | not).key'",
		ValidArgsFunction: p.keys,
		RunE: work(func(ctx context.Context, keys []string) error {
			return p.withStore(func(s *stores.Opened) error { return p.showStatus(ctx, s, keys) })
		}),
	}
}

// showStatus tells all there is, and returns an error if a grant does not work.
func (p *program) showStatus(ctx context.Context, s *stores.Opened, keys []string) error {
	var failed []error
	if len(keys) == 0 {
		keys, failed = storedKeys(ctx, s)
	}
	var all []grantStatus
	for _, key := range keys {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		all = append(all, p.statusOf(ctx, s, key))
	}
	if len(all) > 0 || len(failed) == 0 {
		if err := p.printStatus(all); err != nil {
			return err
		}
	}
	for _, g := range all {
		if !g.OK {
			failed = append(failed, &repairable{fmt.Errorf("grant %q: %s", g.Key, g.Error), g.Repair, g.status})
		}
	}
	return worst(failed)
}

// worst returns the error that a person has to see to first, with how many more there are.
func worst(failed []error) error {
	if len(failed) == 0 {
		return nil
	}
	first := slices.IndexFunc(failed, func(err error) bool {
		r, ok := errors.AsType[*repairable](err)
		return ok && r.status == exitAuthorize
	})
	err := failed[max(first, 0)]
	if more := len(failed) - 1; more > 0 {
		return fmt.Errorf("%w; and %d more", err, more)
	}
	return err
}

// storedKeys returns the keys in their order, and what the Store could not tell.
func storedKeys(ctx context.Context, s *stores.Opened) (keys []string, failed []error) {
	for key, err := range (&b24oauth.Config{Store: s.Lister}).Keys(ctx) {
		if err != nil {
			failed = append(failed, err)
			continue
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys, failed
}

// statusOf looks at a grant as it is stored.
func (p *program) statusOf(ctx context.Context, s *stores.Opened, key string) grantStatus {
	st := grantStatus{Key: key, status: exitAuthorize}
	g, err := s.Load(ctx, key)
	if err == nil && !g.Deleted.IsZero() {
		err = fmt.Errorf("%w: it was deleted on %s", b24oauth.ErrNoGrant, g.Deleted.Format(time.DateOnly))
	}
	if err != nil {
		f := p.explain(&workError{err})
		st.Error, st.Repair, st.status = f.Error, f.Repair, f.Status
		if errors.Is(err, b24oauth.ErrNoGrant) {
			st.Repair = p.self("list") + "   # shows the keys there are"
		}
		return st
	}
	st.Portal, st.UserID, st.Scope = hostOf(g), g.UserID, g.Scope
	st.Expiry, st.Issued = g.Expiry, g.Issued
	st.RefusedCode, st.RefusedAt = g.Refused.Code, g.Refused.At
	if !g.Issued.IsZero() && g.RefreshToken != "" {
		st.RefreshUntil = g.Issued.Add(refreshLife)
	}
	switch now := time.Now(); {
	case g.Refused.Code != "":
		st.Error = fmt.Sprintf("refused with %s since %s", g.Refused.Code, g.Refused.At.Local().Format(time.DateTime))
	case g.RefreshToken == "" && !g.Expiry.IsZero() && g.Expiry.Before(now):
		st.Error = "its access token has expired and there is no refresh token"
	case !st.RefreshUntil.IsZero() && st.RefreshUntil.Before(now):
		st.Error = fmt.Sprintf("its refresh token is older than 30 days: issued on %s", g.Issued.Local().Format(time.DateOnly))
	default:
		st.OK, st.status = true, exitOK
		return st
	}
	st.Repair = p.self("login", "--portal", st.Portal, "--key", key)
	return st
}

func (p *program) printStatus(all []grantStatus) error {
	if p.asJSON {
		for _, g := range all {
			if err := p.printJSON(g); err != nil {
				return err
			}
		}
		return nil
	}
	if len(all) == 0 {
		_, err := fmt.Fprintf(p.out, "There is no grant yet. To store the first one:\n  %s\n", p.self("login", "--portal", "NAME.bitrix24.com"))
		return err
	}
	now := time.Now()
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tPORTAL\tUSER\tTOKEN\tREFRESH TOKEN\tSTATE")
	for _, g := range all {
		state := "ok"
		if !g.OK {
			state = g.Error
		}
		user := "-"
		if g.UserID != 0 {
			user = fmt.Sprint(g.UserID)
		}
		portal := g.Portal
		if portal == "" {
			portal = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", shown(g.Key), shown(portal), user, tokenState(g.Expiry, now), refreshState(g, now), state)
	}
	return w.Flush()
}

// tokenState says until when the access token works.
func tokenState(expiry, now time.Time) string {
	switch {
	case expiry.IsZero():
		return "-"
	case expiry.Before(now):
		return "expired " + span(now.Sub(expiry)) + " ago"
	}
	return "for " + span(expiry.Sub(now))
}

// refreshState says how old the refresh token is and how long it may live.
func refreshState(g grantStatus, now time.Time) string {
	switch {
	case g.RefreshUntil.IsZero():
		return "-"
	case g.RefreshUntil.Before(now):
		return span(now.Sub(g.Issued)) + " old"
	}
	return fmt.Sprintf("%s old, %s left", span(now.Sub(g.Issued)), span(g.RefreshUntil.Sub(now)))
}

// span writes a length of time in its largest unit, rounded down.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// hostOf returns the address of a grant's portal, "" if it names none.
func hostOf(g *b24oauth.Grant) string {
	u, err := url.Parse(g.ClientEndpoint)
	if err != nil {
		return ""
	}
	return u.Host
}

func (p *program) list() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		GroupID: groupGrants,
		Short:   "List the keys of the stored grants, one on each line",
		Long: `Lists the keys of the stored grants, one on each line. A key that cannot be seen, or
would be taken for two, is shown as a Go string; --json has all as they are.`,
		Example: "  b24oauth list | while read -r key; do b24oauth check \"$key\"; done",
		Args:    cobra.NoArgs,
		RunE: work(func(ctx context.Context, _ []string) error {
			return p.withStore(func(s *stores.Opened) error {
				keys, failed := storedKeys(ctx, s)
				if p.asJSON {
					if keys == nil {
						keys = []string{}
					}
					if err := p.printJSON(keys); err != nil {
						return err
					}
					return worst(failed)
				}
				for _, key := range keys {
					if _, err := fmt.Fprintln(p.out, shown(key)); err != nil {
						return err
					}
				}
				return worst(failed)
			})
		}),
	}
}

func (p *program) createTable() *cobra.Command {
	return &cobra.Command{
		Use:     "create-table",
		GroupID: groupGrants,
		Short:   "Make the table of a Store in PostgreSQL, MySQL or SQLite, unless it exists",
		Example: "  b24oauth create-table --store sqlite:grants.db",
		Args:    cobra.NoArgs,
		RunE: work(func(ctx context.Context, _ []string) error {
			return p.withStore(func(s *stores.Opened) error {
				if s.CreateTable == nil {
					return withRepair(errors.New("this Store has no table, and needs none"), p.self("status"))
				}
				if err := s.CreateTable(ctx); err != nil {
					return err
				}
				return p.print(map[string]bool{"created": true}, "The table is there.")
			})
		}),
	}
}
